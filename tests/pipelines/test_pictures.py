"""The picture store: pictures by the sha256 of their pixels."""

from __future__ import annotations

import numpy as np
import pytest

from pipelines.errors import PictureError
from pipelines.pictures import PictureStore, digest


def test_equal_pixels_have_one_name() -> None:
    store = PictureStore()
    one = np.arange(48, dtype=np.uint8).reshape(4, 4, 3)
    name = store.put(one)
    assert name == store.put(one.copy()) == digest(one) and len(store) == 1
    assert len(name) == 64
    other = one.copy()
    other[0, 0, 0] += 1
    assert store.put(other) != name and len(store) == 2


def test_shape_counts() -> None:
    flat = np.zeros(48, np.uint8)
    names = {digest(flat.reshape(shape)) for shape in ((4, 4, 3), (4, 12), (12, 4), (3, 4, 4))}
    assert len(names) == 4


def test_memory_order_does_not_count() -> None:
    picture = np.random.default_rng(0).integers(0, 255, (4, 6, 3), dtype=np.uint8)
    assert digest(np.asfortranarray(picture)) == digest(picture)
    assert digest(picture[::-1]) != digest(picture)


def test_kept_pixels_are_a_frozen_copy() -> None:
    store = PictureStore()
    mine = np.zeros((2, 2), np.uint8)
    name = store.put(mine)
    mine[:] = 9
    kept = store.get(name)
    assert kept.max() == 0
    with pytest.raises(ValueError, match="read-only"):
        kept[0, 0] = 1


def test_unknown_names() -> None:
    store = PictureStore()
    assert "nothing" not in store
    with pytest.raises(PictureError, match="nothing is not in the store"):
        store.get("nothing")


@pytest.mark.parametrize(
    "pixels", [np.zeros((2, 2)), np.zeros(4, np.uint8), np.zeros((1, 2, 2, 3), np.uint8)]
)
def test_other_arrays_are_refused(pixels: np.ndarray) -> None:
    with pytest.raises(PictureError, match="uint8"):
        PictureStore().put(pixels)
