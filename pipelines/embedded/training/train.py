"""The training loop of the denoiser: crops first, then whole scenes.

``python -m pipelines.embedded.training.train --pool POOL --clip CLIP --out RUN --stage crops --minutes 45``

The rate is constant; ``--cool`` runs the linear cool-down on a branch (RUN/cooled.pt), which is what gets
exported. Stop it at any time: RUN/state.pt is written
every few minutes and at a stop, and read at the next start.
"""

from __future__ import annotations

import argparse
import shutil
import signal
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from accelerate import Accelerator
from diffusers import DDIMScheduler
from diffusers.models.attention_processor import AttnProcessor
from numpy.typing import NDArray
from rich.progress import Progress
from transformers import CLIPModel, CLIPTokenizer

from pipelines.embedded.training.captions import caption, crop_caption
from pipelines.embedded.training.denoiser import (
    SCHEDULE,
    SIZES,
    Trainee,
    diffuse,
    new_unet,
    optimizers,
    start_from,
    text_tower,
)
from pipelines.embedded.training.latents import Pool
from pipelines.embedded.training.tokenizer import TOKENS, words_known
from pipelines.embedded.training.world import WORLDS, World

BATCH = {"crops": 96, "whole": 32}
HELD_OUT = 192  # the first pictures of the pool are never trained on
WARM_UP = 200
LOG_SECONDS, SAVE_SECONDS = 120, 240
CLASS_WEIGHT = 0.03
DECAY, COOL_DECAY = 0.9995, 0.98  # of the averages; a cool-down is short, and its end is an average already
WORDS = "text.embeddings.token_embedding.weight"
Drawn = tuple[torch.Tensor, torch.Tensor, torch.Tensor]


@dataclass
class Draws:
    """Batches from a pool: scaled latents, tokens (one caption in ten empty, for guidance), classes at the middle."""

    world: World
    pool: Pool
    tokenizer: CLIPTokenizer
    scale: float
    batch: int
    device: torch.device
    shares: tuple[float, ...] = ()
    """Of scenes with one object, two, …; empty takes them as they come. Binding words to objects is learned from
    scenes with several, of which the pool has fewer."""
    chosen: NDArray[np.int64] = field(default_factory=lambda: np.empty(0, np.int64), init=False)
    """The pictures of the last batch."""

    def __call__(self, rng: np.random.Generator, held_out: bool = False) -> Drawn:
        """latents (n, 12, h, w), tokens (n, 77), classes (n, h/4, w/4)."""
        pool = self.pool
        low, high = (0, HELD_OUT) if held_out else (HELD_OUT, len(pool))
        chosen = rng.integers(low, high, size=self.batch)
        if self.shares and not held_out:
            chosen = self._by_count(rng)
        texts = [self._text(int(k), rng) for k in chosen]
        self.chosen = chosen
        tokens = self.tokenizer(
            texts, padding="max_length", truncation=True, max_length=TOKENS, return_tensors="pt"
        )
        latents = torch.from_numpy(pool.latents[chosen]).float() * self.scale
        classes = torch.from_numpy(pool.classes[chosen][:, 2::4, 2::4].astype(np.int64))
        return latents.to(self.device), tokens.input_ids.to(self.device), classes.to(self.device)

    def _by_count(self, rng: np.random.Generator) -> NDArray[np.int64]:
        """Indices of training scenes, their numbers of objects drawn by ``shares``."""
        counts = np.array([len(scene.items) for scene in self.pool.scenes[HELD_OUT:]])
        asked = 1 + rng.choice(len(self.shares), size=self.batch, p=self.shares)
        return np.array([HELD_OUT + rng.choice(np.flatnonzero(counts == count)) for count in asked])

    def _text(self, k: int, rng: np.random.Generator) -> str:
        scene, named = self.pool.scenes[k], self.pool.named[k]
        text = (
            caption(self.world, scene, rng) if named is None else crop_caption(self.world, scene, named, rng)
        )
        return "" if rng.random() < 0.1 else text


