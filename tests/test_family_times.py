"""Times by family: every family has its larger denoiser, rounds are kept, ratios are taken inside pairs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.benchmarks import common, family_times, overhead
from tests.pipelines import tiny
from tests.pipelines import tiny_transformers as tt

PROTOCOL = common.protocol("family_times")
SMALL = {"side": 64, "images": 2, "steps": 2, "layers": [2, 3], "own": {}}


def settings() -> dict[str, Any]:
    return {**PROTOCOL, **SMALL}


def test_every_family_is_timed() -> None:
    assert set(family_times.GROWN) == set(tt.KINDS) | {"embedded", "sd_noise", "sd2", "sdxl"}
    assert family_times.grown("embedded").card.origin.startswith("ours")


@pytest.mark.parametrize("name", [name for name, larger in family_times.GROWN.items() if larger])
def test_denoisers_are_grown(name: str) -> None:
    small = (tt.KINDS if name in tt.KINDS else tiny.KINDS)[name]()
    loaded = family_times.grown(name)
    before, after = (
        sum(parameter.numel() for parameter in loaded.family.denoiser(pipe).parameters())
        for pipe in (small, loaded.pipe)
    )
    assert after > 5 * before and after > 300_000


@pytest.mark.parametrize("name", ["flux", "sdxl"])
def test_rounds_go_on_where_they_stopped(tmp_path: Path, name: str) -> None:
    first = family_times.rounds(name, settings(), 1, tmp_path)
    again = family_times.rounds(name, settings(), 2, tmp_path)
    assert again[:1] == first and len(again) == 2 and again[1] != again[0]
    pairs = [
        ("engine, all off", "stock"),
        ("layer attention, 2 layers", "stock"),
        ("layer attention, 3 layers", "stock"),
        ("spread", "stock"),
        ("avoid, second render", "stock"),
        ("avoid, one reference", "stock"),
        ("layer attention, 3 layers", "layer attention, 2 layers"),
    ]
    times = overhead.paired(again)
    assert list(times) == pairs
    assert all(
        0 < second < 600
        for rows in times.values()
        for row in rows
        for pair in row.values()
        for second in pair
    )
    assert family_times.rounds(name, settings(), 2, tmp_path) == again


def test_ratios_stay_in_their_pair() -> None:
    rows = [
        {"pairs": [["off", "stock", [2.0, 2.0], [2.0, 2.0]], ["spread", "stock", [1.1, 3.0], [1.0, 2.0]]]},
        {"pairs": [["off", "stock", [9.0, 2.0], [9.0, 2.0]], ["spread", "stock", [11.0, 2.0], [10.0, 2.0]]]},
    ]
    alone = [{"pairs": rows[0]["pairs"][:1]}]
    page = family_times.report({"flux": rows, "alone": alone}, settings())
    used, wall = (line for line in page.splitlines() if line.startswith("| flux"))
    both = next(line for line in page.splitlines() if line.startswith("| all together"))
    assert "| 1.000 (1.000 to 1.000), median 1.000 | 1.100 (" in both
    assert "1.100 (1.100 to 1.100)" in used and "5.500" in used, (
        "the ratio of sums would be 1.1 too, of means no"
    )
    assert "1.250 (1.000 to 1.500)" in wall
    assert "| alone | 2.000 | 1.000 (1.000 to 1.000), median 1.000 | – |" in page, (
        "an image alone spreads from nothing"
    )


def test_the_shape_of_sdxl_is_held_to_its_targets() -> None:
    two, sixteen = (f"layer attention, {count} layers" for count in (2, 16))
    pairs: list[list[Any]] = [
        [two, "stock", [1.01, 9.0], [1.0, 1.0]],
        [sixteen, "stock", [1.05, 9.0], [1.0, 1.0]],
        [sixteen, two, [1.05, 9.0], [1.01, 9.0]],
    ]
    rows = [{"pairs": pairs}]
    page = family_times.report({family_times.SHAPED: rows}, PROTOCOL)
    targets = page.split("targets")[1].splitlines()
    first, second, more = (line for line in targets if line.startswith("| layer"))
    assert "≤ 1.02: reached" in first and "≤ 1.02: **missed**" in second and "| 1.040 (" in more
    assert family_times.settings_of(family_times.SHAPED, PROTOCOL)["images"] == 1


def test_the_whole_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both files of a small run, and a second call that measures nothing again."""
    monkeypatch.setattr(common, "protocol", lambda name: settings())
    asked = ["--only", "schnell", "--repeats", "1", "--out", str(tmp_path), "--runs", str(tmp_path / "runs")]
    monkeypatch.setattr("sys.argv", ["family_times", *asked])
    pages = []
    for _ in range(2):
        family_times.main()
        pages.append(json.loads((tmp_path / "family_times.json").read_text())["seconds"])
    assert pages[0] == pages[1] and list(pages[0]) == ["schnell"]
    page = (tmp_path / "family_times.md").read_text()
    assert page.count("| schnell |") == 2 and "Processor time" in page
