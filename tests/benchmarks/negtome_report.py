"""The tables and verdicts of docs/results/negtome.md. Rows, not pictures, are independent; prompts are, for entropy."""

from __future__ import annotations

import itertools
import math
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pipelines.measure.intervals import Interval, bootstrap, wilson
from tests.benchmarks import common

Settings = dict[str, Any]
Row = dict[str, Any]

AUTHORS_SPREAD = 1 - 0.780 / 0.812
"""How much the similarity within a batch fell in the authors' table, as a share of what it was."""
AUTHORS_TIME = 0.036
"""How much longer their run with NegToMe took."""
AUTHORS_AVOID = 0.3457
"""How much the similarity to a reference fell, as reported by the authors; its protocol is not public."""


def names_of(rows: Sequence[Row]) -> list[str]:
    """The settings of a row, in their order."""
    return [name for name, value in rows[0].items() if isinstance(value, dict)]


def agreement(rows: Sequence[Row], name: str, word: str = "agreement") -> Interval:
    """The share of pictures that show what was asked."""
    hits = list(itertools.chain.from_iterable(row[name][word] for row in rows))
    return wilson(sum(hits), len(hits))


def difference(rows: Sequence[Row], name: str, of: Callable[[Row], float], base: str = "off") -> Interval:
    """Mean over the rows of one setting's number less that of ``base`` in the same row."""
    return bootstrap([of(row[name]) - of(row[base]) for row in rows])


def lost(rows: Sequence[Row], name: str, word: str = "agreement") -> Interval:
    """How agreement differs from off, paired."""
    return difference(rows, name, lambda one: float(np.mean(one[word])))


def fall(rows: Sequence[Row], name: str, of: Callable[[Row], float]) -> Interval:
    """By what share the mean of a similarity falls against off: a ratio of means, resampled by rows."""
    before = np.array([of(row["off"]) for row in rows])
    after = np.array([of(row[name]) for row in rows])
    rng = np.random.default_rng(0)
    drawn = rng.integers(len(rows), size=(2000, len(rows)))
    found = 1 - after[drawn].mean(1) / before[drawn].mean(1)
    low, high = np.quantile(found, [0.025, 0.975])
    return Interval(float(1 - after.mean() / before.mean()), float(low), float(high), len(rows))


def entropy(values: Sequence[str]) -> float:
    """Shannon entropy in bits of how often each value occurs."""
    counts = np.array(list(Counter(values).values()), float)
    shares = counts / counts.sum()
    return float(-(shares * np.log2(shares)).sum()) + 0.0


def open_entropy(rows: Sequence[Row], name: str, word: str) -> Interval | None:
    """Mean over prompts of the entropy of an attribute in all their pictures that show the object."""
    seen: dict[str, list[str]] = defaultdict(list)
    for row in rows:
        values = row[name]["style"] if word == "style" else row[name]["open"][word]
        seen[row["prompt"]] += [value for value in values if value is not None]
    found = [entropy(values) for values in seen.values() if values]
    return bootstrap(found) if found else None


def mixed(rows: Sequence[Row], name: str) -> Interval | None:
    """The share of batches in which an open attribute has more than one value."""
    several = [
        any(
            len({value for value in values if value is not None}) > 1 for values in row[name]["open"].values()
        )
        for row in rows
    ]
    return wilson(sum(several), len(several)) if several else None


def section(part: str, rows: Sequence[Row], settings: Settings) -> str:
    """One part's tables and verdicts."""
    parts: Mapping[str, Callable[[Sequence[Row], Settings], str]] = {
        "spread": _spread,
        "avoid": _avoid,
        "vary": _vary,
        "curves": _curves,
    }
    return parts[part](rows, settings)


def page(heading: str, parts: Mapping[str, Any], settings: Settings, folder: Path) -> str:
    """The whole page."""
    text = heading
    for part in ("spread", "avoid", "vary", "curves"):
        if part in parts:
            text += section(part, parts[part]["rows"], settings)
            if (folder / f"negtome-{part}.jpg").is_file():
                text += f"![The first rows, nothing selected](negtome-{part}.jpg)\n\n"
    return text + (
        "Intervals: 95 %, Wilson for shares, bootstrap over rows for means and differences, over prompts for entropy. "
        "Seconds are the processor's; NegToMe's are held against a plain batch in one call.\n"
    )


