"""Lost layers: what is there, what is gone, and what is said of it, on the embedded world and its model."""

from __future__ import annotations

import dataclasses
import json
from functools import cache
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageFilter

import presets
from pipelines.engine import default_engine
from pipelines.events import Finished
from pipelines.measure.features import Features
from pipelines.measure.layers import layer_lines, layer_numbers, lost_sentences, without
from pipelines.measure.numbers import measured, told
from pipelines.pictures import PictureStore, Pixels
from pipelines.request import RenderRequest, Variant
from studio.document import Collage
from studio.formats import open_any
from studio.to_request import to_request
from tests.pipelines import tiny


@pytest.fixture(scope="module")
def features() -> Features:
    return Features()


@cache
def evening() -> tuple[RenderRequest, PictureStore, Pixels]:
    """A preset's request, its pictures, and the same scene without its penguin, the uppermost layer."""
    collage, library = open_any(presets.path("evening"))
    store = PictureStore()
    request = to_request(collage, library, store, seed=0).request
    without = collage.replace(layers=collage.layers[:-1])
    gone = to_request(without, library, store, seed=0).request.collage
    assert gone is not None and request.layers[-1].name == "penguin"
    return request, store, store.get(gone)


def penguin(features: Features | None, pictures: tuple[Pixels, ...], **more: Any) -> dict[str, Any]:
    """What is told of the penguin."""
    request, store, _ = evening()
    last = dataclasses.replace(request.layers[-1], **more.pop("layer", {}))
    request = request.replace(layers=(*request.layers[:-1], last))
    attention = more.pop("attention", [])
    found = layer_numbers(request, pictures, store, attention, features)
    assert json.loads(json.dumps(found)) == found
    return found[-1]


def flat() -> Pixels:
    request, store, _ = evening()
    assert request.collage is not None
    return store.get(request.collage)


def disturbed() -> Pixels:
    """The same things, blurred and grainy."""
    soft = np.asarray(Image.fromarray(flat()).filter(ImageFilter.GaussianBlur(2)))
    grain = np.random.default_rng(0).normal(0, 10, soft.shape)
    return np.clip(soft + grain, 0, 255).astype(np.uint8)


class TestByPictures:
    def test_there_and_gone(self, features: Features) -> None:
        found = penguin(features, (flat(), disturbed(), evening()[2]))
        assert found["lost"] == [False, False, True]
        assert found["cutout"][0] == pytest.approx(1, abs=1e-3)
        assert found["cutout"][0] > found["cutout"][1] > found["cutout"][2] + 0.1
        assert found["words"][0] > found["words"][2]
        assert penguin(features, (flat(),))["advice"] is None

    def test_a_frozen_layer_is_never_lost(self, features: Features) -> None:
        assert penguin(features, (evening()[2],), layer={"harmonize": 0.0})["lost"] == [False]

    def test_words_that_the_clip_does_not_know(self, features: Features) -> None:
        assert features.knows("a red car") and not features.knows("xyzzy") and not features.knows("")
        request, store, gone = evening()
        layers = (dataclasses.replace(request.layers[-1], span=(0, 12)),)
        nonsense = request.replace(prompt="xyzzyq plugh", layers=layers)
        found = layer_numbers(nonsense, (flat(), gone), store, [], features)[0]
        assert found["words"] == [None, None] and found["lost"] == [False, True]

    def test_each_image_by_its_own_words(self, features: Features) -> None:
        """Where images have prompts of their own, image 1 is not held against what image 0 was told."""
        request, store, gone = evening()
        at = len(request.prompt) + 5
        other = f"{request.prompt} and a car"
        assert other[at:] == "a car" and features.knows("a car")
        spans = tuple(layer.span for layer in request.layers)
        told = (
            Variant(prompt=request.prompt, spans=spans),
            Variant(prompt=other, spans=(*spans[:-1], (at, at + 5))),
        )
        both = request.replace(images=2, variants=told)
        found = layer_numbers(both, (gone, gone), store, [], features)[-1]
        alone = [
            layer_numbers(both.of_image(image).replace(images=1), (gone,), store, [], features)[-1]
            for image in range(2)
        ]
        assert found["words"] == pytest.approx([one["words"][0] for one in alone], abs=1e-3)
        assert abs(found["words"][0] - found["words"][1]) > 0.02
        wordless = Variant(prompt=other, spans=(*spans[:-1], None))
        found = layer_numbers(both.replace(variants=(wordless, told[1])), (gone, gone), store, [], features)[
            -1
        ]
        assert found["words"][0] is None and found["words"][1] is not None


