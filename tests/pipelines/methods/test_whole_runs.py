"""Layer attention and NegToMe in whole runs of the UNets: exactly what they should touch, and nothing else."""

from __future__ import annotations

from typing import Any

import pytest

from pipelines.engine import Engine
from pipelines.methods.reference_rows import ReferenceRows
from pipelines.pictures import PictureStore
from tests.pipelines import tiny
from tests.pipelines.runs import sampled, widened
from tests.pipelines.spies import Hard, WatchedAvoid, WatchedSpread, first_predictions


@pytest.mark.parametrize("width", [64, 96])
def test_hard_bias(engine: Engine, store: PictureStore, model: str, width: int) -> None:
    """Exactly no attention to the words outside their mask, in every block that reads; other rows without bias."""
    method = Hard()
    request = tiny.collage_request(store, model, car={"attend_outside": 1.0, "attend_inside": 0.0}, steps=3)
    sampled(engine.load(model), widened(request, store, width), store, [method])
    assert len(method.outside) >= 10 and max(method.outside) == 0
    assert min(method.stock_outside) > 0
    assert method.untouched and all(method.untouched)


def test_only_the_prompts_rows_move(engine: Engine, store: PictureStore, model: str) -> None:
    """The first step's predictions: the negative row bit-equal, the prompt's not."""
    strengths: dict[str, Any] = {"steps": 2, "background_harmonize": 1.0, "scheduler": "euler"}
    requests = [
        tiny.collage_request(store, model, car={"attend_inside": k, "attend_outside": k}, **strengths)
        for k in (0.0, 1.0)
    ]
    conditional, same = first_predictions(engine.load(model), requests, store)
    assert conditional == [False, True] and same == [True, False]


@pytest.mark.parametrize("by", ["push", "guidance"])
def test_spread_moves_the_pictures_own_attention_alone(
    engine: Engine, store: PictureStore, model: str, by: str
) -> None:
    """In all parts of the UNet, never what is read of the words; by guidance in the negative rows only."""
    method = WatchedSpread()
    request = tiny.text_request(
        model, images=2, spread=1.0, spread_by=by, spread_threshold=0.0, window=1.0, steps=3
    )
    sampled(engine.load(model), request, store, [method], range(2))
    assert set(method.checked) == {"down", "mid", "up"} or model == "sd_velocity"
    assert method.checked and method.moved_rows[False] > 0
    assert (method.moved_rows[True] > 0) == (by == "push")


@pytest.mark.parametrize("by", ["push", "guidance"])
def test_an_avoid_in_a_layer_moves_features_there_alone(
    engine: Engine, store: PictureStore, model: str, by: str
) -> None:
    method = WatchedAvoid()
    avoids = (tiny.avoid(store, layer=0),)
    request = tiny.collage_request(store, model, avoids=avoids, avoid_by=by, window=1.0, steps=3)
    sampled(engine.load(model), request, store, [ReferenceRows(), method])
    assert method.inside and all(method.inside)
