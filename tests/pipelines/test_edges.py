"""Edge maps of pictures whose edges are known."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from pipelines.edges import KINDS, canny, edges, gradients, soft
from pipelines.pictures import Pixels


def plain(value: int = 90) -> Pixels:
    return np.full((32, 40, 3), value, np.uint8)


def square() -> Pixels:
    picture = plain()
    picture[8:24, 10:30] = 200
    return picture


@pytest.mark.parametrize("kind", KINDS)
def test_a_plain_picture_has_none(kind: str) -> None:
    assert not edges(plain(), kind).any()
    assert edges(plain(), kind).shape == (32, 40) and edges(plain(), kind).dtype == np.uint8


def test_a_step_is_one_pixel_wide_and_whole() -> None:
    for turned in (False, True):
        picture = plain()
        picture[:, 20:] = 200
        found = canny(picture.transpose(1, 0, 2) if turned else picture)
        found = found.T if turned else found
        assert (np.count_nonzero(found, axis=1) == 1).all()
        assert set(np.flatnonzero(found.any(0))) <= {19, 20}


def test_a_square_is_its_outline() -> None:
    found = canny(square()) > 0
    rows, columns = np.nonzero(found)
    assert {rows.min(), rows.max()} <= {7, 8, 23, 24} and {columns.min(), columns.max()} <= {9, 10, 29, 30}
    assert not found[10:22, 12:28].any()
    assert 60 <= found.sum() <= 80  # around 16 × 20


def test_a_slanted_line_is_unbroken() -> None:
    y, x = np.mgrid[:64, :64]
    picture = np.where((y > x * 0.5 + 10)[..., None], 220, 30).astype(np.uint8).repeat(3, -1)
    assert (canny(picture)[:, 2:-2] > 0).any(0).all()


def test_thresholds() -> None:
    faint, middling = plain(), plain()
    faint[:, 20:] += 20  # a step of s has a Sobel length of 4 s
    middling[:, 20:] += 40
    assert not canny(faint).any() and not canny(middling).any()
    joined = middling.copy()
    joined[:4, 20:] = 200  # steep somewhere: the rest of the chain counts with it
    assert (canny(joined) > 0)[:, 18:22].any(1).all()
    assert canny(faint, low=40, high=60).any()


def test_an_edge_of_one_colour_counts_as_much_as_one_of_all() -> None:
    red = plain()
    red[:, 20:, 0] = 200
    grey = plain()
    grey[:, 20:] = 200
    assert np.array_equal(canny(red), canny(grey))
    across, down = gradients(red.astype(np.float32))
    assert across.max() == 4 * 110 and not down.any()


def test_what_is_covered_has_no_edges() -> None:
    covered = square()
    covered[:, :] = 90
    assert not canny(covered).any()
    half = square()
    half[:, 20:] = 90
    assert not canny(half)[:, 23:].any() and canny(half)[:, :21].any()


def test_soft_edges_grow_with_the_step() -> None:
    picture = plain()
    picture[:16, 20:] = 120
    picture[16:, 20:] = 250
    found = soft(picture)
    assert 0 < found[8, 19:21].max() < found[24, 19:21].max() == 255
    assert not found[:, :10].any()
    assert len(np.unique(soft(square()))) > 3 and set(np.unique(canny(square()))) == {0, 255}


@settings(max_examples=25, deadline=None)
@given(arrays.arrays(np.uint8, st.tuples(st.integers(3, 20), st.integers(3, 20), st.just(3))))
def test_any_picture(picture: Pixels) -> None:
    before = picture.copy()
    turned = np.ascontiguousarray(picture[::-1, ::-1])
    for kind in KINDS:
        found = edges(picture, kind)
        assert found.shape == picture.shape[:2] and np.array_equal(picture, before)
    apart = soft(turned).astype(int) - soft(picture)[::-1, ::-1]
    assert np.abs(apart).max() <= 1, "sums from the other end round otherwise"
