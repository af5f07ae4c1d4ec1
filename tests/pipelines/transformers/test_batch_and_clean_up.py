"""Image k of a batch is image k alone, and nothing is left behind."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from pipelines.engine import Engine
from pipelines.pictures import PictureStore
from tests.pipelines import tiny
from tests.pipelines.runs import every_method, fingerprint
from tests.pipelines.stops import stopped
from tests.pipelines.transformers.runs import collage, words


class TestBatchAndCleanUp:
    def test_image_k_of_a_batch_is_image_k_alone(
        self, engine: Engine, store: PictureStore, model: str
    ) -> None:
        request = collage(store, model, cat={"harmonize": 0.25}, car={"attend_inside": 0.7}, images=3)
        batch = tiny.pictures(engine, request, store)
        for k in range(3):
            alone = tiny.pictures(engine, request.replace(images=1, seed=request.seed + k), store)
            assert np.array_equal(batch[k], alone[0])
        assert tiny.moved(batch[0], batch[1]) > 0.2

    def test_nothing_is_left_behind(self, engine: Engine, store: PictureStore, model: str) -> None:
        pipe = engine.load(model).pipe
        before = fingerprint(pipe)
        tiny.result(engine, every_method(store, model, **words(model)), store)
        assert fingerprint(pipe) == before
        stopped(engine, every_method(store, model, **words(model)), store)
        assert fingerprint(pipe) == before

        def fail(*_: Any) -> None:
            raise RuntimeError("a part breaks")

        block = next(iter(first_line(pipe.transformer)))
        handle = block.register_forward_hook(fail)
        try:
            assert fingerprint(pipe) != before
            with pytest.raises(RuntimeError, match="a part breaks"):
                tiny.result(engine, every_method(store, model, **words(model)), store)
        finally:
            handle.remove()
        assert fingerprint(pipe) == before


def first_line(transformer: Any) -> Any:
    """The blocks of the main line."""
    return transformer.layers if hasattr(transformer, "layers") else transformer.transformer_blocks
