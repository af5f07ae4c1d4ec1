"""Where a look stands: before its layer's words, and every span where its words then are."""

from __future__ import annotations

import pytest

from pipelines.learning.words import worded
from pipelines.pictures import PictureStore
from tests.pipelines import tiny


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_tokens_stand_before_the_words(store: PictureStore, order: tuple[int, int]) -> None:
    request = tiny.collage_request(store)
    assert request.prompt == "a red car and a cat on the beach"
    made = worded(request, {number: f"<look-{number}>" for number in order})
    assert made.prompt == "a <look-0> red car and a <look-1> cat on the beach"
    spans = [layer.span for layer in made.layers]
    assert [made.prompt[slice(*span)] for span in spans if span] == ["<look-0> red car", "<look-1> cat"]
    assert made.replace(prompt=request.prompt, layers=request.layers) == request


def test_other_layers_keep_their_words(store: PictureStore) -> None:
    request = tiny.collage_request(store)
    made = worded(request, {0: "<look-0>"})
    cat = made.layers[1].span
    assert cat is not None and made.prompt[slice(*cat)] == "cat"
    assert cat[0] - request.prompt.index("cat") == len("<look-0> ")
    last = worded(request, {1: "<look-1>"})
    assert last.layers[0] == request.layers[0]


def test_a_layer_without_words_has_no_place(store: PictureStore) -> None:
    with pytest.raises(ValueError, match="words"):
        worded(tiny.collage_request(store, car={"span": None}), {0: "<look-0>"})
