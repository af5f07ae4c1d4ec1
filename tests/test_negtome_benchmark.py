"""NegToMe's benchmark asks what was frozen, and its verdicts follow the numbers."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipelines.embedded.training.world import COLOURS, world
from pipelines.request import AvoidRequest, LayerRequest, RenderRequest
from presets.recipes.build import WORLD
from studio.variants import alternatives, variant
from tests.benchmarks import common, negtome, negtome_scenes, negtome_seconds
from tests.benchmarks.negtome import key_of
from tests.benchmarks.negtome_curves import (
    AVOIDS,
    AXES,
    CURVES,
    avoid_ways,
    axis_ways,
    best,
    cells,
    spread_ways,
)
from tests.benchmarks.negtome_measures import entropy, entropy_gained, fall, mean, mixed, variety
from tests.benchmarks.negtome_report import page, section
from tests.benchmarks.negtome_seconds import beside, more
from tests.benchmarks.negtome_steps import longer_ways, spread_longer_ways, window_ways

SETTINGS = common.protocol("negtome")
REFERENCE = AvoidRequest(name="reference", picture="0" * 64, alpha=1.0, threshold=0.5)


def test_prompts_are_the_frozen_ones() -> None:
    common.hold_to("negtome", negtome_scenes.frozen(SETTINGS), freeze=False)


def test_alternatives_fill_in_what_the_prompt_leaves_open() -> None:
    chosen = world(WORLD)
    kinds = set()
    for k in range(SETTINGS["prompts_each"]):
        scene = negtome_scenes.scene_of(k, SETTINGS)
        label, text = scene.items[0].label, negtome_scenes.alternatives_of(scene)
        (options,) = alternatives([text]).values()
        assert len(set(options)) == len(options) > 3
        plain = negtome_scenes.prompt_of(scene)
        where = plain.split(chosen.words[label][0], 1)[1]
        said = [variant([text], number)[0] for number in range(len(options))]
        assert all(one.endswith(where) and one.split()[0] in ("a", "an") for one in said)
        assert not any(f" {colour} " in plain for colour in COLOURS), "the prompt itself leaves it open"
        if label in chosen.recolourable:
            assert all(any(f" {colour} " in one for one in said) for colour in COLOURS)
        else:
            assert all("skinned" in one and (" man " in one or " woman " in one) for one in said)
        kinds.add(label in chosen.recolourable)
    assert kinds == {True, False}


def test_no_prompt_comes_twice() -> None:
    own = SETTINGS["curves"]
    counted = [negtome_scenes.scene_of(k, SETTINGS) for k in range(SETTINGS["prompts_each"])]
    tuned = [negtome_scenes.scene_of(k, SETTINGS, "curves") for k in range(own["prompts_each"])]
    told = {negtome_scenes.prompt_of(scene) for scene in (*counted, *tuned)}
    assert len(told) == SETTINGS["prompts_each"] + own["prompts_each"]


def test_every_cell_of_the_curves_can_be_asked_for() -> None:
    own = SETTINGS["curves"]
    words = {word: SETTINGS[word] for word in ("scheduler", "guidance", "steps", "seed", "images")}
    plain = RenderRequest(model="embedded", width=64, height=64, prompt="car", **words)
    ways = spread_ways(own) | avoid_ways(own, REFERENCE)
    asked = {plain.replace(**changes) for changes in ways.values()}
    assert len(asked) == len(ways) - 1, "all differ, but for off and avoid off"
    layer = LayerRequest(name="car", mask="0" * 64, span=(0, 3), harmonize=1.0)
    for ways in (
        axis_ways(SETTINGS["axes"], REFERENCE),
        longer_ways(SETTINGS["longer"], REFERENCE),
        spread_longer_ways(SETTINGS["spread_longer"]),
        window_ways(SETTINGS["windows"], layer),
    ):
        assert len({plain.replace(collage="0" * 64, **changes) for changes in ways.values()}) == len(ways)


def test_entropy_counts_kinds_in_bits() -> None:
    assert entropy(["red"] * 5) == 0
    assert entropy(["red", "blue"] * 3) == pytest.approx(1)
    assert entropy(list("abcd")) == pytest.approx(2)


def one(distance: float, hits: list[bool], **more: Any) -> dict[str, Any]:
    return {
        "object": hits,
        "agreement": hits,
        "open": {"colour": ["red", "blue"], "tone": [None, None], "gender": [None, None]},
        "style": ["flat", "flat"],
        "distance": distance,
        "vendi": 1 + distance,
        "seconds": 2.0,
        **more,
    }


def rows(part: str, good: bool) -> list[dict[str, Any]]:
    rng = np.random.default_rng(0)
    made = []
    for k in range(40):
        plain = 0.2 + 0.02 * float(rng.random())
        hits, fewer = [True, True], [True, bool(k % 2)]
        row: dict[str, Any] = {"prompt": f"p{k % 4}", "label": "car"}
        if part in ("spread", "spread_more"):
            row["off"] = one(plain, hits)
            row["negtome"] = one(plain + 0.1, hits if good else fewer)
        elif part == "avoid":
            near = {"whole similarity": [0.6, 0.6], "object similarity": [0.5, 0.5]}
            far = {"whole similarity": [0.3, 0.3], "object similarity": [0.4, 0.4]}
            row["off"] = one(plain, hits, **near)
            row["guidance"] = one(plain, hits if good else fewer, **far)
            row["negative prompt"] = one(plain, hits if good else fewer, **far)
        elif part == "seconds":
            for name in SETTINGS["seconds"]["settings"]:
                row[name] = {"seconds": 2.04 if good else 2.2, "off": 2.0}
        elif part == "vary":
            apart = {"inside": 0.3, "outside": 0.2, "apart": 90}
            row["off"] = one(plain, hits, **apart)
            row["vary"] = one(plain, hits, **{**apart, "outside": 0.05 if good else 0.25})
            row["vary, rest pinned"] = one(
                plain, hits, **{**apart, "outside": 0.0, "apart": 0 if good else 3}
            )
        elif part == "windows":
            layer = LayerRequest(name="car", mask="0" * 64, span=(0, 3), harmonize=1.0)
            for at, name in enumerate(window_ways(SETTINGS["windows"], layer)):
                row[name] = one(plain, hits, inside=0.3 + at / 100, outside=0.2)
        elif part == "reach":
            near = {"near": {"inside": 0.5, "outside": 0.4}}
            row["off"] = one(plain, hits, **near, moved={"inside": 0.0, "outside": 0.0})
            for by in ("guidance", "push"):
                row[f"{by}, everywhere"] = one(plain, hits, **near, moved={"inside": 9.0, "outside": 6.0})
                outside = 2.0 if good else 7.0
                row[f"{by}, in the layer"] = one(
                    plain, hits, **near, moved={"inside": 8.0, "outside": outside}
                )
        elif part == "longer":
            row["avoid off"] = one(plain, hits, **{"whole similarity": [0.6, 0.6]})
            for name in [*longer_ways(SETTINGS["longer"], REFERENCE)][1:]:
                alpha, window = (float(word) for word in name.split(" ")[1:])
                lost = not good or window > 0.9
                row[name] = one(
                    plain, fewer if lost else hits, **{"whole similarity": [0.6 - 0.1 * alpha * window] * 2}
                )
        elif part == "spread_longer":
            row["off"] = one(plain, hits)
            for name in [*spread_longer_ways(SETTINGS["spread_longer"])][1:]:
                alpha, window = (float(word) for word in name.split(" ")[1:])
                lost = not good or window > 0.9
                row[name] = one(plain + 0.1 * alpha * window, fewer if lost else hits)
        elif part == "axes":
            row["avoid off"] = one(plain, hits, **{"whole similarity": [0.6, 0.6]})
            for axis in AXES:
                for alpha, threshold in cells(SETTINGS["axes"]):
                    lost = not good or axis == "released"
                    row[f"axis {axis} {alpha:g} {threshold:g}"] = one(
                        plain, fewer if lost else hits, **{"whole similarity": [0.6 - 0.1 * alpha] * 2}
                    )
        else:
            row["off"] = one(plain, hits)
            row["avoid off"] = one(plain, hits, **{"whole similarity": [0.6, 0.6]})
            for kind in (*(" ".join(each) for each in CURVES), *AVOIDS):
                for alpha, threshold in cells(SETTINGS["curves"]):
                    lost = not good or alpha > 2
                    more = 0.1 * alpha * (1 - threshold)
                    row[f"{kind} {alpha:g} {threshold:g}"] = one(
                        plain + more, fewer if lost else hits, **{"whole similarity": [0.6 - more] * 2}
                    )
            row["cads 0.25"] = one(plain + 0.01, hits)
        made.append(row)
    return made


@pytest.mark.parametrize("part", negtome.PARTS)
def test_verdicts_follow_the_numbers(part: str) -> None:
    good, bad = (section(part, rows(part, well), SETTINGS) for well in (True, False))
    if part == "curves":
        assert "alpha 1.5, threshold 0.5" in good and "No cell keeps" not in good
        assert bad.count("No cell keeps") == len(CURVES) + len(AVOIDS)
        assert "| cads 0.25 |" in good
    elif part == "axes":
        assert good.count("No cell keeps") == 1 and bad.count("No cell keeps") == 2
        told = "released against source: likeness +0.000 (+0.000 to +0.000), the object as asked"
        assert f"{told} -25.0 points" in good and f"{told} +0.0 points" in bad
    elif part == "longer":
        assert "alpha 3, window 0.6 (0.420;" in good and "| 0.75 | 0.578, 100 %, +0 % |" in good
        assert "No cell keeps" in bad
    elif part == "spread_longer":
        assert "By guidance: Least similarity at a loss of at most 2 points: alpha 3, window 0.7" in good
        assert "By push: Least similarity at a loss of at most 2 points: alpha 0.9, window 0.7" in good
        assert bad.count("No cell keeps") == 2
    elif part == "windows":
        assert "| noise alone | 0.310 (0.310 to 0.310) |  | 0.200" in good
        assert (
            "| alpha 1.5 by guidance, window 0.4 | 0.320 (0.320 to 0.320) | +0.010 (+0.010 to +0.010) |"
            in good
        )
    else:
        assert "**reached**" in good and "**not reached**" not in good
        assert "**not reached**" in bad


def test_avoid_is_told_beside_the_negative_prompt() -> None:
    text = section("avoid", rows("avoid", True), SETTINGS)
    assert "- guidance: similarity to the whole +0.000 (+0.000 to +0.000), to its object" in text
    assert "- negative prompt" not in text


def test_what_is_masked_is_held_to_the_object() -> None:
    found = rows("avoid", True)
    for row in found:
        row["guidance, masked"] = one(
            0.2, [True, True], **{"whole similarity": [0.6] * 2, "object similarity": [0.3] * 2}
        )
        row["guidance"]["object similarity"] = [0.5] * 2
    text = section("avoid", found, SETTINGS)
    assert "guidance, masked: **reached**" in text and "guidance: **reached**" in text


def test_a_vary_that_makes_the_layer_alike_has_not_reached_it() -> None:
    found = rows("vary", True)
    for row in found:
        row["vary"]["inside"] = 0.1
    assert "inside they differ no less: **not reached**" in section("vary", found, SETTINGS)


def test_entropy_is_compared_prompt_by_prompt() -> None:
    found = rows("spread", True)
    for row in found:
        row["negtome"]["style"] = ["flat", "soft"]
    gained = entropy_gained(found, "negtome", "style")
    assert gained is not None and gained.value == pytest.approx(1)
    assert entropy_gained(found, "negtome", "tone") is None
    text = section("spread", found, SETTINGS)
    assert "1.00 (1.00 to 1.00), +1.00 (+1.00 to +1.00)" in text
    assert mixed(found, "negtome").value == 1


@pytest.mark.parametrize("first", [True, False])
def test_each_setting_is_timed_beside_a_plain_batch(monkeypatch: pytest.MonkeyPatch, first: bool) -> None:
    clock, order = [0.0], []

    def run(name: str, takes: float) -> None:
        order.append(name)
        clock[0] += takes

    monkeypatch.setattr(negtome_seconds.time, "process_time", lambda: clock[0])
    found = beside(partial(run, "it", 3.0), partial(run, "off", 2.0), first)
    assert found == {"seconds": 3.0, "off": 2.0} and more(found) == pytest.approx(0.5)
    assert order == (["it", "off"] if first else ["off", "it"])


def test_whole_prompts_are_drawn_for_an_interval() -> None:
    """200 rows of 4 prompts are 4 samples, not 200."""
    found = [{"prompt": f"p{k % 4}", "off": {"vendi": float(k % 4)}} for k in range(200)]
    one = mean(found, "off", variety)
    assert one.value == 1.5 and one.low <= 0.75 and one.high >= 2.25
    apart = [{**row, "prompt": str(k)} for k, row in enumerate(found)]
    assert mean(apart, "off", variety).low > 1.25


def noisy(found: list[dict[str, Any]], name: str, word: str, by: float) -> None:
    """Moves a setting's number up in some prompts and down in others, whose mean stays."""
    for row in found:
        row[name][word] += by * (-1 if row["prompt"] in ("p0", "p1") else 1)


