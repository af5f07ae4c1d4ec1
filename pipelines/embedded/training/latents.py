"""A growing pool of encoded scenes on disk: what the CLIP, the judge and the denoiser learn from.

``python -m pipelines.embedded.training.latents --store CUTOUTS --out POOL --scenes 16000``

The pool is a folder of chunks of 500 scenes. Each chunk holds whole scenes (256 px, latents 32×32) and, for each
object, one crop around it at half size (128 px, latents 16×16): crops are cheap to learn objects from, scenes teach
layout. Encoding once and visiting each latent many times makes the autoencoder's cost vanish. A chunk is written
in one move, so a trainer may read the folder while it grows.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from rich.progress import track

from pipelines.embedded.training.cutouts import CutoutStore
from pipelines.embedded.training.scenes import Scene, render, sample_scene
from pipelines.embedded.training.world import WORLDS, World

CHUNK = 500
SEEN = 0.45  # least visible share of an object's own area for a crop's caption to name it


@dataclass
class Batch:
    """Arrays of one kind of picture: latents (n, 12, h, w) float16, classes (n, h, w) uint16 (0 = place)."""

    pixels: NDArray[np.uint8]
    latents: NDArray[np.float16]
    classes: NDArray[np.uint16]
    scenes: list[Scene]
    named: list[list[int] | None] = field(default_factory=list)


def crop_box(scene: Scene, index: int, rng: np.random.Generator) -> tuple[int, int, int, int]:
    """A square around object ``index``, 1.15 to 1.7 times its size, jittered, inside the 256 px canvas."""
    item = scene.items[index]
    side = min(256, max(88, round(item.size * rng.uniform(1.15, 1.7))))
    slack = max(0.0, (side - item.size) / 2)
    left = round(item.x - side / 2 + rng.uniform(-slack, slack))
    top = round(item.y - side / 2 + rng.uniform(-slack, slack))
    left, top = min(max(left, 0), 256 - side), min(max(top, 0), 256 - side)
    return left, top, left + side, top + side


def named_in(masks: NDArray[np.float32], box: tuple[int, int, int, int]) -> list[int]:
    """Indices of the objects of which at least `SEEN` of the visible area lies inside ``box``."""
    left, top, right, bottom = box
    inside = masks[:, top:bottom, left:right].sum((1, 2))
    return [k for k, part in enumerate(inside / (masks.sum((1, 2)) + 1e-6)) if part >= SEEN]


def class_map(masks: NDArray[np.float32], labels: list[int], side: int) -> NDArray[np.uint16]:
    """Class index + 1 per latent cell (0 where no object covers half of it). masks (n, H, W) → (side, side)."""
    cells = np.zeros((side, side), np.uint16)
    step = masks.shape[1] // side
    if len(labels):
        cover = masks.reshape(len(labels), side, step, side, step).mean((2, 4))
        best = cover.argmax(0)
        hit = np.take_along_axis(cover, best[None], 0)[0] >= 0.5
        cells[hit] = np.asarray(labels, np.uint16)[best[hit]] + 1
    return cells


def make_chunk(world: World, store: CutoutStore, encoder: torch.nn.Module, seed: int) -> dict[str, Batch]:
    """Render and encode `CHUNK` scenes and one crop for each of their objects (seeded)."""
    rng = np.random.default_rng(seed)
    names = {name: k for k, name in enumerate(world.labels)}
    empty = lambda: Batch(np.empty(0, np.uint8), np.empty(0, np.float16), np.empty(0, np.uint16), [])  # noqa: E731
    whole, crops = empty(), empty()
    pictures: dict[str, list[NDArray[np.uint8]]] = {"whole": [], "crops": []}
    classes: dict[str, list[NDArray[np.uint16]]] = {"whole": [], "crops": []}
    for _ in range(CHUNK):
        scene = sample_scene(world, rng, store)
        shown = render(scene, store)
        labels = [names[item.label] for item in scene.items]
        pictures["whole"].append(shown.image)
        classes["whole"].append(class_map(shown.masks, labels, 32))
        whole.scenes.append(scene)
        whole.named.append(None)
        picture = Image.fromarray(shown.image)
        for index in range(len(scene.items)):
            box = crop_box(scene, index, rng)
            kept = named_in(shown.masks, box)
            if index not in kept:
                continue
            pictures["crops"].append(
                np.asarray(picture.resize((128, 128), Image.Resampling.BICUBIC, box=box))
            )
            small = [
                np.asarray(Image.fromarray(mask).resize((128, 128), Image.Resampling.BILINEAR, box=box))
                for mask in shown.masks
            ]
            classes["crops"].append(class_map(np.stack(small), labels, 16))
            crops.scenes.append(scene)
            crops.named.append(kept)
    for name, batch in (("whole", whole), ("crops", crops)):
        batch.pixels = np.stack(pictures[name])
        batch.classes = np.stack(classes[name])
        batch.latents = encode(encoder, batch.pixels)
    return {"whole": whole, "crops": crops}


@torch.no_grad()
def encode(encoder: torch.nn.Module, pixels: NDArray[np.uint8], size: int = 32) -> NDArray[np.float16]:
    """uint8 (n, H, W, 3) → unscaled latents float16 (n, 12, H/8, W/8), bf16 autocast."""
    device = next(encoder.parameters()).device
    parts = []
    for start in range(0, len(pixels), size):
        x = torch.from_numpy(pixels[start : start + size]).to(device).permute(0, 3, 1, 2).float() / 127.5 - 1
        with torch.autocast(device.type, dtype=torch.bfloat16):
            parts.append(encoder(x.contiguous(memory_format=torch.channels_last)).float().cpu())
    return torch.cat(parts).numpy().astype(np.float16)


def save_chunk(folder: Path, number: int, chunk: dict[str, Batch]) -> None:
    """Write one chunk so that it appears complete or not at all."""
    arrays: dict[str, NDArray[np.generic]] = {}
    for name, batch in chunk.items():
        arrays |= {f"{name}_latents": batch.latents, f"{name}_classes": batch.classes}
        if name == "crops":
            arrays[f"{name}_pixels"] = batch.pixels
        else:
            arrays[f"{name}_pixels"] = batch.pixels[:, ::2, ::2]
    text = {
        name: [
            {"scene": scene.to_json(), "named": named} for scene, named in zip(b.scenes, b.named, strict=True)
        ]
        for name, b in chunk.items()
    }
    arrays["scenes"] = np.frombuffer(json.dumps(text).encode(), np.uint8)
    path = folder / f"chunk-{number:04d}.npz"
    with open(path.with_suffix(".part"), "wb") as file:
        np.savez(file, **arrays)  # type: ignore[arg-type]
    path.with_suffix(".part").rename(path)


@dataclass
class Pool:
    """All chunks of a folder, in memory. ``kind`` is "crops" or "whole"; call `refresh` to see new chunks."""

    folder: Path
    kind: str
    pixels: bool = False
    latents: NDArray[np.float16] | None = None
    classes: NDArray[np.uint16] | None = None
    pictures: NDArray[np.uint8] | None = None
    scenes: list[Scene] = field(default_factory=list)
    named: list[list[int] | None] = field(default_factory=list)
    _read: set[str] = field(default_factory=set)

    def refresh(self) -> bool:
        """Read chunks that have appeared since; True if there were any."""
        new = [path for path in sorted(self.folder.glob("chunk-*.npz")) if path.name not in self._read]
        for path in new:
            data = np.load(path)
            text = json.loads(data["scenes"].tobytes())[self.kind]
            self.scenes += [Scene.from_json(entry["scene"]) for entry in text]
            self.named += [entry["named"] for entry in text]
            for own, stored in (("latents", "latents"), ("classes", "classes"), ("pictures", "pixels")):
                if own == "pictures" and not self.pixels:
                    continue
                part = data[f"{self.kind}_{stored}"]
                old = getattr(self, own)
                setattr(self, own, part if old is None else np.concatenate([old, part]))
            self._read.add(path.name)
        return bool(new)

    def __len__(self) -> int:
        return len(self.scenes)


def load_encoder(folder: Path) -> torch.nn.Module:
    """The encoder half of an `AutoencoderTiny` folder, in the layout a CPU likes."""
    from diffusers import AutoencoderTiny

    encoder = AutoencoderTiny.from_pretrained(folder).encoder
    return encoder.eval().requires_grad_(False).to(memory_format=torch.channels_last)


def main() -> None:
    """Command line: fill a pool, going on where an earlier call stopped."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--world", default="small", choices=sorted(WORLDS))
    parser.add_argument("--store", type=Path, required=True, help="folder written by the cutouts command")
    parser.add_argument("--autoencoder", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--scenes", type=int, default=16_000)
    parser.add_argument("--first-seed", type=int, default=1_000)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    store = CutoutStore.load(options.store)
    encoder = load_encoder(options.autoencoder)
    for number in track(range(options.scenes // CHUNK), "encoding"):
        if not (options.out / f"chunk-{number:04d}.npz").exists():
            save_chunk(
                options.out,
                number,
                make_chunk(WORLDS[options.world], store, encoder, options.first_seed + number),
            )


if __name__ == "__main__":
    main()
