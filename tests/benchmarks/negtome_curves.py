"""Alpha and threshold by experiment: what NegToMe's benchmark tries on its tuning prompts, and the tables of it."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from pipelines.measure.intervals import Interval
from pipelines.request import AvoidRequest
from tests.benchmarks import common
from tests.benchmarks.negtome_measures import (
    Row,
    Settings,
    agreement,
    fall,
    likeness,
    lost,
    mean,
    names_of,
    over_rows,
    percent,
    similarity,
    variety,
)

CURVES = (
    ("source", "all", "guidance"),
    ("source", "first", "push"),
    ("released", "first", "push"),
)
"""Axis, reference and way of each of spread's curves: ours, then the paper's rule by either axis; the last is the
released code's."""
AVOIDS = ("avoid guidance", "avoid push")
AXES = ("source", "released")


def cells(own: Settings) -> list[tuple[float, float]]:
    """Every alpha with every threshold."""
    return [(alpha, threshold) for alpha in own["alphas"] for threshold in own["thresholds"]]


def spread_ways(own: Settings) -> dict[str, dict[str, Any]]:
    """Off, every cell of spread, and the rivals at several strengths: what changes in the plain request."""
    ways: dict[str, dict[str, Any]] = {"off": {}}
    for axis, match, by in CURVES:
        for alpha, threshold in cells(own):
            ways[f"{axis} {match} {by} {alpha:g} {threshold:g}"] = {
                "spread": alpha,
                "spread_threshold": threshold,
                "window": own["window"],
                "axis": axis,
                "spread_match": match,
                "spread_by": by,
            }
    ways |= {f"cads {strength:g}": {"cads": strength} for strength in own["cads"]}
    intervals = {
        f"interval {low:g} to {high:g}": {"guidance_interval": (low, high)} for low, high in own["intervals"]
    }
    return ways | intervals


def avoid_ways(own: Settings, whole: AvoidRequest) -> dict[str, dict[str, Any]]:
    """The same for a picture to avoid, by guidance and by push."""
    ways: dict[str, dict[str, Any]] = {"avoid off": {}}
    for kind in AVOIDS:
        for alpha, threshold in cells(own):
            avoid = dataclasses.replace(whole, alpha=alpha, threshold=threshold)
            ways[f"{kind} {alpha:g} {threshold:g}"] = {"avoids": (avoid,), "avoid_by": kind.split(" ")[1]}
    return ways


def axis_ways(own: Settings, whole: AvoidRequest) -> dict[str, dict[str, Any]]:
    """Off, and every cell of a picture to avoid by push, along either axis."""
    ways: dict[str, dict[str, Any]] = {"avoid off": {}}
    for axis in AXES:
        for alpha, threshold in cells(own):
            avoid = dataclasses.replace(whole, alpha=alpha, threshold=threshold)
            ways[f"axis {axis} {alpha:g} {threshold:g}"] = {
                "avoids": (avoid,),
                "avoid_by": "push",
                "axis": axis,
            }
    return ways


def axes(rows: Sequence[Row], settings: Settings) -> str:
    """A table for each axis, and where each costs the same."""
    own = settings["axes"]
    near = np.mean([likeness(row["avoid off"]) for row in rows])
    text = (
        f"## Which axis, for a picture to avoid\n\nn = {len(rows)} batches of {settings['images']} on the tuning "
        f"prompts, by push, window {own['window']:g}. Source: each token of the picture moves away from its best "
        "partner in the reference (the paper's words, and ours). Released: as in the released code the best token of "
        "the picture is looked up for each of the reference's, and its number read as one of the reference's. Each "
        "cell: similarity to the reference (off: "
        f"{near:.3f}), the object as asked (off: {100 * agreement(rows, 'avoid off', 'object').value:.0f} %).\n\n"
    )
    for axis in AXES:
        kind = f"axis {axis}"
        text += f"{kind.capitalize()}.\n\n{_grid(rows, kind, own, avoid_cell)}\n"
        text += f"{best(rows, kind, settings['loss'], 'avoid off')}\n\n"
    near_more, right_more = (_over_cells(rows, own, of) for of in (likeness, _right))
    return text + (
        f"Over all cells, released against source: likeness {near_more.value:+.3f} ({near_more.low:+.3f} to "
        f"{near_more.high:+.3f}), the object as asked {common.points(right_more)}.\n\n"
    )


def _right(one: Row) -> float:
    """The share of a batch that shows the object."""
    return float(np.mean(one["object"]))


