"""The weights that ship in the engine: off is stock, and each method touches what it should and nothing else.

At 128 pixels, where one of the grids is as fine as its card asks of those that NegToMe acts in.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from pipelines import schedulers
from pipelines.attention.kernel import Kernel
from pipelines.engine import Engine
from pipelines.loading import LoadOptions
from pipelines.methods.base import Method, Run
from pipelines.methods.harmonize import Harmonize
from pipelines.methods.reference_rows import ReferenceRows
from pipelines.pictures import PictureStore
from pipelines.request import RenderRequest
from tests.pipelines import tiny
from tests.pipelines.engine.runs import stock
from tests.pipelines.runs import doubled, every_method, fingerprint, sampled, twice
from tests.pipelines.spies import Hard, WatchedAvoid, WatchedSpread, first_predictions
from tests.pipelines.stops import stopped

CAT = twice(tiny.CAT)


@pytest.fixture(scope="module")
def engine() -> Engine:
    return Engine(preview_seconds=1e9, options=LoadOptions(device="cpu"))


def text(store: PictureStore, **words: Any) -> RenderRequest:
    return doubled(tiny.text_request("embedded", **{"steps": 3, **words}), store)


def collage(store: PictureStore, **words: Any) -> RenderRequest:
    return doubled(tiny.collage_request(store, "embedded", **words), store)


def test_text_to_image_is_the_stock_pipeline(engine: Engine, store: PictureStore) -> None:
    request = text(store)
    ours = tiny.pictures(engine, request, store)[0]
    assert np.array_equal(ours, stock(engine.load("embedded").pipe, request))
    assert ours.shape == (128, 128, 3) and ours.std() > 5


def test_image_to_image_is_the_stock_pipeline(engine: Engine, store: PictureStore) -> None:
    request = collage(store)
    ours = tiny.pictures(engine, request, store)[0]
    assert np.array_equal(ours, stock(engine.load("embedded").pipe, request, twice(tiny.picture(1)), 0.6))
    on = tiny.pictures(engine, collage(store, cat={"harmonize": 0.2}), store)[0]
    assert tiny.moved(ours[CAT == 255], on[CAT == 255]) > 0.5


def test_hard_bias(engine: Engine, store: PictureStore) -> None:
    """Exactly no attention to the words outside their mask, in every block that reads; other rows without bias."""
    method = Hard()
    request = collage(store, car={"attend_outside": 1.0, "attend_inside": 0.0}, steps=3)
    sampled(engine.load("embedded"), request, store, [method])
    assert len(method.outside) >= 10 and max(method.outside) == 0
    assert max(method.stock_outside) > 0.1, "without it there is some"
    assert method.untouched and all(method.untouched)


def test_only_the_prompts_rows_move(engine: Engine, store: PictureStore) -> None:
    strengths: dict[str, Any] = {"steps": 2, "background_harmonize": 1.0, "scheduler": "euler"}
    requests = [
        collage(store, car={"attend_inside": k, "attend_outside": k}, **strengths) for k in (0.0, 1.0)
    ]
    conditional, same = first_predictions(engine.load("embedded"), requests, store)
    assert conditional == [False, True] and same == [True, False]


@pytest.mark.parametrize("background", [0.6, 1.0])
def test_pins_are_exact(engine: Engine, store: PictureStore, background: float) -> None:
    """After each step a held cell has the collage at the level after the step; the picture has its own pixels."""
    seen: list[tuple[int, torch.Tensor]] = []
    runs: list[Run] = []

    class Look(Method):
        order = 99

        def begin(self, run: Run, kernel: Kernel) -> None:
            runs.append(run)

        def after_step(self, index: int, latents: torch.Tensor) -> torch.Tensor:
            seen.append((index, latents.clone()))
            return latents

    request = collage(store, car={"harmonize": 0.4}, cat={"harmonize": 0.0}, background_harmonize=background)
    held = Harmonize()
    sampled(engine.load("embedded"), request, store, [held, Look()])
    [run] = runs
    assert run.clean is not None and run.noise is not None and len(seen) == (5 if background == 1 else 3)
    for index, latents in seen:
        expected = schedulers.noised(run.clean, run.noise, run.levels[index + 1], run.exploding)
        still = held.release >= index + 1
        assert still.any() and torch.equal(latents[..., still], expected[..., still])
        assert not torch.isclose(latents[..., ~still], expected[..., ~still]).all()
    picture, flat = tiny.pictures(engine, request, store)[0], twice(tiny.picture(1))
    assert np.array_equal(picture[CAT == 255], flat[CAT == 255])
    assert tiny.moved(picture[CAT == 0], flat[CAT == 0]) > 3


def test_image_k_of_a_batch_is_image_k_alone(engine: Engine, store: PictureStore) -> None:
    request = collage(store, cat={"harmonize": 0.2}, car={"attend_inside": 0.7}, images=2)
    batch = tiny.pictures(engine, request, store)
    for k in range(2):
        alone = tiny.pictures(engine, request.replace(images=1, seed=request.seed + k), store)
        assert np.array_equal(batch[k], alone[0])
    assert tiny.moved(*batch) > 0.2


@pytest.mark.parametrize("by", ["push", "guidance"])
def test_spread_moves_the_pictures_own_attention_alone(engine: Engine, store: PictureStore, by: str) -> None:
    """By guidance in the negative rows only; one image alone has nothing to move away from."""
    loaded, method = engine.load("embedded"), WatchedSpread()
    request = text(store, images=2, spread=1.0, spread_by=by, spread_threshold=0.0, window=1.0)
    on = sampled(loaded, request, store, [method], range(2))
    assert set(method.checked) == {"down", "up"}, "the middle's grid is too coarse at this size"
    assert method.moved_rows[False] > 0 and (method.moved_rows[True] > 0) == (by == "push")
    off = sampled(loaded, request, store, [], range(2))
    assert min(tiny.moved(a, b) for a, b in zip(on, off, strict=True)) > 0.5
    assert np.array_equal(*(tiny.pictures(engine, text(store, spread=s), store)[0] for s in (0.0, 1.0)))


@pytest.mark.parametrize("by", ["push", "guidance"])
def test_an_avoid_in_a_layer_moves_features_there_alone(engine: Engine, store: PictureStore, by: str) -> None:
    loaded, method = engine.load("embedded"), WatchedAvoid()
    request = collage(store, avoids=(tiny.avoid(store, layer=0),), avoid_by=by, window=1.0)
    [on] = sampled(loaded, request, store, [ReferenceRows(), method])
    assert method.inside and all(method.inside)
    assert tiny.moved(on, sampled(loaded, request, store, [])[0]) > 0.5


def test_nothing_is_left_behind(engine: Engine, store: PictureStore) -> None:
    """Neither by a run of all methods nor by one that is stopped; and the next picture is the stock one."""
    pipe, request = engine.load("embedded").pipe, text(store)
    before, plain = fingerprint(pipe), tiny.pictures(engine, request, store)[0]
    all_on = doubled(every_method(store, "embedded", steps=6), store)
    tiny.result(engine, all_on, store)
    assert fingerprint(pipe) == before
    stopped(engine, all_on, store)
    assert fingerprint(pipe) == before
    assert np.array_equal(plain, tiny.pictures(engine, request, store)[0])
