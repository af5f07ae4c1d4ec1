"""What a transformer family cannot do is refused by name."""

from __future__ import annotations

import numpy as np
import pytest

from pipelines.engine import Engine
from pipelines.errors import UnsupportedError
from pipelines.families.table import refusal
from pipelines.pictures import PictureStore
from pipelines.request import ImagePromptRequest, LookRequest, RenderRequest
from tests.pipelines import tiny
from tests.pipelines.transformers.runs import collage, text


class TestRefusals:
    def test_sides(self, engine: Engine, store: PictureStore, model: str) -> None:
        with pytest.raises(UnsupportedError, match=r"width is 72.*multiple of 16"):
            tiny.pictures(engine, text(model, width=72), store)

    def test_schedulers_of_other_families(self, engine: Engine, store: PictureStore, model: str) -> None:
        with pytest.raises(UnsupportedError, match=r"dpm\+\+2m"):
            tiny.pictures(engine, text(model, scheduler="dpm++2m"), store)

    def test_every_word_is_done_or_refused_by_name(
        self, engine: Engine, store: PictureStore, model: str
    ) -> None:
        """A request for each word of the table either runs or raises an error with the word in it."""
        asked: dict[str, RenderRequest] = {
            "keep_shape": collage(store, model, car={"keep_shape": 0.5}),
            "look": collage(
                store, model, car={"look": LookRequest(cutout=store.put(tiny.picture(3, 4)), steps=1)}
            ),
            "image_prompt": collage(
                store,
                model,
                car={"image_prompt": ImagePromptRequest(cutout=store.put(tiny.picture(3, 4)), strength=0.5)},
            ),
            "vary": collage(store, model, car={"vary": 0.5}, images=2),
            "negative_prompt": text(model, negative_prompt="rain"),
            "negative": collage(store, model, car={"negative": "rain"}),
            "cads": text(model, cads=0.8),
            "guidance_interval": text(model, guidance_interval=(0.0, 0.5)),
        }
        for word, request in asked.items():
            if refusal(engine.load(model).family.name, word) is None:
                bare = request.replace(layers=collage(store, model).layers) if request.layers else text(model)
                plain = tiny.pictures(engine, bare, store)[0]
                assert not np.array_equal(plain, tiny.pictures(engine, request, store)[0]), word
            else:
                instead = ".*lower harmonize" if word == "look" else ""
                with pytest.raises(UnsupportedError, match=word.replace("_", " ") + instead):
                    tiny.pictures(engine, request, store)
