"""Looks with what else words can be: longer than the model reads at once, another in each image, negative, watched."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch

from pipelines.engine import Engine, Loaded
from pipelines.errors import FieldError
from pipelines.events import Finished, Learning, RenderResult
from pipelines.learning.tokens import wearing
from pipelines.learning.words import worded
from pipelines.pictures import PictureStore
from pipelines.request import MAX_PROMPT, LookRequest, RenderRequest, Variant
from tests.pipelines import tiny
from tests.pipelines.learning.conftest import CUTOUT, rows_of, same, state, without
from tests.pipelines.spies import ids_read

UNETS = ("sd_velocity", "sdxl")
pytestmark = pytest.mark.usefixtures("fast")
LONG = "a red car on the beach at night and "


def collage(store: PictureStore, model: str, prompt: str, **cat: Any) -> RenderRequest:
    """A red car, and a cat with a look, at the last places where they stand in ``prompt``."""
    look = LookRequest(cutout=store.put(CUTOUT), steps=2, vectors=3)

    def words(name: str) -> dict[str, Any]:
        at = prompt.rindex(name)
        return {"span": (at, at + len(name)), "attend_inside": 0.8}

    return tiny.collage_request(
        store, model, words("red car"), {**words("cat"), "look": look, **cat}, prompt=prompt, steps=2
    )


def run(engine: Engine, request: RenderRequest, store: PictureStore) -> RenderResult:
    return tiny.result(engine, request, store)


@pytest.mark.parametrize("background", [1.0, 0.75])
def test_all_vectors_are_read_from_noise_and_from_a_picture(
    engine: Engine, all_loaded: dict[str, Loaded], store: PictureStore, background: float
) -> None:
    """diffusers' image-to-image class of FLUX.1 does not expand them by itself."""
    loaded = all_loaded["flux"]
    request = collage(store, "flux", "a red car and a cat").replace(
        background_harmonize=background, scheduler="flow_euler", steps=4
    )
    tiny.events(engine, request, store)  # learned, and kept
    pairs = loaded.family.encoders
    with ids_read({name: getattr(loaded.pipe, name) for _, name in pairs}) as read:
        tiny.events(engine, request, store)
    for tokenizer, encoder in pairs:
        learned = {one for one in read[encoder] if one >= len(getattr(loaded.pipe, tokenizer))}
        assert len(learned) == 3


class TestLongPrompts:
    @pytest.mark.parametrize("model", UNETS)
    def test_chunks_are_counted_with_the_vectors(
        self, all_loaded: dict[str, Loaded], store: PictureStore, model: str
    ) -> None:
        """75 words fit without the look; with three vectors before "cat" it moves into a chunk of its own."""
        loaded = all_loaded[model]
        prompt = LONG * 8 + "red car cat"
        request = collage(store, model, prompt)
        token = {(1, "cat"): "<look-0>"}
        assert loaded.family.plan(loaded.pipe, request).count == 1
        rows = tuple(one[:1].repeat(3, 1) for one in rows_of(loaded, "cat"))
        with wearing(loaded.pipe, loaded.family, {"<look-0>": rows}) as worn:
            dressed = worded(request, token)
            first, own = loaded.family.plan(worn, dressed).prompt
            assert (own.text, own.layers) == ("<look-0> cat", (1,)) and first.text == LONG * 8 + "red car"
            car, cat = loaded.family.tokens(worn, dressed)
            assert cat == [77 + 1, 77 + 2, 77 + 3, 77 + 4] and max(car) < 77
            (reach,) = [one for one in loaded.family.reaches(worn, dressed) if one.layers == (1,)]
            assert set(cat) <= set(reach.keys) and reach.rows == "prompt"
            states = loaded.family.arguments(worn, dressed)["prompt_embeds"]
            assert states.shape[1] == 2 * 77 and not states.requires_grad

    @pytest.mark.parametrize("model", UNETS)
    def test_a_look_acts_in_a_later_chunk(self, engine: Engine, store: PictureStore, model: str) -> None:
        request = collage(store, model, LONG * 9 + "red car, cat")
        plain = run(engine, without(request), store)
        before = state(engine.load(model))
        worn = run(engine, request, store)
        assert worn.report["warnings"] == []
        assert tiny.moved(worn.pictures[0], plain.pictures[0]) > 0.01
        assert same(before, state(engine.load(model)))

    def test_words_longer_than_a_chunk_are_read_whole_and_with_a_gradient(self, loaded: Loaded) -> None:
        if loaded.card.family == "flux":
            pytest.skip("T5 reads 512 tokens at once")
        text = loaded.family.text(loaded.pipe, LONG * 10, (64, 64))
        first = loaded.family.text(loaded.pipe, " ".join((LONG * 10).split()[:75]), (64, 64))
        assert text["states"].shape[1] == 2 * 77 and text["states"].requires_grad
        assert torch.equal(text["states"][:, :77], first["states"])
        assert not loaded.family.empty_text(loaded.pipe, tiny.text_request())["states"].requires_grad

    def test_too_long_with_its_token_is_said_before_learning(
        self, engine: Engine, store: PictureStore
    ) -> None:
        request = collage(store, "sd_velocity", ("a " * MAX_PROMPT)[: MAX_PROMPT - 12] + "red car, cat")
        seen = []
        with pytest.raises(FieldError, match="shorten"):
            for event in engine.render(request, store):
                seen.append(event)
        assert not any(isinstance(event, Learning) for event in seen)


