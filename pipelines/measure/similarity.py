"""Differences between two pictures, whole or where a mask is; numpy only. Pictures are uint8 (H, W, 3)."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from pipelines.errors import PictureError
from pipelines.pictures import Pixels

Weights = NDArray[np.float32]
"""A mask (H, W) in 0..1: how much each pixel counts."""

GREY = np.array([0.299, 0.587, 0.114])  # ITU-R BT.601 luma


def _pair(
    first: Pixels, second: Pixels, mask: Weights | None
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Squared differences (H, W), mean over the channels, in (0..255)², and weights (H, W)."""
    if first.shape != second.shape or first.ndim != 3:
        raise PictureError(
            f"pictures of {first.shape} and {second.shape} cannot be compared; make them one size."
        )
    weights = np.ones(first.shape[:2]) if mask is None else np.asarray(mask, np.float64)
    if weights.shape != first.shape[:2]:
        raise PictureError(f"a mask of {weights.shape} does not fit a picture of {first.shape[:2]}.")
    if weights.sum() <= 0:
        raise PictureError("the mask is empty: nothing is left to compare.")
    return ((first.astype(np.float64) - second.astype(np.float64)) ** 2).mean(2), weights


def masked_error(first: Pixels, second: Pixels, mask: Weights | None = None) -> float:
    """Root mean square difference where the mask is, in 8-bit steps: 0 = equal, 255 = black against white."""
    squared, weights = _pair(first, second, mask)
    return math.sqrt(float((squared * weights).sum() / weights.sum()))


def psnr(first: Pixels, second: Pixels, mask: Weights | None = None) -> float:
    """Peak signal-to-noise ratio in dB where the mask is; infinite for equal pictures."""
    error = masked_error(first, second, mask)
    return math.inf if error == 0 else 20 * math.log10(255 / error)


def _blur(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """The 11×11 Gaussian window of deviation 1.5, edges mirrored."""
    taps = np.exp(-(np.arange(-5, 6) ** 2) / (2 * 1.5**2))
    taps /= taps.sum()
    for axis in (0, 1):
        padded = np.pad(x, [(5, 5) if a == axis else (0, 0) for a in (0, 1)], mode="reflect")
        x = sum(t * np.take(padded, range(k, k + x.shape[axis]), axis) for k, t in enumerate(taps))
    return x


def ssim(first: Pixels, second: Pixels, mask: Weights | None = None) -> float:
    """Structural similarity of the luma (Wang et al. 2004, equation 13, K = 0.01 and 0.03), mean where the
    mask is.
    """
    _, weights = _pair(first, second, mask)
    a, b = first @ GREY, second @ GREY
    mean_a, mean_b = _blur(a), _blur(b)
    var_a, var_b = _blur(a * a) - mean_a**2, _blur(b * b) - mean_b**2
    both = _blur(a * b) - mean_a * mean_b
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    value = (
        (2 * mean_a * mean_b + c1) * (2 * both + c2) / ((mean_a**2 + mean_b**2 + c1) * (var_a + var_b + c2))
    )
    return float((value * weights).sum() / weights.sum())
