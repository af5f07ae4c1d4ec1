"""The benchmarks ask what was frozen, count rightly, and go on where they stopped."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipelines.embedded.training.world import world
from tests.benchmarks import common, effects, embedded, embedded_report
from tests.benchmarks.effects_report import paired, section


def test_prompts_are_the_frozen_ones() -> None:
    settings = common.protocol("embedded")
    asked = [
        a.prompt
        for kind in embedded.KINDS
        for a in embedded.asks(world("small"), kind, settings[kind], settings["seed"])
    ]
    common.hold_to("embedded", asked, freeze=False)
    with pytest.raises(SystemExit, match="frozen"):
        common.hold_to("embedded", asked[1:], freeze=False)
    settings = common.protocol("effects")
    common.hold_to("effects", effects.prompts(settings), freeze=False)


@pytest.mark.parametrize("kind", embedded.KINDS)
def test_fewer_prompts_are_the_first_of_more(kind: str) -> None:
    chosen = world("small")
    many = embedded.asks(chosen, kind, 40, 5)
    assert embedded.asks(chosen, kind, 7, 5) == many[:7]
    for ask in many:
        assert len(ask.labels) == (1 if kind == "single" else 2)
        assert chosen.held_out(ask.labels) == (kind == "held_out_pair")
        assert all(chosen.words[label][0] in ask.prompt for label in ask.labels)
        assert (kind == "coloured") == (None not in ask.colours)


def test_spans_hold_the_words_of_their_objects() -> None:
    for k in range(12):
        scene, colours = effects.scene_of("attention", k, 1)
        prompt, spans = effects.words(scene, colours)
        for (start, end), item, colour in zip(spans, scene.items, colours, strict=True):
            assert prompt[start:end] == f"{colour or ''} {world('small').words[item.label][0]}".strip()


def test_drawer_scenes_say_what_is_drawn() -> None:
    scene = common.drawer_scene(np.random.default_rng(0), labels=["bus", "cook"])
    by_label = {item.label: item for item in scene.items}
    assert by_label["bus"].colour == world("small").recolourable["bus"]
    assert (by_label["cook"].tone, by_label["cook"].gender) == ("default", "person")


def _claims(gain: float) -> dict[str, list[dict[str, Any]]]:
    rng = np.random.default_rng(0)
    hits = [(bool(rng.random() < 0.4), bool(rng.random() < 0.4 + gain)) for _ in range(300)]
    shares = [{"without": [a], "with": [b]} for a, b in hits]
    return {
        "attention": [row | {"without colour": [], "with colour": []} for row in shares],
        "harmonize": [
            {
                "flat": 60.0,
                "change": [0.0, 5.0, 9.0 + 10 * gain, 14.0 + 20 * gain, 18.0 + 30 * gain],
                "error": [60.0, 60 - 40 * gain, 61 - 90 * gain, 60.0, 60.0],
                "judge": [[True]] * 5,
            }
            for _ in shares
        ],
        "spread": [
            {"without": [True], "with": [gain > 0], "without distance": 0.2, "with distance": 0.2 + gain}
            for _ in shares
        ],
        "avoid": [
            {
                "without": [True],
                "with": [gain > 0],
                "push": [True],
                "without similarity": 0.6,
                "with similarity": 0.6 - gain,
                "push similarity": 0.6,
            }
            for _ in shares
        ],
    }


@pytest.mark.parametrize("claim", effects.CLAIMS)
def test_verdicts_follow_the_numbers(claim: str) -> None:
    settings = common.protocol("effects")
    good, bad = (section(claim, _claims(gain)[claim], settings) for gain in (0.3, -0.3))
    assert "does not hold" not in good and "**holds**" in good
    assert "**does not hold**" in bad


def test_paired_differences_keep_pairs() -> None:
    rows = [{"without": [True, False], "with": [True, True]}, {"without": [False], "with": [False]}]
    assert paired(rows).value == pytest.approx(0.25)


def test_rows_go_on_where_they_stopped(tmp_path: Path) -> None:
    path, made = tmp_path / "rows.jsonl", []

    def make(k: int) -> dict[str, Any]:
        made.append(k)
        return {"k": k}

    assert common.kept_rows(path, 3, make, "rows") == [{"k": 0}, {"k": 1}, {"k": 2}]
    with path.open("a") as file:
        file.write('{"k": 3')
    assert [row["k"] for row in common.kept_rows(path, 5, make, "rows")] == [0, 1, 2, 3, 4]
    assert made == [0, 1, 2, 3, 4], "kept rows are not made again, a torn line is"


def test_sheets_stay_small(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    noise = [[rng.integers(0, 256, (64, 64, 3), dtype=np.uint8) for _ in range(16)] for _ in range(6)]
    picture = common.grid(noise, 112, [f"row {k}" for k in range(6)])
    common.save_sheet(picture, tmp_path / "sheet.jpg")
    assert 50_000 < (tmp_path / "sheet.jpg").stat().st_size <= common.SHEET_BYTES


def test_report_says_what_is_not_reached() -> None:
    rows = [
        {"objects": [k < 40], "place right": True, "time right": True, "colours": [], "labels": ["cat"]}
        for k in range(100)
    ]
    text = embedded_report.report({"single": rows}, {}, {"warm": 4.0, "cold": 9.0})
    line = next(line for line in text.splitlines() if "object, place and time" in line)
    assert "40.0 %" in line and "not reached" in line and "n = 100" in line
    assert "4.0 s warm" in text and "reached" in text.splitlines()[-1]
