"""The benchmarks ask what was frozen, count rightly, and go on where they stopped."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import numpy as np
import pytest

from pipelines.embedded.training.world import world
from pipelines.measure.intervals import Interval, bootstrap
from tests.benchmarks import common, effects, effects_report, embedded, embedded_report
from tests.benchmarks.effects_report import paired, section

SETTINGS = common.protocol("effects")


@pytest.fixture(autouse=True)
def few_rounds(monkeypatch: pytest.MonkeyPatch) -> None:
    """A tenth of the rounds tells as much."""
    monkeypatch.setattr(effects_report, "bootstrap", partial(bootstrap, rounds=400))


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
                "change": [0.0, 5.0, 9.0 + 20 * gain, 14.0 + 20 * gain, 18.0 + 30 * gain],
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


VERDICTS = {
    "attention": ["The prompted object is found more often"],
    "harmonize": ["The change rises with every step of harmonize", "than the flat collage"],
    "spread": ["The distance goes up", "Agreement falls by at most 3 points"],
    "avoid": ["The similarity goes down", "Agreement falls by at most 3 points"],
}


@pytest.mark.parametrize("claim", effects.CLAIMS)
def test_verdicts_follow_the_numbers(claim: str) -> None:
    good, bad = (section(claim, _claims(gain)[claim], SETTINGS) for gain in (0.3, -0.3))
    told = VERDICTS[claim]
    assert all(f"{verdict}: **holds**" in good for verdict in told) and good.count("**") == 2 * len(told)
    assert all(f"{verdict}: **does not hold**" in bad for verdict in told)


def _doubtful(name: str, low: Any, high: Any, at: int | None = None) -> list[dict[str, Any]]:
    """Rows of the claim that has this number, which is bad in every third of them and yet good in their mean."""
    claim = next(claim for claim, rows in _claims(0.3).items() if name in rows[0])
    found = _claims(0.3)[claim][:12]
    for k, row in enumerate(found):
        value = low if k % 3 == 0 else high
        row[name] = value if at is None else [*row[name][:at], value, *row[name][at + 1 :]]
    return found


@pytest.mark.parametrize(
    ("claim", "verdict", "rows"),
    [
        ("harmonize", "every step of harmonize", _doubtful("change", 0.0, 9.0, 2)),
        ("harmonize", "than the flat collage", _doubtful("error", 75.0, 50.0, 2)),
        ("spread", "The distance goes up", _doubtful("with distance", 0.0, 0.35)),
        ("avoid", "The similarity goes down", _doubtful("with similarity", 0.95, 0.4)),
    ],
)
def test_what_an_interval_leaves_open_does_not_hold(
    claim: str, verdict: str, rows: list[dict[str, Any]]
) -> None:
    assert f"{verdict}: **does not hold**" in section(claim, rows, SETTINGS)


def _hits(better: int, worse: int) -> list[dict[str, Any]]:
    """300 rows of a hit without; so many more hits with, and so many less."""
    own = {"without distance": 0.2, "with distance": 0.5, "without colour": [], "with colour": []}
    own |= {"without similarity": 0.6, "with similarity": 0.3, "push": [True], "push similarity": 0.6}
    pairs = [(0, 1)] * better + [(1, 0)] * worse + [(1, 1)] * (300 - better - worse)
    return [{**own, "without": [bool(a)], "with": [bool(b)]} for a, b in pairs]


def test_a_few_more_objects_are_not_said_to_be_found_more_often() -> None:
    verdict = "The prompted object is found more often: {}"
    for better, word in ((12, "**does not hold**"), (30, "**holds**")):
        assert verdict.format(word) in section("attention", _hits(better, 8), SETTINGS)


@pytest.mark.parametrize("claim", ["spread", "avoid"])
@pytest.mark.parametrize(
    ("better", "worse", "word"),
    [
        (8, 6, "**holds**"),
        (20, 24, "**open**"),
        (20, 32, "**open**"),
        (4, 30, "**does not hold**"),
    ],
)
def test_what_agreement_may_fall_by_is_held_by_its_interval(
    claim: str, better: int, worse: int, word: str
) -> None:
    text = section(claim, _hits(better, worse), SETTINGS)
    assert f"Agreement falls by at most 3 points: {word}" in text


def test_rows_are_kept_by_what_made_them() -> None:
    def key(claim: str = "avoid", weights: str = "w", judge: str = "j", **changed: Any) -> str:
        return effects.key_of(claim, {**SETTINGS, **changed}, 1, weights, judge)

    assert (
        key() == key(about="") == key(n=3) == key(spread={}) != key(avoid={**SETTINGS["avoid"], "alpha": 1})
    )
    assert (
        len({key(), key(weights="x"), key(judge="x"), key(guidance=1.0), key(prompts=""), key("spread")}) == 6
    )
    told = {"a": {"key": "1"}, "b": {"key": "other"}, "c": {}, "d": {"key": "4"}}
    assert common.of_these(told, {"a": "1", "b": "2", "c": "3"}) == {"a": {"key": "1"}}


def test_a_page_shows_what_its_settings_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Claims that are not run again stay where their settings, weights and judge are those of this run."""
    made = _claims(0.3)
    key = effects.key_of("attention", SETTINGS, SETTINGS["seed"], "w", "w")
    old = {"attention": {"key": key}, "harmonize": {"key": "of other settings"}, "avoid": {}}
    raw = {"claims": {claim: {**one, "rows": made[claim][:9]} for claim, one in old.items()}}
    (tmp_path / "effects.json").write_text(json.dumps(raw))
    for name in ("Judge", "Features", "Bench"):
        monkeypatch.setattr(effects, name, Mock())
    effects.Bench.return_value.spread = lambda k: made["spread"][k]
    monkeypatch.setattr(common, "engine", Mock())
    monkeypatch.setattr(common, "weights_digest", lambda folder: "w")
    monkeypatch.setattr(common, "RUNS", tmp_path / "runs")
    monkeypatch.setattr("sys.argv", ["effects", "spread", "--n", "4", "--out", str(tmp_path)])
    effects.main()
    kept = json.loads((tmp_path / "effects.json").read_text())["claims"]
    assert set(kept) == {"attention", "spread"} and len(kept["spread"]["rows"]) == 4
    assert kept["spread"]["key"] == effects.key_of("spread", SETTINGS, SETTINGS["seed"], "w", "w")
    page = (tmp_path / "effects.md").read_text()
    assert "## Layer attention" in page and "## Spread" in page
    assert "## Harmonize" not in page and "## Avoid" not in page


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
    assert "40.0 %" in line and "| ≥ 60 %: **not reached** |" in line and "n = 100" in line
    assert "4.0 s warm" in text and text.splitlines()[-1].endswith("| ≤ 6 s: reached |  |")
    text = embedded_report.report({}, {}, {"warm": 6.1, "cold": 9.0})
    assert "6.1 s warm" in text and text.splitlines()[-1].endswith("| ≤ 6 s: **not reached** |  |")


