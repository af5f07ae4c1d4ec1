"""Compositing: where pixels go, who covers whom, and what stays frozen to the bit."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pipelines.errors import PictureError
from studio.compositing import compose, place, place_background, place_reference, read_mask
from studio.document import Avoid, Background, Canvas, Collage, Layer
from studio.pictures import Library

CANVAS = Canvas(width=128, height=96)
FLAT = np.zeros((96, 128, 3), np.uint8)


def noise(width: int, height: int, seed: int = 0) -> Image.Image:
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def layer(library: Library, picture: Image.Image, **fields: Any) -> Layer:
    given = {"id": "one", "x": 64.0, "y": 48.0, **fields}
    return Layer(picture=library.add(picture), **given)


def as_bytes(plane: np.ndarray) -> np.ndarray:
    return np.rint(plane * 255).astype(np.uint8)


@pytest.mark.parametrize(
    ("fields", "turn"),
    [
        ({}, lambda pixels: pixels),
        ({"flip_x": True}, lambda pixels: pixels[:, ::-1]),
        ({"flip_y": True}, lambda pixels: pixels[::-1]),
        ({"rotation": 90.0}, lambda pixels: np.rot90(pixels, -1)),
        ({"rotation": -90.0}, lambda pixels: np.rot90(pixels)),
        ({"rotation": 180.0}, lambda pixels: pixels[::-1, ::-1]),
        ({"rotation": 450.0}, lambda pixels: np.rot90(pixels, -1)),
        ({"flip_x": True, "rotation": 90.0}, lambda pixels: np.rot90(pixels[:, ::-1], -1)),
    ],
)
def test_whole_pixels_move_unchanged(library: Library, fields: dict[str, Any], turn: Any) -> None:
    picture = noise(60, 40)
    expected = turn(np.asarray(picture))
    height, width = expected.shape[:2]
    plane = place(layer(library, picture, **fields), library, CANVAS)
    top, left = 48 - height // 2, 64 - width // 2
    assert (as_bytes(plane[top : top + height, left : left + width, :3]) == expected).all()
    assert plane[..., 3].sum() == width * height


def test_rotation_is_clockwise_on_the_screen(library: Library) -> None:
    picture = Image.new("RGB", (40, 4), "black")
    picture.paste("white", (36, 0, 40, 4))  # the right end
    plane = place(layer(library, picture, rotation=30.0), library, CANVAS)
    y, x = np.unravel_index(np.argmax(plane[..., 0]), plane.shape[:2])
    assert x > 64
    assert y > 48  # down


@pytest.mark.parametrize(
    ("scale_x", "scale_y", "rotation"), [(0.5, 0.5, 0), (0.13, 0.2, 33), (0.8, 1.3, 17), (1.4, 0.4, 100)]
)
def test_the_covered_area_is_what_geometry_says(
    library: Library, scale_x: float, scale_y: float, rotation: float
) -> None:
    placed = layer(library, noise(60, 40), scale_x=scale_x, scale_y=scale_y, rotation=float(rotation))
    plane = place(placed, library, CANVAS)
    assert plane[..., 3].sum() == pytest.approx(2400 * scale_x * scale_y, rel=0.01)
    assert (plane[..., :3] <= plane[..., 3:] + 1e-6).all()


def test_strong_shrinking_averages_instead_of_skipping(library: Library) -> None:
    stripes = np.zeros((320, 320, 3), np.uint8)
    stripes[:, ::2] = 255
    plane = place(layer(library, Image.fromarray(stripes), scale_x=0.1, scale_y=0.1), library, CANVAS)
    inner = plane[48 - 14 : 48 + 14, 64 - 14 : 64 + 14, 0]
    assert inner.min() > 0.49
    assert inner.max() < 0.51


def test_a_transparent_edge_keeps_its_colour(library: Library) -> None:
    picture = Image.new("RGBA", (40, 40), (0, 0, 255, 0))
    picture.paste((255, 0, 0, 255), (10, 10, 30, 30))
    plane = place(layer(library, picture, scale_x=1.7, scale_y=1.7, rotation=20.0), library, CANVAS)
    assert plane[..., 2].max() == 0  # the blue of the transparent part never shows
    assert plane[..., 0].max() == 1


def test_opacity_mask_and_alpha_multiply(library: Library) -> None:
    half_alpha = Image.new("RGBA", (40, 40), (255, 0, 0, 128))
    mask = Image.new("L", (2, 1), 0)
    mask.putpixel((0, 0), 255)
    placed = layer(library, half_alpha, opacity=0.5, mask=library.add(mask))
    alpha = place(placed, library, CANVAS)[..., 3]
    assert alpha[48, 46] == pytest.approx(128 / 255 / 2, abs=1e-3)  # left: the mask keeps
    assert alpha[48, 82] == 0  # right: it does not


def test_a_mask_is_its_alpha_where_it_has_one_else_its_brightness(library: Library) -> None:
    grey = library.add(Image.new("L", (3, 3), 77))
    clear = Image.new("RGBA", (2, 1), (0, 0, 0, 255))
    clear.putpixel((1, 0), (255, 255, 255, 10))
    assert read_mask(library, grey).getpixel((1, 1)) == 77
    assert np.asarray(read_mask(library, library.add(clear))).tolist() == [[255, 10]]


def test_the_clip_polygon_is_in_picture_pixels(library: Library) -> None:
    left_half = [(0, 0), (30, 0), (30, 40), (0, 40)]
    whole = layer(library, Image.new("RGB", (60, 40), "white"))
    clipped = place(whole.replace(clip=left_half), library, CANVAS)[..., 3]
    assert clipped[28:68, 34:64].min() == 1
    assert clipped[:, 65:].max() == 0
    turned = place(whole.replace(clip=left_half, rotation=90.0), library, CANVAS)[..., 3]
    assert turned[18:48, 44:84].min() == 1  # what was left is up
    assert turned[49:].max() == 0
    flipped = place(whole.replace(clip=left_half, flip_x=True), library, CANVAS)[..., 3]
    assert flipped[28:68, 64:94].min() == 1
    assert flipped[:, :63].max() == 0


def test_places_far_away_and_extreme_sizes_are_harmless(library: Library) -> None:
    picture = Image.new("RGB", (60, 40), "white")
    for far in ({"x": -16384.0}, {"y": 16384.0}, {"x": 64 + 128.0, "y": 300.0}):
        assert place(layer(library, picture, **far), library, CANVAS).max() == 0
    huge = layer(
        library, picture, scale_x=64.0, scale_y=64.0, rotation=45.0, clip=[(0, 0), (60, 0), (60, 40), (0, 40)]
    )
    assert place(huge, library, CANVAS)[..., 3].min() == 1
    tiny = layer(library, picture, scale_x=0.001, scale_y=0.001)
    assert place(tiny, library, CANVAS)[..., 3].sum() < 0.01


def stack(library: Library, **background: Any) -> Collage:
    """Blue at the bottom, half-transparent green over it, red on top, hidden white above all."""
    return Collage(
        canvas=CANVAS,
        background=Background(**background),
        layers=(
            layer(library, Image.new("RGB", (60, 60), "blue"), id="blue", name="sky", x=50.0),
            layer(library, Image.new("RGB", (60, 60), (0, 255, 0)), id="green", x=64.0, opacity=0.5),
            layer(library, Image.new("RGB", (20, 20), "red"), id="red", prompt="a red box", x=64.0),
            layer(library, Image.new("RGB", (128, 96), "white"), id="white", visible=False),
        ),
    )


def test_visible_masks_run_front_to_back(library: Library) -> None:
    composition = compose(stack(library), library)
    blue, green, red = composition.visible
    assert (red[48, 64], green[48, 64], blue[48, 64]) == (1, 0, 0)  # red covers all
    assert (green[24, 64], blue[24, 64]) == (0.5, 0.5)  # green lets half through
    assert (green[24, 25], blue[24, 25]) == (0, 1)
    total = sum(composition.visible) + composition.background_visible
    assert np.abs(total - 1).max() < 1e-6
    assert composition.background_visible[0, 0] == 1


def test_the_flat_collage_is_what_the_masks_say(library: Library) -> None:
    composition = compose(stack(library, colour="#ff8000"), library)
    assert composition.flat.dtype == np.uint8
    assert composition.flat[48, 64].tolist() == [255, 0, 0]
    assert composition.flat[24, 64].tolist() == [0, 128, 128]
    assert composition.flat[0, 0].tolist() == [255, 128, 0]


def test_a_hidden_layer_is_never_rendered(library: Library) -> None:
    collage = stack(library)
    composition = compose(collage, library)
    assert composition.indices == (0, 1, 2)
    assert composition.names == ("sky", "green", "a red box")
    without = compose(collage.replace(layers=collage.layers[:3]), library)
    assert (without.flat == composition.flat).all()
    shown = compose(collage.replace_layer("white", visible=True), library)
    assert (shown.flat == 255).all()
    assert shown.visible[2].max() == 0
    assert shown.placed[2] == 400  # covered, but on the canvas


def test_a_hidden_layer_needs_no_picture(library: Library) -> None:
    gone = Layer(id="gone", picture="f" * 64, x=0.0, y=0.0, visible=False)
    collage = Collage(layers=(gone,))
    assert compose(collage, library).visible == ()
    with pytest.raises(PictureError, match="picture ffffffffffff is missing"):
        compose(collage.replace_layer("gone", visible=True), library)


def test_trap_2_strengths_differ_where_layers_are_seen(library: Library) -> None:
    """The masks handed on are 0 to 1, not 0 to 1/255: two layers of strength .2 and .9 paste .7 apart."""
    collage = Collage(
        canvas=CANVAS,
        layers=(
            layer(library, Image.new("RGB", (64, 96), "blue"), id="left", x=32.0, harmonize=0.2),
            layer(library, Image.new("RGB", (64, 96), "red"), id="right", x=96.0, harmonize=0.9),
        ),
    )
    composition = compose(collage, library)
    strengths = [float(collage.layers[index].harmonize or 0) for index in composition.indices]
    pasted = sum(strength * mask for strength, mask in zip(strengths, composition.visible, strict=True))
    assert pasted[:, 96].max() - pasted[:, 32].min() == pytest.approx(0.7)


def test_frozen_is_empty_when_nothing_is_frozen(library: Library) -> None:
    assert compose(stack(library, harmonize=0.1), library).frozen[..., 3].max() == 0


def test_frozen_pixels_equal_the_flat_collage_where_wholly_visible(library: Library) -> None:
    picture = noise(60, 60)
    collage = stack(library).replace_layer("blue", picture=library.add(picture), harmonize=0)
    composition = compose(collage, library)
    sure = composition.visible[0] == 1
    assert sure.sum() > 500
    assert (composition.frozen[sure][:, :3] == composition.flat[sure]).all()
    assert (composition.frozen[sure][:, 3] == 255).all()
    assert composition.frozen[24, 64, 3] == 128  # half under green
    assert np.abs(composition.frozen[24, 64, :3].astype(int) - np.asarray(picture)[6, 44]).max() <= 1
    assert composition.frozen[48, 64, 3] == 0  # under red
    assert composition.frozen[0, 0, 3] == 0  # background


def test_everything_frozen_is_the_flat_collage(library: Library) -> None:
    collage = stack(library, harmonize=0, picture=library.add(noise(30, 70)))
    for name in ("blue", "green", "red"):
        collage = collage.replace_layer(name, harmonize=0, rotation=12.0, scale_x=1.3)
    composition = compose(collage, library)
    assert (composition.frozen[..., 3] == 255).all()
    assert (composition.frozen[..., :3] == composition.flat).all()


def test_frozen_blends_what_is_frozen_only(library: Library) -> None:
    collage = stack(library, harmonize=0, colour="#ff8000").replace_layer("green", harmonize=0)
    frozen = compose(collage, library).frozen
    assert frozen[24, 90].tolist() == [128, 192, 0, 255]  # green and background, half each
    assert frozen[24, 64].tolist() == [0, 255, 0, 128]  # over blue, which may change, green alone


def test_laying_frozen_over_the_flat_collage_changes_nothing(library: Library) -> None:
    collage = (
        stack(library).replace_layer("green", harmonize=0, rotation=31.0).replace_layer("blue", opacity=0.7)
    )
    composition = compose(collage, library)
    masks = composition.visible
    others = composition.flat / 255 - masks[1][..., None] * np.array([0, 1, 0])
    alpha = composition.frozen[..., 3:] / 255
    again = others + alpha * composition.frozen[..., :3] / 255
    assert np.abs(again * 255 - composition.flat).max() < 1.6


def test_the_background_picture_covers_the_canvas_centred(library: Library) -> None:
    picture = noise(128, 192)
    plane = place_background(Background(picture=library.add(picture)), library, CANVAS)
    assert (as_bytes(plane) == np.asarray(picture)[48:144]).all()
    for size in ((1, 500), (500, 1), (1, 1)):
        covered = place_background(
            Background(picture=library.add(Image.new("RGB", size, "red"))), library, CANVAS
        )
        assert (as_bytes(covered) == (255, 0, 0)).all()


def test_the_background_colour_shows_through_its_picture(library: Library) -> None:
    half = library.add(Image.new("RGBA", (128, 96), (255, 0, 0, 51)))
    plane = place_background(Background(colour="#0000FF", picture=half), library, CANVAS)
    assert as_bytes(plane[0, 0]).tolist() == [51, 0, 204]


def test_a_reference_is_fitted_whole_and_its_rim_does_not_count(library: Library) -> None:
    picture = noise(96, 96)
    pixels, mask = place_reference(Avoid(id="far", picture=library.add(picture)), library, CANVAS, FLAT)
    assert pixels.shape == (96, 128, 3)
    assert (pixels[:, 16:112] == np.asarray(picture)).all()
    assert mask is not None
    assert (mask[:, 16:112] == 255).all()
    assert mask[:, :16].max() == mask[:, 112:].max() == 0
    assert np.abs(pixels[:, 0] - np.asarray(picture).mean((0, 1))).max() <= 1


@pytest.mark.parametrize("size", [(1500, 2), (2, 1500)])
def test_a_reference_that_is_a_thread_keeps_a_pixel_across(library: Library, size: tuple[int, int]) -> None:
    avoid = Avoid(id="far", picture=library.add(Image.new("RGB", size, "red")))
    pixels, mask = place_reference(avoid, library, CANVAS, FLAT)
    assert (pixels == (255, 0, 0)).all()
    assert mask is not None
    assert ((mask == 255).any(0).sum(), (mask == 255).any(1).sum()) == ((128, 1) if size[1] == 2 else (1, 96))


def test_a_reference_that_fills_the_canvas_counts_wholly(library: Library) -> None:
    picture = noise(128, 96)
    pixels, mask = place_reference(Avoid(id="far", picture=library.add(picture)), library, CANVAS, FLAT)
    assert (pixels == np.asarray(picture)).all()
    assert mask is None


def test_a_reference_mask_says_what_counts(library: Library) -> None:
    mask = Image.new("L", (128, 96), 0)
    mask.paste(255, (0, 0, 64, 96))
    avoid = Avoid(id="far", picture=library.add(noise(128, 96)), mask=library.add(mask))
    _, found = place_reference(avoid, library, CANVAS, FLAT)
    assert found is not None
    assert (found[:, :64] == 255).all()
    assert found[:, 64:].max() == 0


def test_forty_layers_on_a_large_canvas(library: Library) -> None:
    picture = noise(20, 20)
    layers = [
        layer(library, picture, id=f"n{n}", x=13.0 * n, y=10.0 * n, rotation=9.0 * n) for n in range(40)
    ]
    composition = compose(Collage(canvas=Canvas(width=512, height=512), layers=layers), library)
    assert len(composition.visible) == 40
    total = sum(composition.visible) + composition.background_visible
    assert math.isclose(float(total.min()), 1, abs_tol=1e-5)
