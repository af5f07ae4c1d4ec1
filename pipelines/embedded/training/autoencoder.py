"""The autoencoder: pictures of 256×256 to latents of 12 channels, 32×32, and back.

``python -m pipelines.embedded.training.autoencoder --store CUTOUTS --out AE --minutes 45 [--from AE] [--decoder-only]``

An `AutoencoderTiny` small enough for a CPU (0.8 M parameters), trained on windows of newly drawn scenes. Resumable:
OUT/state.pt. ``--decoder-only`` leaves the latents as they are, so a denoiser trained on them goes on fitting.
"""

from __future__ import annotations

import argparse
import shutil
import signal
import sys
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from accelerate import Accelerator
from diffusers import AutoencoderTiny
from numpy.typing import NDArray
from rich.progress import Progress

from pipelines.embedded.training.cutouts import CutoutStore
from pipelines.embedded.training.scenes import render, sample_scene
from pipelines.embedded.training.world import WORLDS, World
from pipelines.measure.similarity import psnr

CHANNELS, WIDTH = 12, 48
ENCODER_BLOCKS, DECODER_BLOCKS = (0, 0, 2, 3), (3, 2, 1, 0)
SIDE = 128  # of a window
A_SCENE = 4  # windows cut from one scene: drawing it costs more than a step on them
BATCH, RATE = 24, 1e-3
EDGES, SIZE = 0.5, 1e-3  # weights of the loss on edges, and of keeping latents small
WARM_UP, LOG_SECONDS, SAVE_SECONDS = 50, 60, 240
HELD_OUT, HELD_OUT_SEED = 48, 77_000


def new_autoencoder() -> AutoencoderTiny:
    """Random weights in the shape that ships: 8 pixels a cell, no block at full size in the encoder."""
    return AutoencoderTiny(
        encoder_block_out_channels=(WIDTH,) * 4,
        decoder_block_out_channels=(WIDTH,) * 4,
        num_encoder_blocks=ENCODER_BLOCKS,
        num_decoder_blocks=DECODER_BLOCKS,
        latent_channels=CHANNELS,
    )


def windows(world: World, store: CutoutStore, rng: np.random.Generator, count: int) -> NDArray[np.uint8]:
    """``count`` windows (count, SIDE, SIDE, 3) of new training scenes, three of four of them on an object."""
    found: list[NDArray[np.uint8]] = []
    while len(found) < count:
        scene = sample_scene(world, rng, store)
        picture = render(scene, store).image
        most = picture.shape[0] - SIDE
        for k in range(A_SCENE):
            at = rng.integers(0, most + 1, 2)
            if k and scene.items:
                item = scene.items[int(rng.integers(len(scene.items)))]
                aim = np.array([item.x, item.y]) + rng.normal(0, item.size / 4, 2) - SIDE / 2
                at = np.clip(np.rint(aim), 0, most).astype(int)
            found.append(picture[at[1] : at[1] + SIDE, at[0] : at[0] + SIDE])
    return np.stack(found[:count])


