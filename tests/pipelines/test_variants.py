"""A prompt for each image of a batch: alone, together, and with the words' places in each."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from pipelines import job, sampling
from pipelines.attention.kernel import Kernel, Site
from pipelines.engine import Engine
from pipelines.errors import FieldError, UnsupportedError
from pipelines.events import Finished
from pipelines.methods.base import Inputs
from pipelines.methods.layer_attention import LayerAttention
from pipelines.pictures import PictureStore
from pipelines.request import RenderRequest, Variant
from tests.pipelines import tiny

CROSS = Site(cross=True, part="down")
TOLD = ("a red car on the beach", "the night and a blue car at the table")
WORDS = ("red car", "blue car")


def variants(layers: int = 0) -> tuple[Variant, ...]:
    found = []
    for prompt, word in zip(TOLD, WORDS, strict=True):
        at = prompt.index(word)
        found.append(Variant(prompt=prompt, spans=((at, at + len(word)), None)[:layers]))
    return tuple(found)


def text(model: str, **words: object) -> RenderRequest:
    given = {"prompt": TOLD[0], "images": 2, "variants": variants(), "steps": 3, **words}
    return tiny.text_request(model, **given)


def collage(store: PictureStore, model: str, **words: object) -> RenderRequest:
    strong = {"attend_inside": 0.9, "attend_outside": 0.9}
    given = {"prompt": TOLD[0], "images": 2, "variants": variants(2), "steps": 3, **words}
    return tiny.collage_request(store, model, car={**strong, "span": (2, 9)}, cat={"span": None}, **given)


def test_each_image_is_what_its_prompt_makes_alone(engine: Engine, store: PictureStore, model: str) -> None:
    for request in (text(model), collage(store, model)):
        together = tiny.pictures(engine, request, store)
        for image, picture in enumerate(together):
            alone = request.of_image(image).replace(seed=request.seed + image, images=1)
            assert np.array_equal(picture, tiny.pictures(engine, alone, store)[0])
        plain = tiny.pictures(engine, request.replace(variants=()), store)
        assert np.array_equal(together[0], plain[0])
        assert tiny.moved(together[1], plain[1]) > 0.05


@pytest.mark.parametrize("from_picture", [False, True])
def test_prompts_of_one_joint_call(
    engine: Engine, store: PictureStore, model: str, from_picture: bool
) -> None:
    """Spread with a threshold that nothing reaches: one call for all images, and nobody is pushed."""
    joint = {"spread": 1.0, "spread_threshold": 1.0, "negative_prompt": "night"}
    request = collage(store, model, **joint) if from_picture else text(model, **joint)
    together = tiny.pictures(engine, request, store)
    for image, picture in enumerate(together):
        alone = request.of_image(image).replace(seed=request.seed + image, images=1)
        difference = np.abs(picture.astype(int) - tiny.pictures(engine, alone, store)[0])
        assert difference.max() <= 2
    pushed = tiny.pictures(engine, request.replace(spread_threshold=0.0, window=1.0), store)
    assert min(tiny.moved(*two) for two in zip(pushed, together, strict=True)) > 0.05


def test_a_negative_prompt_in_one_joint_call_of_klein(transformers: Engine, store: PictureStore) -> None:
    """Klein's pipeline takes it as states, a row an image; what is avoided lengthens those rows."""
    words = {"scheduler": "flow_euler", "negative_prompt": "night", "spread": 1.0, "spread_threshold": 1.0}
    request = text("klein", **words)
    together = tiny.pictures(transformers, request, store)
    for image, picture in enumerate(together):
        alone = request.of_image(image).replace(seed=request.seed + image, images=1)
        difference = np.abs(picture.astype(int) - tiny.pictures(transformers, alone, store)[0])
        assert difference.max() <= 2
    bare = tiny.pictures(transformers, request.replace(negative_prompt=""), store)
    assert min(tiny.moved(*two) for two in zip(bare, together, strict=True)) > 0.05
    avoiding = request.replace(avoids=(tiny.avoid(store, alpha=3.0),), window=1.0)
    away = tiny.pictures(transformers, avoiding, store)
    assert min(tiny.moved(*two) for two in zip(away, together, strict=True)) > 0.05


