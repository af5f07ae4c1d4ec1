"""The benchmark of edit one layer: layers of the areas that are asked for, and verdicts that follow the numbers."""

from __future__ import annotations

import pytest

from pipelines.pictures import PictureStore
from studio.to_request import to_request
from tests.benchmarks import common
from tests.benchmarks.edit_layer import Row, frozen, layout, section


def test_prompts_are_the_frozen_ones() -> None:
    settings = common.protocol("edit_layer")
    common.hold_to("edit_layer", frozen(settings), freeze=False)


def test_layouts_have_the_area_that_is_asked_for() -> None:
    settings = common.protocol("edit_layer")
    for k in range(4):  # the largest area does not fit the canvas for every object
        preset = layout(k, settings)
        (visible,) = to_request(preset.collage, preset.library, PictureStore()).composition.visible
        assert visible.mean() == pytest.approx(settings["areas"][k], rel=0.1)
        assert preset.collage == layout(k, settings).collage
        assert preset.collage.layers[0].harmonize is None


def rows(share: float, outside: int, work: float | None = None) -> list[Row]:
    given = {"area": 0.1, "run": 0.25, "recognised": [True, True], "label": "cat", "outside": outside}
    return [
        {
            **given,
            "asked": 0.1,
            "whole": [4.0, 2.0, 1000.0],
            "alone": [4 * share, 2 * share, 1000 * (work or share)],
        }
    ] * 3


@pytest.mark.parametrize(("share", "outside"), [(0.2, 0), (0.4, 3)])
def test_verdicts_follow_the_numbers(share: float, outside: int) -> None:
    text = section(rows(share, outside), common.protocol("edit_layer"))
    good = outside == 0
    assert ("30 % of the whole run, in work and in wall time: reached" in text) is good
    assert ("**missed**" in text) is not good and ("nothing changes: **holds**" in text) is good
    assert f"| 10 % | 3 | 25 % | {100 * share:.1f} %" in text


@pytest.mark.parametrize(
    ("alone", "work", "word"),
    [
        (0.2, 0.2, "reached"),
        (0.28, 0.2, "open"),  # the interval reaches over the target
        (0.33, 0.2, "open"),
        (0.2, 0.28, "open"),
        (0.45, 0.2, "**missed**"),
        (0.2, 0.45, "**missed**"),
        (0.28, 0.45, "**missed**"),
    ],
)
def test_the_target_is_held_by_whole_intervals(alone: float, work: float, word: str) -> None:
    found = [row for by in (-0.08, 0.08) for row in rows(alone + by, 0, work + by)]
    text = section(found, common.protocol("edit_layer"))
    assert f"30 % of the whole run, in work and in wall time: {word}." in text
