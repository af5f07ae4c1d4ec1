"""The tables and verdicts of docs/results/collage.md."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from pipelines.measure.intervals import Interval, bootstrap, wilson
from tests.benchmarks import common
from tests.benchmarks.effects_report import both, holds

Settings = dict[str, Any]
Row = dict[str, Any]
Part = tuple[str, tuple[str, ...]]
"""A claim's text, and what the rows of its sheet are."""
WAYS = ("words alone", "look alone", "pixels", "pixels and look")
SEAMS = ("true scene", "flat collage", "img2img", "collage", "background freer")
RUNGS = ("img2img", "+ attention", "+ look", "+ shape")
LEARNING = 120
"""Seconds that learning a look may take."""
KEPT = ("distance", "ssim", "psnr")


def section(claim: str, rows: Sequence[Row], settings: Settings) -> Part:
    """One claim's table and verdict, and the labels of its sheet."""
    parts: dict[str, Callable[[Sequence[Row], Settings], Part]] = {
        "look": _look,
        "place": _place,
        "seam": _seam,
        "lost": _lost,
        "ladder": _ladder,
        "shape": _shape,
    }
    text, labels = parts[claim](rows, settings)
    return f"{text}{_seconds(rows)}\n\n![first layouts, unselected](collage-{claim}.jpg)\n\n", labels


def page(raw: dict[str, Any], settings: Settings) -> str:
    """All claims that were run, in the order of the protocol."""
    text = "Edit one layer has a page of its own: [edit_layer.md](edit_layer.md).\n\n"
    for claim in ("look", "place", "seam", "lost", "ladder", "shape"):
        if claim in raw["claims"]:
            text += section(claim, raw["claims"][claim]["rows"], settings)[0]
            if why := settings.get("why", {}).get(claim):
                text += f"{why}\n\n"
    if raw.get("no shape"):
        text += f"Keep shape was not run: {raw['no shape']}\n\n"
    return text + (
        "Intervals: 95 %, Wilson for shares, bootstrap over layouts (look: over cut-outs) for means and paired "
        "differences. A claim holds where all of its interval does. Feature distance: squared distance of unit "
        "features of the embedded CLIP's layers inside the mask (as LPIPS, without learned weights), 0 to 4.\n"
    )


def _seconds(rows: Sequence[Row]) -> str:
    total = sum(row.get("seconds", 0) for row in rows)
    return f"Processor time of these rows: {total / 60:.1f} min."


def _shares(lists: Sequence[Sequence[bool]]) -> Interval:
    hits = list(itertools.chain.from_iterable(lists))
    return wilson(sum(hits), len(hits))


def grouped(rows: Sequence[Row], value: Callable[[Row], float]) -> Interval:
    """The mean over cut-outs of each one's mean: rows that share a cut-out, and so a look, are not independent."""
    groups: dict[str, list[float]] = {}
    for row in rows:
        groups.setdefault(row["cutout"], []).append(float(value(row)))
    return bootstrap([np.mean(values) for values in groups.values()])


def _look(rows: Sequence[Row], settings: Settings) -> Part:
    lines = []
    for way in WAYS:
        means = [grouped(rows, lambda row, w=way, m=name: row[w][m]) for name in KEPT]  # type: ignore[misc]
        shares = [
            grouped(rows, lambda row, w=way, m=name: row[w][m])  # type: ignore[misc]
            for name in ("object", "colour")
        ]
        cells = [common.number(one, digits) for one, digits in zip(means, (3, 3, 2), strict=True)]
        lines.append([way, *cells, *(common.percent(one) for one in shares)])

    def gain(first: str, second: str, name: str) -> Interval:
        return grouped(rows, lambda row: row[second][name] - row[first][name])

    text = ""
    for first, second, what in (
        ("words alone", "look alone", "A learned look keeps more of the look than words alone"),
        (
            "pixels",
            "pixels and look",
            "On the picture's own pixels, at equal strength, it keeps more than they alone",
        ),
    ):
        distance, psnr, object_, colour = (
            gain(first, second, name) for name in ("distance", "psnr", "object", "colour")
        )
        text += (
            f"{what}: {holds(distance.high < 0)} (distance {common.number(distance)}, PSNR "
            f"{common.number(psnr, 2)} dB, in its colour {common.points(colour)}; object recognised "
            f"{common.points(object_)}).\n"
        )
    count, own = len({row["cutout"] for row in rows}), settings["look"]
    # processor time: other work, and a run that was halted and resumed, do not count
    if seconds := [row["seconds"] for row in rows if row["learned"]]:
        text += (
            f"A row in which a look is learned takes {np.median(seconds):.0f} s of one core, its four pictures "
            f"among them (median of {len(seconds)}), at most {max(seconds):.0f} s; at most {LEARNING} s: "
            f"{holds(max(seconds) <= LEARNING)}.\n"
        )
    heads = [
        "",
        "feature distance",
        "SSIM",
        "PSNR (dB)",
        "object recognised",
        "… and in the cut-out's colour",
    ]
    about = (
        f"## Look kept\n\nn = {len(rows)} scenes by day of {count} recoloured cut-outs whose words say no colour; a "
        f"look learned in {settings['learn_steps']} steps (the model's own number) and worn in every scene of its "
        f"cut-out. Alone: the layer from pure noise; pixels: harmonize {own['harmonize']:g}, which the background has "
        f"in all. Inside the mask, against the true scene.\n\n"
    )
    return f"{about}{common.table(heads, lines)}\n{text}", ("true scene", *WAYS)