def test_what_is_not_beyond_doubt_is_not_said_to_be() -> None:
    spread = rows("spread", True)
    noisy(spread, "negtome", "distance", 0.09)
    for part in ("spread", "spread_more"):
        assert "**reached**, not beyond doubt." in section(part, spread, SETTINGS)
    reach = rows("reach", True)
    for row in reach:
        row["guidance, in the layer"]["moved"] = {"inside": 8.0, "outside": 5.0}
        row["guidance, in the layer"]["moved"]["outside"] += -4 if row["prompt"] == "p0" else 2
    assert "by guidance **reached**, not beyond doubt" in section("reach", reach, SETTINGS)
    vary = rows("vary", True)
    noisy(vary, "vary", "outside", 0.4)
    assert "agree more than with noise of their own: **not reached**" in section("vary", vary, SETTINGS)
    taken = rows("seconds", True)
    noisy(taken, "negtome", "seconds", 0.2)
    assert "**reached**, not beyond doubt" in section("seconds", taken, SETTINGS)
    avoid = rows("avoid", True)
    for row in avoid:
        low = row["prompt"] in ("p0", "p1")
        row["guidance"]["whole similarity"] = [0.05 if low else 0.65] * 2
    assert "guidance: **reached**, not beyond doubt" in section("avoid", avoid, SETTINGS)


