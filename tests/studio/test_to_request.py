"""Collage to request: all defaults filled in, layers that cannot show left out, words given their places."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from PIL import Image

from pipelines.errors import FieldError, ModelError, PhraseError, PictureError
from pipelines.models import card
from pipelines.pictures import PictureStore
from pipelines.request import RenderRequest
from studio.defaults import DEFAULTS
from studio.document import Avoid, Background, Canvas, Collage, Layer
from studio.pictures import Library
from studio.to_request import Prepared, to_request

CANVAS = Canvas(width=128, height=96)
CARD = card("embedded")


def box(library: Library, colour: str = "red", side: int = 40, **fields: Any) -> Layer:
    picture = library.add(Image.new("RGB", (side, side), colour))
    return Layer(**{"id": colour, "name": colour, "picture": picture, "x": 64.0, "y": 48.0, **fields})


def prepare(library: Library, *layers: Layer, **fields: Any) -> tuple[Prepared, PictureStore]:
    store = PictureStore()
    collage = Collage(**{"canvas": CANVAS, "seed": 5, **fields, "layers": layers})
    return to_request(collage, library, store), store


def test_all_defaults_are_filled_in(library: Library) -> None:
    prepared, _ = prepare(library, box(library))
    request = prepared.request
    assert (request.steps, request.guidance, request.scheduler) == (CARD.steps, CARD.guidance, CARD.scheduler)
    assert request.background_harmonize == DEFAULTS["background_harmonize"] == 0.8
    assert (request.spread, request.spread_threshold, request.window) == (0, 0.5, 0.3), "the card's"
    few, _ = prepare(library, model="sdxl-turbo")
    assert (few.request.steps, few.request.guidance, few.request.window) == (4, 0, 0.5)
    chosen, _ = prepare(library, model="sdxl-turbo", window=0.25)
    assert chosen.request.window == 0.25
    assert (request.cads, request.cads_low, request.cads_high, request.cads_mix) == (0, 0.6, 0.9, 1)
    assert request.guidance_interval is None
    layer = request.layers[0]
    assert (layer.harmonize, layer.attend_inside, layer.attend_outside) == (0.5, 0.2, 0.4), "the card's own"
    other = prepare(library, box(library), model="sd15")[0].request.layers[0]
    assert (other.attend_inside, other.attend_outside) == (0.6, 0.6)
    assert (layer.keep_shape, layer.vary, layer.look, layer.feather) == (0, 0, None, 3), "a canvas of 128"
    assert layer.image_prompt is None
    assert prepared.warnings == ()


def test_what_is_set_is_passed_through(library: Library) -> None:
    words = {
        "harmonize": 0.0,
        "attend_inside": 0.1,
        "attend_outside": 0.0,
        "keep_shape": 0.3,
        "vary": 2.0,
        "feather": 0.0,
        "negative": "rust",
    }
    prepared, _ = prepare(
        library,
        box(library, **words),
        background=Background(harmonize=0.0),
        prompt="a beach",
        negative_prompt="rain",
        steps=3,
        guidance=0.0,
        scheduler="euler",
        images=4,
        spread=1.5,
        spread_threshold=0.0,
        window=0.0,
        cads=0.25,
        cads_low=0.0,
        cads_high=0.5,
        cads_mix=0.0,
        guidance_interval=(0.0, 5.42),
        spread_match="first",
        spread_parts=("up", "mid"),
        spread_every=1,
        axis="released",
        avoid_by="push",
        spread_by="push",
        attend_both_ways=True,
        harmonize_by="timestep",
        grow=-12.5,
        edges="soft",
    )
    request = prepared.request
    assert {word: getattr(request.layers[0], word) for word in words} == words
    assert (request.background_harmonize, request.steps, request.guidance, request.scheduler) == (
        0,
        3,
        0,
        "euler",
    )
    assert (request.images, request.spread, request.spread_threshold) == (4, 1.5, 0)
    assert (request.window, request.axis) == (0, "released")
    assert (request.avoid_by, request.spread_by) == ("push", "push")
    assert (request.cads, request.cads_low, request.cads_high, request.cads_mix) == (0.25, 0, 0.5, 0)
    assert request.guidance_interval == (0, 5.42)
    assert (request.spread_match, request.spread_parts) == ("first", ("up", "mid"))
    assert prepare(library, spread_every=3)[0].request.spread_every == 3
    assert prepare(library, exact_match=True)[0].request.exact_match and not request.exact_match
    assert request.negative_prompt == "rain" and request.attend_both_ways
    assert (request.harmonize_by, request.grow, request.edges) == ("timestep", -12.5, "soft")
    assert (request.width, request.height, request.model) == (128, 96, "embedded")


def test_a_look_is_learned_from_the_cutout_alone(library: Library) -> None:
    off, _ = prepare(library, box(library))
    assert off.request.layers[0].look is None
    on, store = prepare(library, box(library, look=True))
    look = on.request.layers[0].look
    assert look is not None and (look.vectors, look.steps) == (0, CARD.look_steps)
    picture = store.get(look.cutout)
    assert picture.shape[2] == 4 and (picture == (255, 0, 0, 255)).all()
    moved, _ = prepare(library, box(library, look=True, x=20.0, look_vectors=2, look_steps=9))
    other = moved.request.layers[0].look
    assert other is not None and other.cutout == look.cutout
    assert (other.vectors, other.steps) == (2, 9)
    assert on.request.replace(layers=off.request.layers) == off.request


def test_the_cutout_alone_is_the_prompt(library: Library) -> None:
    """Where it lies does not matter, so that it is encoded once; strength 0 is no prompt at all."""
    off, _ = prepare(library, box(library))
    none, _ = prepare(library, box(library, image_prompt=0.0))
    assert off.request == none.request
    on, store = prepare(library, box(library, image_prompt=0.6))
    asked = on.request.layers[0].image_prompt
    assert asked is not None and asked.strength == 0.6
    picture = store.get(asked.cutout)
    assert picture.shape[2] == 4 and (picture == (255, 0, 0, 255)).all()
    moved = prepare(library, box(library, image_prompt=0.6, x=20.0, rotation=30.0))[0].request.layers[0]
    assert moved.image_prompt == asked
    assert on.request.key != off.request.key and on.request.replace(layers=off.request.layers) == off.request


def test_negative_words_and_watching(library: Library) -> None:
    """Negative words stay out of both prompts; to watch is no part of what decides the picture."""
    request = prepare(library, box(library, negative=" two  words "), negative_prompt="rain")[0].request
    assert request.layers[0].negative == "two words"
    assert "two" not in request.prompt + request.negative_prompt
    plain, watched = (prepare(library, box(library), watch=on)[0].request for on in (False, True))
    assert plain.key == watched.key


def test_the_pictures_are_in_the_store(library: Library) -> None:
    prepared, store = prepare(library, box(library), background=Background(colour="#000000"))
    request = prepared.request
    assert request.collage is not None
    flat = store.get(request.collage)
    assert flat.shape == (96, 128, 3)
    assert (flat[48, 64].tolist(), flat[0, 0].tolist()) == ([255, 0, 0], [0, 0, 0])
    mask = store.get(request.layers[0].mask)
    assert (mask.shape, mask.dtype) == ((96, 128), np.uint8)
    assert (mask[28:68, 44:84] == 255).all()
    assert mask.sum() == 255 * 1600
    assert request.frozen is None


def test_frozen_pixels_are_named_only_when_there_are_some(library: Library) -> None:
    prepared, store = prepare(library, box(library, harmonize=0.0))
    assert prepared.request.frozen is not None
    assert store.get(prepared.request.frozen)[48, 64].tolist() == [255, 0, 0, 255]


def test_the_same_collage_makes_the_same_request(library: Library) -> None:
    first, _ = prepare(library, box(library))
    second, _ = prepare(library, box(library))
    assert first.request == second.request
    assert first.request.key == second.request.key
    assert RenderRequest.from_json(first.request.to_json()) == first.request
    other, _ = prepare(library, box(library, x=65.0))
    assert other.request.key != first.request.key


def test_seeds(library: Library) -> None:
    assert prepare(library, seed=0)[0].request.seed == 0
    collage = Collage(canvas=CANVAS)
    drawn = {to_request(collage, library, PictureStore()).request.seed for _ in range(8)}
    assert len(drawn) > 1
    assert all(0 <= seed < 2**32 for seed in drawn)
    assert to_request(collage.replace(seed=3), library, PictureStore(), seed=0).request.seed == 0
    with pytest.raises(FieldError, match="seed is -1"):
        to_request(collage, library, PictureStore(), seed=-1)


def test_words_get_their_places_in_the_full_prompt(library: Library) -> None:
    prepared, _ = prepare(
        library,
        box(library, "red", prompt="Table", x=20.0),
        box(library, "blue", prompt="coffee table", x=60.0),
        box(library, "lime", prompt="mug", x=100.0),
        box(library, "gray", prompt="", x=100.0, y=20.0),
        prompt="a coffee table and a table",
    )
    assert prepared.prompt == prepared.request.prompt == "a coffee table and a table, mug"
    spans = [layer.span for layer in prepared.request.layers]
    assert spans == [(21, 26), (2, 14), (28, 31), None]


def test_hidden_layers_add_no_words(library: Library) -> None:
    prepared, _ = prepare(library, box(library, prompt="mug", visible=False), prompt="a room")
    assert prepared.prompt == "a room"
    assert prepared.warnings == ()


def test_too_many_words_are_refused(library: Library) -> None:
    picture = library.add(Image.new("RGB", (8, 8)))
    layers = [
        Layer(
            id=f"n{n}",
            picture=picture,
            prompt=f"{n} " + "x" * 290,
            x=4 + 12.0 * (n % 8),
            y=4 + 12.0 * (n // 8),
        )
        for n in range(40)
    ]
    with pytest.raises(PhraseError, match="characters long; shorten it to 8000"):
        prepare(library, *layers)


def test_a_one_pixel_layer_warns_by_name(library: Library) -> None:
    prepared, _ = prepare(library, box(library, side=1, name="dot"))
    (warning,) = prepared.warnings
    assert warning.layer == "dot"
    assert (
        "layer 'dot' shows only 1 pixels, less than one of the model's cells (8 x 8 pixels)"
        in warning.message
    )
    assert len(prepared.request.layers) == 1
    assert prepare(library, box(library, side=8))[0].warnings == ()


def test_layers_that_cannot_show_are_left_out_with_a_warning(library: Library) -> None:
    prepared, _ = prepare(
        library,
        box(library, "blue", prompt="whale"),
        box(library, "lime", x=-500.0, prompt="kite"),
        box(library, "gray", opacity=0.0, prompt="ghost"),
        box(library, "red", side=60, prompt="barn"),
    )
    assert [layer.name for layer in prepared.request.layers] == ["red"]
    assert prepared.layers == (3,)
    assert prepared.prompt == "barn"
    assert [(warning.layer, warning.message) for warning in prepared.warnings] == [
        ("blue", "layer 'blue' is covered by the layers above it and is left out; move or hide it."),
        ("lime", "layer 'lime' shows nothing on the canvas and is left out; move or hide it."),
        ("gray", "layer 'gray' shows nothing on the canvas and is left out; move or hide it."),
    ]


def test_without_layers_it_is_plain_text_to_image(library: Library) -> None:
    for layers in ((), (box(library, visible=False),), (box(library, x=-900.0, harmonize=0.0),)):
        prepared, _ = prepare(library, *layers, prompt="a cat", background=Background(harmonize=0.0))
        request = prepared.request
        assert (request.collage, request.frozen, request.layers) == (None, None, ())
        assert request.prompt == "a cat"
        assert prepared.warnings[-1].message.startswith("background harmonize 0 holds nothing")
    for background in (Background(), Background(harmonize=1.0)):
        assert prepare(library, prompt="a cat", background=background)[0].warnings == ()


def test_a_background_picture_alone_is_a_collage(library: Library) -> None:
    picture = library.add(Image.new("RGB", (10, 10), "red"))
    prepared, store = prepare(library, background=Background(picture=picture, harmonize=0.3))
    assert prepared.request.collage is not None
    assert (store.get(prepared.request.collage) == (255, 0, 0)).all()
    assert prepared.request.background_harmonize == 0.3


def test_an_empty_prompt_is_allowed(library: Library) -> None:
    assert prepare(library)[0].request.prompt == ""
    assert prepare(library, box(library))[0].request.prompt == ""


def test_forty_layers(library: Library) -> None:
    layers = [
        box(library, side=12, id=f"n{n}", name=f"n{n}", x=8 + 13.0 * (n % 9), y=8 + 14.0 * (n // 9))
        for n in range(40)
    ]
    prepared, _ = prepare(library, *layers)
    assert len(prepared.request.layers) == 40
    assert prepared.warnings == ()


def test_references(library: Library) -> None:
    far = library.add(Image.new("RGB", (128, 96), "blue"))
    prepared, store = prepare(
        library,
        box(library, "lime", x=20.0, visible=False),
        box(library, "red"),
        avoids=(
            Avoid(id="a", name="sea", picture=far),
            Avoid(id="b", picture=far, alpha=2.0, threshold=0.8, layer="red"),
            Avoid(id="c", picture=far, visible=False),
            Avoid(id="d", picture=far, alpha=0.0),
        ),
    )
    whole, inside = prepared.request.avoids
    assert (whole.name, whole.alpha, whole.threshold, whole.layer, whole.mask) == (
        "sea",
        1.5,
        0.5,
        None,
        None,
    )
    assert (store.get(whole.picture) == (0, 0, 255)).all()
    assert (inside.alpha, inside.threshold, inside.layer) == (2, 0.8, 0)  # the only layer that is rendered
    assert prepared.warnings == ()


def test_references_that_cannot_act_are_left_out_with_a_warning(library: Library) -> None:
    far = library.add(Image.new("RGB", (128, 96), "blue"))
    black = library.add(Image.new("L", (128, 96), 0))
    prepared, _ = prepare(
        library,
        box(library, visible=False),
        avoids=(Avoid(id="a", picture=far, layer="red"), Avoid(id="b", picture=far, mask=black)),
    )
    assert prepared.request.avoids == ()
    first, second = prepared.warnings
    assert (first.layer, first.message) == (
        "red",
        "avoid 'a' is left out because its layer 'red' is not rendered; show it.",
    )
    assert second.message == "avoid 'b' is left out because its mask leaves nothing; change it."


def test_what_is_missing_is_named(library: Library) -> None:
    with pytest.raises(ModelError, match="nonsense"):
        prepare(library, model="nonsense")
    with pytest.raises(PictureError, match="missing"):
        prepare(library, Layer(id="one", picture="e" * 64, x=0.0, y=0.0))
