"""Views of a cut-out: it alone, in every size and place, and nothing of what is transparent."""

from __future__ import annotations

import numpy as np
import torch

from pipelines.learning.views import LARGEST, SMALLEST, plain, view
from tests.pipelines import tiny


def red(height: int = 40, width: int = 20) -> np.ndarray:
    cutout = np.zeros((height, width, 4), np.uint8)
    cutout[..., 0] = cutout[..., 3] = 255
    return cutout


def views(cutout: np.ndarray, count: int = 40) -> list[tuple[np.ndarray, np.ndarray]]:
    generator = torch.Generator().manual_seed(0)
    return [(picture, mask.numpy()) for picture, mask in (view(cutout, 64, generator) for _ in range(count))]


def test_sizes_places_and_colours_vary_and_all_of_it_shows() -> None:
    heights, tops, colours = set(), set(), set()
    for picture, mask in views(red()):
        rows, columns = np.nonzero(mask > 0.5)
        height, width = np.ptp(rows) + 1, np.ptp(columns) + 1
        assert SMALLEST * 64 - 1 <= height <= LARGEST * 64 + 1
        assert abs(height - 2 * width) <= 2  # its proportions stay
        assert (picture[mask == 1] == (255, 0, 0)).all()
        outside = {tuple(pixel) for pixel in picture[mask == 0]}
        assert len(outside) == 1
        heights.add(height)
        tops.add(rows.min())
        colours |= outside
    assert len(heights) > 10 and len(tops) > 10 and len(colours) == 40


def test_it_is_never_mirrored() -> None:
    cutout = red(20, 40)
    cutout[:, :20, :3] = (0, 255, 0)
    for picture, mask in views(cutout):
        green = np.nonzero((picture[..., 1] > 250) & (mask == 1))[1]
        assert green.max() < np.nonzero((picture[..., 0] > 250) & (mask == 1))[1].max()


def test_what_is_transparent_decides_nothing() -> None:
    cutout = np.dstack([tiny.picture(3), tiny.box(10, 20, 50, 40)])
    other = cutout.copy()
    other[other[..., 3] == 0, :3] = 77
    assert (other != cutout).any() and (plain(other) == plain(cutout)).all()
    for one, two in zip(views(cutout, 3), views(other, 3), strict=True):
        assert all(np.array_equal(a, b) for a, b in zip(one, two, strict=True))
    shown = cutout.copy()
    shown[30, 30, 0] ^= 128
    assert any(
        not np.array_equal(one[0], two[0]) for one, two in zip(views(cutout, 3), views(shown, 3), strict=True)
    )


def test_soft_edges_mix_with_the_colour() -> None:
    cutout = red()
    cutout[..., 3] = 128
    picture, mask = views(cutout, 1)[0]
    inner, outer = picture[mask > 0.5][0].astype(float), picture[mask == 0][0].astype(float)
    share = 128 / 255
    assert np.abs(inner - (np.array([255, 0, 0]) * share + outer * (1 - share))).max() <= 1
