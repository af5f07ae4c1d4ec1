"""The tables and verdicts of docs/results/negtome.md."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from operator import itemgetter
from pathlib import Path
from typing import Any

import numpy as np

from tests.benchmarks import common
from tests.benchmarks.negtome_curves import axes, curves
from tests.benchmarks.negtome_measures import (
    DIFFERING,
    Row,
    Settings,
    agreement,
    difference,
    differing_cells,
    entropy_gained,
    fall,
    held_to_the_authors,
    lost,
    mean,
    mixed,
    names_of,
    open_entropy,
    percent,
    reached,
)
from tests.benchmarks.negtome_scenes import counts
from tests.benchmarks.negtome_seconds import seconds
from tests.benchmarks.negtome_steps import longer, spread_longer, spread_more, windows

AUTHORS_AVOID = 0.3457
"""How much the similarity to a reference fell, as reported by the authors; its protocol is not public."""


def section(part: str, rows: Sequence[Row], settings: Settings) -> str:
    """One part's tables and verdicts."""
    parts: Mapping[str, Callable[[Sequence[Row], Settings], str]] = {
        "spread": _spread,
        "seconds": seconds,
        "avoid": _avoid,
        "reach": _reach,
        "vary": _vary,
        "curves": curves,
        "axes": axes,
        "windows": windows,
        "longer": longer,
        "spread_longer": spread_longer,
        "spread_more": spread_more,
    }
    return parts[part](rows, settings)


def page(heading: str, parts: Mapping[str, Any], settings: Settings, folder: Path) -> str:
    """The whole page."""
    text = heading
    for part in (
        "spread",
        "seconds",
        "spread_longer",
        "spread_more",
        "avoid",
        "longer",
        "reach",
        "vary",
        "windows",
        "curves",
        "axes",
    ):
        if part in parts:
            text += section(part, parts[part]["rows"], settings)
            rows, whole = len(parts[part]["rows"]), int(np.prod(counts(part, settings)))
            remarks = [settings.get("why", {}).get(part, "")]
            if rows < whole:
                remarks.append(
                    f"Of the protocol's {whole} rows {rows} are in; they are kept, and the run goes on."
                )
            if said := " ".join(filter(None, remarks)):
                text += f"{said}\n\n"
            if (folder / f"negtome-{part}.jpg").is_file():
                text += f"![The first rows, nothing selected](negtome-{part}.jpg)\n\n"
    return text + (
        "Intervals: 95 %, bootstrap in which whole prompts are drawn, as rows of one prompt are alike. Similarity is "
        "the cosine of features of the embedded world's own CLIP, not of the authors' (DreamSim): only ratios "
        "compare.\n"
    )


def _entropy(rows: Sequence[Row], name: str, word: str) -> str:
    """An entropy, and what it gained, where an interval of that leaves 0 out."""
    found = open_entropy(rows, name, word)
    if found is None:
        return "–"
    text, gained = common.number(found, 2), entropy_gained(rows, name, word)
    if name != "off" and gained is not None and (gained.low > 0 or gained.high < 0):
        text += f", {gained.value:+.2f} ({gained.low:+.2f} to {gained.high:+.2f})"
    return text


def _spread(rows: Sequence[Row], settings: Settings) -> str:
    own = settings["spread"]
    lines, attributes = [], []
    styles = {style for row in rows for name in names_of(rows) for style in row[name]["style"]}
    words = ("colour", "tone", "gender", *(("style",) if len(styles) > 1 else ()))
    one_style = "" if len(styles) > 1 else " Style is left out: this world is drawn in one."
    for name in names_of(rows):
        lines.append([name, *differing_cells(rows, name)])
        entropies = [_entropy(rows, name, word) for word in words]
        attributes.append([name, *entropies, common.percent(mixed(rows, name))])
    return (
        f"## A batch that differs\n\nn = {len(rows)} batches of {settings['images']}, "
        f"{len({row['prompt'] for row in rows})} prompts; alpha {own['alpha']:g} (by push {own['push']:g}), threshold "
        f"{own['threshold']:g}, window {own['window']:g}; CADS {own['cads']:g}; interval {own['interval']}.\n\n"
        f"{common.table(('', *DIFFERING), lines)}\n"
        "What the prompt leaves open, in bits over all pictures of a prompt that show the object, with what was gained "
        f"against off where its interval leaves 0 out; and how many batches hold more than one value.{one_style}\n\n"
        f"{common.table(('', *words, 'mixed batches'), attributes)}\n"
        f"{held_to_the_authors(rows)}"
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
                common.number(mean(rows, name, near("whole"))),
                "" if off else percent(falls["whole"]),
                "" if off else percent(falls["object"]),
                common.percent(agreement(rows, name, "object")),
                "" if off else common.points(loss),
            ]
        )
        if not off:
            # what is masked to the object is held to the object
            less = falls["object" if name.endswith("masked") else "whole"]
            best = less.value >= AUTHORS_AVOID and loss.value >= -settings["loss"]
            sure = less.low >= AUTHORS_AVOID and loss.low >= -settings["loss"]
            verdicts.append(f"{name}: {reached(best, sure)}")
    headers = (
        "",
        "similarity to the reference",
        "it falls by",
        "to its object alone",
        "object as asked",
        "against off",
    )
    said = "negative prompt"
    beside = []
    for name in names_of(rows):
        if name.startswith(("push", "guidance")):
            whole, object_ = (
                f"{more.value:+.3f} ({more.low:+.3f} to {more.high:+.3f})"
                for more in (difference(rows, name, near(word), said) for word in ("whole", "object"))
            )
            right = common.points(lost(rows, name, "object", said))
            beside.append(
                f"{name}: similarity to the whole {whole}, to its object {object_}, object as asked {right}"
            )
    return (
        f"## A picture to avoid\n\nn = {len(rows)} batches of {settings['images']}; the prompt names an object and "
        f"leaves the rest open, the reference is a true scene of it. Alpha {own['alpha']:g} (by push {own['push']:g}), "
        f"threshold {own['threshold']:g}, window {own['window']:g}.\n\n{common.table(headers, lines)}\n"
        f"To beat: {100 * AUTHORS_AVOID:.2f} % less similarity (reported by the authors; their protocol is not public) "
        f"at a loss of agreement of at most {100 * settings['loss']:g} points; where the reference is masked, to its "
        f"object. {'; '.join(verdicts)}.\n\n"
        "Against a negative prompt that names what the reference shows, in the same rows:\n\n"
        + "".join(f"- {one}\n" for one in beside)
        + "\n"
    )


