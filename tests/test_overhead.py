"""Overhead: every contender does what its name says, and targets are held against intervals."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipelines.engine import Engine
from pipelines.measure.intervals import Interval
from pipelines.methods.reference_rows import KEPT
from pipelines.pictures import PictureStore
from tests.benchmarks import common, overhead
from tests.pipelines import tiny

PROTOCOL = common.protocol("overhead")


def test_every_contender_runs_what_it_says() -> None:
    engine = Engine()
    engine.adopt("tiny", tiny.sd_noise(), tiny.card_for("sd_noise"))
    settings: dict[str, Any] = {**PROTOCOL, "layers": [1, 2], "images": 2, "spread_threshold": 0.0}
    runs = overhead.contenders(engine, "tiny", settings | {"avoid_threshold": 0.0}, 2)
    bases = {name: base for name, (_, base) in runs.items()}
    assert bases["one avoid reference"] == "stock"
    assert bases["layer attention, 1 layers, 2 images in one batch"] == "stock, 2 images in one batch"

    def pictures(name: str) -> list[Any]:
        out: Any = runs[name][0]()
        if isinstance(out, list):
            found = out if isinstance(out[0], np.ndarray) else out[-1].result.pictures
        else:
            found = [np.rint(picture * 255).astype(np.uint8) for picture in out.images]
        return list(found)

    plain, alike = pictures("stock"), pictures("engine, all off")
    assert np.array_equal(plain[0], alike[0])
    for name, base in bases.items():
        if name != base and name not in ("engine, all off", "tapped, slots silent"):
            ours, stock = pictures(name), pictures(base)
            assert len(ours) == len(stock), name
            assert max(tiny.moved(a, b) for a, b in zip(ours, stock, strict=True)) > 0, name


def test_references_are_new_in_every_run() -> None:
    store = PictureStore()
    asked = tiny.text_request(avoids=(tiny.avoid(store),))
    renders = overhead.first_renders(asked, store)
    found = [next(renders) for _ in range(KEPT + 2)]
    assert len({one.avoids[0].picture for one in found}) == KEPT + 2
    assert found[0].avoids[0].alpha == asked.avoids[0].alpha


@pytest.mark.parametrize(
    ("low", "high", "target", "said"),
    [
        (1.0, 1.04, 1.05, "≤ 1.05: reached"),
        (1.0, 1.06, 1.05, "≤ 1.05: open"),
        (1.06, 1.08, 1.05, "≤ 1.05: **missed**"),
        (0.98, 1.02, 1.0, "1 within noise (≤ 1.02): reached"),
        (0.9, 1.1, 1.0, "1 within noise (≤ 1.02): open"),  # noise proves nothing
        (1.01, 1.03, 1.0, "1 within noise (≤ 1.02): open"),
        (1.03, 1.04, 1.0, "1 within noise (≤ 1.02): **missed**"),
        (1.0, 1.1, None, "–"),
    ],
)
def test_verdicts_follow_the_interval(low: float, high: float, target: float | None, said: str) -> None:
    assert overhead.verdict(Interval((low + high) / 2, low, high, 9), target) == said


def test_targets_are_found_by_what_a_run_is_called() -> None:
    targets = PROTOCOL["targets"]
    assert overhead.target_of("spread over 4 images", "stock, 4 images in one batch", targets) == 1.05
    assert overhead.target_of("layer attention, 16 layers", "stock", targets) == 1.05
    assert overhead.target_of("layer attention, 16 layers", "layer attention, 2 layers", targets) == 1.02
    assert overhead.target_of("one avoid reference", "stock", targets) is None
    row = {
        "stock": [2.0, 9.0],
        "layer attention, 2 layers": [2.1, 9.0],
        "layer attention, 16 layers": [2.2, 9.0],
    }
    pairs = overhead.pairs_of({name: (lambda: None, "stock") for name in row}, PROTOCOL)
    page = overhead.section({pair: [row] for pair in pairs}, PROTOCOL)
    lines = [line for line in page.splitlines() if "layer attention" in line]
    assert ["reached" in line for line in lines] == [True, False, False] and "1.048 (" in lines[2]


def test_pairs_of_one_target_are_told_together() -> None:
    row = {
        "stock": [2.0, 9.0],
        "layer attention, 2 layers": [2.1, 9.0],
        "layer attention, 16 layers": [2.2, 9.0],
    }
    pairs = overhead.pairs_of({name: (lambda: None, "stock") for name in row}, PROTOCOL)
    page = overhead.together([{pair: [row] for pair in pairs}] * 2, PROTOCOL)
    assert "| layer attention | 4 | 1.075 (" in page and "| more layers | 2 | 1.048 (" in page
    assert "stock" not in page


@pytest.mark.parametrize(
    ("ratios", "said"),
    [
        ((1.01, 1.02), "≤ 1.05: reached"),
        ((1.01, 1.07), "≤ 1.05: **missed**"),  # 1.04 together
        ((1.01, 1.05), "≤ 1.05: open"),
    ],
)
def test_a_target_is_reached_together_where_each_reaches_it(ratios: tuple[float, float], said: str) -> None:
    found = {}
    for name, ratio in zip(("2 layers", "16 layers"), ratios, strict=True):
        name, widely = f"layer attention, {name}", 0.02 if ratio == 1.05 else 0.001
        found[name, "stock"] = [
            {name: [ratio + by, 9.0], "stock": [1.0, 9.0]} for by in (-widely, 0.0, widely) * 4
        ]
    page = overhead.together([found], PROTOCOL)
    assert f"| layer attention | 24 | {np.mean(ratios):.3f} (" in page and page.endswith(f"| {said} |\n")
    eight, more = ({pair: rows} for pair, rows in found.items())
    assert said in overhead.together([eight, more], PROTOCOL), "other numbers of steps are other contenders"


def test_the_runs_of_a_pair_follow_each_other() -> None:
    said: list[str] = []
    runs: dict[str, tuple[overhead.Contender, str]] = {
        name: (lambda name=name: said.append(name), base)  # type: ignore[misc]
        for name, base in {"a": "a", "b": "a", "c": "a"}.items()
    }
    found = overhead.side_by_side(runs, [("b", "a"), ("c", "b")], 2, "test")
    assert "".join(said) == "abbc" + "bacb" + "abbc"
    assert [len(rows) for rows in found.values()] == [2, 2]
    assert list(found["c", "b"][0]) == ["c", "b"] and len(found["c", "b"][0]["c"]) == 2


def test_the_whole_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both files of a small run of the embedded model."""
    settings = {**PROTOCOL, "steps": [1], "layers": [1, 2], "images": 2, "repeats": 1}
    monkeypatch.setattr(common, "protocol", lambda name: settings)
    monkeypatch.setattr("sys.argv", ["overhead", "--out", str(tmp_path)])
    overhead.main()
    pairs = json.loads((tmp_path / "overhead.json").read_text())["seconds"]["1"]
    page = (tmp_path / "overhead.md").read_text()
    assert all(np.shape(pair["rounds"]) == (1, 2, 2) for pair in pairs)
    assert all(0 < second < 600 for pair in pairs for second in np.ravel(pair["rounds"]))
    assert all(f"| {pair['run']} | {pair['against']} |" in page for pair in pairs)
    assert "| layer attention, 2 layers | layer attention, 1 layers |" in page and "within noise" in page
    raw = json.loads((tmp_path / "overhead.json").read_text())
    assert page.endswith(overhead.report(raw, settings)), "the page can be written again from its file"
