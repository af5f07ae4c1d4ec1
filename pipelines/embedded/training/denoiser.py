"""The denoiser: a small conditional UNet, first on crops, then on whole scenes.

``python -m pipelines.embedded.training.denoiser --pool POOL --clip CLIP --out RUN --stage crops --minutes 45``

Objective: v-prediction (arXiv 2202.00512) on the zero-terminal-SNR schedule (arXiv 2305.08891), plain mean square
on v; nine timesteps of ten logit-normal towards noise, one of ten uniform. A 1×1 head on the middle block names the
class in each cell; it is dropped at export. Attention maps are never supervised and no layer masks are shown: that
would rig what the studio measures. The rate is constant; ``--cool`` runs the linear cool-down on a branch, which is
what gets exported. Stop it at any time: RUN/state.pt is written every few minutes and read at the next start.
"""

from __future__ import annotations

import argparse
import math
import shutil
import signal
import sys
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from accelerate import Accelerator
from diffusers import DDIMScheduler, UNet2DConditionModel
from diffusers.models.attention_processor import AttnProcessor
from transformers import CLIPModel, CLIPTokenizer

from pipelines.embedded.training.captions import caption, crop_caption
from pipelines.embedded.training.clip import WIDTH
from pipelines.embedded.training.latents import Pool
from pipelines.embedded.training.muon import Muon
from pipelines.embedded.training.tokenizer import TOKENS
from pipelines.embedded.training.world import WORLDS

SIZES = {"cpu": (64, 128, 192), "gpu": (80, 160, 240)}
BATCH = {"crops": 64, "whole": 24}
HELD_OUT = 192  # the first pictures of the pool are never trained on
SCHEDULE = {
    "num_train_timesteps": 1000,
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "prediction_type": "v_prediction",
    "rescale_betas_zero_snr": True,
    "timestep_spacing": "trailing",
    "clip_sample": False,
    "set_alpha_to_one": True,
    "steps_offset": 1,  # unused with trailing spacing; 0 draws a deprecation warning
}


def new_unet(size: str = "cpu") -> UNet2DConditionModel:
    """A three-level UNet with one layer a block; attention to text only at 32×32, to both below."""
    channels = SIZES[size]
    return UNet2DConditionModel(
        sample_size=32,
        in_channels=12,
        out_channels=12,
        block_out_channels=channels,
        layers_per_block=1,
        down_block_types=("CrossAttnDownBlock2D",) * 3,
        up_block_types=("CrossAttnUpBlock2D",) * 3,
        only_cross_attention=(True, False, False),
        attention_head_dim=(1, 2, 3),  # in diffusers' UNet this counts heads: 64 channels a head
        cross_attention_dim=WIDTH,
        norm_num_groups=16,
    )


def sample_timesteps(count: int, generator: torch.Generator) -> torch.Tensor:
    """Integers 0..999: nine of ten from sigmoid(N(0.4, 1)), one of ten uniform. Ours: small worlds need noise."""
    normal = torch.sigmoid(torch.randn(count, generator=generator) + 0.4)
    uniform = torch.rand(count, generator=generator)
    mixed = torch.where(torch.rand(count, generator=generator) < 0.1, uniform, normal)
    return (mixed * 1000).long().clamp(0, 999)


