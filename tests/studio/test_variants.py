"""Prompt variants: which words an image says, and that it says them alone as in its batch."""

from __future__ import annotations

import itertools
import math

import pytest
from PIL import Image

from pipelines.errors import PhraseError
from pipelines.pictures import PictureStore
from pipelines.request import RenderRequest
from studio.document import Canvas, Collage, Layer
from studio.pictures import Library
from studio.to_request import Prepared, to_request
from studio.variants import combinations, variant


def prompts(prompt: str, numbers: range) -> list[str]:
    return [variant([prompt], number)[0] for number in numbers]


def test_successive_images_take_other_words() -> None:
    assert prompts("a {red|blue} car", range(3)) == ["a red car", "a blue car", "a red car"]
    assert len(set(prompts("a {red|green|blue} car", range(7, 10)))) == 3


@pytest.mark.parametrize("start", [0, 7, 2**53 - 99])
@pytest.mark.parametrize("sizes", [(1,), (3,), (2, 2), (2, 3), (3, 2), (4, 2, 3), (2, 1, 4), (3, 3, 2, 2)])
def test_every_combination_comes_once_before_one_comes_again(sizes: tuple[int, ...], start: int) -> None:
    groups = ["{" + "|".join(f"{group}{at}" for at in range(size)) + "}" for group, size in enumerate(sizes)]
    prompt = " and ".join(groups)
    count = combinations([prompt])
    assert count == math.prod(sizes)
    seen = prompts(prompt, range(start, start + count))
    assert len(set(seen)) == count
    assert prompts(prompt, range(start + count, start + count + 2)) == (seen + seen)[:2]


def test_two_groups_do_not_go_in_step() -> None:
    pairs = [tuple(text.split()) for text in prompts("{red|blue} {cat|dog}", range(4))]
    assert len(set(pairs)) == 4 and all(one[0] != next_[0] for one, next_ in itertools.pairwise(pairs))


def test_the_largest_group_has_no_option_twice_before_all() -> None:
    for start in range(8):
        said = prompts("{palm tree|palm} and {a red|a blue|an orange} car", range(start, start + 3))
        assert len({text.split(" and ")[1] for text in said}) == 3, "wherever in the text it stands"
    every = prompts("{palm tree|palm} and {a red|a blue|an orange} car", range(6))
    assert len(set(every)) == combinations(["{palm tree|palm} and {a red|a blue|an orange} car"]) == 6


def test_equal_groups_say_the_same_in_all_texts() -> None:
    for number in range(5):
        scene, words, other = variant(["a {red|blue} car", "{red|blue} car", "{blue|red} hat"], number)
        assert words in scene
        assert other.split()[0] in ("red", "blue")


def test_empty_options_leave_no_gap_and_text_without_groups_stays() -> None:
    assert prompts("a { big | } cat ,  at night", range(2)) == ["a big cat , at night", "a cat , at night"]
    assert variant(["a  cat"], 3) == ("a  cat",) and combinations(["a cat"]) == 1


@pytest.mark.parametrize("text", ["a {red|blue car", "a red} car", "a {red|{dark|light} blue} car"])
def test_odd_braces_are_refused_in_one_sentence(text: str) -> None:
    with pytest.raises(PhraseError, match=r"variants.*switch variants off"):
        variant([text], 0)


class TestRequest:
    def prepared(self, library: Library, **fields: object) -> Prepared:
        picture = library.add(Image.new("RGB", (40, 40), "red"))
        layer = Layer(id="a", name="thing", picture=picture, prompt="{red|blue} car", x=32.0, y=32.0)
        given = {
            "canvas": Canvas(width=128, height=128),
            "seed": 5,
            "images": 3,
            "layers": (layer,),
            **fields,
        }
        return to_request(Collage(**given), library, PictureStore())

    def test_each_image_has_its_prompt_and_places(self, library: Library) -> None:
        request = self.prepared(library, prompt="{a|one} {red|blue} car at sea", variants=True).request
        assert len(request.variants) == 3
        for image, one in enumerate(request.variants):
            alone = request.of_image(image)
            (span,) = one.spans
            assert span is not None and one.prompt[slice(*span)] in ("red car", "blue car")
            assert (alone.prompt, alone.layers[0].span, alone.variants) == (one.prompt, span, ())
        assert request.of_image(0).prompt == request.prompt
        assert len({one.prompt for one in request.variants}) == 3
        assert len({one.spans for one in request.variants}) > 1, "places move with the words before them"
        assert RenderRequest.from_json(request.to_json()) == request

    def test_an_image_says_alone_what_it_says_in_its_batch(self, library: Library) -> None:
        text = {"prompt": "a {small|big} {red|blue} car", "variants": True}
        batch = self.prepared(library, **text).request
        for image in range(3):
            alone = self.prepared(library, **text, seed=5 + image, images=1).request
            assert alone == batch.of_image(image).replace(seed=5 + image, images=1)

    def test_off_leaves_braces_and_request_as_they_are(self, library: Library) -> None:
        off = self.prepared(library, prompt="a {red|blue} car").request
        assert off.prompt == "a {red|blue} car" and off.variants == ()
        assert off.layers[0].span is not None and off.prompt[slice(*off.layers[0].span)] == "{red|blue} car"

    def test_alternatives_in_negative_words_are_said_not_to_be_filled_in(self, library: Library) -> None:
        prompts = {"prompt": "a {red|blue} car", "negative_prompt": "{fog|rain} and {dust}"}
        picture = library.add(Image.new("RGB", (40, 40), "red"))
        layer = Layer(id="a", name="thing", picture=picture, negative="a {wheel|roof}", x=32.0, y=32.0)
        found = self.prepared(library, **prompts, layers=(layer,), variants=True)
        assert [(one.message, one.layer) for one in found.warnings] == [
            (
                "variants do not fill in {fog|rain} in the negative prompt; write the words without braces.",
                None,
            ),
            (
                "variants do not fill in {wheel|roof} in the negative words of layer 'thing'; write the words without "
                "braces.",
                "thing",
            ),
        ]
        assert found.request.negative_prompt == prompts["negative_prompt"]
        assert self.prepared(library, **prompts, layers=(layer,)).warnings == ()
        plain = {**prompts, "negative_prompt": "{dust}"}
        assert self.prepared(library, **plain, layers=(), variants=True).warnings == ()

    def test_nothing_to_choose_from_is_said(self, library: Library) -> None:
        plain = self.prepared(library, prompt="a car", layers=(), variants=True)
        assert plain.request == self.prepared(library, prompt="a car", layers=()).request
        assert ["alternatives" in one.message for one in plain.warnings] == [True]