def loss_of(back: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Mean absolute difference of pixels, and of the differences between neighbours, which keeps edges sharp.

    back, target: (n, 3, H, W) in −1..1.
    """
    across = F.l1_loss(back.diff(dim=3), target.diff(dim=3))
    down = F.l1_loss(back.diff(dim=2), target.diff(dim=2))
    return F.l1_loss(back, target) + EDGES * (across + down)


def through(
    vae: AutoencoderTiny, x: torch.Tensor, *, decoder_only: bool
) -> tuple[torch.Tensor, torch.Tensor]:
    """(pictures back, latents) of x (n, 3, H, W) in −1..1; without gradients in the encoder if ``decoder_only``."""
    with torch.set_grad_enabled(torch.is_grad_enabled() and not decoder_only):
        latents = vae.encoder(x)
    return vae.decoder(latents), latents


@torch.no_grad()
def held_out(
    vae: AutoencoderTiny, world: World, store: CutoutStore, count: int = HELD_OUT
) -> dict[str, float]:
    """Mean PSNR in dB on new scenes that training never draws: "whole" and "inside" the objects' masks."""
    rng = np.random.default_rng(HELD_OUT_SEED)
    found: dict[str, list[float]] = {"whole": [], "inside": []}
    device = next(vae.parameters()).device
    for _ in range(count):
        shown = render(sample_scene(world, rng, store, split="heldout"), store)
        x = torch.from_numpy(shown.image.copy()).permute(2, 0, 1)[None].to(device).float() / 127.5 - 1
        back = through(vae, x, decoder_only=True)[0][0].float().clamp(-1, 1).add(1).mul(127.5).round()
        picture = back.permute(1, 2, 0).byte().cpu().numpy()
        found["whole"].append(psnr(shown.image, picture))
        found["inside"].append(psnr(shown.image, picture, shown.masks.sum(0).clip(0, 1)))
    return {name: float(np.mean(values)) for name, values in found.items()}


class Run:
    """The weights, their optimizer and the steps done; all of it is in OUT/state.pt."""

    def __init__(self, start: Path | None, decoder_only: bool, accelerator: Accelerator) -> None:
        made = AutoencoderTiny.from_pretrained(start, dtype=torch.float32) if start else new_autoencoder()
        self.vae = made.to(accelerator.device, memory_format=torch.channels_last)
        self.decoder_only, self.accelerator, self.steps = decoder_only, accelerator, 0
        learned = self.vae.decoder if decoder_only else self.vae
        self.optimizer = torch.optim.AdamW(learned.parameters(), lr=RATE, weight_decay=0.0)

    def load(self, path: Path) -> None:
        """Go on from a saved state."""
        state = torch.load(path, map_location=self.accelerator.device, weights_only=True)
        self.vae.load_state_dict(state["weights"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.steps = state["steps"]

    def save(self, folder: Path) -> None:
        """The state to go on from, and the weights as diffusers loads them."""
        state = {
            "weights": self.vae.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "steps": self.steps,
        }
        torch.save(state, folder / "state.part")
        shutil.move(folder / "state.part", folder / "state.pt")
        self.vae.save_pretrained(folder)

    def step(self, pictures: NDArray[np.uint8], share: float) -> float:
        """One update at ``share`` of the full rate on uint8 (n, H, W, 3); the loss before it."""
        for group in self.optimizer.param_groups:
            group["lr"] = RATE * share
        x = torch.from_numpy(pictures).to(self.accelerator.device).permute(0, 3, 1, 2).float() / 127.5 - 1
        x = x.contiguous(memory_format=torch.channels_last)
        with self.accelerator.autocast():
            back, latents = through(self.vae, x, decoder_only=self.decoder_only)
        loss = loss_of(back.float(), x)
        self.optimizer.zero_grad()
        self.accelerator.backward(loss + SIZE * latents.float().square().mean())
        torch.nn.utils.clip_grad_norm_(self.vae.parameters(), 1.0)
        self.optimizer.step()
        self.steps += 1
        return loss.item()


def train(run: Run, world: World, store: CutoutStore, out: Path, minutes: float, batch: int = BATCH) -> None:
    """Train for ``minutes``, the rate falling to nothing in the last fifth; saves at the end, whatever ends it."""
    rng = np.random.default_rng(run.steps)
    begin = logged = saved = time.time()
    mean = 0.0
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that a stop, too, ends in `finally`
    try:
        with Progress() as progress, open(out / "log.txt", "a", buffering=1) as log:
            task = progress.add_task("autoencoder", total=1.0)
            while (done := (time.time() - begin) / (minutes * 60)) < 1:
                share = min(1.0, (run.steps + 1) / WARM_UP, 5 * (1 - done))
                loss = run.step(windows(world, store, rng, batch), share)
                mean = 0.98 * mean + 0.02 * loss if mean else loss
                progress.update(task, completed=done)
                if time.time() - logged > LOG_SECONDS:
                    logged = time.time()
                    print(f"{time.strftime('%F %T')} step {run.steps} loss {mean:.4f}", file=log)
                if time.time() - saved > SAVE_SECONDS:
                    saved = time.time()
                    run.save(out)
    finally:
        run.save(out)


def main() -> None:
    """Command line: train for some minutes, going on from OUT/state.pt, then print the held-out figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--world", default="small", choices=sorted(WORLDS))
    parser.add_argument("--store", type=Path, required=True, help="folder of cut-outs")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=45)
    parser.add_argument("--batch", type=int, default=BATCH)
    parser.add_argument("--from", dest="start", type=Path, help="weights to start from where OUT is new")
    parser.add_argument(
        "--decoder-only", action="store_true", help="leave the encoder, so the latents, alone"
    )
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    world, store = WORLDS[options.world], CutoutStore.load(options.store)
    torch.manual_seed(2)
    run = Run(options.start, options.decoder_only, Accelerator(mixed_precision="bf16"))
    if (options.out / "state.pt").exists():
        run.load(options.out / "state.pt")
    train(run, world, store, options.out, options.minutes, options.batch)
    figures = held_out(run.vae, world, store)
    line = f"step {run.steps}: {figures['whole']:.2f} dB whole, {figures['inside']:.2f} dB inside masks"
    with open(options.out / "log.txt", "a") as log:
        print(line, file=log)
    print(line)


if __name__ == "__main__":
    main()
