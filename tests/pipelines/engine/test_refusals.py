"""What the engine refuses, by name and in one sentence."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pipelines.engine import Engine
from pipelines.errors import (
    FieldError,
    ModelError,
    PhraseError,
    PictureError,
    UnsupportedError,
)
from pipelines.pictures import PictureStore
from pipelines.request import ImagePromptRequest, LookRequest, Variant
from tests.pipelines import tiny


def loaded(*_: Any) -> None:
    raise AssertionError("it is loaded")


class TestRefusals:
    @pytest.mark.parametrize(
        ("word", "value", "says"),
        [("keep_shape", 0.5, "keep")],
    )
    def test_words_of_later_are_refused_by_name(
        self, engine: Engine, store: PictureStore, word: str, value: Any, says: str
    ) -> None:
        request = tiny.collage_request(store, cat={word: value})
        with pytest.raises(UnsupportedError, match=f"layer 'cat'.*{says}"):
            tiny.result(engine, request, store)

    @pytest.mark.parametrize("name", ["heun", "pndm", ""])
    def test_unknown_schedulers_are_refused_by_name(
        self, engine: Engine, store: PictureStore, name: str
    ) -> None:
        with pytest.raises(UnsupportedError, match=rf"'{name}'.*dpm\+\+2m"):
            tiny.result(engine, tiny.text_request(scheduler=name), store)
        nothing = {"harmonize": 0.0}
        frozen = tiny.collage_request(
            store, car=nothing, cat=nothing, background_harmonize=0.0, scheduler=name
        )
        with pytest.raises(UnsupportedError, match=f"'{name}'"):
            tiny.result(engine, frozen, store)

    def test_too_many_steps_for_lcm(self, engine: Engine, store: PictureStore) -> None:
        with pytest.raises(UnsupportedError, match="50 steps"):
            tiny.result(engine, tiny.text_request(scheduler="lcm", steps=51), store)

    def test_a_long_prompt_does_not_warn(self, engine: Engine, store: PictureStore, model: str) -> None:
        for words in (
            {"prompt": "a red car " * 30},
            {"prompt": "a cat", "negative_prompt": "a red car " * 30},
            {"prompt": "a red car " * 20},
        ):
            done = tiny.result(engine, tiny.text_request(model, steps=1, **words), store)
            assert done.report["warnings"] == []

    def test_too_many_chunks(self, engine: Engine, store: PictureStore) -> None:
        with pytest.raises(PhraseError, match=r"41 texts for the text encoder, more than 32"):
            tiny.result(engine, tiny.text_request(prompt="a a a a a " * 610), store)

    def test_an_unknown_model(self, store: PictureStore) -> None:
        with pytest.raises(ModelError, match=r"'nonesuch'.*embedded"):
            tiny.result(Engine(), tiny.text_request("nonesuch"), store)

    def test_a_missing_picture(self, engine: Engine, store: PictureStore) -> None:
        request = tiny.collage_request(store)
        with pytest.raises(PictureError, match="not in the store"):
            tiny.result(engine, request, PictureStore())

    @pytest.mark.parametrize("what", ["collage", "frozen", "mask", "avoid"])
    def test_a_picture_of_another_size(self, engine: Engine, store: PictureStore, what: str) -> None:
        request = tiny.collage_request(store)
        small = np.zeros((32, 32, 3), np.uint8)
        if what == "mask":
            request = request.replace(layers=(tiny.layer(store, "cat", small[..., 0]),))
        elif what == "avoid":
            request = request.replace(avoids=(tiny.avoid(store, picture=store.put(small)),))
        else:
            request = request.replace(**{what: store.put(small)})
        with pytest.raises(PictureError, match="shape"):
            tiny.result(engine, request, store)

    def test_a_model_that_gives_no_numbers(self, store: PictureStore) -> None:
        from pipelines.errors import EngineError

        broken = tiny.sd_velocity()
        broken.unet.conv_out.weight.data.fill_(float("nan"))
        own = Engine()
        own.adopt("own", broken, tiny.card_for("own"))
        with pytest.raises(EngineError, match="no picture"):
            tiny.result(own, tiny.text_request("own"), store)

    @pytest.mark.parametrize(
        "error",
        [
            MemoryError(),
            torch.OutOfMemoryError("CUDA out of memory"),
            RuntimeError("MPS backend out of memory"),
            None,
        ],
    )
    def test_too_little_memory(self, store: PictureStore, pipe: Any, error: Exception | None) -> None:
        """As each device says it; None is what a CPU's allocator really says."""

        def full(*_: Any) -> None:
            if error is None:
                torch.empty(2**50)
            else:
                raise error

        own = Engine()
        own.adopt("own", pipe, tiny.card_for("own"))
        handle = pipe.unet.mid_block.register_forward_hook(full)
        try:
            with pytest.raises(ModelError, match="too little memory for 1 pictures of 64×64 with own; lower"):
                tiny.result(own, tiny.text_request("own"), store)
        finally:
            handle.remove()

    @pytest.mark.parametrize(
        ("model", "words", "car", "says"),
        [
            ("flux", {"scheduler": "flow_euler"}, {"keep_shape": 0.5}, "keep shape cannot"),
            ("sd21", {}, {"keep_shape": 0.5}, "keep shape needs a ControlNet"),
            ("flux2", {"scheduler": "flow_euler", "negative_prompt": "rain"}, {}, "negative prompt cannot"),
            ("sdxl", {"scheduler": "heun"}, {}, "'heun'"),
            ("sd3", {"scheduler": "flow_euler", "width": 72}, {}, "width is 72"),
            ("some/folder", {"scheduler": "flow_euler"}, {}, "'flow_euler'"),
        ],
    )
    def test_what_the_card_tells_is_refused_before_anything_is_loaded(
        self,
        store: PictureStore,
        monkeypatch: pytest.MonkeyPatch,
        tmp_path: Path,
        model: str,
        words: dict[str, Any],
        car: dict[str, Any],
        says: str,
    ) -> None:
        monkeypatch.setattr("pipelines.engine.load_pipeline", loaded)
        if model == "some/folder":
            model = str(tmp_path)
            index = {"_class_name": "StableDiffusionPipeline"}
            (tmp_path / "model_index.json").write_text(json.dumps(index))
        request = tiny.text_request(model, **words)
        if car:
            request = tiny.collage_request(store, model, car=car, **words)
        with pytest.raises(UnsupportedError, match=says):
            tiny.result(Engine(), request, store)

    def test_a_picture_as_prompt_that_no_adapter_is_known_for(
        self, store: PictureStore, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("pipelines.engine.load_pipeline", loaded)
        asked = ImagePromptRequest(cutout=store.put(tiny.picture(3, 4)), strength=0.5)
        request = tiny.collage_request(store, "sd21", cat={"image_prompt": asked})
        with pytest.raises(UnsupportedError, match="no IP-Adapter is known"):
            tiny.result(Engine(), request, store)

    def test_layers_need_a_collage(self, store: PictureStore) -> None:
        with pytest.raises(FieldError, match="collage"):
            tiny.text_request(layers=(tiny.layer(store, "cat", tiny.CAT),))

    def test_a_refused_request_leaves_the_engine_usable(self, engine: Engine, store: PictureStore) -> None:
        with pytest.raises(UnsupportedError):
            tiny.result(engine, tiny.text_request(scheduler="heun"), store)
        assert len(tiny.pictures(engine, tiny.text_request(), store)) == 1


class TestWhatIsKnownBeforeARun:
    def test_what_the_card_tells(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("pipelines.engine.load_pipeline", loaded)
        plain = tiny.text_request("flux", scheduler="flow_euler")
        Engine().check(plain)
        with pytest.raises(UnsupportedError, match="guidance interval cannot be used with flux"):
            Engine().check(plain.replace(guidance_interval=(0.5, 3.0)))

    def test_what_the_loaded_model_tells(self, transformers: Engine) -> None:
        """Whether Klein's guidance is distilled stands in its pipeline."""
        pipe = transformers.load("klein").pipe
        own = Engine()
        asked = tiny.text_request("own", scheduler="flow_euler", guidance_interval=(0.5, 3.0))
        for distilled in (False, True):
            made = type(pipe)(**pipe.components, is_distilled=distilled)
            own.adopt("own", made, transformers.load("klein").card)
            if distilled:
                with pytest.raises(UnsupportedError, match=r"guidance interval.*distilled"):
                    own.check(asked)
            else:
                own.check(asked)

    def test_images_that_cannot_be_made_together(self, engine: Engine, store: PictureStore) -> None:
        told = tuple(Variant(prompt=f"a {word} car", spans=((2, 2 + len(word)),)) for word in ("red", "blue"))
        request = tiny.collage_request(
            store, "sd_noise", layers=(tiny.layer(store, "cat", tiny.CAT, negative="night"),)
        ).replace(images=2, variants=told)
        engine.check(request)
        joint = request.replace(spread=1.0)
        with pytest.raises(UnsupportedError, match="cannot be made together"):
            engine.check(joint)
        engine.check(joint.replace(guidance=1.0))
        engine.check(joint.replace(variants=()))
        frozen = dataclasses.replace(joint.layers[0], harmonize=0.0)
        engine.check(joint.replace(layers=(frozen,), background_harmonize=0.0))
        look = LookRequest(cutout=store.put(tiny.picture(3, 4)), steps=1)
        engine.check(joint.replace(layers=(dataclasses.replace(joint.layers[0], look=look),)))
