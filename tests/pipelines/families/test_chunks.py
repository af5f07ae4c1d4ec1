"""Long prompts: where they are cut, what gets a chunk of its own, and that short ones stay stock."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch

from pipelines.engine import Engine
from pipelines.errors import CutOffError
from pipelines.families.chunks import MOST, cut, plan
from pipelines.pictures import PictureStore
from pipelines.request import RenderRequest
from tests.pipelines import tiny

LONG = "a red car on the beach at night and "


def few(text: str) -> bool:
    """At most four words of at most six letters each."""
    return len(text.split()) <= 4 and all(len(word) <= 6 for word in text.split())


def worded(store: PictureStore, prompt: str, *words: str, **more: Any) -> RenderRequest:
    """Layers whose words are the last ones of their kind in the prompt."""
    layers = []
    for name, mask in zip(words, (tiny.CAR, tiny.CAT), strict=False):
        at = prompt.rindex(name)
        layers.append(tiny.layer(store, name, mask, span=(at, at + len(name))))
    return tiny.collage_request(store).replace(prompt=prompt, layers=tuple(layers), **more)


class TestCut:
    def test_between_words_with_nothing_lost(self) -> None:
        text = "  a b c d e f\n g h i "
        pieces = [text[low:high] for low, high in cut(text, few)]
        assert pieces == ["a b c d", "e f\n g h", "i"]
        assert cut("", few) == [] and cut("a b", few) == [(0, 3)]

    def test_not_inside_a_layers_words(self) -> None:
        text = "a b c red car d"
        at = text.index("red car")
        assert [text[low:high] for low, high in cut(text, few, [(at, at + 7)])] == ["a b c", "red car d"]
        whole = "a b c d e f"
        assert cut(whole, few, [(0, len(whole))]) == cut(whole, few), "too long to stay in one"

    def test_a_word_that_is_too_long(self) -> None:
        text = "a abcdefghijklmno b"
        pieces = [text[low:high] for low, high in cut(text, few)]
        assert pieces == ["a", "abcdef", "ghijkl", "mno b"]
        with pytest.raises(CutOffError, match="'a'"):
            cut("a", lambda text: False)


class TestPlan:
    def test_a_short_prompt_is_one_chunk(self, store: PictureStore) -> None:
        request = worded(store, "red car, cat", "red car", "cat")
        found = plan(request, few, guided=True)
        assert [chunk.text for chunk in found.prompt] == ["red car, cat"] and found.count == 1
        assert found.prompt[0].spans == ((0, 7), (9, 12)) and found.reaches(77) == ()
        assert plan(request, few, guided=False).negative == ()

    def test_layers_at_the_end_that_do_not_fit_get_their_own(self, store: PictureStore) -> None:
        found = plan(worded(store, "a b c, red car, cat", "red car", "cat"), few, guided=True)
        assert [(chunk.text, chunk.layers) for chunk in found.prompt] == [
            ("a b c", ()),
            ("red car", (0,)),
            ("cat", (1,)),
        ]
        assert found.prompt[1].spans == ((0, 7), None)
        roles = [(reach.rows, reach.keys, reach.layers) for reach in found.reaches(2)]
        assert roles == [
            ("prompt", (2, 3), (0,)),
            ("prompt", (4, 5), (1,)),
            ("negative", (2, 3, 4, 5), ()),
            ("reference", (2, 3, 4, 5), ()),
        ]

    def test_those_that_fit_stay_in_the_scene(self, store: PictureStore) -> None:
        found = plan(worded(store, "a b, cat, red car", "red car", "cat"), few, guided=True)
        assert [(chunk.text, chunk.layers) for chunk in found.prompt] == [("a b, cat", ()), ("red car", (0,))]
        assert found.prompt[0].spans == (None, (5, 8))

    def test_words_in_the_middle_of_a_sentence_stay_there(self, store: PictureStore) -> None:
        found = plan(worded(store, "a b c d red car is here", "red car"), few, guided=True)
        assert [(chunk.text, chunk.layers) for chunk in found.prompt] == [
            ("a b c d", ()),
            ("red car is here", ()),
        ]
        assert found.prompt[1].spans == ((0, 7),)

    def test_equal_places_share_a_chunk(self, store: PictureStore) -> None:
        request = worded(store, "a b c d, cat", "cat")
        twice = request.replace(layers=request.layers * 2)
        assert [chunk.layers for chunk in plan(twice, few, guided=True).prompt] == [(), (0, 1)]

    def test_negative_words_stand_with_the_scenes_inside_the_mask(self, store: PictureStore) -> None:
        request = worded(store, "red car, cat", "red car", "cat", negative_prompt="rain")
        layers = tuple(
            dataclasses.replace(layer, negative=words)
            for layer, words in zip(request.layers, (" rust  on it", ""), strict=True)
        )
        found = plan(request.replace(layers=layers), few, guided=True)
        assert [(chunk.text, chunk.layers) for chunk in found.negative] == [
            ("rain", ()),
            ("rain, rust on it", (0,)),
        ]
        reaches = {(reach.rows, reach.keys): reach for reach in found.reaches(1)}
        assert reaches["negative", (0,)].inside is False and reaches["negative", (0,)].layers == (0,)
        assert reaches["negative", (1,)].inside is True and reaches["prompt", (1,)].layers == ()
        bare = plan(request.replace(layers=layers, negative_prompt=""), few, guided=True)
        assert [chunk.text for chunk in bare.negative] == [None, "rust on it"]

    def test_too_many(self, store: PictureStore) -> None:
        with pytest.raises(CutOffError, match=f"{MOST + 1} texts .* more than {MOST}"):
            plan(tiny.text_request(prompt="a b c d " * (MOST + 1)), few, guided=True)

    def test_too_many_name_the_first_layer_that_is_cut_off(self, store: PictureStore) -> None:
        """In the order of the text, not of the layers; whether its words stand in the scene or in chunks apart."""
        scene = "a b c d " * MOST
        for request in (
            worded(store, f"{scene}red car, cat", "cat", "red car"),
            worded(store, f"{scene}x red car and a cat y", "cat", "red car"),
            worded(store, f"{'a b c d ' * (MOST - 1)} x y z red car now", "red car"),
        ):
            with pytest.raises(
                CutOffError, match=r"^layer 'red car': its words 'red car' are cut off.* 3[34] texts"
            ):
                plan(request, few, guided=True)

    def test_too_many_name_nobody_whose_words_are_read(self, store: PictureStore) -> None:
        request = worded(store, "red car x y " + "a b c d " * MOST, "red car")
        with pytest.raises(CutOffError, match=r"^the prompts and the layers' words take 33 texts"):
            plan(request, few, guided=True)

    def test_too_many_negative_words_name_their_layer(self, store: PictureStore) -> None:
        def asked(scene: str) -> RenderRequest:
            request = worded(store, "red car, cat", "red car", "cat", negative_prompt=scene)
            layers = (request.layers[0], dataclasses.replace(request.layers[1], negative="rust"))
            return request.replace(layers=layers)

        assert plan(asked("a b c d " * (MOST // 2 - 1)), few, guided=True).count == MOST - 1
        long = asked("a b c d " * (MOST // 2))
        with pytest.raises(
            CutOffError, match=r"^layer 'cat': its negative words 'rust' are cut off.* 33 texts"
        ):
            plan(long, few, guided=True)
        assert plan(long, few, guided=False).count == 1


def given(engine: Engine, request: RenderRequest) -> dict[str, Any]:
    loaded = engine.load(request.model)
    return loaded.family.arguments(loaded.pipe, request)


class TestStates:
    def test_short_prompts_are_given_as_they_are(self, engine: Engine, model: str) -> None:
        found = given(engine, tiny.text_request(model, negative_prompt="night"))
        assert (found["prompt"], found["negative_prompt"]) == (tiny.PROMPT, "night")
        assert not any("embeds" in name for name in found)

    def test_chunks_are_the_pipelines_own_states(self, engine: Engine, model: str) -> None:
        """75 words a chunk; the negative prompt is filled up to the same length, its own chunk untouched."""
        loaded = engine.load(model)
        words = (LONG * 10).split()
        request = tiny.text_request(model, prompt=" ".join(words), negative_prompt="at night")
        found = given(engine, request)
        first, second = (
            loaded.family.encode(loaded.pipe, " ".join(part)) for part in (words[:75], words[75:])
        )
        negative = loaded.family.encode(loaded.pipe, "at night")
        assert torch.equal(found["prompt_embeds"], torch.cat([first["states"], second["states"]], 1))
        assert torch.equal(found["negative_prompt_embeds"][:, :77], negative["states"])
        assert found["negative_prompt_embeds"].shape == found["prompt_embeds"].shape
        if model == "sdxl":
            assert torch.equal(found["pooled_prompt_embeds"], first["pooled"])
            assert torch.equal(found["negative_pooled_prompt_embeds"], negative["pooled"])
            bare = given(engine, request.replace(negative_prompt=""))
            assert not bare["negative_prompt_embeds"].any(), "zeros stand for no negative prompt, as ever"
        assert "negative_prompt_embeds" not in given(engine, request.replace(guidance=1.0))

    def test_places_of_the_words(self, engine: Engine, store: PictureStore, model: str) -> None:
        loaded = engine.load(model)
        prompt = LONG * 8 + "the blue sky, red car, cat"  # 72 words, then 3 that fit
        request = worded(store, prompt, "red car", "cat").replace(model=model)
        assert loaded.family.tokens(loaded.pipe, request) == [[77 + 1, 77 + 2], [154 + 1]]
        assert loaded.family.plan(loaded.pipe, request).prompt[0].text == LONG * 8 + "the blue sky"


class TestPictures:
    def test_a_word_in_the_second_chunk_counts(self, engine: Engine, store: PictureStore, model: str) -> None:
        prompt = LONG * 9
        request = tiny.text_request(model, prompt=prompt + "cat", steps=2)
        cat = tiny.pictures(engine, request, store)[0]
        sky = tiny.pictures(engine, request.replace(prompt=prompt + "sky"), store)[0]
        assert tiny.moved(cat, sky) > 0.01
        assert np.array_equal(cat, tiny.pictures(engine, request, store)[0])

    def test_with_references_in_the_batch(self, engine: Engine, store: PictureStore) -> None:
        """An avoid reference reads its empty text alone: what fills its row up is closed to it."""
        request = tiny.text_request(prompt=LONG * 9, steps=2, window=1.0, avoids=(tiny.avoid(store),))
        on = tiny.pictures(engine, request, store)[0]
        assert tiny.moved(on, tiny.pictures(engine, request.replace(avoids=()), store)[0]) > 0.01
