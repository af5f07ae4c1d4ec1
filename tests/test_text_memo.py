"""The benchmark of the text memo: both ways of one round are compared, its share is counted."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from tests.benchmarks import common, shapes, text_memo
from tests.pipelines import tiny


def test_rounds_time_both_ways_and_hold_them_against_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = {**common.protocol("text_memo"), "steps": 1}
    unet = tiny.unet()
    found = text_memo.rounds(unet, 8, 2, settings)
    assert len(found) == 2 and all(set(one) == {"plain", "remembered"} for one in found)
    monkeypatch.setattr(text_memo, "remembered", scaled)
    with pytest.raises(SystemExit, match="changed the output"):
        text_memo.rounds(unet, 8, 1, settings)


@contextmanager
def scaled(unet: Any, _site: object) -> Iterator[None]:
    """A memory that hands out something else."""
    first = text_memo.maps(unet)[0].weight.data
    first.mul_(2)
    try:
        yield
    finally:
        first.div_(2)


def test_shares_are_of_the_whole_forward() -> None:
    settings = common.protocol("text_memo")
    found = {shape.name: shape for shape in shapes.SHAPES}["embedded"]
    share = text_memo.counted(found, settings)
    assert share == pytest.approx(0.0223, abs=0.001)
    assert text_memo.counted(found, {**settings, "text": 2 * settings["text"]}) > 1.8 * share