def _place(rows: Sequence[Row], settings: Settings) -> Part:
    flat = [
        {
            "without": row["without"]["object"],
            "with": row["with"]["object"],
            **{
                f"{way} {name}": row[way][name]
                for way in ("without", "with")
                for name in ("colour", "swapped")
            },
        }
        for row in rows
    ]
    lines = [
        both(flat, "object recognised inside its own mask"),
        both(flat, "… and in the colour its words ask for", " colour"),
        both(flat, "a region in the colour of another object", " swapped"),
    ]
    heads = ("", "without", "with", "difference (paired)")
    splits = []
    groups: list[tuple[str, Callable[[Row], bool]]] = [
        ("two objects", lambda row: len(row["truth"]) == 2),
        ("three objects", lambda row: len(row["truth"]) == 3),
        *(
            (f"boxes {name}", lambda row, o=name: row["overlap"] == o)
            for name in ("apart", "touching", "overlapping")
        ),  # type: ignore[misc]
    ]
    for what, wanted in groups:
        chosen = [(row, one) for row, one in zip(rows, flat, strict=True) if wanted(row)]
        if not chosen:
            continue
        picked = [one for _, one in chosen]
        splits.append(
            [
                what,
                str(len(chosen)),
                common.percent(_shares([row["truth"] for row, _ in chosen])),
                *both(picked, "")[1:],
                *both(picked, "", " colour")[1:],
            ]
        )
    split_heads = ["", "n", "drawn truth recognised", "object, without", "with", "difference"]
    split_heads += ["object in its colour, without", "with", "difference"]
    found, right = (float(lines[n][3].split()[0]) for n in (0, 1))
    own = common.table(heads, lines), common.table(split_heads, splits)
    verdict = both_hold(flat)
    text = (
        f"## Placement and colour on the right object\n\nn = {len(rows)} layouts of two or three objects by day, each "
        f"asked for in a colour of its own, from pure noise; inside {settings['inside']:g}, outside "
        f"{settings['outside']:g}. Overlap: largest share of the smaller of two boxes that both cover, 0, .05 to .25, "
        f".25 to .5. Of the same layouts drawn in those colours the judge recognises "
        f"{common.percent(_shares([row['truth'] for row in rows]))} of the objects, and "
        f"{common.percent(_shares([row['truth colour'] for row in rows]))} in their colours: more cannot be reached."
        f"\n\n{own[0]}\n{own[1]}\n"
        f"Objects are found in their places more often ({found:+.1f} points) and in their own colours ({right:+.1f}): "
        f"{holds(verdict)}.\n"
    )
    return text, ("layout", "without", "with")


def both_hold(flat: Sequence[Row]) -> bool:
    """Whether place and colour are both surely better with attention."""
    return all(
        bootstrap([np.mean(row[f"with{name}"]) - np.mean(row[f"without{name}"]) for row in flat]).low > 0
        for name in ("", " colour")
    )


def _seam(rows: Sequence[Row], settings: Settings) -> Part:
    true = np.array([row["true scene"] for row in rows])
    away = {way: np.abs(np.array([row[way] for row in rows]) - true) for way in SEAMS}
    lines = []
    for way in SEAMS:
        values = np.array([row[way] for row in rows])
        cells = (bootstrap(values), bootstrap(values - true), bootstrap(away[way]))
        lines.append([way, *(common.number(cell, 4) for cell in cells)])
    heads = ["", "gradient on the borders", "less the true scene's", "distance to the true scene's"]

    def nearer(way: str) -> str:
        verdicts = [
            f"than {other}'s: {holds(bootstrap(away[way] - away[other]).high < 0)}"
            for other in ("flat collage", "img2img")
        ]
        return ", ".join(verdicts)

    text = (
        f"## Seams\n\nn = {len(rows)} layouts at sunset or night, one to three layers; luma 0 to 1 from one pixel to "
        f"the next; harmonize and img2img's strength {settings['seam']['harmonize']:g} everywhere, but the last row's "
        f"background, which has {settings['seam']['background']:g}. Near the true scene is good, less is not.\n\n"
        f"{common.table(heads, lines)}\n"
        f"The collage's borders are nearer to the true scene's {nearer('collage')}; with a freer background "
        f"{nearer('background freer')}.\n"
    )
    return text, SEAMS