class TestVariants:
    def told(self, store: PictureStore, **words: Any) -> RenderRequest:
        """Two images: a cat, and a red cat that stands elsewhere."""
        prompts = ("a red car and a cat on the beach", "a red cat at night and a red car")
        cats = ("cat", "red cat")
        variants = []
        for prompt, cat in zip(prompts, cats, strict=True):
            places = tuple((prompt.index(one), prompt.index(one) + len(one)) for one in ("red car", cat))
            variants.append(Variant(prompt=prompt, spans=places))
        request = collage(store, "sd_velocity", prompts[0])
        return request.replace(images=2, variants=tuple(variants), **words)

    def test_each_image_wears_the_look_of_its_own_words(self, engine: Engine, store: PictureStore) -> None:
        request = self.told(store)
        found = tiny.events(engine, request, store)
        assert [(one.layer, one.step) for one in found if isinstance(one, Learning)] == [
            ("cat", 1),
            ("cat", 2),
        ] * 2
        last = found[-1]
        assert isinstance(last, Finished)
        looks: Any = last.result.report["looks"]
        assert [fact["words"] for fact in looks] == ["cat", "red cat"]
        assert last.result.report["prompts"] == [one.prompt for one in request.variants]
        assert last.result.request == request
        for image, picture in enumerate(last.result.pictures):
            alone = request.of_image(image).replace(seed=request.seed + image, images=1)
            assert np.array_equal(picture, run(engine, alone, store).pictures[0])
            assert tiny.moved(picture, run(engine, without(alone), store).pictures[0]) > 0.01

    def test_together_in_one_call(self, engine: Engine, store: PictureStore) -> None:
        """Spread with a threshold that nothing reaches: one call for all, each with its own tokens' places."""
        request = self.told(store, spread=1.0, spread_threshold=1.0)
        together = run(engine, request, store).pictures
        for image, picture in enumerate(together):
            alone = request.of_image(image).replace(seed=request.seed + image, images=1)
            difference = np.abs(picture.astype(int) - run(engine, alone, store).pictures[0])
            assert difference.max() <= 2
        assert tiny.moved(together[1], run(engine, without(request), store).pictures[1]) > 0.01


def test_with_negative_words_and_watched(engine: Engine, store: PictureStore) -> None:
    """The negative words act beside the look, and watching sees the words with their token and changes nothing."""
    request = collage(store, "sd_velocity", "a red car and a cat on the beach", negative="night")
    both = run(engine, request, store)
    kind = request.replace(layers=tuple(dataclasses.replace(one, negative="") for one in request.layers))
    assert tiny.moved(both.pictures[0], run(engine, kind, store).pictures[0]) > 0.01
    assert tiny.moved(both.pictures[0], run(engine, without(request), store).pictures[0]) > 0.01
    *_, last = engine.render(request, store, watch=True)
    assert isinstance(last, Finished)
    assert np.array_equal(last.result.pictures[0], both.pictures[0])
    ((car, cat),) = last.result.report["attention"]  # type: ignore[misc]
    assert 0 < car < 1 and 0 < cat < 1