LONG = "a red car and a cat on the beach " * 12


@pytest.mark.parametrize("what", ["long", "negative", "neither", "one prompt"])
def test_images_that_cannot_share_a_call_get_their_own(
    engine: Engine, store: PictureStore, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    """Where images share calls, as on a GPU: nobody asked for a batch, so none is refused."""
    given: dict[str, object] = {"car": {"attend_inside": 0.9, "span": (2, 9)}, "cat": {"span": None}}
    if what == "long":
        given["variants"] = tuple(Variant(prompt=LONG, spans=((2, 9), None)) for _ in range(2))
    if what == "negative":
        given["cat"] = {"span": None, "negative": "night"}
    if what == "one prompt":
        given |= {"variants": (), "prompt": LONG}
    request = tiny.collage_request(
        store, "sd_noise", **{"prompt": TOLD[0], "images": 2, "variants": variants(2), "steps": 3, **given}
    )
    calls: list[int] = []
    stock = sampling.sample

    def noted(*args: Any) -> Any:
        calls.append(len(args[6]))
        return stock(*args)

    monkeypatch.setattr(sampling, "sample", noted)
    alone = tiny.pictures(engine, request, store)
    assert calls == [1, 1]
    calls.clear()
    monkeypatch.setattr(job, "one_a_call", lambda device: False)
    shared = tiny.pictures(engine, request, store)
    assert calls == ([1, 1] if what in ("long", "negative") else [2])
    most = max(int(np.abs(a.astype(int) - b).max()) for a, b in zip(alone, shared, strict=True))
    assert most == 0 if len(calls) == 2 else most <= 2
    if what in ("long", "negative"):
        with pytest.raises(UnsupportedError, match="cannot be made together"):
            tiny.result(engine, request.replace(spread=1.0), store)


def test_the_words_act_where_they_stand_in_each_images_prompt(engine: Engine, store: PictureStore) -> None:
    request = collage(store, "sd_noise")
    run = tiny.run_of(engine, request, store, images=2)
    run.variant_tokens = [run.family.tokens(run.pipe, request.of_image(image)) for image in range(2)]
    assert run.variant_tokens == [[[2, 3], []], [[5, 6], []]]
    method, kernel = LayerAttention(), Kernel()
    method.begin(run, kernel)
    method.before_forward(tiny.step_of(run, run.first), Inputs(torch.zeros(0), {}))
    generator = torch.Generator().manual_seed(0)
    query = torch.randn(4, 2, 64, 8, generator=generator)
    key = torch.randn(4, 2, 77, 8, generator=generator)
    bias = method.logit_bias(CROSS, query, key, 0.5)
    assert bias is not None
    touched = [bias[row, 0].abs().amax(0).nonzero().flatten().tolist() for row in range(4)]
    assert touched == [[], [], [2, 3], [5, 6]]
    alone = tiny.run_of(engine, request.of_image(1).replace(images=1), store)
    method.begin(alone, Kernel())
    method.before_forward(tiny.step_of(alone, alone.first), Inputs(torch.zeros(0), {}))
    own = method.logit_bias(CROSS, query[1::2], key[1::2], 0.5)
    assert own is not None and torch.allclose(bias[3], own[1], atol=1e-6)


def test_the_report_tells_each_prompt(engine: Engine, store: PictureStore) -> None:
    last = tiny.events(engine, text("sd_noise"), store)[-1]
    assert isinstance(last, Finished) and last.result.report["prompts"] == list(TOLD)
    plain = tiny.result(engine, text("sd_noise", variants=()), store)
    assert "prompts" not in plain.report


def test_as_many_variants_as_images_and_places_for_each_layer(store: PictureStore) -> None:
    with pytest.raises(FieldError, match="one for each image"):
        text("sd_noise", images=3)
    with pytest.raises(FieldError, match="one for each layer"):
        collage(store, "sd_noise", variants=variants(1))
    long = tuple(Variant(prompt=one.prompt, spans=((3, 99), None)) for one in variants())
    with pytest.raises(FieldError, match="outside the prompt"):
        collage(store, "sd_noise", variants=long)