def test_rows_are_kept_by_what_made_them() -> None:
    def key(part: str, settings: dict[str, Any] = SETTINGS, weights: str = "w", judge: str = "j") -> str:
        return key_of(part, settings, weights, judge)

    spread = {**SETTINGS, "spread": {**SETTINGS["spread"], "alpha": 1.0}}
    assert key("spread", spread) != key("spread") and key("seconds", spread) != key("seconds")
    assert key("avoid", spread) == key("avoid") != key("avoid", weights="x") != key("avoid", judge="x")
    assert key("avoid", {**SETTINGS, "steps": 11}) != key("avoid")
    assert key("avoid", {**SETTINGS, "why": {}}) == key("avoid")


def test_a_style_that_all_pictures_share_is_left_out() -> None:
    found = rows("spread", True)
    text = section("spread", found, SETTINGS)
    assert "| colour | tone | gender | mixed batches |" in text and "drawn in one" in text
    found[0]["negtome"]["style"] = ["flat", "soft"]
    text = section("spread", found, SETTINGS)
    assert "| gender | style | mixed batches |" in text and "drawn in one" not in text


def test_the_best_cell_loses_little_agreement() -> None:
    assert "alpha 1.5, threshold 0.5" in best(rows("curves", True), "source first push", 0.02)
    highest = max(SETTINGS["curves"]["alphas"])
    assert f"alpha {highest:g}, threshold 0.5" in best(rows("curves", True), "source first push", 0.5)


def test_a_fall_is_a_share_of_what_was() -> None:
    found = fall(rows("avoid", True), "guidance", lambda one: float(np.mean(one["whole similarity"])))
    assert (found.value, found.low, found.high) == pytest.approx((0.5, 0.5, 0.5))


@pytest.mark.parametrize(
    ("part", "whole"), [("vary", 200), ("curves", 16), ("seconds", 12), ("spread_more", 100)]
)
def test_a_part_that_is_not_done_says_so(tmp_path: Path, part: str, whole: int) -> None:
    few = rows(part, True)[:5]
    told = page("", {part: {"rows": few}}, SETTINGS, tmp_path)
    assert f"Of the protocol's {whole} rows 5 are in" in told
    done = page("", {part: {"rows": (few * whole)[:whole]}}, SETTINGS, tmp_path)
    assert "rows 5 are in" not in done and "the run goes on" not in done