def test_without_a_thing() -> None:
    """A thing on an even ground leaves the ground; on two grounds, each side its own; nothing around, the mean."""
    picture = np.full((40, 60, 3), 50, np.uint8)
    picture[:, 30:] = 200
    mask = np.zeros((40, 60), bool)
    mask[10:20, 5:10] = mask[10:20, 50:55] = True
    with_thing = np.where(mask[..., None], np.uint8(120), picture)
    filled = without(with_thing, mask)
    assert np.array_equal(filled[~mask], picture[~mask])
    assert np.abs(filled[10:20, 5:10].astype(int) - 50).max() < 5
    assert np.abs(filled[10:20, 50:55].astype(int) - 200).max() < 5
    assert (without(picture, np.ones((40, 60), bool)) == 125).all()


class TestByAttention:
    def test_without_clip(self) -> None:
        gone = evening()[2]
        area = penguin(None, (gone,))["area"]
        assert penguin(None, (gone,), attention=[[None, None, area * 0.9]])["lost"] == [True]
        assert penguin(None, (gone,), attention=[[None, None, area * 2]])["lost"] == [False]
        assert penguin(None, (gone,))["lost"] == [False], "nothing was measured"


class TestAdvice:
    def advice(self, features: Features, share: float | None, **layer: Any) -> str:
        inside = [] if share is None else [[None, None, share]]
        found = penguin(features, (evening()[2],), attention=inside, layer=layer)
        return str(found["advice"])

    def test_which_slider(self, features: Features) -> None:
        both = {"attend_inside": 0.5, "attend_outside": 0.5}
        assert self.advice(features, 0.3, **both) == "raise Insist"
        assert self.advice(features, 0.3, **{**both, "attend_inside": 0.6}) == "raise Stay inside"
        assert self.advice(features, 0.9, **both) == "lower Harmonize"
        assert self.advice(features, 0.05, attend_inside=1.0, attend_outside=1.0) == "lower Harmonize"
        assert self.advice(features, None, span=None) == "lower Harmonize"

    def test_sentences(self, features: Features) -> None:
        both = penguin(
            features, (flat(), evening()[2]), attention=[[None, None, 0.05]] * 2, layer={"attend_inside": 0.2}
        )
        assert lost_sentences([both], 2) == ["layer 'penguin' was lost in 1 of 2 pictures: raise Insist"]
        [line] = layer_lines([both])
        assert line.startswith("penguin: 5%, 5% of its words' attention inside; ") and line.endswith("; lost")
        numbers = {"layers": [both], "layers_by": "the embedded CLIP"}
        assert told(numbers, 0) == ["no layer lost (by the embedded CLIP)"]
        assert told(numbers, 1) == ["layer 'penguin' was lost: raise Insist (by the embedded CLIP)"]


class TestOnTheEmbeddedModel:
    def run(self, collage: Collage, library: Any) -> Any:
        store = PictureStore()
        request = to_request(collage, library, store, seed=3).request
        last = list(default_engine().render(request, store, watch=True))[-1]
        assert isinstance(last, Finished)
        return measured(last.result, store).report["numbers"]

    def test_deliberately_lost_layers_are_named(self) -> None:
        """Nonsense words with nothing held; a layer of a few pixels; and one that is held stays."""
        collage, library = open_any(presets.path("evening"))
        tree, car, bird = collage.layers
        free = {"harmonize": 1.0, "attend_inside": 0.0, "attend_outside": 0.0}
        nonsense = bird.replace(prompt="xyzzyq plugh", name="bird", **free)
        speck = car.replace(scale_x=car.scale_x * 0.08, scale_y=car.scale_y * 0.08, name="speck")
        layers = (tree, speck, nonsense)
        found = self.run(collage.replace(layers=layers, prompt="a beach", steps=8, watch=True), library)
        lost = {layer["name"]: layer["advice"] for layer in found["layers"] if layer["lost"][0]}
        assert lost == {"speck": "make it larger", "bird": "raise Insist"}
        assert found["layers_by"] == "the embedded CLIP"
        assert all(layer["attention"][0] is not None for layer in found["layers"])


def test_not_asked_not_told(engine: Any, store: PictureStore) -> None:
    result = measured(tiny.result(engine, tiny.collage_request(store), store), store)
    numbers = result.report["numbers"]
    assert isinstance(numbers, dict) and "layers" not in numbers
