"""A small edge ControlNet for the embedded model, which stays as it is.

``python -m pipelines.embedded.training.edges --pool POOL --store CUTOUTS --out RUN --minutes 40 --export FOLDER``

A stock `ControlNetModel` (arXiv 2302.05543) without attention: the denoiser reads the words, this only places things.
It learns from the pool's scenes, shown the edges of each scene's flat picture, neither lit nor shaded: what a user's
collage is, and made by the same function as in a run. In half of the scenes its residuals count at some objects only,
as they do where only some layers keep their shape.

Stop it at any time: RUN/edges.pt is written every few minutes and at a stop, and read at the next start, also after the
denoiser was trained further.
"""

from __future__ import annotations

import argparse
import json
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
from diffusers import ControlNetModel, DDIMScheduler, UNet2DConditionModel
from diffusers.models.attention_processor import AttnProcessor
from numpy.typing import NDArray
from rich.progress import Progress
from transformers import CLIPTextModel, CLIPTokenizer

from pipelines.edges import edges
from pipelines.embedded.training.cutouts import CutoutStore
from pipelines.embedded.training.denoiser import SCHEDULE, diffuse
from pipelines.embedded.training.latents import Pool
from pipelines.embedded.training.muon import Muon
from pipelines.embedded.training.scenes import render
from pipelines.embedded.training.train import DECAY, LOG_SECONDS, SAVE_SECONDS, WARM_UP, Draws
from pipelines.embedded.training.world import WORLDS

EMBEDDING = (8, 16, 32, 64)
"""Channels on the way from 256 pixels to 32 cells; the stock (16, 32, 96, 256) would cost more than the denoiser."""
SHARD = "9MB"
Shown = tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]


def new_controlnet(unet: UNet2DConditionModel) -> ControlNetModel:
    """One for ``unet``: its levels without attention, begun with its weights; it adds nothing yet."""
    config = unet.config
    made = ControlNetModel(
        in_channels=config["in_channels"],
        down_block_types=("DownBlock2D",) * len(config["block_out_channels"]),
        mid_block_type="UNetMidBlock2D",
        block_out_channels=config["block_out_channels"],
        layers_per_block=config["layers_per_block"],
        norm_num_groups=config["norm_num_groups"],
        cross_attention_dim=config["cross_attention_dim"],
        attention_head_dim=config["attention_head_dim"],
        only_cross_attention=False,
        conditioning_embedding_out_channels=EMBEDDING,
    )
    own = made.state_dict()
    begun = {name: value for name, value in unet.state_dict().items() if name in own}
    made.load_state_dict(begun, strict=False)
    # the layers after it are at zero already; two zeros in a row would learn one after the other
    made.controlnet_cond_embedding.conv_out.reset_parameters()
    return made


@dataclass
class Shapes:
    """`Draws` with the edge map of each scene, uint8 (256, 256), and where its residuals count."""

    draws: Draws
    store: CutoutStore
    partial: float = 0.5
    """Share of scenes in which only some objects keep their shape."""
    _maps: dict[int, NDArray[np.uint8]] = field(default_factory=dict)

    def __call__(self, rng: np.random.Generator, held_out: bool = False) -> Shown:
        """latents (n, 12, 32, 32), tokens (n, 77), edges (n, 3, 256, 256) in 0..1, counting (n, 1, 32, 32) 0 or 1."""
        latents, tokens, _ = self.draws(rng, held_out)
        chosen = self.draws.chosen
        shown = torch.from_numpy(np.stack([self.map_of(int(k)) for k in chosen])).float() / 255
        counting = torch.from_numpy(np.stack([self._counting(int(k), rng, held_out) for k in chosen]))
        device = latents.device
        return latents, tokens, shown[:, None].expand(-1, 3, -1, -1).to(device), counting[:, None].to(device)

    def map_of(self, k: int) -> NDArray[np.uint8]:
        """The edges of scene ``k`` as a user would lay it out; kept in bits, as drawing it costs a fifth of a step."""
        if k not in self._maps:
            picture = render(self.draws.pool.scenes[k], self.store, light=False).image
            self._maps[k] = np.packbits(edges(picture) > 0, axis=1)
        return np.unpackbits(self._maps[k], axis=1) * np.uint8(255)

    def _counting(self, k: int, rng: np.random.Generator, held_out: bool) -> NDArray[np.float32]:
        classes = self.draws.pool.classes[k]
        there = np.unique(classes[classes > 0])
        if held_out or not len(there) or rng.random() >= self.partial:
            return np.ones(classes.shape, np.float32)
        kept = rng.choice(there, size=rng.integers(1, len(there) + 1), replace=False)
        cells = torch.from_numpy(np.isin(classes, kept).astype(np.float32))[None]
        return F.max_pool2d(cells, 3, 1, 1)[0].numpy()  # a cell more, for edges that cross it


