"""After a run, an exception or a stop the pipeline is as it was."""

from __future__ import annotations

import threading
from typing import Any

import diffusers
import numpy as np
import pytest

from pipelines.engine import Engine
from pipelines.errors import (
    Cancelled,
    PhraseError,
)
from pipelines.events import Progress
from pipelines.pictures import PictureStore
from tests.pipelines import tiny
from tests.pipelines.runs import every_method, fingerprint


class TestNothingIsLeftBehind:
    def test_after_a_run(self, engine: Engine, store: PictureStore, model: str) -> None:
        pipe = engine.load(model).pipe
        before = fingerprint(pipe)
        tiny.result(engine, every_method(store, model), store)
        assert fingerprint(pipe) == before

    def test_after_an_exception(self, engine: Engine, store: PictureStore, model: str) -> None:
        pipe = engine.load(model).pipe
        before = fingerprint(pipe)
        request = every_method(store, model)
        plain = tiny.pictures(engine, tiny.text_request(model), store)[0]

        def fail(*_: Any) -> None:
            raise RuntimeError("a part breaks")

        handle = pipe.unet.mid_block.register_forward_hook(fail)
        try:
            with pytest.raises(RuntimeError, match="a part breaks"):
                tiny.result(engine, request, store)
        finally:
            handle.remove()
        assert fingerprint(pipe) == before
        assert np.array_equal(plain, tiny.pictures(engine, tiny.text_request(model), store)[0])

    def test_after_a_stop(self, engine: Engine, store: PictureStore, model: str) -> None:
        pipe = engine.load(model).pipe
        before = fingerprint(pipe)
        cancel = threading.Event()
        with pytest.raises(Cancelled):
            for event in engine.render(every_method(store, model, steps=60), store, cancel=cancel):
                if isinstance(event, Progress):
                    cancel.set()
        assert fingerprint(pipe) == before

    def test_the_fingerprint_would_notice(self, engine: Engine) -> None:
        pipe = engine.load("sd_noise").pipe
        before = fingerprint(pipe)
        handle = pipe.unet.register_forward_hook(lambda *_: None)
        assert fingerprint(pipe) != before
        handle.remove()
        assert fingerprint(pipe) == before

    def test_offload_hooks_are_freed_even_after_an_exception(self, pipe: Any, store: PictureStore) -> None:
        freed: list[int] = []

        class Offloaded(diffusers.StableDiffusionPipeline):
            def maybe_free_model_hooks(self) -> None:
                freed.append(1)
                super().maybe_free_model_hooks()

        own = Engine()
        own.adopt("own", Offloaded(**pipe.components, requires_safety_checker=False), tiny.card_for("own"))
        tiny.result(own, tiny.text_request("own"), store)
        assert freed == [1]
        with pytest.raises(PhraseError):
            tiny.result(own, tiny.text_request("own", prompt="a a a a a " * 610), store)
        assert freed == [1, 1]
        assert not own.load("own").lock.locked()
