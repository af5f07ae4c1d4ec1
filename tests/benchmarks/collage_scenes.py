"""The layouts of the collage benchmark: what lies where, its words, and cut-outs that their words do not tell."""

from __future__ import annotations

import colorsys
import dataclasses
from functools import cache
from typing import Any

import numpy as np

from pipelines.embedded.training.cutouts import CutoutStore
from pipelines.embedded.training.scenes import Item, Scene
from pipelines.embedded.training.world import COLOURS, art_key, world
from pipelines.pictures import Pixels
from presets.recipes.build import STYLE, WORLD, drawer_store, item
from tests.benchmarks import common
from tests.benchmarks.effects import words

CLAIMS = ("look", "place", "seam", "lost", "ladder", "shape")
OVERLAPS = {"apart": (0.0, 0.0), "touching": (0.05, 0.25), "overlapping": (0.25, 0.5)}
"""Largest share of the smaller of two boxes that both cover."""
SIDE = 256
NEAR = 32 / 360
"""Hues nearer than this to an object's own colour are its colour, as where the art was recoloured."""


@dataclasses.dataclass(frozen=True)
class Layout:
    """A scene, the colours that its prompt asks for, and how far its boxes overlap."""

    scene: Scene
    colours: tuple[str | None, ...]
    overlap: str = ""

    @property
    def frozen(self) -> str:
        """What the protocol's digest is taken of."""
        return f"{words(self.scene, self.colours)[0]} {self.scene.to_json()}"