@dataclass
class Teaching:
    """The frozen model, the ControlNet, and one step of teaching it."""

    unet: UNet2DConditionModel
    text: CLIPTextModel
    controlnet: ControlNetModel
    accelerator: Accelerator
    rate: float = 1e-3
    counts: dict[str, int] = field(default_factory=lambda: {"step": 0, "seen": 0})

    def __post_init__(self) -> None:
        inner, rest = [], []
        for name, parameter in self.controlnet.named_parameters():
            matrix = name.startswith(("down_blocks", "mid_block")) and parameter.ndim > 1
            (inner if matrix else rest).append(parameter)
        self.made: list[torch.optim.Optimizer] = [
            torch.optim.AdamW(rest, lr=self.rate, betas=(0.9, 0.99), weight_decay=0.01),
            Muon(inner, lr=12 * self.rate),
        ]
        self.full = [self.rate, 12 * self.rate]
        self.average = {name: p.detach().clone() for name, p in self.controlnet.state_dict().items()}
        self.alphas = DDIMScheduler(**SCHEDULE).alphas_cumprod
        self.mean = 0.0

    def predict(
        self, noisy: torch.Tensor, times: torch.Tensor, drawn: Shown, strength: float = 1.0
    ) -> torch.Tensor:
        """v (n, 12, 32, 32) with the residuals at ``strength`` where they count."""
        _, tokens, shown, counting = drawn
        with torch.no_grad():
            words = self.text(tokens).last_hidden_state
        more = {}
        if strength:
            down, middle = self.controlnet(noisy, times, words, controlnet_cond=shown, return_dict=False)
            scaled = [one * strength * _cells(counting, one) for one in (*down, middle)]
            more = {
                "down_block_additional_residuals": scaled[:-1],
                "mid_block_additional_residual": scaled[-1],
            }
        v: torch.Tensor = self.unet(noisy, times, words, **more).sample
        return v

    def step(self, drawn: Shown, generator: torch.Generator, share: float) -> None:
        """One update at ``share`` of the full rates."""
        noisy, times, target = diffuse(drawn[0], self.alphas, generator)
        with self.accelerator.autocast():
            v = self.predict(noisy.contiguous(memory_format=torch.channels_last), times, drawn)
        loss = F.mse_loss(v.float(), target)
        for optimizer, full in zip(self.made, self.full, strict=True):
            optimizer.zero_grad()
            for group in optimizer.param_groups:
                group["lr"] = full * share
        self.accelerator.backward(loss)
        torch.nn.utils.clip_grad_norm_(self.controlnet.parameters(), 1.0)
        for optimizer in self.made:
            optimizer.step()
        self.counts["step"] += 1
        self.counts["seen"] += len(noisy)
        decay = min(DECAY, (1 + self.counts["step"]) / (20 + self.counts["step"]))
        for name, p in self.controlnet.state_dict().items():
            self.average[name].lerp_(p, 1 - decay)
        self.mean = 0.99 * (self.mean or loss.item()) + 0.01 * loss.item()

    @torch.no_grad()
    def held_out(self, shapes: Shapes, batches: int = 4) -> tuple[float, float]:
        """Mean square on v of scenes never trained on, with and without the edges; what averages would do."""
        generator, rng = torch.Generator().manual_seed(7), np.random.default_rng(7)
        now = {name: p.clone() for name, p in self.controlnet.state_dict().items()}
        self.controlnet.load_state_dict(self.average)
        sums = [0.0, 0.0]
        try:
            for _ in range(batches):
                drawn = shapes(rng, held_out=True)
                noisy, times, target = diffuse(drawn[0], self.alphas, generator)
                for k, strength in enumerate((1.0, 0.0)):
                    with self.accelerator.autocast():
                        error = F.mse_loss(self.predict(noisy, times, drawn, strength).float(), target)
                    sums[k] += error.item()
        finally:  # a stop may come here, and what is saved then are the weights
            self.controlnet.load_state_dict(now)
        return sums[0] / batches, sums[1] / batches

    def load(self, path: Path) -> None:
        """Go on from a saved state."""
        state = torch.load(path, map_location=self.accelerator.device, weights_only=True)
        self.controlnet.load_state_dict(state["weights"])
        self.average, self.counts = state["average"], state["counts"]
        for optimizer, saved in zip(self.made, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)

    def save(self, path: Path) -> None:
        """Write the state so that a stop in between leaves the old one."""
        state = {
            "weights": self.controlnet.state_dict(),
            "average": self.average,
            "counts": self.counts,
            "optimizers": [optimizer.state_dict() for optimizer in self.made],
        }
        torch.save(state, path.with_suffix(".part"))
        shutil.move(path.with_suffix(".part"), path)

    def export(self, folder: Path) -> int:
        """The averages in half precision as `ControlNetModel.from_pretrained` reads them; the bytes of weights."""
        made = ControlNetModel.from_config(self.controlnet.config)
        made.load_state_dict(self.average)
        if folder.exists():
            for old in folder.glob("*.safetensors*"):
                old.unlink()
        made.half().save_pretrained(folder, max_shard_size=SHARD)
        return sum(path.stat().st_size for path in folder.glob("*.safetensors"))


