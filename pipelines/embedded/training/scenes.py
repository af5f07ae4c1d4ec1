"""Scenes with ground truth: one to four cut-outs of one style in a place at a time of day, composed and
lit.

``python -m pipelines.embedded.training.scenes --sheet FILE.png --store DIR`` writes a contact sheet to look
at.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from pipelines.embedded.training.cutouts import CutoutStore
from pipelines.embedded.training.places import SIDE, TINT, paint, place
from pipelines.embedded.training.world import KEPT, World, art_key, world
from pipelines.errors import FieldError

__all__ = ["Item", "Rendered", "Scene", "background", "main", "render", "sample_item", "sample_scene"]

Split = Literal["train", "heldout"]

SIZES = {1: (100, 170), 2: (80, 125), 3: (60, 95), 4: (60, 95)}
"""Longest side of an object in pixels, by the number of objects in the scene."""
MARGIN = 4
OVERLAP = 0.2
"""At most this share of a box is covered by other boxes, so that at least 0.6 of a shape that fills half
its box shows.
"""


@dataclass(frozen=True)
class Item:
    """One object: its cut-out, its centre (x, y) and longest side in pixels of the 256 canvas, and its true
    attributes.
    """

    key: str
    label: str
    x: float
    y: float
    size: int
    flip: bool = False
    colour: str | None = None
    tone: str | None = None
    gender: str | None = None


@dataclass(frozen=True)
class Scene:
    """Everything that decides a picture; items lie back to front."""

    place: str
    time: str
    style: str
    items: tuple[Item, ...]
    seed: int

    def to_json(self) -> str:
        """One line of JSON; :meth:`from_json` gives an equal scene back."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Scene:
        """The scene written by :meth:`to_json`; :class:`FieldError` where the text is not one."""
        try:
            data: dict[str, Any] = json.loads(text)
            return cls(**{**data, "items": tuple(Item(**item) for item in data["items"])})
        except (ValueError, TypeError, KeyError) as error:
            raise FieldError(f"this is not a scene: {error}; write scenes with to_json.") from error


@dataclass(frozen=True)
class Rendered:
    """A picture (uint8 256×256×3), the visible part of each object (float32 n×256×256, 0 to 1) and its
    label.
    """

    image: NDArray[np.uint8]
    masks: NDArray[np.float32]
    labels: tuple[str, ...]


def sample_item(
    chosen: World,
    rng: np.random.Generator,
    label: str,
    *,
    style: str,
    split: Split = "train",
    colour: str | None = None,
    size: int = 128,
) -> Item:
    """One object with its attributes drawn by the world's skew, centred; ``colour`` fixes the colour.

    Held-out art is never drawn for ``split="train"``; asking for it by ``colour`` raises :class:`FieldError`.
    """
    for _ in range(100):
        drawn = {}
        for attribute in ("colour", "tone", "gender"):
            choice = chosen.choice(label, attribute)
            drawn[attribute] = choice.draw(rng) if choice else None
        if colour is not None:
            if drawn["colour"] is None:
                raise FieldError(
                    f"{label!r} has no colours in the world {chosen.name!r}: leave its colour out."
                )
            drawn["colour"] = colour
        bare = art_key("", label, **drawn).lstrip("/")
        if split == "heldout" or bare not in chosen.heldout_art:
            flip = bool(rng.random() > KEPT)
            return Item(art_key(style, label, **drawn), label, SIDE / 2, SIDE / 2, size, flip, **drawn)
    raise FieldError(f"{colour} {label} is held out of training: ask for it with split='heldout'.")


def _labels(chosen: World, rng: np.random.Generator, count: int, style: str, split: Split) -> list[str]:
    labels = chosen.labels_in(style)
    while True:
        picked = [labels[i] for i in rng.choice(len(labels), count, replace=False)]
        if split == "heldout" or not chosen.held_out(picked):
            return picked