@pytest.mark.parametrize(
    ("right", "said"), [(50, "reached"), (38, "open"), (32, "open"), (20, "**not reached**")]
)
def test_a_share_reaches_its_target_with_its_interval(right: int, said: str) -> None:
    rows = [{"objects": [True, k < right]} for k in range(100)]
    text = embedded_report.report({"pair": rows}, {}, {})
    assert f"| ≥ 35 %: {said} |" in text
    within = {name: Interval(33.4, 33.4 - right / 100, 33.4 + right / 100, 9) for name in ("whole", "inside")}
    text = embedded_report.report({}, within, {})
    assert "| ≥ 33.3: open |" in text and "| ≥ 28.3: reached |" in text


def test_bounds_are_held_by_whole_intervals() -> None:
    low, wide, high = (Interval(1.0, *ends, 9) for ends in ((0.8, 0.9), (0.9, 1.1), (1.1, 1.2)))
    assert [common.within(one, most=1.0) for one in (low, wide, high)] == [True, None, False]
    assert [common.within(one, least=1.0) for one in (low, wide, high)] == [False, None, True]
    assert common.within(wide, least=0.9, most=1.1) is True
    assert common.all_of([True, True]) is True
    assert common.all_of([True, None]) is None
    assert common.all_of([None, False, True]) is False
