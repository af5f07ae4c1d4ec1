"""The tables and verdicts of docs/results/effects.md."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np

from pipelines.measure.intervals import Interval, bootstrap, wilson
from tests.benchmarks import common

Settings = dict[str, Any]
Row = dict[str, Any]
HEADERS = ("", "without", "with", "difference (paired)")
LOSS = 0.03
"""The share of agreement that spread and avoid may cost."""


def paired(rows: Sequence[Row], name: str = "") -> Interval:
    """Mean difference with − without; a row's own list is averaged first (rows, not pictures, are
    independent).
    """
    first, second = f"without{name}", f"with{name}"
    return bootstrap([np.mean(r[second]) - np.mean(r[first]) for r in rows if np.size(r[first])])


def rate(rows: Sequence[Row], name: str) -> Interval:
    """The share of hits over all lists ``row[name]``."""
    hits = list(itertools.chain.from_iterable(r[name] for r in rows))
    return wilson(sum(hits), len(hits))


def holds(true: bool | None) -> str:
    """The verdict's word; None is open."""
    return {True: "**holds**", None: "**open**", False: "**does not hold**"}[true]


def both(rows: Sequence[Row], what: str, name: str = "") -> list[str]:
    """A table row for a share with and without."""
    return [
        what,
        common.percent(rate(rows, f"without{name}")),
        common.percent(rate(rows, f"with{name}")),
        common.points(paired(rows, name)),
    ]


def page(raw: dict[str, Any], settings: Settings) -> str:
    """All claims that were run, in the order of the protocol."""
    text = ""
    for claim in ("attention", "harmonize", "spread", "avoid"):
        if claim in raw["claims"]:
            text += section(claim, raw["claims"][claim]["rows"], settings)
    return text + (
        "Intervals: 95 %, Wilson for shares, bootstrap over layouts or prompts for means and differences. A claim "
        "holds where all of its interval does; a bound is open where the interval reaches over it.\n"
    )


def section(claim: str, rows: Sequence[Row], settings: Settings) -> str:
    """One claim's table and verdict."""
    return {"attention": _attention, "harmonize": _harmonize, "spread": _spread, "avoid": _avoid}[claim](
        rows, settings[claim]
    )


def _attention(rows: Sequence[Row], own: Settings) -> str:
    lines = [both(rows, "prompted object recognised inside its own mask")]
    coloured = [r for r in rows if r["with colour"]]
    if coloured:
        lines.append(both(coloured, "… and in the colour its words ask for", " colour"))
    return (
        f"## Layer attention, from pure noise\n\nn = {len(rows)} layouts of two objects; "
        f"inside {own['inside']:g}, outside {own['outside']:g}.\n\n{common.table(HEADERS, lines)}\n"
        f"The prompted object is found more often: {holds(paired(rows).low > 0)}.\n\n"
    )


def _distance(rows: Sequence[Row], what: str, name: str) -> list[str]:
    means = [bootstrap([r[f"{side} {name}"] for r in rows]) for side in ("without", "with")]
    return [what, *map(common.number, means), common.number(paired(rows, f" {name}"))]


def _kept(rows: Sequence[Row]) -> str:
    return f"Agreement falls by at most 3 points: {holds(common.within(paired(rows), least=-LOSS))}.\n\n"


def _spread(rows: Sequence[Row], own: Settings) -> str:
    lines = [
        _distance(rows, "mean distance between the pictures of a batch (1 − cosine)", "distance"),
        both(rows, "object, place and time as asked"),
    ]
    return (
        f"## Spread\n\nn = {len(rows)} prompts, {own['images']} pictures each; by {own['by']}, alpha {own['alpha']:g}, "
        f"threshold {own['threshold']:g}, window {own['window']:g}.\n\n"
        f"{common.table(HEADERS, lines)}\n"
        f"The distance goes up: {holds(paired(rows, ' distance').low > 0)}. {_kept(rows)}"
    )


def _avoid(rows: Sequence[Row], own: Settings) -> str:
    pushed = [r | {"with": r["push"], "with similarity": r["push similarity"]} for r in rows]
    lines = [
        _distance(rows, "similarity to the reference (cosine)", "similarity"),
        both(rows, "object as asked"),
        _distance(pushed, "by push, as in the paper: similarity", "similarity"),
        both(pushed, "by push: object as asked"),
    ]
    return (
        f"## Avoid\n\nn = {len(rows)} prompts that name an object and leave place, time and colour open; the reference "
        f"is a true scene of that object. Alpha {own['alpha']:g}, threshold {own['threshold']:g}, window "
        f"{own['window']:g}, by guidance.\n\n{common.table(HEADERS, lines)}\n"
        f"The similarity goes down: {holds(paired(rows, ' similarity').high < 0)}. {_kept(rows)}"
    )


def _harmonize(rows: Sequence[Row], own: Settings) -> str:
    strengths = own["strengths"]
    flat, lines = np.array([r["flat"] for r in rows]), []
    change, error = (np.array([r[name] for r in rows]) for name in ("change", "error"))
    for k, strength in enumerate(strengths):
        hits = list(itertools.chain.from_iterable(r["judge"][k] for r in rows))
        values = (change[:, k], error[:, k], error[:, k] - flat)
        cells = [common.number(bootstrap(value), 1) for value in values]
        lines.append([f"{strength:g}", *cells, common.percent(wilson(sum(hits), len(hits)))])
    rises = all(bootstrap(change[:, k + 1] - change[:, k]).low > 0 for k in range(len(strengths) - 1))
    each = wilson(int((np.diff(change, axis=1) > 0).all(1).sum()), len(rows))
    closer = bootstrap(error[:, strengths.index(own["claimed"])] - flat)
    headers = ["harmonize", "change against the flat collage", "error to the true scene"]
    headers += ["that error, less the flat collage's", "objects recognised"]
    return (
        f"## Harmonize, towards the true scene's light\n\nn = {len(rows)} layouts at sunset or night; root "
        f"mean square inside the layers, of 255; the flat collage's own error is "
        f"{common.number(bootstrap(flat), 1)}; background at {own['background']:g}.\n\n"
        f"{common.table(headers, lines)}\n"
        f"The change rises with every step of harmonize: {holds(rises)} (at every step in "
        f"{common.percent(each)} of single layouts). At {own['claimed']:g} the result is closer to "
        f"the true scene than the flat collage: {holds(closer.high < 0)}.\n\n"
    )
