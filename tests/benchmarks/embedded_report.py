"""The table of docs/results/embedded.md."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from pipelines.embedded.training.world import world
from pipelines.measure.intervals import Interval, wilson
from presets.recipes.build import WORLD
from tests.benchmarks import common

TARGETS = {"single": 0.60, "pair": 0.35, "whole": 33.3, "inside": 28.3, "seconds": 6.0}  # CPU-trained


def share(rows: Sequence[dict[str, Any]], right: Any) -> Interval:
    """The share of rows for which ``right(row)``."""
    return wilson(sum(bool(right(row)) for row in rows), len(rows))


def report(
    rows: dict[str, list[dict[str, Any]]],
    coder: dict[str, Interval],
    took: dict[str, float],
) -> str:
    """The table of the page."""
    known: dict[str, Any] = {}
    if (common.RESULTS / "judge.json").exists():
        known = json.loads((common.RESULTS / "judge.json").read_text())["figures"]

    def judged(kind: str, name: str) -> str:
        found = known.get(f"{kind}, through the autoencoder", {}).get(name)
        return f"{100 * found['value']:.1f} % (n = {found['n']})" if found else "not measured"

    def mark(true: bool | None) -> str:
        return common.reached(true, "**not reached**")

    def least(found: Interval, target: str) -> str:
        return mark(common.within(found, least=TARGETS[target]))

    chosen, lines = world(WORLD), []
    lines.append(
        ["classes of objects and roles", f"{len(chosen.objects)} + {len(chosen.roles)}", "≥ 70 + 12", "", ""]
    )
    single = rows.get("single", [])
    if single:
        full = share(single, lambda r: all(r["objects"]) and r["place right"] and r["time right"])
        lines.append(
            [
                "object, place and time all right, one object",
                f"{common.percent(full)}, n = {full.n}",
                "≥ 60 %: " + least(full, "single"),
                judged("one object", "all right"),
                "",
            ]
        )
        for name, right, own in (
            ("… object alone", lambda r: all(r["objects"]), "all objects found"),
            ("… place alone", lambda r: r["place right"], "place"),
            ("… time alone", lambda r: r["time right"], "time"),
        ):
            found = share(single, right)
            lines.append(
                [name, f"{common.percent(found)}, n = {found.n}", "reported", judged("one object", own), ""]
            )
    for kind, name, own in (
        ("pair", "both objects right, two objects", "two objects"),
        ("held_out_pair", "both objects right, pairs never trained on", "held-out pairs"),
    ):
        if rows.get(kind):
            found = share(rows[kind], lambda r: all(r["objects"]))
            aim = "≥ 35 %: " + least(found, "pair") if kind == "pair" else "reported"
            lines.append(
                [name, f"{common.percent(found)}, n = {found.n}", aim, judged(own, "all objects found"), ""]
            )
    if rows.get("coloured"):
        found = share(rows["coloured"], lambda r: all(r["objects"]) and all(r["colours"]))
        lines.append(
            [
                "both colours on the right object, two coloured objects",
                f"{common.percent(found)}, n = {found.n}",
                "reported",
                judged("two coloured objects", "both colours right"),
                "",
            ]
        )
        found = share(rows["coloured"], lambda r: all(r["objects"]))
        lines.append(
            [
                "… both objects right",
                f"{common.percent(found)}, n = {found.n}",
                "reported",
                judged("two coloured objects", "all objects found"),
                "",
            ]
        )
    for part in ("whole", "inside"):
        if part in coder:
            name = f"autoencoder, new scenes, {'whole' if part == 'whole' else 'inside masks'} (dB)"
            lines.append(
                [
                    name,
                    f"{common.number(coder[part], 2)}, n = {coder[part].n}",
                    f"≥ {TARGETS[part]}: " + least(coder[part], part),
                    "",
                    "",
                ]
            )
    if took:
        text = f"{took['warm']:.1f} s warm, {took['cold']:.1f} s cold (process start included)"
        lines.append(
            [
                "one picture, 25 steps, guidance, fp32, two threads",
                text,
                "≤ 6 s: " + mark(took["warm"] <= TARGETS["seconds"]),
                "",
                "",
            ]
        )
    return common.table(
        ["figure", "measured, 95 % interval", "to reach (CPU-trained)", "the judge itself, on true scenes"],
        [line[:4] for line in lines],
    )