def _reach(rows: Sequence[Row], settings: Settings) -> str:
    own = settings["reach"]

    def of(word: str, where: str) -> Callable[[Row], float]:
        return lambda one: float(one[word][where])

    lines = []
    for name in names_of(rows):
        off = name == "off"
        moved = [mean(rows, name, of("moved", where)) for where in ("inside", "outside")]
        falls = [fall(rows, name, of("near", where)) for where in ("inside", "outside")]
        lines.append(
            [
                name,
                *("" if off else common.number(one, 1) for one in moved),
                "" if off or not moved[1].value else f"{moved[0].value / moved[1].value:.2f}",
                *("" if off else percent(one) for one in falls),
                common.percent(agreement(rows, name, "object")),
                "" if off else common.points(lost(rows, name, "object")),
            ]
        )
    headers = (
        "",
        "moves inside the layer",
        "outside",
        "inside : outside",
        "similarity inside falls by",
        "outside",
        "object as asked",
        "against off",
    )
    verdicts = []
    for by in ("guidance", "push"):
        confined, free = f"{by}, in the layer", f"{by}, everywhere"
        less = difference(rows, confined, of("moved", "outside"), free)
        inside = difference(rows, confined, of("moved", "inside"), free)
        verdicts.append(
            f"by {by} {reached(less.value < 0, less.high < 0)} (outside {less.value:+.1f}, {less.low:+.1f} to "
            f"{less.high:+.1f}; inside {inside.value:+.1f}, {inside.low:+.1f} to {inside.high:+.1f})"
        )
    return (
        f"## A picture to avoid in one layer\n\nn = {len(rows)} batches of {settings['images']}; a collage of one "
        "object, free to change, and of a true scene of it the object alone is avoided: everywhere, or in the layer "
        f"alone. Alpha {own['alpha']:g} (by push {own['push']:g}), threshold {own['threshold']:g}, window "
        f"{own['window']:g}. What moves is the mean over pixels of the largest difference of a channel to off, of "
        "255.\n\n"
        f"{common.table(headers, lines)}\n"
        f"Confined to its layer, a reference moves what is outside less: {'; '.join(verdicts)}.\n\n"
    )


def _vary(rows: Sequence[Row], settings: Settings) -> str:
    own = settings["vary"]
    lines = []
    for name in names_of(rows):
        inside, outside = (mean(rows, name, itemgetter(word)) for word in ("inside", "outside"))
        exact = max(row[name]["apart"] for row in rows)
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
    more = difference(rows, "vary", lambda one: float(one["inside"]))
    pinned = max(row["vary, rest pinned"]["apart"] for row in rows)
    headers = ("", "distance inside", "outside", "inside : outside", "largest difference outside", "object")
    return (
        f"## One layer that varies\n\nn = {len(rows)} batches of {settings['images']}; vary {own['alpha']:g}; "
        f"distances are 1 − cosine, inside the layer's mask and outside it.\n\n{common.table(headers, lines)}\n"
        f"Outside the layer the images agree more than with noise of their own: "
        f"{reached(less.high < 0)} ({common.number(less)}); inside they differ no less: "
        f"{reached(more.value >= 0, more.low >= 0)} ({common.number(more)}). Exact where pinned: "
        f"{reached(pinned == 0)}. Vary is noise that is shared outside the layer and NegToMe inside it; the next "
        "part tells the two apart.\n\n"
    )
