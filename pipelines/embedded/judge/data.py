"""What the judge learns from: a pool's pictures, their reconstructions by the autoencoder, and wrecks.

A *wreck* shows nothing recognisable and teaches the judge to say so: strong blur, shuffled patches, faded or
warped objects (made while training, `wreck`), and latents half drowned in noise, averaged or blurred and then
decoded (`ruined_latents`), which is what an unfinished or a failed denoiser makes. Empty places count as
nothing too.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image

from pipelines.embedded.judge.model import CELLS, SIDE, Vocabulary
from pipelines.embedded.training.scenes import Item, Scene, background

IGNORE = -100
"""`torch.nn.functional.cross_entropy` skips this target."""
ATTRIBUTES = ("colour", "tone", "gender")
CENTRED = 0.7  # a crop is of one object if that object has this share of the class mass near its middle


@dataclass
class Examples:
    """Pictures uint8 (n, 128, 128, 3) with targets.

    ``targets[head]`` int64 (n,) with `IGNORE` for unknown; ``presence`` int8 (n, classes): 1, 0 or −1 for
    unknown; ``cells`` int16 (n, 16, 16): class + 1, 0 = place, −1 = unknown.
    """

    pictures: NDArray[np.uint8]
    targets: dict[str, NDArray[np.int64]]
    presence: NDArray[np.int8]
    cells: NDArray[np.int16]

    def __len__(self) -> int:
        return len(self.pictures)

    def take(self, chosen: NDArray[np.int64] | slice) -> Examples:
        """Some of them."""
        targets = {name: target[chosen] for name, target in self.targets.items()}
        return Examples(self.pictures[chosen], targets, self.presence[chosen], self.cells[chosen])


def join(parts: list[Examples]) -> Examples:
    """All parts in one."""
    return Examples(
        np.concatenate([p.pictures for p in parts]),
        {name: np.concatenate([p.targets[name] for p in parts]) for name in parts[0].targets},
        np.concatenate([p.presence for p in parts]),
        np.concatenate([p.cells for p in parts]),
    )


def rarity(examples: Examples) -> NDArray[np.float64]:
    """How often each example is to be drawn: 1 / √count of its object and attributes together.

    The world is skewed on purpose; a judge that learnt the skew would see it where it is not. Examples of
    several objects or of nothing count as much as the median look.
    """
    looks = np.stack([examples.targets[name] for name in ("object", *ATTRIBUTES)], 1)
    _, which, counts = np.unique(looks, axis=0, return_inverse=True, return_counts=True)
    weights = 1 / np.sqrt(counts[which.reshape(-1)])
    one_object = (looks[:, 0] >= 0) & (looks[:, 0] < examples.presence.shape[1])
    return np.where(one_object, weights, np.median(weights[one_object]) if one_object.any() else 1.0)


def _attribute(vocabulary: Vocabulary, item: Item | None, name: str) -> int:
    words = {"colour": vocabulary.colours, "tone": vocabulary.tones, "gender": vocabulary.genders}[name]
    value = getattr(item, name) if item else None
    return len(words) if value is None else words.index(value)


def label(
    vocabulary: Vocabulary,
    scenes: list[Scene],
    shown: list[list[int]],
    hidden: list[list[int]],
    subjects: list[int | None],
    pictures: NDArray[np.uint8],
    cells: NDArray[np.int16],
) -> Examples:
    """Targets from the truth.

    ``shown`` and ``hidden`` are, for each picture, the indices of items surely and perhaps in it;
    ``subjects`` the item that the picture is of, None = of nothing, −1 = of several or unknown.
    """
    count = len(scenes)
    names = {word: k for k, word in enumerate(vocabulary.labels)}
    targets = {name: np.full(count, IGNORE, np.int64) for name in vocabulary.heads() if name != "presence"}
    presence = np.zeros((count, len(names)), np.int8)
    for n, (scene, subject) in enumerate(zip(scenes, subjects, strict=True)):
        targets["place"][n] = vocabulary.places.index(scene.place)
        targets["time"][n] = vocabulary.times.index(scene.time)
        for k in hidden[n]:
            presence[n, names[scene.items[k].label]] = -1
        for k in shown[n]:
            presence[n, names[scene.items[k].label]] = 1
        if subject is None:
            targets["object"][n] = len(names)
        elif subject >= 0:
            item = scene.items[subject]
            targets["object"][n] = names[item.label]
            targets["style"][n] = vocabulary.styles.index(scene.style)
            for name in ATTRIBUTES:
                targets[name][n] = _attribute(vocabulary, item, name)
    return Examples(pictures, targets, presence, cells)


def subject_of(cells: NDArray[np.int16], scene: Scene, labels: tuple[str, ...]) -> int:
    """The index of the item that has `CENTRED` of the class mass near the middle of a crop, else −1."""
    axis = np.linspace(-1, 1, cells.shape[0])
    weight = np.exp(-3 * (axis[:, None] ** 2 + axis**2))
    mass = [float(weight[cells == labels.index(item.label) + 1].sum()) for item in scene.items]
    best = int(np.argmax(mass))
    return best if mass[best] > 2 and mass[best] >= CENTRED * sum(mass) else -1


def from_chunk(path: Path, vocabulary: Vocabulary, kind: str) -> tuple[Examples, NDArray[np.float16]]:
    """One kind ("crops" or "whole") of one chunk of a pool, and its latents."""
    with np.load(path) as data:
        pictures, latents = data[f"{kind}_pixels"], data[f"{kind}_latents"]
        cells = data[f"{kind}_classes"].astype(np.int16)
        text = json.loads(data["scenes"].tobytes())[kind]
    cells = cells[:, :: cells.shape[1] // CELLS, :: cells.shape[1] // CELLS]
    scenes = [Scene.from_json(entry["scene"]) for entry in text]
    everything = [list(range(len(scene.items))) for scene in scenes]
    shown = [
        e if (named := entry["named"]) is None else named for e, entry in zip(everything, text, strict=True)
    ]
    hidden = [[k for k in e if k not in s] for e, s in zip(everything, shown, strict=True)]
    subjects: list[int | None] = []
    for scene, cell, seen in zip(scenes, cells, shown, strict=True):
        single = kind == "whole" and len(scene.items) == 1
        found = 0 if single else subject_of(cell, scene, vocabulary.labels) if kind == "crops" else -1
        subjects.append(found if found in seen else -1)
    return label(vocabulary, scenes, shown, hidden, subjects, pictures, cells), latents


def empty_places(scenes: list[Scene], vocabulary: Vocabulary, rng: np.random.Generator) -> Examples:
    """Random squares of the scenes' empty places: nothing recognisable, but a place and a time."""
    pictures = np.empty((len(scenes), SIDE, SIDE, 3), np.uint8)
    for n, scene in enumerate(scenes):
        side = int(rng.integers(88, 257))
        left, top = rng.integers(0, 257 - side, 2).tolist()
        picture = Image.fromarray(background(scene))
        box = (left, top, left + side, top + side)
        pictures[n] = np.asarray(picture.resize((SIDE, SIDE), Image.Resampling.BICUBIC, box=box))
    none: list[list[int]] = [[] for _ in scenes]
    subjects: list[int | None] = [None] * len(scenes)
    cells = np.zeros((len(scenes), CELLS, CELLS), np.int16)
    return label(vocabulary, scenes, none, none, subjects, pictures, cells)