def _spots(
    chosen: World, rng: np.random.Generator, store: CutoutStore, items: Sequence[Item], ground: int | None
) -> list[Item]:
    """Sizes and centres without too much overlap; sizes shrink a little after every failed round."""
    low, high = SIZES[len(items)]
    for attempt in range(200):
        shrink = max(0.6, 1 - 0.01 * attempt)
        placed: list[Item] = []
        boxes: list[tuple[float, float, float, float]] = []
        for item in items:
            size = round(float(rng.uniform(low, high)) * shrink)
            w, h = store.extent(item.key, size)
            x = rng.uniform(w / 2 + MARGIN, SIDE - w / 2 - MARGIN)
            floats = item.label in chosen.floating and rng.random() < 0.6
            if ground is None:
                bottom = rng.uniform(h + MARGIN, SIDE - MARGIN)
            elif floats:
                bottom = rng.uniform(h + MARGIN, max(h + MARGIN + 1, ground - 14))
            else:
                bottom = rng.uniform(max(ground + 8, h + MARGIN), SIDE - MARGIN)
            boxes.append((x - w / 2, bottom - h, x + w / 2, bottom))
            placed.append(replace(item, x=round(float(x), 1), y=round(float(bottom - h / 2), 1), size=size))
        if _clear(boxes):
            return sorted(placed, key=lambda i: i.y + store.extent(i.key, i.size)[1] / 2)
    raise FieldError(f"{len(items)} objects found no room in the picture: ask for fewer.")


def _clear(boxes: Sequence[tuple[float, float, float, float]]) -> bool:
    for i, (ax, ay, bx, by) in enumerate(boxes):
        hidden = 0.0
        for j, (cx, cy, dx, dy) in enumerate(boxes):
            if i != j:
                hidden += max(0.0, min(bx, dx) - max(ax, cx)) * max(0.0, min(by, dy) - max(ay, cy))
        if hidden > OVERLAP * (bx - ax) * (by - ay):
            return False
    return True


def sample_scene(
    chosen: World,
    rng: np.random.Generator,
    store: CutoutStore,
    *,
    count: int | None = None,
    labels: Sequence[str] | None = None,
    colours: Sequence[str | None] | None = None,
    place_name: str | None = None,
    time: str | None = None,
    style: str | None = None,
    split: Split = "train",
) -> Scene:
    """One random scene; what is given is kept, the rest is drawn by the world's weights.

    ``labels`` and ``colours`` (None = drawn) name the objects; ``split="train"`` never yields a held-out
    pair or held-out art, and raises :class:`FieldError` where ``labels`` or ``colours`` ask for one.
    """
    style = style or chosen.style.draw(rng)
    if labels is None:
        count = count if count is not None else 1 + int(rng.choice(4, p=chosen.counts))
        labels = _labels(chosen, rng, count, style, split)
    elif split == "train" and chosen.held_out(labels):
        raise FieldError(f"{' and '.join(labels)} are held out of training: ask with split='heldout'.")
    if not 1 <= len(labels) <= 4:
        raise FieldError(f"a scene holds 1 to 4 objects, not {len(labels)}.")
    places = [p for p in chosen.places if time is None or time in place(p).times]
    place_name = place_name or places[int(rng.integers(len(places)))]
    # Plain colours say little about the light, so they are mostly seen by day.
    by_day = 0.6 if place_name == "plain" else 0.4
    times = [t for t in chosen.times if t in place(place_name).times]
    weights = np.array([by_day if t == "day" else (1 - by_day) / 2 for t in times])
    time = time or times[int(rng.choice(len(times), p=weights / weights.sum()))]
    asked = colours if colours is not None else [None] * len(labels)
    items = [
        sample_item(chosen, rng, label, style=style, split=split, colour=colour)
        for label, colour in zip(labels, asked, strict=True)
    ]
    items = _spots(chosen, rng, store, items, place(place_name).ground)
    return Scene(place_name, time, style, tuple(items), int(rng.integers(2**31)))


