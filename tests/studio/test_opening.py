"""What a prompt leaves open: filled in as alternatives, and what is said stays."""

from __future__ import annotations

import pytest
from PIL import Image

from pipelines.pictures import PictureStore
from studio.document import Canvas, Collage, Layer
from studio.opening import opened, opened_collage
from studio.pictures import Library
from studio.to_request import to_request
from studio.variants import variant


def prompts(prompt: str, numbers: range) -> list[str]:
    return [variant([prompt], number)[0] for number in numbers]


COLOURS = ("red", "blue", "green", "yellow", "purple", "orange", "pink")


class TestOpened:
    def test_open_attributes_are_filled_in(self) -> None:
        text = opened("a car and an astronaut on the beach, near a cat")
        assert text == (
            "{a red|a blue|a green|a yellow|a purple|an orange|a pink} {car|automobile} and "
            "a {light|medium light|medium|medium dark|dark} skinned {woman|man} astronaut on the beach, "
            "near a {cat|kitten}"
        )
        said = prompts(text, range(7 * 2 * 5 * 2 * 2))
        assert len(set(said)) == len(said)
        assert all("{" not in one for one in said)
        for colour in COLOURS:
            assert (
                sum(f"{colour} car " in one or f"{colour} automobile " in one for one in said)
                == len(said) // 7
            )
        assert all("an orange" in one or "orange" not in one for one in said)

    @pytest.mark.parametrize(
        ("prompt", "filled"),
        [
            ("a woman cook", "a {light|medium light|medium|medium dark|dark} skinned woman cook"),
            ("a dark skinned cook", "a dark skinned {woman|man} cook"),
            ("the artist with dark skin", "the {woman|man} artist with dark skin"),
            (
                "An Artist",
                "A {light|medium light|medium|medium dark|dark} skinned {woman|man} {Artist|painter}",
            ),
            ("an airplane", "{an airplane|a plane}"),
            ("a big bus", "a big {red|blue|green|yellow|purple|orange|pink} bus"),
            ("a black cat", "a black {cat|kitten}"),
            ("bus", "{red|blue|green|yellow|purple|orange|pink} bus"),
        ],
    )
    def test_only_what_is_open_is_filled_in(self, prompt: str, filled: str) -> None:
        assert opened(prompt) == filled

    @pytest.mark.parametrize(
        "prompt",
        [
            "a red car on the beach",
            "A white house, a big old blue bus and a dark-green tent",
            "a chair painted blue, the umbrella that is red, a shirt in pink",
            "a dark skinned woman cook and a male pilot with light skin",
            "a {red|blue} car and {a bus|a house}",
            "two cars under a carport; the bird's nest, a bird house",
            "an empty street at night",
            "",
        ],
    )
    def test_what_is_said_stays(self, prompt: str) -> None:
        assert opened(prompt) == prompt

    def test_two_alike_are_filled_in_apart(self) -> None:
        text = opened("a bus and a bus")
        assert {one.split()[1] == one.split()[5] for one in prompts(text, range(49))} == {True, False}

    def test_filling_in_twice_changes_nothing_more(self) -> None:
        once = opened("a car, a cook and a cat by a house")
        assert opened(once) == once

    def test_layers_say_what_the_prompt_says(self, library: Library) -> None:
        picture = library.add(Image.new("RGB", (40, 40), "red"))
        words = {"one": "car", "two": "an umbrella", "far": "house", "hidden": "bus"}
        layers = [
            Layer(id=name, prompt=text, picture=picture, x=8.0 + 16 * at, y=32.0, scale_x=0.2, scale_y=0.2)
            for at, (name, text) in enumerate(words.items())
        ]
        layers[3] = layers[3].replace(visible=False)
        canvas = Canvas(width=64, height=64)
        plain = Collage(
            canvas=canvas, seed=3, images=8, prompt="a car under an umbrella", layers=tuple(layers)
        )
        collage = opened_collage(plain)
        assert collage.variants and collage.layer("hidden") == plain.layer("hidden")
        assert collage.layer("one").prompt in collage.prompt and collage.layer("two").prompt in collage.prompt
        assert collage.layer("far").prompt.endswith("} house") and "house" not in collage.prompt
        for told in to_request(collage, library, PictureStore()).request.variants:
            car, umbrella, house = (told.prompt[slice(*span)] for span in told.spans if span)
            assert told.prompt == f"{car} under {umbrella}, {house}"
            assert umbrella.split()[1] in COLOURS and house.split()[0] in COLOURS
        assert opened_collage(collage) is collage
        said = plain.replace(prompt="a red sky", layers=())
        assert opened_collage(said) is said