@dataclass
class Training:
    """Everything that a stop must not lose, and one step of it."""

    trainee: Trainee
    made: list[torch.optim.Optimizer]
    accelerator: Accelerator
    scale: float = 0.0
    known: int = 0
    """Token ids that mean something; 0 = all. A state that knew fewer words leaves the CLIP's new ones as they are."""
    counts: dict[str, int] = field(default_factory=lambda: {"step": 0, "crops": 0, "whole": 0})

    def __post_init__(self) -> None:
        self.restart_average()
        self.alphas = DDIMScheduler(**SCHEDULE).alphas_cumprod
        self.means: dict[str, float] = {}

    def restart_average(self) -> None:
        """Forget the past: a long average still holds the stage before (crops, say) when a short one begins."""
        self.average = {name: p.detach().clone() for name, p in self.trainee.state_dict().items()}

    def load(self, path: Path) -> None:
        """Go on from a saved state."""
        state = torch.load(path, map_location=self.accelerator.device, weights_only=True)
        known = state.get("known") or self.known
        for kept in (state["weights"], state["average"]):
            kept[WORDS][known : self.known] = self.trainee.state_dict()[WORDS][known : self.known]
        self.trainee.load_state_dict(state["weights"])
        self.average, self.counts, self.scale = state["average"], state["counts"], state["scale"]
        for optimizer, saved in zip(self.made, state.get("optimizers", []), strict=False):
            full = [
                group["full"] for group in optimizer.param_groups
            ]  # the rate asked for now, not the one saved
            optimizer.load_state_dict(saved)
            for group, rate in zip(optimizer.param_groups, full, strict=True):
                group["full"] = rate

    def save(self, path: Path) -> None:
        """Write the state so that a stop in between leaves the old one."""
        state = {
            "weights": self.trainee.state_dict(),
            "average": self.average,
            "counts": self.counts,
            "scale": self.scale,
            "known": self.known,
            "optimizers": [optimizer.state_dict() for optimizer in self.made],
        }
        torch.save(state, path.with_suffix(".part"))
        shutil.move(path.with_suffix(".part"), path)

    def rate(self, share: float) -> None:
        """Set every learning rate to ``share`` of its full value."""
        for optimizer in self.made:
            for group in optimizer.param_groups:
                group["lr"] = group["full"] * share

    def step(self, drawn: Drawn, generator: torch.Generator, stage: str, longest: float) -> None:
        """One update of weights and averages; ``longest`` is the averages' decay once the run is old."""
        latents, tokens, classes = drawn
        noisy, timesteps, target = diffuse(latents, self.alphas, generator)
        with self.accelerator.autocast():
            v, logits = self.trainee(noisy.contiguous(memory_format=torch.channels_last), timesteps, tokens)
        losses = {"loss": F.mse_loss(v.float(), target), "class": F.cross_entropy(logits.float(), classes)}
        for optimizer in self.made:
            optimizer.zero_grad()
        self.accelerator.backward(losses["loss"] + CLASS_WEIGHT * losses["class"])
        torch.nn.utils.clip_grad_norm_(self.trainee.parameters(), 1.0)
        for optimizer in self.made:
            optimizer.step()
        self.counts["step"] += 1
        self.counts[stage] += len(latents)
        decay = min(longest, (1 + self.counts["step"]) / (20 + self.counts["step"]))
        for name, p in self.trainee.state_dict().items():
            self.average[name].lerp_(p, 1 - decay) if p.is_floating_point() else self.average[name].copy_(p)
        for name, loss in losses.items():
            self.means[name] = 0.99 * self.means.get(name, loss.item()) + 0.01 * loss.item()

    @torch.no_grad()
    def held_out(self, draws: Draws, batches: int = 4) -> float:
        """Mean square on v over fixed noise, timesteps and captions of pictures that are never trained on."""
        generator, rng = torch.Generator().manual_seed(7), np.random.default_rng(7)
        total = 0.0
        for _ in range(batches):
            latents, tokens, _ = draws(rng, held_out=True)
            noisy, timesteps, target = diffuse(latents, self.alphas, generator)
            with self.accelerator.autocast():
                total += F.mse_loss(self.trainee(noisy, timesteps, tokens)[0].float(), target).item()
        return total / batches


