"""Where a look stands: before its layer's words, and every span where its words then are."""

from __future__ import annotations

import dataclasses

import pytest

from pipelines.learning.words import worded, words_of
from pipelines.pictures import PictureStore
from pipelines.request import RenderRequest, Variant
from tests.pipelines import tiny

CAR, CAT = {(0, "red car"): "<look-0>"}, {(1, "cat"): "<look-1>"}


def standing(request: RenderRequest) -> list[str]:
    return [words_of(request, number) for number in range(len(request.layers))]


@pytest.mark.parametrize("tokens", [CAR | CAT, CAT | CAR])
def test_tokens_stand_before_the_words(store: PictureStore, tokens: dict[tuple[int, str], str]) -> None:
    request = tiny.collage_request(store)
    assert request.prompt == "a red car and a cat on the beach"
    made = worded(request, tokens)
    assert made.prompt == "a <look-0> red car and a <look-1> cat on the beach"
    assert standing(made) == ["<look-0> red car", "<look-1> cat"]
    assert made.replace(prompt=request.prompt, layers=request.layers) == request


def test_other_layers_keep_their_words(store: PictureStore) -> None:
    request = tiny.collage_request(store)
    made = worded(request, CAR)
    cat = made.layers[1].span
    assert cat is not None and made.prompt[slice(*cat)] == "cat"
    assert cat[0] - request.prompt.index("cat") == len("<look-0> ")
    last = worded(request, CAT)
    assert last.layers[0] == request.layers[0]


def test_a_layer_without_words_has_no_place(store: PictureStore) -> None:
    request = tiny.collage_request(store, car={"span": None})
    assert words_of(request, 0) == ""
    assert worded(request, {(0, ""): "<look-0>", **CAR}) == request


def test_layers_at_one_place_share_what_stands_there(store: PictureStore) -> None:
    request = tiny.collage_request(store)
    twice = request.replace(
        layers=(request.layers[0], dataclasses.replace(request.layers[1], span=request.layers[0].span))
    )
    made = worded(twice, CAR | {(1, "red car"): "<look-1>"})
    assert made.prompt == "a <look-0> <look-1> red car and a cat on the beach"
    assert standing(made) == ["<look-0> <look-1> red car"] * 2


def test_variants_are_dressed_each_in_its_own_prompt(store: PictureStore) -> None:
    """Where a layer's words are others, they have another token, or none."""
    request = tiny.collage_request(store, images=3)
    layers = [layer.span for layer in request.layers]
    told = (
        Variant(prompt=request.prompt, spans=tuple(layers)),
        Variant(prompt="a cat, a red car", spans=((9, 16), (2, 5))),
        Variant(prompt="one blue car", spans=((4, 12), None)),
    )
    tokens = CAR | CAT | {(0, "blue car"): "<look-2>"}
    made = worded(request.replace(variants=told), tokens)
    assert [one.prompt for one in made.variants] == [
        "a <look-0> red car and a <look-1> cat on the beach",
        "a <look-1> cat, a <look-0> red car",
        "one <look-2> blue car",
    ]
    assert [standing(made.of_image(image)) for image in range(3)] == [
        ["<look-0> red car", "<look-1> cat"],
        ["<look-0> red car", "<look-1> cat"],
        ["<look-2> blue car", ""],
    ]
    assert made.prompt == made.variants[0].prompt
    assert worded(request.replace(variants=told), {}) == request.replace(variants=told)
