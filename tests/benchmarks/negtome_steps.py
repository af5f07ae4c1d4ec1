"""NegToMe in more and fewer of the steps, on the tuning prompts: what is tried, and the tables of it."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from operator import itemgetter
from typing import Any

import numpy as np

from pipelines.request import AvoidRequest, LayerRequest
from tests.benchmarks import common
from tests.benchmarks.negtome_curves import avoid_cell, best
from tests.benchmarks.negtome_measures import (
    DIFFERING,
    Row,
    Settings,
    agreement,
    difference,
    differing_cells,
    held_to_the_authors,
    likeness,
    mean,
    names_of,
)

NOISE, BARELY = "noise alone", 1e-6
"""Of vary: so little alpha that its noise alone acts."""


def longer_ways(own: Settings, whole: AvoidRequest) -> dict[str, dict[str, Any]]:
    """Off, and a picture to avoid by guidance with every alpha in every share of the steps."""
    ways: dict[str, dict[str, Any]] = {"avoid off": {}}
    for alpha in own["alphas"]:
        for window in own["windows"]:
            avoid = dataclasses.replace(whole, alpha=alpha, threshold=own["threshold"], window=window)
            ways[f"longer {alpha:g} {window:g}"] = {"avoids": (avoid,)}
    return ways


def longer(rows: Sequence[Row], settings: Settings) -> str:
    """Alphas down, shares of the steps across."""
    own = settings["longer"]
    near = np.mean([likeness(row["avoid off"]) for row in rows])
    lines = [
        [
            f"{alpha:g}",
            *(_longer_cell(rows, f"longer {alpha:g} {window:g}") for window in own["windows"]),
        ]
        for alpha in own["alphas"]
    ]
    headers = ("alpha", *(f"window {window:g}" for window in own["windows"]))
    return (
        f"## A picture to avoid, in more of the steps\n\nn = {len(rows)} batches of {settings['images']} on the tuning "
        f"prompts, by guidance, threshold {own['threshold']:g}. Each cell: similarity to the reference "
        f"(off: {near:.3f}), the object as asked (off: "
        f"{100 * agreement(rows, 'avoid off', 'object').value:.0f} %), processor seconds more than off.\n\n"
        f"{common.table(headers, lines)}\n"
        f"{best(rows, 'longer', settings['loss'], 'avoid off', words=('alpha', 'window'))}\n\n"
    )


def window_ways(own: Settings, layer: LayerRequest) -> dict[str, dict[str, Any]]:
    """Off, a layer that varies by its noise alone, and every cell: alpha, share of the steps, way."""
    ways: dict[str, dict[str, Any]] = {
        "off": {},
        NOISE: {"layers": (dataclasses.replace(layer, vary=BARELY),)},
    }
    for alpha, window, by in own["cells"]:
        ways[f"alpha {alpha:g} by {by}, window {window:g}"] = {
            "layers": (dataclasses.replace(layer, vary=alpha),),
            "window": window,
            "spread_by": by,
        }
    return ways


def windows(rows: Sequence[Row], settings: Settings) -> str:
    """A line a setting, each also against the noise alone."""
    own = settings["windows"]
    lines = []
    for name in names_of(rows):
        inside, outside = (
            common.number(mean(rows, name, itemgetter(word))) for word in ("inside", "outside")
        )
        more = difference(rows, name, lambda one: float(one["inside"]), NOISE)
        told = f"{more.value:+.3f} ({more.low:+.3f} to {more.high:+.3f})"
        lines.append(
            [
                name,
                inside,
                "" if name in ("off", NOISE) else told,
                outside,
                common.percent(agreement(rows, name, "object")),
            ]
        )
    headers = ("", "distance inside", "against the noise alone", "outside", "object")
    return (
        f"## What of vary is its noise\n\nn = {len(rows)} batches of {settings['images']} on the tuning prompts; as "
        f"above, threshold {own['threshold']:g}. The noise alone is vary at {BARELY:g}: shared outside the layer, its "
        f"own inside.\n\n{common.table(headers, lines)}\n"
    )


def spread_longer_ways(own: Settings) -> dict[str, dict[str, Any]]:
    """Off, and spread with every cell: alpha, share of the steps, way."""
    ways: dict[str, dict[str, Any]] = {"off": {}}
    for alpha, window, by in own["cells"]:
        ways[f"{by} {alpha:g} {window:g}"] = {
            "spread": alpha,
            "spread_threshold": own["threshold"],
            "window": window,
            "spread_by": by,
        }
    return ways


def spread_longer(rows: Sequence[Row], settings: Settings) -> str:
    """A line a setting, and of each way the cell that falls most at no great loss."""
    own = settings["spread_longer"]
    lines = []
    for name in names_of(rows):
        by, alpha, window = ("off", "", "") if name == "off" else name.split(" ")
        lines.append([by, alpha, window, *differing_cells(rows, name)])
    headers = ("by", "alpha", "window", *DIFFERING)
    ways = dict.fromkeys(by for _, _, by in own["cells"])
    told = (f"By {by}: {best(rows, by, settings['loss'], words=('alpha', 'window'))}\n" for by in ways)
    return (
        f"## A batch that differs, in more of the steps\n\nn = {len(rows)} batches of {settings['images']} on the "
        f"tuning prompts, threshold {own['threshold']:g}.\n\n{common.table(headers, lines)}\n{chr(10).join(told)}\n"
    )


def spread_more(rows: Sequence[Row], settings: Settings) -> str:
    """The cell that was counted."""
    own = settings["spread_more"]
    lines = [[name, *differing_cells(rows, name)] for name in names_of(rows)]
    return (
        f"## The best of these, counted\n\nn = {len(rows)} batches of {settings['images']} on the prompts of the first "
        f"part; by guidance, alpha {own['alpha']:g}, threshold {own['threshold']:g}, window {own['window']:g}.\n\n"
        f"{common.table(('', *DIFFERING), lines)}\n{held_to_the_authors(rows)}"
    )


def _longer_cell(rows: Sequence[Row], name: str) -> str:
    more = np.median([row[name]["seconds"] / row["avoid off"]["seconds"] - 1 for row in rows])
    return f"{avoid_cell(rows, name)}, {100 * more:+.0f} %"
