"""A collage of another size shows the same picture, larger or smaller."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from pipelines.errors import FieldError
from pipelines.models import CARDS
from pipelines.pictures import PictureStore
from studio.compositing import compose
from studio.document import Canvas, Collage, Layer
from studio.pictures import Library
from studio.resizing import canvas_of, resized
from studio.to_request import to_request
from tests.studio.conftest import noise


def collage_of(library: Library, **fields: object) -> Collage:
    picture = library.add(noise(32, 24).resize((64, 48), Image.Resampling.BICUBIC))
    layer = Layer(id="a", name="a", picture=picture, x=50.0, y=30.0, scale_x=0.8, scale_y=0.6, rotation=20.0)
    return Collage(canvas=Canvas(width=128, height=64), layers=(layer,)).replace(**fields)


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("1024", (1024, 512)),
        ("512x768", (512, 768)),
        (" 96X96 ", (96, 96)),
        ("64", (64, 64)),
        ("200", (200, 96)),
    ],
)
def test_a_size_is_the_longer_side_or_both(text: str, size: tuple[int, int]) -> None:
    found = canvas_of(text, Canvas(width=128, height=64))
    assert (found.width, found.height) == size


def test_of_a_tall_canvas_the_height_is_the_longer_side() -> None:
    assert canvas_of("512", Canvas(width=64, height=128)) == Canvas(width=256, height=512)


@pytest.mark.parametrize("text", ["", "big", "12x", "1024x768x3", "-64", "100", "1e3", "64x100", "4096", "0"])
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(FieldError):
        canvas_of(text, Canvas())


@pytest.mark.parametrize("factor", [2, 4])
def test_it_shows_the_same_picture(library: Library, factor: int) -> None:
    collage = collage_of(library)
    larger = resized(collage, Canvas(width=128 * factor, height=64 * factor))
    flat, big = compose(collage, library).flat, compose(larger, library).flat
    small = np.asarray(Image.fromarray(big).resize((128, 64), Image.Resampling.BOX), float)
    # edges are softened once more on the way down
    assert np.abs(small - flat).mean() < 4 < np.abs(flat.astype(float) - flat[::-1]).mean()


def test_in_other_proportions_it_stays_whole_and_centred(library: Library) -> None:
    collage = collage_of(library)
    tall = resized(collage, Canvas(width=256, height=512))
    (before,), (after,) = collage.layers, tall.layers
    assert (after.scale_x, after.scale_y) == (2 * before.scale_x, 2 * before.scale_y)
    assert (after.x - 128, after.y - 256) == (2 * (before.x - 64), 2 * (before.y - 32))


def test_lengths_grow_up_to_what_they_may_be(library: Library) -> None:
    collage = collage_of(library, grow=-30.0).replace_layer("a", feather=20.0)
    larger = resized(collage, Canvas(width=256, height=128))
    assert (larger.layers[0].feather, larger.grow) == (40, -60)
    largest = resized(collage, Canvas(width=2048, height=1024))
    assert (largest.layers[0].feather, largest.grow) == (256, -128)
    assert resized(collage_of(library), Canvas(width=256, height=128)).layers[0].feather is None


def test_back_and_forth_is_the_same_collage(library: Library) -> None:
    collage = collage_of(library)
    assert resized(resized(collage, Canvas(width=512, height=256)), collage.canvas) == collage


def test_a_layer_that_would_be_too_large_is_named(library: Library) -> None:
    with pytest.raises(FieldError, match=r"layer 'a': scale_x"):
        resized(collage_of(library).replace_layer("a", scale_x=60.0), Canvas(width=256, height=128))


@pytest.mark.parametrize(
    ("model", "size", "told"),
    [
        ("sdxl", 256, "small"),
        ("sdxl", 768, None),
        ("sdxl", 1536, None),
        ("sdxl", 2048, "large"),
        ("embedded", 256, None),
        ("embedded", 384, "large"),
    ],
)
def test_a_canvas_too_small_or_large_for_the_model_is_said(
    library: Library, model: str, size: int, told: str | None
) -> None:
    collage = resized(collage_of(library), Canvas(width=size, height=size)).replace(model=model)
    found = [
        one.message
        for one in to_request(collage, library, PictureStore()).warnings
        if "draws well" in one.message
    ]
    assert len(found) == (told is not None)
    if told:
        assert f"near {CARDS[model].side}" in found[0] and f"{size} x {size} is {told}" in found[0]