def _shadow(canvas: NDArray[np.float32], x: float, bottom: float, width: float, time: str) -> None:
    """A soft ellipse on the ground; long and pushed aside by a low sun, faint at night."""
    rx = width * (0.62 if time == "sunset" else 0.5)
    ry, depth = max(4.0, width * 0.085), {"day": 0.42, "sunset": 0.45, "night": 0.4}[time]
    cx = x + (width * 0.14 if time == "sunset" else 0.0)
    y0, y1 = max(0, int(bottom - 2.2 * ry)), min(SIDE, int(bottom + 2.2 * ry) + 1)
    x0, x1 = max(0, int(cx - 1.5 * rx)), min(SIDE, int(cx + 1.5 * rx) + 1)
    ys = (np.arange(y0, y1, dtype=np.float32)[:, None] - bottom) / ry
    xs = (np.arange(x0, x1, dtype=np.float32) - cx) / rx
    canvas[y0:y1, x0:x1] *= (1 - depth * np.exp(-((ys**2 + xs**2) ** 1.5)))[..., None]


def _to_bytes(canvas: NDArray[np.float32]) -> NDArray[np.uint8]:
    return np.asarray(np.clip(canvas + 0.5, 0, 255), np.uint8)


def background(scene: Scene) -> NDArray[np.uint8]:
    """The empty, lit place of a scene: uint8 256×256×3."""
    return _to_bytes(paint(scene.place, scene.time, scene.seed))


def render(scene: Scene, store: CutoutStore, *, light: bool = True, shadows: bool = True) -> Rendered:
    """Compose the scene. ``light=False`` is the flat collage a user would make: true place, objects neither
    lit nor shaded.

    Masks are the objects' visible alpha after occlusion, in the order of ``scene.items``.
    """
    canvas = paint(scene.place, scene.time, scene.seed)
    tint = np.asarray(TINT[scene.time] if light else TINT["day"], np.float32)
    ground = place(scene.place).ground
    if light and shadows and ground is not None:
        for item in scene.items:
            w, h = store.extent(item.key, item.size)
            if item.y + h / 2 > ground:
                _shadow(canvas, item.x, item.y + h / 2 - 1, w, scene.time)
    masks = np.zeros((len(scene.items), SIDE, SIDE), np.float32)
    for n, item in enumerate(scene.items):
        art = store.scaled(item.key, item.size, item.flip)
        h, w = art.shape[:2]
        left, top = round(item.x - w / 2), round(item.y - h / 2)
        y0, y1, x0, x1 = max(0, top), min(SIDE, top + h), max(0, left), min(SIDE, left + w)
        if y0 >= y1 or x0 >= x1:
            continue
        art = art[y0 - top : y1 - top, x0 - left : x1 - left]
        alpha = art[..., 3]
        part = canvas[y0:y1, x0:x1]
        part *= 1 - alpha[..., None]
        part += art[..., :3] * tint
        masks[:n, y0:y1, x0:x1] *= 1 - alpha
        masks[n, y0:y1, x0:x1] = alpha
    return Rendered(_to_bytes(canvas), masks, tuple(item.label for item in scene.items))


def sheet(chosen: World, store: CutoutStore, seed: int = 0, rows: int = 6, columns: int = 8) -> Image.Image:
    """A contact sheet of random scenes, each with its caption below."""
    from pipelines.embedded.training.captions import caption

    rng = np.random.default_rng(seed)
    out = Image.new("RGB", (columns * (SIDE + 4), rows * (SIDE + 44)), "white")
    draw = ImageDraw.Draw(out)
    for i in range(rows * columns):
        x, y = i % columns * (SIDE + 4), i // columns * (SIDE + 44)
        scene = sample_scene(chosen, rng, store)
        out.paste(Image.fromarray(render(scene, store).image), (x, y))
        text, lines = caption(chosen, scene, rng).split(), [""]
        for word in text:
            if len(lines[-1]) + len(word) > 40:
                lines.append("")
            lines[-1] += word + " "
        draw.multiline_text((x + 2, y + SIDE), "\n".join(lines[:3]), fill="black", spacing=1)
    return out


def main(argv: list[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description="Look at random scenes of the embedded model's world.")
    parser.add_argument("--sheet", type=Path, required=True, help="PNG file to write")
    parser.add_argument("--store", type=Path, required=True, help="folder with cutouts.npz")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(argv)
    store = CutoutStore.load(options.store)
    sheet(world(store.world), store, options.seed).save(options.sheet)


if __name__ == "__main__":
    main()
