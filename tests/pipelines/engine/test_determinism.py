"""Equal requests give equal pictures, whatever ran before or beside them."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from pipelines.engine import Engine
from pipelines.pictures import PictureStore
from pipelines.request import RenderRequest
from tests.pipelines import tiny
from tests.pipelines.runs import every_method


class TestDeterminism:
    @pytest.mark.parametrize(
        ("model", "scheduler"),
        [(m, s) for m in tiny.KINDS for s in ("dpm++2m", "euler_a", "lcm") if m != "sd2" or s == "dpm++2m"],
    )
    def test_image_k_of_a_batch_is_image_k_alone(
        self, engine: Engine, store: PictureStore, model: str, scheduler: str
    ) -> None:
        request = tiny.collage_request(
            store, model, cat={"harmonize": 0.2}, car={"attend_inside": 0.7}, images=3, scheduler=scheduler
        )
        batch = tiny.pictures(engine, request, store)
        for k in range(3):
            alone = tiny.pictures(engine, request.replace(images=1, seed=request.seed + k), store)
            assert np.array_equal(batch[k], alone[0])
        assert tiny.moved(batch[0], batch[1]) > 0.2

    def test_equal_requests_give_equal_pictures(self, engine: Engine, store: PictureStore) -> None:
        request = every_method(store)
        again = RenderRequest.from_json(request.to_json())
        for one, other in zip(
            tiny.pictures(engine, request, store), tiny.pictures(engine, again, store), strict=True
        ):
            assert np.array_equal(one, other)

    def test_seed_zero_is_a_seed(self, engine: Engine, store: PictureStore) -> None:
        zero = tiny.pictures(engine, tiny.text_request(seed=0), store)[0]
        assert np.array_equal(zero, tiny.pictures(engine, tiny.text_request(seed=0), store)[0])
        assert tiny.moved(zero, tiny.pictures(engine, tiny.text_request(seed=1), store)[0]) > 0.2

    def test_no_method_moves_the_samplers_generator(
        self, engine: Engine, store: PictureStore, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The next number after a run is the same with all methods as with none (Euler a draws at each step)."""
        made: list[torch.Generator] = []
        real = torch.Generator

        class Kept(real):  # type: ignore[misc, valid-type]
            def __init__(self) -> None:
                made.append(self)

        def after(request: RenderRequest) -> list[float]:
            made.clear()
            with monkeypatch.context() as patch:
                patch.setattr("pipelines.sampling.torch.Generator", Kept)
                tiny.result(engine, request, store)
            # those seeded with the request's seeds are the sampler's
            return [float(torch.rand(1, generator=g)) for g in made if g.initial_seed() in (7, 8)]

        on = every_method(store).replace(scheduler="euler_a")
        off = tiny.collage_request(store, scheduler="euler_a", images=2)
        assert after(on) == after(off)
        assert len(after(on)) == 2
        longer = off.replace(steps=10)
        assert after(longer) != after(off)

    def test_the_global_random_stream_is_left_alone(self, engine: Engine, store: PictureStore) -> None:
        torch.manual_seed(3)
        expected = float(torch.rand(1))
        torch.manual_seed(3)
        tiny.result(engine, every_method(store), store)
        assert float(torch.rand(1)) == expected
