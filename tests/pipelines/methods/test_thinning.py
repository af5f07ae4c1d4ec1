"""Thinned references: one token of each two by two on fine grids, where the model's card says so."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch

from pipelines.attention.kernel import Kernel, Site
from pipelines.engine import Engine
from pipelines.methods.base import Inputs
from pipelines.methods.negtome import Avoid, Spread, push
from pipelines.methods.thinning import picked, thinned, thins
from pipelines.models import CARDS
from pipelines.pictures import PictureStore
from pipelines.request import RenderRequest
from tests.pipelines import tiny

OWN = Site(cross=False, part="up")
FINE = [8 * y + x for y in range(0, 8, 2) for x in range(0, 8, 2)]
"""The places of one of each two by two on a grid of 8 × 8."""


def features(rows: int) -> torch.Tensor:
    return torch.randn(rows, 64, 16, generator=torch.Generator().manual_seed(0))


def out(
    kind: type, engine: Engine, request: RenderRequest, store: PictureStore, given: torch.Tensor, start: int
) -> torch.Tensor:
    """What spread or avoid makes of features where the card thins from ``start`` tokens on."""
    run = tiny.run_of(engine, request, store, request.images)
    run.card = dataclasses.replace(run.card, thin_from=start)
    method: Any = kind()
    method.begin(run, Kernel())
    step = tiny.step_of(run, run.first)
    step.references = {number: step.rows + number for number in range(len(request.avoids))}
    method.before_forward(step, Inputs(torch.zeros(0), {}))
    moved: torch.Tensor = method.map_output(OWN, given[:, None])[:, 0]
    return moved


def test_one_of_each_two_by_two() -> None:
    places = torch.arange(15.0).reshape(1, 15, 1)
    assert thinned(places, (3, 5)).flatten().tolist() == [0, 2, 4, 10, 12, 14]
    assert thinned(torch.arange(64.0).reshape(1, 64, 1), (8, 8)).flatten().tolist() == FINE


@pytest.mark.parametrize("grid", [(8, 8), (3, 5), (1, 7), (6, 1)])
def test_of_a_part_one_of_each_two_by_two_that_has_any(grid: tuple[int, int]) -> None:
    h, w = grid
    everything = torch.ones(h * w, dtype=torch.bool)
    whole = thinned(torch.arange(h * w).reshape(1, -1, 1), grid).flatten()
    assert torch.equal(picked(everything, grid).sort().values, whole)
    for place in range(h * w):
        alone = torch.arange(h * w) == place
        assert picked(alone, grid).tolist() == [place], "a single token is never thinned away"
    assert not len(picked(~everything, grid))


def test_where_cards_thin() -> None:
    request = tiny.text_request(spread=1.0, spread_by="push", images=2)
    megapixel = {(64, 64): True, (48, 84): True, (32, 32): False}
    for name, card in CARDS.items():
        assert all(
            thins(card, request, grid) == (on and name != "embedded") for grid, on in megapixel.items()
        )
    assert not thins(CARDS["sdxl"], request.replace(exact_match=True), (64, 64))
    assert not thins(CARDS["sdxl"], request.replace(axis="released"), (64, 64))


@pytest.mark.parametrize("match", ["all", "first", "nearest"])
def test_spread(engine: Engine, store: PictureStore, match: str) -> None:
    request = tiny.text_request(
        images=3, spread=1.0, spread_by="push", spread_threshold=0.0, spread_match=match
    )
    given = features(6)
    on = out(Spread, engine, request, store, given, 64)
    if match == "all":
        by_hand = push(given[0], given[[1, 2]][:, FINE].flatten(0, 1), 1.0, 0.0)
        assert torch.equal(on[0], given[0] + by_hand)
    if match == "first":
        assert torch.equal(on[1], given[1] + push(given[1], given[0, FINE], 1.0, 0.0))
        assert torch.equal(on[0], given[0])
    if match == "nearest":
        each = [given[0] + push(given[0], given[other, FINE], 1.0, 0.0) for other in (1, 2)]
        assert any(torch.equal(on[0], one) for one in each)
    exact = out(Spread, engine, request.replace(exact_match=True), store, given, 64)
    assert torch.equal(exact, out(Spread, engine, request, store, given, 65)), "as on a coarser grid"
    assert not torch.allclose(exact, on, atol=0.1)
    every = request.replace(spread_every=2)
    assert torch.equal(
        out(Spread, engine, every, store, given, 64), out(Spread, engine, every, store, given, 65)
    )


def test_avoid(engine: Engine, store: PictureStore) -> None:
    given = features(3)
    request = tiny.text_request(avoids=(tiny.avoid(store),), avoid_by="push")
    on = out(Avoid, engine, request, store, given, 64)
    assert torch.equal(on[0], given[0] + push(given[0], given[2, FINE], 1.0, 0.0))
    assert torch.equal(on[2], given[2])
    exact = out(Avoid, engine, request.replace(exact_match=True), store, given, 64)
    assert torch.equal(exact[0], given[0] + push(given[0], given[2], 1.0, 0.0))
    assert not torch.allclose(exact, on, atol=0.1)


def test_avoid_with_a_part_of_the_reference(engine: Engine, store: PictureStore) -> None:
    given, mask = features(3), store.put(tiny.box(0, 8, 8, 24))  # tokens 1 and 2 of the first line
    request = tiny.text_request(avoids=(tiny.avoid(store, mask=mask),), avoid_by="push")
    on = out(Avoid, engine, request, store, given, 64)
    assert torch.equal(on[0], given[0] + push(given[0], given[2, [1, 2]], 1.0, 0.0)), "two cells, one of each"
    nothing = store.put(tiny.box(0, 0, 0, 0))
    empty = tiny.text_request(avoids=(tiny.avoid(store, mask=nothing),), avoid_by="push")
    assert torch.equal(out(Avoid, engine, empty, store, given, 64), given)