def _percent(one: Interval) -> str:
    """A ratio as "3.9 % (1.2 to 6.0)"."""
    return f"{100 * one.value:+.1f} % ({100 * one.low:+.1f} to {100 * one.high:+.1f})"


def _similarity(one: Row) -> float:
    return 1 - float(one["distance"])


def _reached(true: bool) -> str:
    return "**reached**" if true else "**not reached**"


def slower(rows: Sequence[Row], name: str) -> Interval:
    """By what share a setting takes longer than off; what samples all images in one call than off in one call."""
    joint = name.startswith("negtome")
    timed = [
        {
            "off": {"seconds": row["off"]["together" if joint else "seconds"]},
            name: {"seconds": row[name]["seconds"]},
        }
        for row in rows
    ]
    less = fall(timed, name, lambda one: float(one["seconds"]))
    return Interval(-less.value, -less.high, -less.low, less.n)


def _slower(rows: Sequence[Row], name: str) -> str:
    return _percent(slower(rows, name))


def _spread(rows: Sequence[Row], settings: Settings) -> str:
    own = settings["spread"]
    lines, attributes = [], []
    for name in names_of(rows):
        off = name == "off"
        lines.append(
            [
                name,
                common.number(bootstrap([_similarity(row[name]) for row in rows])),
                "" if off else _percent(fall(rows, name, _similarity)),
                common.number(bootstrap([row[name]["vendi"] for row in rows]), 2),
                common.percent(agreement(rows, name)),
                "" if off else common.points(lost(rows, name)),
                "" if off else _slower(rows, name),
            ]
        )
        several = mixed(rows, name)
        attributes.append(
            [
                name,
                *(
                    "–" if (found := open_entropy(rows, name, word)) is None else common.number(found, 2)
                    for word in ("colour", "tone", "gender", "style")
                ),
                "–" if several is None else common.percent(several),
            ]
        )
    falls, loss = fall(rows, "negtome", _similarity), lost(rows, "negtome")
    longer = slower(rows, "negtome")
    headers = ("", "similarity", "it falls by", "Vendi", "object, place, time", "against off", "more seconds")
    return (
        f"## A batch that differs\n\nn = {len(rows)} batches of {settings['images']}, "
        f"{len({row['prompt'] for row in rows})} prompts; alpha {own['alpha']:g}, threshold {own['threshold']:g}, "
        f"window {own['window']:g}; CADS {own['cads']:g}; interval {own['interval']}.\n\n"
        f"{common.table(headers, lines)}\n"
        "What the prompt leaves open, in bits over all pictures of a prompt that show the object, and how many batches "
        "hold more than one value:\n\n"
        f"{common.table(('', 'colour', 'tone', 'gender', 'style', 'mixed batches'), attributes)}\n"
        f"To beat: similarity {100 * AUTHORS_SPREAD:.1f} % lower at no loss of agreement, 3.6 % more time (authors)."
        f" NegToMe here: {_percent(falls)} lower, agreement {common.points(loss)}: "
        f"{_reached(falls.value >= AUTHORS_SPREAD and loss.high >= 0)}; time {100 * longer.value:+.1f} %: "
        f"{_reached(longer.value <= AUTHORS_TIME)}.\n\n"
    )


def _avoid(rows: Sequence[Row], settings: Settings) -> str:
    own = settings["avoid"]
    lines, verdicts = [], []

    def near(word: str) -> Callable[[Row], float]:
        return lambda one: float(np.mean(one[f"{word} similarity"]))

    for name in names_of(rows):
        off = name == "off"
        falls = {word: fall(rows, name, near(word)) for word in ("whole", "object")}
        loss = lost(rows, name, "object")
        lines.append(
            [
                name,
                common.number(bootstrap([near("whole")(row[name]) for row in rows])),
                "" if off else _percent(falls["whole"]),
                "" if off else _percent(falls["object"]),
                common.percent(agreement(rows, name, "object")),
                "" if off else common.points(loss),
                "" if off else _slower(rows, name),
            ]
        )
        if not off:
            best = falls["whole"].value >= AUTHORS_AVOID and loss.value >= -settings["loss"]
            verdicts.append(f"{name}: {_reached(best)}")
    headers = (
        "",
        "similarity to the reference",
        "it falls by",
        "to its object alone",
        "object as asked",
        "against off",
        "more seconds",
    )
    return (
        f"## A picture to avoid\n\nn = {len(rows)} batches of {settings['images']}; the prompt names an object and "
        f"leaves the rest open, the reference is a true scene of it. Alpha {own['alpha']:g}, threshold "
        f"{own['threshold']:g}, window {own['window']:g}.\n\n{common.table(headers, lines)}\n"
        f"To beat: {100 * AUTHORS_AVOID:.2f} % less similarity (reported by the authors; their protocol is not public) "
        f"at a loss of agreement of at most {100 * settings['loss']:g} points. {'; '.join(verdicts)}.\n\n"
    )


