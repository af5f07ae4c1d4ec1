"""After a run, an exception or a stop the pipeline is as it was."""

from __future__ import annotations

import gc
import traceback
import weakref
from typing import Any

import diffusers
import numpy as np
import pytest
import torch

from pipelines.engine import Engine
from pipelines.errors import (
    ModelError,
    PhraseError,
)
from pipelines.pictures import PictureStore
from tests.pipelines import tiny
from tests.pipelines.runs import every_method, fingerprint
from tests.pipelines.stops import stopped


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

    @pytest.mark.filterwarnings("ignore:`upcast_vae` is deprecated:FutureWarning")  # diffusers' own call
    def test_a_failed_decoding_leaves_a_16_bit_autoencoder_as_narrow(self, store: PictureStore) -> None:
        """XL's is widened to decode: left so, every later run from text would fail after its last step."""
        own, pipe = Engine(), tiny.sdxl().to(torch.float16)
        own.adopt("own", pipe, tiny.card_for("sdxl"))
        request = tiny.text_request("own", steps=2)
        plain = tiny.pictures(own, request, store)[0]
        assert pipe.vae.dtype == torch.float16
        wide: list[torch.dtype] = []

        def fail(*_: Any) -> None:
            wide.append(pipe.vae.dtype)
            raise RuntimeError("there is no room to decode")

        handle = pipe.vae.decoder.register_forward_hook(fail)
        try:
            with pytest.raises(RuntimeError, match="no room"):
                tiny.result(own, request, store)
        finally:
            handle.remove()
        assert wide == [torch.float32]
        assert {parameter.dtype for parameter in pipe.vae.parameters()} == {torch.float16}
        assert np.array_equal(plain, tiny.pictures(own, request, store)[0])

    def test_after_a_stop(self, engine: Engine, store: PictureStore, model: str) -> None:
        pipe = engine.load(model).pipe
        before = fingerprint(pipe)
        stopped(engine, every_method(store, model), store)
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

    def test_what_ends_the_thread_reaches_its_reader(self, store: PictureStore, pipe: Any) -> None:
        """Not only what is an `Exception`: the reader would wait for ever."""
        own = Engine()
        own.adopt("own", pipe, tiny.card_for("own"))

        def leave(*_: Any) -> None:
            raise SystemExit(3)

        handle = pipe.unet.mid_block.register_forward_hook(leave)
        try:
            with pytest.raises(SystemExit):
                tiny.result(own, tiny.text_request("own"), store)
        finally:
            handle.remove()

    @pytest.mark.parametrize("error", [RuntimeError("a part breaks"), torch.OutOfMemoryError("full")])
    def test_what_a_failed_run_computed_is_given_back(
        self, store: PictureStore, pipe: Any, error: Exception
    ) -> None:
        """At once, without the collector of cycles; where memory was too little, even while the error is held."""
        own = Engine()
        own.adopt("own", pipe, tiny.card_for("own"))
        left: list[weakref.ref[torch.Tensor]] = []

        def fail(*_: Any) -> None:
            computed = torch.zeros(8)
            left.append(weakref.ref(computed))
            raise type(error)(*error.args)

        handle = pipe.unet.mid_block.register_forward_hook(fail)
        gc.disable()
        try:
            try:
                tiny.result(own, tiny.text_request("own"), store)
            except (RuntimeError, ModelError) as told:
                assert (left[0]() is None) == isinstance(told, ModelError)
                assert ("too little memory" in str(told)) == isinstance(told, ModelError)
                frames = [frame.name for frame in traceback.extract_tb(told.__traceback__)]
                assert "fail" in frames, "the way to it is told"
            assert len(left) == 1 and left[0]() is None
        finally:
            gc.enable()
            handle.remove()
