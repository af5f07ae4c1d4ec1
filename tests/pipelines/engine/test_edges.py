"""One step, no words, many layers, other shapes, one shared engine."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from pipelines.engine import Engine, default_engine
from pipelines.errors import CutOffError
from pipelines.models.card import SCHEDULERS
from pipelines.pictures import PictureStore
from tests.pipelines import tiny


class TestEdges:
    @pytest.mark.parametrize("scheduler", SCHEDULERS)
    def test_one_step(self, engine: Engine, store: PictureStore, scheduler: str) -> None:
        request = tiny.collage_request(
            store, scheduler=scheduler, steps=1, background_harmonize=1.0, cat={"harmonize": 0.0}
        )
        result = tiny.result(engine, request, store)
        assert result.report["denoiser_calls"] == 1
        assert np.array_equal(result.pictures[0][tiny.CAT == 255], tiny.picture(1)[tiny.CAT == 255])

    def test_an_empty_prompt(self, engine: Engine, store: PictureStore) -> None:
        request = tiny.collage_request(store)
        bare = tuple(tiny.layer(store, one.name, tiny.CAT, span=None) for one in request.layers)
        assert len(tiny.pictures(engine, request.replace(prompt="", layers=bare), store)) == 1

    def test_forty_layers(self, engine: Engine, store: PictureStore, model: str) -> None:
        """Without words they render, and with words too, those that fit the prompt and those that do not."""
        places = [(top, left) for top in range(0, 40, 8) for left in range(0, 64, 8)]
        layers = tuple(
            tiny.layer(store, f"l{k}", tiny.box(top, left, top + 8, left + 8), harmonize=k / 40)
            for k, (top, left) in enumerate(places)
        )
        request = tiny.collage_request(store, model).replace(layers=layers)
        ours = tiny.pictures(engine, request, store)[0]
        assert tiny.moved(ours, tiny.picture(1)) > 3
        worded = tuple(
            dataclasses.replace(one, span=(8 * k, 8 * k + 7), attend_inside=0.5, attend_outside=0.5)
            for k, one in enumerate(layers)
        )
        all_worded = tiny.pictures(engine, request.replace(prompt="red car " * 40, layers=worded), store)[0]
        assert tiny.moved(all_worded, ours) > 0.5
        fitting = request.replace(prompt="red car " * 37, layers=(*worded[:37], *layers[37:]))
        assert tiny.moved(tiny.pictures(engine, fitting, store)[0], ours) > 0.5

    def test_forty_layers_with_long_words(self, engine: Engine, store: PictureStore, model: str) -> None:
        """Two phrases fit the scene, the next 31 have a text each; the layer of the next in the text is named."""
        phrase = ", ".join(["a red car on the beach at night and a blue cat on the table"] * 2)
        prompt = ", ".join([phrase] * 40)
        spans = [(start, start + len(phrase)) for start in range(0, len(prompt), len(phrase) + 2)]
        layers = tuple(
            tiny.layer(store, f"l{k}", tiny.box(8 * (k // 8), 8 * (k % 8), 8 * (k // 8) + 8, 8 * (k % 8) + 8))
            for k in range(40)
        )
        worded = tuple(
            dataclasses.replace(one, span=span) for one, span in zip(layers, reversed(spans), strict=True)
        )
        request = tiny.collage_request(store, model, steps=1).replace(prompt=prompt, layers=worded)
        with pytest.raises(
            CutOffError,
            match=f"^layer 'l6': its words '{phrase}' are cut off.* 39 texts .* more than 32; shorten",
        ):
            tiny.result(engine, request, store)
        read = request.replace(prompt=prompt[: spans[32][1]], layers=worded[7:])
        assert len(tiny.pictures(engine, read, store)) == 1

    @pytest.mark.parametrize(("width", "height"), [(64, 128), (136, 72)])
    def test_other_shapes(
        self, engine: Engine, store: PictureStore, model: str, width: int, height: int
    ) -> None:
        mask = np.zeros((height, width), np.uint8)
        mask[: height // 2] = 255
        flat = np.full((height, width, 3), 90, np.uint8)
        one = tiny.layer(store, "cat", mask, attend_inside=1.0, attend_outside=1.0, harmonize=0.4)
        request = tiny.text_request(
            model,
            width=width,
            height=height,
            collage=store.put(flat),
            layers=(one,),
            images=2,
            spread=1.0,
            spread_threshold=0.0,
            avoids=(tiny.avoid(store, picture=store.put(flat)),),
        )
        made = tiny.pictures(engine, request, store)
        assert [picture.shape for picture in made] == [(height, width, 3)] * 2

    def test_the_shared_engine_is_one(self) -> None:
        assert default_engine() is default_engine()
