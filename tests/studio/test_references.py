"""References that are made: copies of the collage, and what the ready settings are."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from PIL import Image

from pipelines.errors import FieldError
from pipelines.pictures import PictureStore
from studio.defaults import DEFAULTS
from studio.document import Avoid, Canvas, Collage, Layer
from studio.pictures import Library
from studio.references import READY, made
from studio.to_request import Prepared, to_request

STRIPES = np.zeros((64, 64, 3), np.uint8)
STRIPES[:, ::2] = 255


def prepared(library: Library, *avoids: Avoid, **fields: Any) -> tuple[Prepared, PictureStore]:
    store = PictureStore()
    picture = library.add(Image.fromarray(STRIPES))
    layer = Layer(id="one", picture=picture, x=32.0, y=32.0)
    given = {"canvas": Canvas(width=128, height=128), "seed": 1, "layers": (layer,), **fields}
    return to_request(Collage(**given, avoids=avoids), library, store), store


def test_blurred_is_smoother_and_noisy_rougher() -> None:
    blurred, noisy = made(STRIPES, "blurred"), made(STRIPES, "noisy")
    assert made(STRIPES, "given") is STRIPES
    assert blurred.shape == noisy.shape == STRIPES.shape and blurred.dtype == noisy.dtype == np.uint8
    assert blurred.std() < 0.2 * STRIPES.std()
    assert abs(float(blurred.mean()) - float(STRIPES.mean())) < 5
    flat = np.full((64, 64, 3), 128, np.uint8)
    assert 55 < made(flat, "noisy").std() < 70 and abs(float(made(flat, "noisy").mean()) - 128) < 3
    assert np.array_equal(noisy, made(STRIPES, "noisy")), "no chance from run to run"


@pytest.mark.parametrize("how", ["given", "blurred", "noisy"])
def test_without_a_picture_it_is_the_flat_collage(library: Library, how: str) -> None:
    got, store = prepared(library, Avoid(id="a", made=how))
    (avoid,) = got.request.avoids
    assert got.request.collage is not None
    flat = store.get(got.request.collage)
    assert np.array_equal(store.get(avoid.picture), made(flat, how))
    assert avoid.mask is None and got.warnings == ()


def test_a_copy_of_a_given_picture(library: Library) -> None:
    red = library.add(Image.new("RGB", (64, 64), "red"))
    got, store = prepared(library, Avoid(id="a", picture=red, made="noisy"))
    expected = made(np.full((128, 128, 3), (255, 0, 0), np.uint8), "noisy")
    assert np.array_equal(store.get(got.request.avoids[0].picture), expected)


def test_plain_text_has_no_collage_to_copy(library: Library) -> None:
    got, _ = prepared(library, Avoid(id="a", made="blurred"), layers=())
    assert got.request.avoids == ()
    assert ["made of the collage" in one.message for one in got.warnings] == [True]


def test_a_window_of_its_own_and_a_pull(library: Library) -> None:
    got, _ = prepared(library, Avoid(id="a", alpha=-0.5, window=0.75), Avoid(id="b"))
    first, second = got.request.avoids
    assert (first.alpha, first.window) == (-0.5, 0.75)
    assert (second.alpha, second.window) == (DEFAULTS["avoid_alpha"], None)
    with pytest.raises(FieldError, match="alpha"):
        Avoid(id="a", alpha=-1.5)


def test_ready_settings_are_avoids_and_only_one_style_pulls() -> None:
    for name, fields in READY.items():
        avoid = Avoid(id="a", **fields)
        assert ((avoid.alpha or 0) < 0) == (name == "style")
        assert (avoid.made == "given") == (name in ("style", "unstyle"))