def layout(claim: str, k: int, settings: dict[str, Any], seed: int) -> Layout:
    """Row k of a claim."""
    rng = np.random.default_rng([seed, CLAIMS.index(claim), k])
    chosen = pool(settings["cutouts"], settings["seed"])
    if claim == "look":
        return _worn(rng, [chosen[k % len(chosen)]])
    if claim == "ladder":
        return _worn(rng, _pair(rng, chosen))
    if claim == "place":
        return _coloured(rng, 2 + k % 2, list(OVERLAPS)[k // 2 % len(OVERLAPS)])
    if claim == "seam":
        scene = common.drawer_scene(rng, count=1 + int(rng.integers(3)), time=("sunset", "night")[k % 2])
    else:
        scene = common.drawer_scene(rng, count=2 + k % 2)
    return Layout(scene, (None,) * len(scene.items))


def frozen(settings: dict[str, Any]) -> list[str]:
    """All layouts of all claims."""
    return [
        layout(claim, k, settings, settings["seed"]).frozen
        for claim in CLAIMS
        for k in range(settings[claim]["n"])
    ]


def pool(count: int, seed: int) -> tuple[tuple[str, str], ...]:
    """So many (label, colour): objects that can have any colour, each in one that words alone do not give it."""
    rng, own = np.random.default_rng([seed, 99]), world(WORLD).recolourable
    labels = [sorted(own)[n] for n in rng.permutation(len(own))[:count]]
    others = [[colour for colour in COLOURS if colour != own[label]] for label in labels]
    return tuple(
        (label, rest[int(rng.integers(len(rest)))]) for label, rest in zip(labels, others, strict=True)
    )


def _pair(rng: np.random.Generator, chosen: tuple[tuple[str, str], ...]) -> list[tuple[str, str]]:
    while True:
        pair = [chosen[n] for n in rng.choice(len(chosen), 2, replace=False)]
        if not world(WORLD).held_out([label for label, _ in pair]):
            return pair


def _worn(rng: np.random.Generator, wanted: list[tuple[str, str]]) -> Layout:
    """A daylight scene of these, each in its colour, of which the words say nothing."""
    scene = common.drawer_scene(rng, labels=[label for label, _ in wanted], time="day")
    colours = dict(wanted)
    items = tuple(coloured(one, colours[one.label]) for one in scene.items)
    return Layout(dataclasses.replace(scene, items=items), (None,) * len(items))


def coloured(one: Item, colour: str) -> Item:
    """The same object in another colour."""
    return dataclasses.replace(one, key=art_key(STYLE, one.label, colour=colour), colour=colour)


def in_its_colours(one: Layout) -> tuple[Scene, CutoutStore]:
    """The scene with each object in the colour that the prompt asks for, and the art for it: what could be drawn."""
    items, more = [], {}
    for thing, colour in zip(one.scene.items, one.colours, strict=True):
        items.append(coloured(thing, colour) if colour else thing)
        if colour and items[-1].key not in drawer_store():
            more[items[-1].key] = recoloured(thing.label, colour)
    return dataclasses.replace(one.scene, items=tuple(items)), _drawer_and(more)


def _drawer_and(more: dict[str, Pixels]) -> CutoutStore:
    drawer = drawer_store()
    return CutoutStore(WORLD, {key: drawer[key] for key in drawer.keys()} | more)  # noqa: SIM118 (no mapping)


def _coloured(rng: np.random.Generator, count: int, overlap: str) -> Layout:
    """So many objects that can have any colour, each asked for in its own, their boxes so far over each other; by day,
    when colours are told apart best.
    """
    chosen = world(WORLD)
    open_ = sorted(chosen.recolourable)
    while True:
        labels = [open_[n] for n in rng.choice(len(open_), count, replace=False)]
        if chosen.held_out(labels):
            continue
        scene = common.drawer_scene(rng, labels=labels, time="day")
        moved = _moved(rng, scene, *OVERLAPS[overlap])
        if moved is not None:
            colours = [list(COLOURS)[n] for n in rng.choice(len(COLOURS), count, replace=False)]
            return Layout(moved, tuple(colours), overlap)


def _moved(rng: np.random.Generator, scene: Scene, low: float, high: float) -> Scene | None:
    """The scene with its objects moved until their largest overlap is within bounds; None where chance fails."""
    for _ in range(200):
        items = [scene.items[0]]
        for one in scene.items[1:]:
            other = items[int(rng.integers(len(items)))]
            w, h = (
                (a + b) / 2 for a, b in zip(extent(one), extent(other), strict=True)
            )  # at this distance boxes touch
            reach = 1.0 if high else 1.6
            x, y = other.x + rng.uniform(-reach, reach) * w, other.y + rng.uniform(-0.5, 0.5) * h
            items.append(dataclasses.replace(one, x=round(float(x), 1), y=round(float(y), 1)))
        boxes = [box(one) for one in items]
        inside = all(min(b[:2]) >= 2 and max(b[2:]) <= SIDE - 2 for b in boxes)
        if inside and low <= largest_overlap(boxes) <= high:
            # what stands lower is nearer, as in the world's own scenes
            return dataclasses.replace(scene, items=tuple(sorted(items, key=lambda i: box(i)[3])))
    return None


Box = tuple[float, float, float, float]


def extent(one: Item) -> tuple[int, int]:
    """(width, height) of an object in pixels; colours do not change it."""
    return drawer_store().extent(item(one.label, 0, 0, 1).key, one.size)


def box(one: Item) -> Box:
    """left, top, right, bottom in pixels."""
    w, h = extent(one)
    return one.x - w / 2, one.y - h / 2, one.x + w / 2, one.y + h / 2


def largest_overlap(boxes: list[Box]) -> float:
    """The largest share of the smaller of two boxes that both cover."""
    found = 0.0
    for n, a in enumerate(boxes):
        for b in boxes[:n]:
            across, down = (max(0.0, min(a[d + 2], b[d + 2]) - max(a[d], b[d])) for d in (0, 1))
            smaller = min((c[2] - c[0]) * (c[3] - c[1]) for c in (a, b))
            found = max(found, across * down / smaller)
    return found


def recoloured(label: str, colour: str) -> Pixels:
    """The drawer's cut-out, uint8 (h, w, 4), with its own colour turned into another; its shades stay."""
    pixels = drawer_store()[item(label, 0, 0, 1).key]
    own, new = (
        colorsys.rgb_to_hsv(*(c / 255 for c in COLOURS[name]))
        for name in (world(WORLD).recolourable[label], colour)
    )
    colours, where = np.unique(pixels[..., :3].reshape(-1, 3), axis=0, return_inverse=True)
    turned = colours.copy()
    for n, one in enumerate(colours / 255):
        h, s, v = colorsys.rgb_to_hsv(*one)
        if s >= 0.2 and v >= 0.2 and abs((h - own[0] + 0.5) % 1 - 0.5) <= NEAR:
            rgb = colorsys.hsv_to_rgb(new[0], min(1, new[1] * s / own[1]), min(1, new[2] * v / own[2]))
            turned[n] = [round(255 * c) for c in rgb]
    out = pixels.copy()
    out[..., :3] = turned[where.reshape(-1)].reshape(out[..., :3].shape)
    return out


@cache
def every_art(count: int, seed: int) -> CutoutStore:
    """The drawer and the recoloured cut-outs of the pool."""
    return _drawer_and(
        {
            art_key(STYLE, label, colour=colour): recoloured(label, colour)
            for label, colour in pool(count, seed)
        }
    )