def _over_cells(rows: Sequence[Row], own: Settings, of: Callable[[Row], float]) -> Interval:
    """The mean over all cells along the last axis less that along the first, paired by rows."""

    def along(row: Row, axis: str) -> float:
        found = [of(row[f"axis {axis} {alpha:g} {threshold:g}"]) for alpha, threshold in cells(own)]
        return float(np.mean(found))

    return over_rows(rows, lambda row: along(row, AXES[-1]) - along(row, AXES[0]))


def curves(rows: Sequence[Row], settings: Settings) -> str:
    """The tables: a kind's alphas down, its thresholds across."""
    own = settings["curves"]
    text = (
        f"## Alpha and threshold\n\nn = {len(rows)} batches of {settings['images']}, on tuning prompts that are "
        "counted nowhere else; fewer than above, as there are many cells, so that a cell's agreement is known to some "
        f"points only. Window {own['window']:g}. Each cell: similarity (off: "
        f"{np.mean([similarity(row['off']) for row in rows]):.3f}), Vendi (off: "
        f"{np.mean([row['off']['vendi'] for row in rows]):.2f}), agreement (off: "
        f"{100 * agreement(rows, 'off').value:.0f} %).\n\n"
    )
    for axis, match, by in CURVES:
        kind = f"{axis} {match} {by}"
        text += (
            f"Spread: axis {axis}, reference: {match}, by {by}.\n\n{_grid(rows, kind, own, _spread_cell)}\n"
        )
        text += f"{best(rows, kind, settings['loss'])}\n\n"
    near = np.mean([likeness(row["avoid off"]) for row in rows])
    text += (
        f"Avoid: similarity to the reference (off: {near:.3f}), the object as asked (off: "
        f"{100 * agreement(rows, 'avoid off', 'object').value:.0f} %).\n\n"
    )
    for kind in AVOIDS:
        text += f"{kind.capitalize()}.\n\n{_grid(rows, kind, own, avoid_cell)}\n"
        text += f"{best(rows, kind, settings['loss'], 'avoid off')}\n\n"
    rivals = [name for name in names_of(rows) if name.startswith(("cads", "interval"))]
    lines = [
        [
            name,
            percent(fall(rows, name, similarity)),
            common.number(mean(rows, name, variety), 2),
            common.points(lost(rows, name)),
        ]
        for name in rivals
    ]
    return (
        text + f"{common.table(('rival', 'similarity falls by', 'Vendi', 'agreement against off'), lines)}\n"
    )


def _spread_cell(rows: Sequence[Row], name: str) -> str:
    similar = float(np.mean([similarity(row[name]) for row in rows]))
    various = float(np.mean([row[name]["vendi"] for row in rows]))
    return f"{similar:.3f}, {various:.2f}, {100 * agreement(rows, name).value:.0f} %"


def avoid_cell(rows: Sequence[Row], name: str) -> str:
    near = float(np.mean([likeness(row[name]) for row in rows]))
    return f"{near:.3f}, {100 * agreement(rows, name, 'object').value:.0f} %"


def _grid(rows: Sequence[Row], kind: str, own: Settings, cell: Callable[[Sequence[Row], str], str]) -> str:
    lines = [
        [f"{alpha:g}", *(cell(rows, f"{kind} {alpha:g} {threshold:g}") for threshold in own["thresholds"])]
        for alpha in own["alphas"]
    ]
    return common.table(("alpha", *(f"threshold {threshold:g}" for threshold in own["thresholds"])), lines)


def best(
    rows: Sequence[Row],
    kind: str,
    loss: float,
    base: str = "off",
    words: tuple[str, str] = ("alpha", "threshold"),
) -> str:
    """Which cell of a kind has the least similarity at a loss of agreement of at most ``loss``, with intervals."""
    near, word = (similarity, "agreement") if base == "off" else (likeness, "object")
    chosen, least = None, math.inf
    for name in names_of(rows):
        if not name.startswith(f"{kind} ") or name == base:
            continue
        similar = float(np.mean([near(row[name]) for row in rows]))
        if lost(rows, name, word, base).value >= -loss and similar < least:
            chosen, least = name, similar
    if chosen is None:
        return f"No cell keeps its loss of agreement within {100 * loss:g} points."
    one, other = (f"{word} {value}" for word, value in zip(words, chosen.split(" ")[-2:], strict=True))
    return (
        f"Least similarity at a loss of at most {100 * loss:g} points: {one}, {other} "
        f"({least:.3f}; it falls by {percent(fall(rows, chosen, near, base))}, agreement "
        f"{common.points(lost(rows, chosen, word, base))})."
    )