def run(training: Training, draws: Draws, options: argparse.Namespace) -> None:
    """Train for ``options.minutes``; saves at the end, whatever ends it."""
    state_path = options.out / ("cooled.pt" if options.cool else "state.pt")
    generator = torch.Generator().manual_seed(training.counts["step"])
    rng = np.random.default_rng(training.counts["step"])
    seconds = options.minutes * 60
    if options.cool:
        training.restart_average()
    start = saved_at = logged_at = time.time()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that a stop, too, ends in `finally`
    with Progress() as progress, open(options.out / "log.txt", "a", buffering=1) as log:
        task = progress.add_task(options.stage, total=seconds)
        print(f"# {time.strftime('%F %T')} {vars(options)} pool {len(draws.pool)} {draws.device}", file=log)
        try:
            while (elapsed := time.time() - start) < seconds:
                warm = min(1.0, (training.counts["step"] + 1) / WARM_UP)
                progress.update(task, completed=elapsed)
                training.rate(max(0.0, 1 - elapsed / seconds) if options.cool else warm)
                training.step(draws(rng), generator, options.stage, COOL_DECAY if options.cool else DECAY)
                if time.time() - logged_at > LOG_SECONDS:
                    logged_at = time.time()
                    means = " ".join(f"{name} {mean:.4f}" for name, mean in training.means.items())
                    counts = " ".join(f"{name} {count}" for name, count in training.counts.items())
                    print(
                        f"{elapsed / 60:.1f} min {counts} {means} held out {training.held_out(draws):.4f}",
                        file=log,
                    )
                    draws.pool.refresh()
                if time.time() - saved_at > SAVE_SECONDS and not options.cool:
                    saved_at = time.time()
                    training.save(state_path)
        finally:
            training.save(state_path)


def main() -> None:
    """Command line: train one stage for some minutes, going on from RUN/state.pt."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--world", default="small", choices=sorted(WORLDS))
    parser.add_argument("--pool", type=Path, required=True)
    parser.add_argument("--clip", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument(
        "--from", dest="start", type=Path, help="exported weights to start from where RUN is new"
    )
    parser.add_argument("--size", default="cpu", choices=sorted(SIZES))
    parser.add_argument("--stage", default="crops", choices=sorted(BATCH))
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--batch", type=int, default=0, help="0 = what suits two CPU cores")
    parser.add_argument(
        "--shares", type=float, nargs=4, default=(), help="of scenes with 1, 2, 3 and 4 objects; sum 1"
    )
    parser.add_argument("--rate", type=float, default=1e-3)
    parser.add_argument("--optimizer", default="muon", choices=("adamw", "muon"))
    parser.add_argument(
        "--cool", action="store_true", help="linear cool-down to zero; writes RUN/cooled.pt only"
    )
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    accelerator = Accelerator(mixed_precision="bf16")
    chosen = WORLDS[options.world]
    torch.manual_seed(0)
    unet = new_unet(options.size).to(memory_format=torch.channels_last)
    unet.set_attn_processor(AttnProcessor())  # a third faster backwards on a CPU than the fused kernel
    text = text_tower(CLIPModel.from_pretrained(options.clip))
    trainee = Trainee(unet, text, len(chosen.labels)).to(accelerator.device)
    scale = start_from(trainee, options.start) if options.start else 0.0
    tokenizer = CLIPTokenizer.from_pretrained(options.clip)
    made = optimizers(trainee, options.optimizer, options.rate)
    training = Training(trainee, made, accelerator, scale, words_known(tokenizer))
    if (options.out / "state.pt").exists():
        training.load(options.out / "state.pt")
    pool = Pool(options.pool, options.stage)
    pool.refresh()
    training.scale = training.scale or float(1 / pool.latents.astype(np.float32).std())
    batch = options.batch or BATCH[options.stage]
    draws = Draws(chosen, pool, tokenizer, training.scale, batch, accelerator.device, tuple(options.shares))
    run(training, draws, options)


if __name__ == "__main__":
    main()
