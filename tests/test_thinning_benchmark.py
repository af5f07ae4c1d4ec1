"""The benchmark of fewer reference tokens: a real run, in which all tokens tell most, and a table that says so."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch

from tests.benchmarks import common, thinning
from tests.benchmarks.thinning import EXACT, PICKED, WAYS, compared, measured, report


@pytest.fixture(scope="module")
def found() -> Iterator[dict[Any, Any]]:
    """Of two steps of the embedded model, at half its size."""
    more = {"prompts": ["a cat in a kitchen"], "side": 128, "images": 2, "steps": 2, "window": 1.0}
    yield measured({**common.protocol("thinning"), **more, "smallest": 8, "threshold": 0.0})


def test_each_grid_tells_of_every_way(found: dict[Any, Any]) -> None:
    grids = {grid for grid, _ in found}
    assert grids and min(min(grid) for grid in grids) >= 8
    assert set(found) == {(grid, way) for grid in grids for way in WAYS}
    for grid in grids:
        exact = np.array(found[grid, EXACT])
        assert np.allclose(exact[:, 2:], 1, atol=1e-5), "against itself"
        for way in WAYS:
            assert (np.array(found[grid, way])[:, 0] <= exact[:, 0] + 1e-5).all() or way.startswith("mean")
        assert np.mean(found[grid, PICKED], 0)[0] < exact[:, 0].mean() - 0.001, (
            "a quarter lacks the best partner"
        )


def test_the_table_has_finer_grids_first_and_all_tokens_before_fewer(found: dict[Any, Any]) -> None:
    lines = [line.split(" | ") for line in report(dict(reversed(found.items()))).splitlines()[2:]]
    assert [line[1] for line in lines] == [*WAYS] * (len(lines) // len(WAYS))
    sides = [int(line[0].split()[1]) for line in lines]
    assert sides == sorted(sides, reverse=True)
    assert all(line[4] == "1.000" for line in lines if line[1] == EXACT)


def test_numbers_are_those_of_their_way() -> None:
    """Tokens along two axes; the fewer lack the second, so there is no push along it."""
    source, both = torch.eye(2, 3), torch.tensor([[1.0, 0.0, 0.5], [0.0, 1.0, 0.5]])
    told = compared(source, {EXACT: both, PICKED: both[:1]}, 0.5)
    cosine = 1 / 1.25**0.5
    assert told[EXACT] == pytest.approx([cosine, 1, 1, 1])
    assert told[PICKED] == pytest.approx([cosine / 2, 0.5, 0.5**0.5, 0.5**0.5])


def test_a_mean_is_of_each_two_by_two() -> None:
    features = torch.arange(6.0).reshape(1, 6, 1)
    assert thinning.mean(features, (2, 3)).flatten().tolist() == [2.0, 3.5]
    assert WAYS[PICKED](features, (2, 3)).flatten().tolist() == [0.0, 2.0]
