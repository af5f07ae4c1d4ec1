"""A layer's cut-out alone: what it shows, wherever it lies."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from PIL import Image

from studio.cutout import cutout
from studio.document import Layer
from studio.pictures import Library


def layer(library: Library, size: tuple[int, int] = (40, 20), **fields: Any) -> Layer:
    """Left half red, right half blue, with a clear rim of 2 pixels."""
    picture = np.zeros((size[1], size[0], 4), np.uint8)
    picture[2:-2, 2:-2, 3] = 255
    picture[:, : size[0] // 2, 0] = 255
    picture[:, size[0] // 2 :, 2] = 255
    digest = library.add(Image.fromarray(picture))
    return Layer(**{"id": "a", "picture": digest, "x": 10.0, "y": 7.0, **fields})


def test_it_is_cropped_to_what_shows_at_its_own_size() -> None:
    library = Library()
    found = cutout(layer(library), library, 64)
    assert found.shape == (16, 36, 4) and found.dtype == np.uint8
    assert (found[8, 4] == (255, 0, 0, 255)).all() and (found[8, -5] == (0, 0, 255, 255)).all()


def test_large_pictures_are_made_smaller_and_small_ones_not_larger() -> None:
    library = Library()
    found = cutout(layer(library, (400, 200)), library, 64)
    assert found.shape[1] in (63, 64) and abs(found.shape[1] - 2 * found.shape[0]) <= 2
    assert cutout(layer(library, scale_x=9.0, scale_y=9.0), library, 64).shape == (16, 36, 4)


@pytest.mark.parametrize(
    "moved",
    [
        {"x": -300.0},
        {"rotation": 40.0},
        {"opacity": 0.4},
        {"scale_x": 0.31, "scale_y": 0.31},
        {"feather": 9.0, "harmonize": 0.2},
    ],
)
def test_it_does_not_depend_on_where_and_how_it_lies(moved: dict[str, Any]) -> None:
    library = Library()
    assert np.array_equal(cutout(layer(library), library, 64), cutout(layer(library, **moved), library, 64))


def test_flips_proportions_masks_and_clips_are_its_own() -> None:
    library = Library()
    plain = cutout(layer(library), library, 64)
    flipped = cutout(layer(library, flip_x=True), library, 64)
    assert (flipped[8, 4] == (0, 0, 255, 255)).all()
    narrow = cutout(layer(library, scale_x=1.0, scale_y=2.0), library, 64)
    assert abs(narrow.shape[1] - plain.shape[1] / 2) <= 2 and abs(narrow.shape[0] - plain.shape[0]) <= 2
    left = np.zeros((20, 40), np.uint8)
    left[:, :20] = 255
    masked = cutout(layer(library, mask=library.add(Image.fromarray(left))), library, 64)
    assert masked.shape == (16, 18, 4) and (masked[8, 9] == (255, 0, 0, 255)).all()
    clipped = cutout(layer(library, clip=((0, 0), (20, 0), (20, 20), (0, 20))), library, 64)
    assert clipped.shape == (16, 18, 4)


def test_what_is_transparent_has_one_colour() -> None:
    library = Library()
    round_one = np.zeros((40, 40, 4), np.uint8)
    round_one[..., 1] = 200
    rows, columns = np.indices((40, 40)) - 20
    round_one[..., 3] = 255 * (rows**2 + columns**2 < 300)
    found = cutout(Layer(id="a", picture=library.add(Image.fromarray(round_one)), x=0, y=0), library, 64)
    assert (found[found[..., 3] == 0] == 0).all() and (found[..., 3] == 0).any()
    assert (found[found[..., 3] == 255][:, 1] == 200).all()


def test_nothing_visible_is_one_clear_pixel() -> None:
    library = Library()
    clear = library.add(Image.new("RGBA", (8, 8), (9, 9, 9, 0)))
    assert (cutout(Layer(id="a", picture=clear, x=0, y=0), library, 64) == np.zeros((1, 1, 4))).all()
