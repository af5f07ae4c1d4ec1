"""What is asked of the engine for one layer alone, and what is refused."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pipelines.errors import FieldError, PictureError
from pipelines.pictures import PictureStore
from studio.document import Avoid, Background, Canvas
from studio.edit_layer import edit_layer, feathered
from studio.pictures import Library
from studio.to_request import to_request
from tests.studio.edit_layer.conftest import SIDE, UNDER, collage_of, disc


def test_what_moves_outside_is_measured_and_not_assumed(library: Library) -> None:
    edit = edit_layer(collage_of(disc(library, "car")), library, PictureStore(), UNDER, "car")
    wrong = UNDER.copy()
    wrong[0, 0, 1] = (int(UNDER[0, 0, 1]) + 9) % 256
    assert edit.outside(wrong) == abs(int(wrong[0, 0, 1]) - int(UNDER[0, 0, 1])) > 0
    assert edit.outside(UNDER) == 0


def test_the_mask_is_the_layer_and_a_rim_that_falls() -> None:
    square = np.zeros((64, 64), np.uint8)
    square[20:44, 20:44] = 255
    mask = feathered(square, 3.0, np.ones((64, 64), np.float32))
    assert (mask[20:44, 20:44] == 255).all()
    row = mask[32, 44:60].astype(int)
    assert 0 < row[1] < 255 and (np.diff(row) <= 0).all() and row[10] == 0
    assert np.array_equal(feathered(square, 0.0, np.ones((64, 64), np.float32)), square)
    assert np.array_equal(feathered(square, 3.0, np.zeros((64, 64), np.float32)), square)


def test_the_cutout_lies_on_the_picture_and_the_rest_is_held(library: Library) -> None:
    store = PictureStore()
    collage = collage_of(
        disc(library, "cat", x=200.0), disc(library, "car"), background=Background(harmonize=0.9)
    )
    edit = edit_layer(collage, library, store, UNDER, "car")
    request = edit.request
    left, top, right, bottom = edit.crop.box
    assert request.collage is not None and request.frozen is not None
    assert (request.width, request.height) == (right - left, bottom - top) == (128, 128)
    flat = store.get(request.collage)
    assert flat[120 - top, 100 - left].tolist() == [220, 40, 40]
    away = edit.mask[top:bottom, left:right] == 0
    assert np.array_equal(flat[away], UNDER[top:bottom, left:right][away])
    frozen = store.get(request.frozen)
    assert np.array_equal(frozen[..., 3] == 255, away) and set(np.unique(frozen[..., 3])) == {0, 255}
    assert request.background_harmonize == 0
    assert [(one.name, one.harmonize) for one in request.layers] == [("cat", 0.0), ("car", 0.5)]
    whole = to_request(collage, library, PictureStore()).request
    assert request.prompt == whole.prompt
    assert [one.span for one in request.layers] == [one.span for one in whole.layers]
    assert [one.attend_outside for one in request.layers] == [0.4, 0.4]
    assert store.get(request.layers[1].mask).shape == (128, 128)


def test_lengths_grow_with_the_crop(library: Library) -> None:
    collage = collage_of(disc(library, "car", scale_x=0.2, scale_y=0.2, feather=3.0), grow=-8.0)
    edit = edit_layer(collage, library, PictureStore(), UNDER, "car")
    assert edit.crop.scale == 2
    assert (edit.request.layers[0].feather, edit.request.grow) == (6.0, -16.0)


def test_a_small_part_of_a_large_canvas_is_not_too_large(library: Library) -> None:
    large = Canvas(width=512, height=512)
    under = np.zeros((512, 512, 3), np.uint8)

    def said(scale: float) -> list[str]:
        collage = collage_of(disc(library, "car", scale_x=scale, scale_y=scale)).replace(canvas=large)
        assert "512 x 512 is large" in to_request(collage, library, PictureStore()).warnings[0].message
        return [one.message for one in edit_layer(collage, library, PictureStore(), under, "car").warnings]

    assert said(1.0) == []
    (whole,) = said(12.0)
    assert whole.startswith("the part that is run of 512 x 512 is large for 'embedded'")


def test_a_layer_that_covers_most_is_run_on_the_whole_canvas(library: Library) -> None:
    edit = edit_layer(
        collage_of(disc(library, "car", scale_x=2.5, scale_y=2.5)), library, PictureStore(), UNDER, "car"
    )
    assert edit.crop.box == (0, 0, SIDE, SIDE)
    assert (edit.request.width, edit.request.height) == (SIDE, SIDE)


def test_references_of_other_layers_play_no_part(library: Library) -> None:
    picture = library.add(Image.fromarray(UNDER))
    avoids = [
        Avoid(id=name, picture=picture, layer=layer)
        for name, layer in (("mine", "car"), ("all", None), ("theirs", "cat"))
    ]
    collage = collage_of(disc(library, "cat", x=200.0), disc(library, "car"), avoids=avoids)
    store = PictureStore()
    request = edit_layer(collage, library, store, UNDER, "car").request
    assert [(one.name, one.layer) for one in request.avoids] == [("mine", 1), ("all", None)]
    assert store.get(request.avoids[0].picture).shape == (request.height, request.width, 3)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"visible": False}, "layer 'car' is hidden; show it"),
        ({"locked": True}, "layer 'car' is locked; unlock it"),
        ({"x": -900.0}, "layer 'car' shows nothing"),
        (
            {"scale_x": 0.5, "scale_y": 0.5},
            "layer 'car' shows nothing, so there is nothing to render; move it or",
        ),
    ],
)
def test_a_layer_that_cannot_be_rendered_is_named(
    library: Library, fields: dict[str, Any], message: str
) -> None:
    collage = collage_of(disc(library, "car", **fields), disc(library, "cat", side=90))
    with pytest.raises(FieldError, match=message):
        edit_layer(collage, library, PictureStore(), UNDER, "car")


def test_an_unknown_layer_is_named(library: Library) -> None:
    with pytest.raises(FieldError, match="no layer with the id 'bus'"):
        edit_layer(collage_of(disc(library, "car")), library, PictureStore(), UNDER, "bus")


@pytest.mark.parametrize("shape", [(SIDE, 128, 3), (SIDE, SIDE), (SIDE, SIDE, 4)])
def test_a_picture_of_another_size_is_refused(library: Library, shape: tuple[int, ...]) -> None:
    with pytest.raises(
        PictureError, match=r"the picture underneath is .* and the canvas 256 × 256; give a"
    ) as error:
        edit_layer(
            collage_of(disc(library, "car")), library, PictureStore(), np.zeros(shape, np.uint8), "car"
        )
    assert "\n" not in str(error.value)


def test_warnings_are_those_of_the_layer(library: Library) -> None:
    dot = disc(library, "dot", x=30.0, y=30.0, scale_x=0.05, scale_y=0.05)
    collage = collage_of(dot, disc(library, "car"))
    assert edit_layer(collage, library, PictureStore(), UNDER, "car").warnings == ()
    (warning,) = edit_layer(collage, library, PictureStore(), UNDER, "dot").warnings
    assert warning.layer == "dot"


def test_pasting_is_exact_at_equal_size_and_keeps_the_rest_at_another(library: Library) -> None:
    edit = edit_layer(collage_of(disc(library, "car")), library, PictureStore(), UNDER, "car")
    part = np.full((edit.crop.height, edit.crop.width, 3), 7, np.uint8)
    whole = edit.paste(part)
    assert (whole[edit.mask == 255] == 7).all() and edit.outside(whole) == 0
    larger = dataclasses.replace(edit, crop=dataclasses.replace(edit.crop, width=256, height=256))
    assert np.array_equal(larger.paste(np.full((256, 256, 3), 7, np.uint8)), whole)


def test_the_edited_layer_alone_has_its_picture_as_prompt(library: Library) -> None:
    car, cat = disc(library, "car", image_prompt=0.6), disc(library, "cat", x=180.0, image_prompt=0.6)
    store = PictureStore()
    edit = edit_layer(collage_of(cat, car), library, store, UNDER, "car")
    held, asked = (layer.image_prompt for layer in edit.request.layers)
    assert held is None and asked is not None and asked.strength == 0.6
    assert store.get(asked.cutout).shape[2] == 4


def test_the_edited_layer_alone_keeps_its_shape(library: Library) -> None:
    """Or a ControlNet would be fetched, and run in each step, for what is held anyway."""
    car, cat = disc(library, "car", keep_shape=0.4), disc(library, "cat", x=180.0, keep_shape=0.6)
    edit = edit_layer(collage_of(cat, car), library, PictureStore(), UNDER, "car")
    assert [layer.keep_shape for layer in edit.request.layers] == [0.0, 0.4]