def _cells(counting: torch.Tensor, residual: torch.Tensor) -> torch.Tensor:
    """As `layer_control` does it: averaged over the residual's cells."""
    return F.adaptive_avg_pool2d(counting, residual.shape[-2:]).to(residual)


def run(teaching: Teaching, shapes: Shapes, options: argparse.Namespace) -> None:
    """Teach for ``options.minutes``, the rate falling to zero in the last ``options.cool``; saves whatever ends it."""
    generator = torch.Generator().manual_seed(teaching.counts["step"])
    rng = np.random.default_rng(teaching.counts["step"])
    seconds, first = options.minutes * 60, teaching.counts["step"]
    cool = max(1e-9, options.cool * 60)
    start = saved_at = logged_at = time.time()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that a stop, too, ends in `finally`
    with Progress() as progress, open(options.out / "edges.txt", "a", buffering=1) as log:
        task = progress.add_task("edges", total=seconds)
        print(f"# {time.strftime('%F %T')} {vars(options)} pool {len(shapes.draws.pool)}", file=log)

        def tell(elapsed: float) -> None:
            with_edges, without = teaching.held_out(shapes)
            print(
                f"{elapsed / 60:.1f} min {teaching.counts} loss {teaching.mean:.4f} "
                f"held out {with_edges:.4f}, without edges {without:.4f}",
                file=log,
            )

        try:
            while (elapsed := time.time() - start) < seconds:
                warm = min(1.0, (teaching.counts["step"] - first + 1) / WARM_UP)
                teaching.step(shapes(rng), generator, min(warm, (seconds - elapsed) / cool))
                progress.update(task, completed=elapsed)
                if time.time() - logged_at > LOG_SECONDS:
                    logged_at = time.time()
                    tell(elapsed)
                if time.time() - saved_at > SAVE_SECONDS:
                    saved_at = time.time()
                    teaching.save(options.out / "edges.pt")
            tell(elapsed)
        finally:
            teaching.save(options.out / "edges.pt")


def main() -> None:
    """Command line: teach for some minutes, going on from RUN/edges.pt, and export."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--world", default="small", choices=sorted(WORLDS))
    parser.add_argument("--pool", type=Path, required=True)
    parser.add_argument("--store", type=Path, required=True, help="folder written by the cutouts command")
    parser.add_argument(
        "--weights", type=Path, default=Path("pipelines/embedded/weights"), help="the model it is for"
    )
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--export", type=Path, help="folder for the averages, at the end")
    parser.add_argument("--minutes", type=float, default=40)
    parser.add_argument("--cool", type=float, default=10, help="minutes of the linear cool-down at the end")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--rate", type=float, default=1e-3)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    accelerator = Accelerator(mixed_precision="bf16")
    torch.manual_seed(0)
    unet = UNet2DConditionModel.from_pretrained(options.weights / "unet", dtype=torch.float32)
    text = CLIPTextModel.from_pretrained(options.weights / "text_encoder", dtype=torch.float32)
    text.set_attn_implementation("eager")  # see clip.py
    unet.set_attn_processor(AttnProcessor())  # see train.py
    unet.requires_grad_(False).to(accelerator.device, memory_format=torch.channels_last)
    text.requires_grad_(False).to(accelerator.device)
    controlnet = new_controlnet(unet).to(accelerator.device, memory_format=torch.channels_last)
    teaching = Teaching(unet, text, controlnet, accelerator, options.rate)
    if (options.out / "edges.pt").exists():
        teaching.load(options.out / "edges.pt")
    pool = Pool(options.pool, "whole")
    pool.refresh()
    scale = float(json.loads((options.weights / "vae" / "config.json").read_text())["scaling_factor"])
    tokenizer = CLIPTokenizer.from_pretrained(options.weights / "tokenizer")
    world = WORLDS[options.world]
    draws = Draws(world, pool, tokenizer, scale, options.batch, accelerator.device)
    run(teaching, Shapes(draws, CutoutStore.load(options.store)), options)
    if options.export:
        print(f"{teaching.export(options.export) / 1e6:.1f} MB of weights in {options.export}")


if __name__ == "__main__":
    main()