def verdicts_of(rows: Sequence[Row]) -> list[tuple[bool, bool]]:
    """(said lost, lost by the judge) of each layer that the judge recognises on the flat collage."""
    return [
        (said, lost)
        for row in rows
        for said, lost, unseen in zip(row["said"], row["judge"], row["flat"], strict=True)
        if not unseen
    ]


def _lost(rows: Sequence[Row], settings: Settings) -> Part:
    def share(hits: int, n: int) -> str:
        return common.percent(wilson(hits, n)) if n else "none"

    lines = []
    for name, chosen in (
        *((f"{s:g}", [r for r in rows if r["harmonize"] == s]) for s in settings["lost"]["harmonize"]),
        ("all", list(rows)),
    ):
        pairs = verdicts_of(chosen)
        if not pairs:
            continue
        said, lost = (sum(pair[n] for pair in pairs) for n in (0, 1))
        right, agree = sum(a and b for a, b in pairs), sum(a == b for a, b in pairs)
        counts = [(lost, len(pairs)), (said, len(pairs)), (right, said), (right, lost), (agree, len(pairs))]
        lines.append([name, str(len(pairs)), *(share(*one) for one in counts)])
    heads = [
        "harmonize",
        "layers",
        "lost, says the judge",
        "lost, says the report",
        "precision",
        "recall",
        "agree",
    ]
    left = sum(len(row["flat"]) for row in rows) - len(verdicts_of(rows))
    text = (
        f"## Which layers were lost\n\nn = {len(rows)} renders of two or three layers. A layer is lost to the judge "
        f"where it does not recognise the object in the layer's mask; the report's own verdict is made of the embedded "
        f"CLIP's features. {left} layers that the judge does not recognise on the flat collage are left out."
        f"\n\n{common.table(heads, lines)}\n"
    )
    return text, ("flat collage", "render")


def _ladder(rows: Sequence[Row], settings: Settings) -> Part:
    rungs = [way for way in RUNGS if all(way in row for row in rows)]
    lines, steps = [], []
    for place, way in enumerate(rungs):
        means = [bootstrap([row[way][name] for row in rows]) for name in KEPT]
        seam = bootstrap([abs(row[way]["seam"] - row["seam"]) for row in rows])
        shares = [_shares([row[way][name] for row in rows]) for name in ("object", "colour")]
        cells = [common.number(one, digits) for one, digits in zip(means, (3, 3, 2), strict=True)]
        lines.append([way, *cells, common.number(seam, 4), *(common.percent(one) for one in shares)])
        if place:
            below = rungs[place - 1]
            gains = {
                name: bootstrap([np.mean(row[way][name]) - np.mean(row[below][name]) for row in rows])
                for name in ("distance", "object", "colour")
            }
            better = gains["distance"].high < 0 or gains["object"].low > 0 or gains["colour"].low > 0
            worse = gains["distance"].low > 0 or gains["object"].high < 0 or gains["colour"].high < 0
            steps.append(
                f"{way} after {below}: distance {common.number(gains['distance'])}, objects "
                f"{common.points(gains['object'])}, in their colours {common.points(gains['colour'])}; surely better "
                f"in one and surely worse in none: {holds(better and not worse)}."
            )
    heads = ["", "feature distance", "SSIM", "PSNR (dB)", "seams' distance to the true scene's"]
    heads += ["object recognised", "… and in the cut-out's colour"]
    own = settings["ladder"]
    text = (
        f"## The ladder\n\nn = {len(rows)} scenes by day of two of the recoloured cut-outs, whose words say no "
        f"colour; strength {own['harmonize']:g} everywhere, each rung the one before and one thing more. Means over "
        f"the layers' masks, against the true scene; looks are shared between scenes.\n\n{common.table(heads, lines)}\n"
    )
    return text + "\n".join(f"- {step}" for step in steps) + "\n\n", ("true scene", *rungs)


def _shape(rows: Sequence[Row], settings: Settings) -> Part:
    strengths = settings["shape"]["strengths"]
    edges, lines = np.array([row["edges"] for row in rows]), []
    for n, strength in enumerate(strengths):
        found = _shares([row["object"][n] for row in rows])
        lines.append([f"{strength:g}", common.number(bootstrap(edges[:, n])), common.percent(found)])
    truth = bootstrap([row["truth"] for row in rows])
    rises = all(bootstrap(edges[:, n + 1] - edges[:, n]).low > 0 for n in range(len(strengths) - 1))
    text = (
        f"## Keep shape\n\nn = {len(rows)} layouts of two or three layers from pure noise, layer attention on; F1 of "
        f"the edges in each mask with those of the flat collage. The true scene has {common.number(truth)}.\n\n"
        f"{common.table(['keep shape', 'edge agreement', 'objects recognised'], lines)}\n"
        f"Edge agreement rises with every step: {holds(rises)}.\n"
    )
    return text, ("flat collage", *(f"keep shape {strength:g}" for strength in strengths))