def ruined_latents(latents: torch.Tensor, rng: np.random.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    """Latents (n, c, h, w) that decode to nothing recognisable, and for each whether even the place is gone.

    A third each: drowned in noise (signal share 0 to 0.45 in amplitude), the mean of four pictures, blurred
    to 3×3.
    """
    out = latents.clone()
    kind = torch.from_numpy(rng.integers(0, 3, len(latents)))
    share = torch.from_numpy(rng.uniform(0, 0.45, len(latents))).float().view(-1, 1, 1, 1)
    noise = torch.from_numpy(rng.standard_normal(latents.shape)).float() * latents.std()
    drowned = share * latents + (1 - share**2).sqrt() * noise
    mixed = sum(latents.roll(k, 0) for k in range(4)) / 4
    blurred = F.interpolate(F.adaptive_avg_pool2d(latents, 3), latents.shape[-2:], mode="bicubic")
    for number, ruin in enumerate((drowned, mixed, blurred)):
        out[kind == number] = ruin[kind == number]
    return out, (kind == 0) | (kind == 1)


def _field(count: int, size: int, generator: torch.Generator) -> torch.Tensor:
    """Smooth random displacements (n, 128, 128, 2), unit deviation at ``size``×``size`` knots."""
    knots = torch.randn(count, 2, size, size, generator=generator)
    return F.interpolate(knots, (SIDE, SIDE), mode="bicubic", align_corners=True).permute(0, 2, 3, 1)


def augment(
    x: torch.Tensor, cells: torch.Tensor, generator: torch.Generator
) -> tuple[torch.Tensor, torch.Tensor]:
    """Flips, shifts to 6 %, zooms by 0.85 to 1.15, slight warps, brightness, contrast and slight blur.

    x (n, 3, 128, 128) in −1..1 and cells (n, 16, 16) move together.
    """
    n = len(x)
    uniform = lambda low, high: torch.rand(n, generator=generator) * (high - low) + low  # noqa: E731
    theta = torch.zeros(n, 2, 3)
    zoom = uniform(0.85, 1.15)
    theta[:, 0, 0] = zoom * torch.where(uniform(0, 1) < 0.5, -1.0, 1.0)
    theta[:, 1, 1] = zoom * uniform(0.95, 1.05)
    theta[:, 0, 2], theta[:, 1, 2] = uniform(-0.12, 0.12), uniform(-0.12, 0.12)
    grid = F.affine_grid(theta, [n, 3, SIDE, SIDE], align_corners=False)
    x = F.grid_sample(
        x, grid + 0.015 * _field(n, 5, generator), padding_mode="reflection", align_corners=False
    )
    coarse = F.affine_grid(theta, [n, 1, CELLS, CELLS], align_corners=False)
    shifted = cells[:, None].float() + 1  # outside becomes 0, that is: unknown
    cells = (
        F.grid_sample(shifted, coarse, mode="nearest", align_corners=False)[:, 0].round().to(cells.dtype) - 1
    )
    x = x * uniform(0.88, 1.12).view(-1, 1, 1, 1) + uniform(-0.1, 0.1).view(-1, 1, 1, 1)
    soft = uniform(0, 1) < 0.3
    if soft.any():
        small = F.interpolate(x[soft], scale_factor=0.5, mode="bilinear", antialias=True)
        x[soft] = F.interpolate(small, (SIDE, SIDE), mode="bilinear")
    return x.clamp(-1, 1), cells


def wreck(x: torch.Tensor, generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    """Pictures (n, 3, 128, 128) made unrecognisable in one of five ways, and for each whether the place is
    gone too.
    """
    kind = torch.randint(0, 5, (len(x),), generator=generator)
    out = x.clone()
    for n, how in enumerate(kind.tolist()):
        one = x[n : n + 1]
        size = int(torch.randint(3, 7, (), generator=generator))
        blurred = F.interpolate(F.adaptive_avg_pool2d(one, size), (SIDE, SIDE), mode="bicubic")
        if how == 0:
            out[n] = blurred[0]
        elif how == 1:
            side = (16, 32)[int(torch.randint(0, 2, (), generator=generator))]
            patches = F.unfold(one, side, stride=side)
            order = torch.randperm(patches.shape[-1], generator=generator)
            out[n] = F.fold(patches[..., order], (SIDE, SIDE), side, stride=side)[0]
        elif how == 2:
            out[n] = (0.06 * one + 0.94 * blurred)[0]
        else:
            grid = F.affine_grid(torch.eye(2, 3)[None], [1, 3, SIDE, SIDE], align_corners=False)
            # right colours and mass, no shape: what a young denoiser paints
            coarse, fine = (0.55, 0.0) if how == 3 else (0.3, 0.12)
            warp = grid + coarse * _field(1, 6, generator) + fine * _field(1, 26, generator)
            out[n] = F.grid_sample(one, warp, padding_mode="reflection", align_corners=False)[0]
    return out, kind == 1