def _vary(rows: Sequence[Row], settings: Settings) -> str:
    own = settings["vary"]
    lines = []
    for name in names_of(rows):
        inside, outside = (bootstrap([row[name][word] for row in rows]) for word in ("inside", "outside"))
        exact = max(row[name]["exact"] for row in rows)
        lines.append(
            [
                name,
                common.number(inside),
                common.number(outside),
                f"{inside.value / outside.value:.2f}" if outside.value > 0 else "–",
                f"{exact} of 255",
                common.percent(agreement(rows, name, "object")),
            ]
        )
    less = difference(rows, "vary", lambda one: float(one["outside"]))
    pinned = max(row["vary, rest pinned"]["exact"] for row in rows)
    headers = ("", "distance inside", "outside", "inside : outside", "largest difference outside", "object")
    return (
        f"## One layer that varies\n\nn = {len(rows)} batches of {settings['images']}; vary {own['alpha']:g}; "
        f"distances are 1 − cosine, inside the layer's mask and outside it.\n\n{common.table(headers, lines)}\n"
        f"Outside the layer the images agree more than with noise of their own: "
        f"{_reached(less.high < 0)} ({common.number(less)}). Exact where pinned: {_reached(pinned == 0)}.\n\n"
    )


def _curves(rows: Sequence[Row], settings: Settings) -> str:
    own = settings["curves"]
    text = (
        f"## Alpha and threshold\n\nn = {len(rows)} batches of {settings['images']}, on tuning seeds; window "
        f"{own['window']:g}. Each cell: similarity (off: "
        f"{np.mean([_similarity(row['off']) for row in rows]):.3f}), Vendi (off: "
        f"{np.mean([row['off']['vendi'] for row in rows]):.2f}), agreement (off: "
        f"{100 * agreement(rows, 'off').value:.0f} %).\n\n"
    )
    kinds = dict.fromkeys(" ".join(name.split(" ")[:2]) for name in names_of(rows) if name != "off")
    for kind in kinds:
        lines = []
        for alpha in own["alphas"]:
            cells = []
            for threshold in own["thresholds"]:
                name = f"{kind} {alpha:g} {threshold:g}"
                similar = float(np.mean([_similarity(row[name]) for row in rows]))
                various = float(np.mean([row[name]["vendi"] for row in rows]))
                cells.append(f"{similar:.3f}, {various:.2f}, {100 * agreement(rows, name).value:.0f} %")
            lines.append([f"{alpha:g}", *cells])
        axis, match = kind.split(" ")
        headers = ("alpha", *(f"threshold {threshold:g}" for threshold in own["thresholds"]))
        text += f"Axis {axis}, reference: {match}.\n\n{common.table(headers, lines)}\n"
        text += f"{best(rows, kind, settings['loss'])}\n\n"
    return text


def best(rows: Sequence[Row], kind: str, loss: float) -> str:
    """Which cell of a kind has the least similarity at a loss of agreement of at most ``loss``."""
    chosen, least = None, math.inf
    for name in names_of(rows):
        if not name.startswith(kind):
            continue
        similar = float(np.mean([_similarity(row[name]) for row in rows]))
        if lost(rows, name).value >= -loss and similar < least:
            chosen, least = name, similar
    if chosen is None:
        return f"No cell keeps its loss of agreement within {100 * loss:g} points."
    alpha, threshold = chosen.split(" ")[2:]
    return (
        f"Least similarity at a loss of at most {100 * loss:g} points: alpha {alpha}, threshold {threshold} "
        f"({least:.3f})."
    )
