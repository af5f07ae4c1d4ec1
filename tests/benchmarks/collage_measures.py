"""What the collage benchmark measures of pictures, uint8 (H, W, 3), where masks (H, W) in 0..1 are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from pipelines.measure.features import Features
from pipelines.measure.numbers import shown
from pipelines.measure.similarity import GREY, psnr, ssim
from pipelines.pictures import Pixels

Mask = NDArray[np.float32]
Where = NDArray[np.bool_]
EDGE = 0.1
"""A pixel is on an edge where the luma (0..1) changes by more than this from one to the next. Ours, by eye."""
REACH = 2
"""Edges agree where they are no further apart, in pixels."""


@torch.no_grad()
def feature_distance(features: Features, first: Pixels, second: Pixels, mask: Mask) -> float:
    """How far apart two pictures look inside a mask, 0 to 4; what is outside is grey in both.

    As LPIPS (arXiv 1801.03924, equation 1) on the small CLIP's layers in place of a trained network's, and without
    learned weights: squared distances of unit vectors, averaged over the mask, then over the layers.
    """
    where = mask >= 0.5
    cut = [shown(picture, where) for picture in (first, second)]
    box = np.ix_(np.flatnonzero(where.any(1)), np.flatnonzero(where.any(0)))
    side = features.side
    squares = [
        np.asarray(Image.fromarray(part).resize((side, side), Image.Resampling.BICUBIC))
        for part in cut
        if part is not None
    ]
    x = torch.from_numpy(np.stack(squares)).permute(0, 3, 1, 2).float() / 127.5 - 1
    states = features.model.vision_model(pixel_values=x, output_hidden_states=True).hidden_states[1:]
    cells = round((states[0].shape[1] - 1) ** 0.5)
    inside = Image.fromarray((where[box] * 255).astype(np.uint8)).resize((cells, cells), Image.Resampling.BOX)
    weight = torch.from_numpy(np.asarray(inside).copy()).float().reshape(-1)
    distances = []
    for state in states:
        patches = torch.nn.functional.normalize(state[:, 1:], dim=-1)
        square = (patches[0] - patches[1]).square().sum(-1)
        distances.append(float((square * weight).sum() / weight.sum()))
    return float(np.mean(distances))


def kept(features: Features, picture: Pixels, truth: Pixels, mask: Mask) -> dict[str, float]:
    """How much of the true picture is left inside a mask: feature distance, SSIM, and PSNR in dB."""
    return {
        "distance": feature_distance(features, picture, truth, mask),
        "ssim": ssim(picture, truth, mask),
        "psnr": psnr(picture, truth, mask),
    }


def gradient(picture: Pixels) -> NDArray[np.float64]:
    """(H, W) length of the luma's gradient, luma in 0..1, from one pixel to the next."""
    down, across = np.gradient(picture @ GREY / 255)
    return np.asarray(np.hypot(down, across))


def borders(masks: Sequence[Mask] | NDArray[np.float32]) -> Where:
    """(H, W) the pixels on both sides of any mask's border; the canvas's own edge is none."""
    found = np.zeros(masks[0].shape, np.bool_)
    for mask in masks:
        inside = mask >= 0.5
        down, across = inside[1:] != inside[:-1], inside[:, 1:] != inside[:, :-1]
        found[1:] |= down
        found[:-1] |= down
        found[:, 1:] |= across
        found[:, :-1] |= across
    return found


def seam_gradient(picture: Pixels, masks: Sequence[Mask] | NDArray[np.float32]) -> float:
    """Mean gradient on the layers' borders, as in arXiv 2408.07116: good is what the true picture has there."""
    return float(gradient(picture)[borders(masks)].mean())


def grown(where: Where, by: int) -> Where:
    """Everything within ``by`` pixels, in a square."""
    for axis in (0, 1):
        size = where.shape[axis]
        padded = np.pad(where, [(by, by) if a == axis else (0, 0) for a in (0, 1)])
        where = np.logical_or.reduce([np.take(padded, range(k, k + size), axis) for k in range(2 * by + 1)])
    return where


def edge_agreement(picture: Pixels, flat: Pixels, mask: Mask) -> float:
    """F1 of the edges in and around a mask, 0 to 1: those that the picture has and the flat collage has nearby, and
    the other way round.
    """
    near = grown(mask >= 0.5, REACH)
    first, second = ((gradient(one) > EDGE) & near for one in (picture, flat))
    if not first.any() or not second.any():
        return float(first.any() == second.any())
    right: Any = (first & grown(second, REACH)).sum() / first.sum()
    found: Any = (second & grown(first, REACH)).sum() / second.sum()
    return float(2 * right * found / (right + found)) if right + found else 0.0