class Trainee(torch.nn.Module):
    """UNet, text tower and the class head, so that one object is saved, averaged and compiled."""

    def __init__(self, unet: UNet2DConditionModel, text: torch.nn.Module, classes: int) -> None:
        super().__init__()
        self.unet, self.text = unet, text
        self.head = torch.nn.Conv2d(unet.config["block_out_channels"][-1], classes + 1, 1)
        self._middle: torch.Tensor | None = None
        unet.mid_block.register_forward_hook(self._keep)

    def _keep(self, module: torch.nn.Module, inputs: object, output: torch.Tensor) -> None:
        self._middle = output

    def forward(
        self, noisy: torch.Tensor, timesteps: torch.Tensor, tokens: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """noisy (n, 12, h, w), timesteps (n,), tokens (n, 77) → v (n, 12, h, w), class logits (n, c, h/4, w/4)."""
        words = self.text(tokens).last_hidden_state
        v = self.unet(noisy, timesteps, words).sample
        return v, self.head(self._middle)


def optimizers(trainee: Trainee, kind: str, rate: float) -> list[torch.optim.Optimizer]:
    """AdamW for everything, or Muon for the UNet's inner weights and AdamW for the rest; text at a tenth."""
    unet = dict(trainee.unet.named_parameters())
    inner = [p for name, p in unet.items() if p.ndim >= 2 and not name.startswith(("conv_in", "conv_out", "time"))]
    chosen = {id(p) for p in inner} if kind == "muon" else set()
    rest = [p for p in [*unet.values(), *trainee.head.parameters()] if id(p) not in chosen]
    groups = [{"params": rest, "lr": rate}, {"params": list(trainee.text.parameters()), "lr": rate / 10}]
    made: list[torch.optim.Optimizer] = [torch.optim.AdamW(groups, betas=(0.9, 0.99), weight_decay=0.01)]
    if kind == "muon":
        made.append(Muon(inner, lr=12 * rate))
    for optimizer in made:
        for group in optimizer.param_groups:
            group["full"] = group["lr"]
    return made


def text_tower(clip: CLIPModel) -> torch.nn.Module:
    """A stock `CLIPTextModel` with the weights of a CLIP's text half."""
    from transformers import CLIPTextModel

    tower = CLIPTextModel(clip.config.text_config)
    tower.set_attn_implementation("eager")  # see clip.py
    missing = tower.load_state_dict(clip.text_model.state_dict(), strict=False)
    if missing.missing_keys:
        raise RuntimeError(f"the CLIP lacks {missing.missing_keys[:3]}")
    return tower


def held_out_loss(trainee: Trainee, draw, alphas: torch.Tensor, batches: int = 4) -> float:
    """Mean square on v over fixed noise, timesteps and captions of the first pictures of the pool, which are never trained on."""
    generator = torch.Generator().manual_seed(7)
    rng = np.random.default_rng(7)
    total = 0.0
    with torch.no_grad():
        for _ in range(batches):
            latents, tokens, _ = draw(rng, held_out=True)
            noisy, timesteps, target = diffuse(latents, alphas, generator)
            total += F.mse_loss(trainee(noisy, timesteps, tokens)[0].float(), target).item()
    return total / batches


def diffuse(
    latents: torch.Tensor, alphas: torch.Tensor, generator: torch.Generator
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Noisy latents, timesteps and v = √ᾱ ε − √(1−ᾱ) x (arXiv 2202.00512, appendix D)."""
    timesteps = sample_timesteps(len(latents), generator)
    noise = torch.randn(latents.shape, generator=generator).to(latents.device)
    a = alphas[timesteps].to(latents.device).view(-1, 1, 1, 1)
    clean, dirty = a.sqrt(), (1 - a).sqrt()
    return clean * latents + dirty * noise, timesteps.to(latents.device), clean * noise - dirty * latents


def main() -> None:
    """Command line: train one stage for some minutes, going on from RUN/state.pt."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--world", default="small", choices=sorted(WORLDS))
    parser.add_argument("--pool", type=Path, required=True)
    parser.add_argument("--clip", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--size", default="cpu", choices=sorted(SIZES))
    parser.add_argument("--stage", default="crops", choices=sorted(BATCH))
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--batch", type=int, default=0)
    parser.add_argument("--rate", type=float, default=1e-3)
    parser.add_argument("--optimizer", default="muon", choices=("adamw", "muon"))
    parser.add_argument("--cool", action="store_true", help="linear cool-down to zero; writes RUN/cooled.pt only")
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--scale", type=float, default=0.0, help="latent scale; 0 = measure and keep in the state")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    the_world = WORLDS[options.world]
    accelerator = Accelerator(mixed_precision="bf16")
    device = accelerator.device

    tokenizer = CLIPTokenizer.from_pretrained(options.clip)
    names = list(the_world.labels)
    torch.manual_seed(0)
    unet = new_unet(options.size).to(memory_format=torch.channels_last)
    unet.set_attn_processor(AttnProcessor())  # a third faster backwards on a CPU than the fused kernel
    trainee = Trainee(unet, text_tower(CLIPModel.from_pretrained(options.clip)), len(names)).to(device)
    average = {name: p.detach().clone() for name, p in trainee.state_dict().items()}
    made = optimizers(trainee, options.optimizer, options.rate)
    pool = Pool(options.pool, options.stage)
    pool.refresh()
    scale = options.scale or float(1 / pool.latents.astype(np.float32).std())
    counts = {"step": 0, "crops": 0, "whole": 0}
    state_path = options.out / "state.pt"
    if state_path.exists():
        state = torch.load(state_path, map_location=device, weights_only=True)
        trainee.load_state_dict(state["weights"])
        average, counts, scale = state["average"], state["counts"], state["scale"]
        for optimizer, saved in zip(made, state.get("optimizers", []), strict=False):
            optimizer.load_state_dict(saved)
            for group in optimizer.param_groups:
                group["lr"] = group["full"]
    alphas = DDIMScheduler(**SCHEDULE).alphas_cumprod
    batch = options.batch or BATCH[options.stage]
    if options.compile:
        trainee.unet.compile()  # in place: the names in the state stay
    generator = torch.Generator().manual_seed(counts["step"])
    rng = np.random.default_rng(counts["step"])

    def draw(rng: np.random.Generator, held_out: bool = False) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        low, high = (0, HELD_OUT) if held_out else (HELD_OUT, len(pool))
        chosen = rng.integers(low, high, size=batch)
        texts = []
        for k in chosen:
            named = pool.named[k]
            text = caption(the_world, pool.scenes[k], rng) if named is None else crop_caption(the_world, pool.scenes[k], named, rng)
            texts.append("" if rng.random() < 0.1 else text)
        tokens = tokenizer(texts, padding="max_length", truncation=True, max_length=TOKENS, return_tensors="pt")
        latents = torch.from_numpy(pool.latents[chosen]).float() * scale
        classes = torch.from_numpy(pool.classes[chosen][:, 2::4, 2::4].astype(np.int64))
        return latents.to(device), tokens.input_ids.to(device), classes.to(device)

    def save(path: Path) -> None:
        state = {"weights": trainee.state_dict(), "average": average, "counts": counts, "scale": scale}
        state["optimizers"] = [optimizer.state_dict() for optimizer in made]
        torch.save(state, path.with_suffix(".part"))
        shutil.move(path.with_suffix(".part"), path)

    start = saved_at = logged_at = time.time()
    mean_loss = mean_class = float("nan")
    log = open(options.out / "log.txt", "a", buffering=1)
    print(f"# {time.strftime('%F %T')} {vars(options)} pool {len(pool)} scale {scale:.4f} {device}", file=log)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that a stop, too, ends in `finally`
    try:
        while (elapsed := time.time() - start) < options.minutes * 60:
            if options.cool:
                for optimizer in made:
                    for group in optimizer.param_groups:
                        group["lr"] = group["full"] * max(0.0, 1 - elapsed / (options.minutes * 60))
            elif counts["step"] < 200:
                for optimizer in made:
                    for group in optimizer.param_groups:
                        group["lr"] = group["full"] * (counts["step"] + 1) / 200
            latents, tokens, classes = draw(rng)
            noisy, timesteps, target = diffuse(latents, alphas, generator)
            with accelerator.autocast():
                v, logits = trainee(noisy.contiguous(memory_format=torch.channels_last), timesteps, tokens)
            loss = F.mse_loss(v.float(), target)
            side_loss = F.cross_entropy(logits.float(), classes)
            for optimizer in made:
                optimizer.zero_grad()
            accelerator.backward(loss + 0.03 * side_loss)
            torch.nn.utils.clip_grad_norm_(trainee.parameters(), 1.0)
            for optimizer in made:
                optimizer.step()
            counts["step"] += 1
            counts[options.stage] += batch
            decay = min(0.9995 if not options.cool else 0.995, (1 + counts["step"]) / (20 + counts["step"]))
            for name, p in trainee.state_dict().items():
                average[name].lerp_(p, 1 - decay) if p.is_floating_point() else average[name].copy_(p)
            mean_loss = loss.item() if math.isnan(mean_loss) else 0.99 * mean_loss + 0.01 * loss.item()
            mean_class = side_loss.item() if math.isnan(mean_class) else 0.99 * mean_class + 0.01 * side_loss.item()
            if time.time() - logged_at > 120:
                logged_at = time.time()
                with accelerator.autocast():
                    held = held_out_loss(trainee, draw, alphas)
                print(
                    f"{elapsed / 60:.1f} min step {counts['step']} crops {counts['crops']} whole {counts['whole']} "
                    f"loss {mean_loss:.4f} held out {held:.4f} class {mean_class:.3f}",
                    file=log,
                )
                pool.refresh()
            if time.time() - saved_at > 240 and not options.cool:
                saved_at = time.time()
                save(state_path)
    finally:
        log.close()
        save(options.out / "cooled.pt" if options.cool else state_path)


if __name__ == "__main__":
    main()
