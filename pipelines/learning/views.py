"""Views of one cut-out: larger and smaller, here and there, on one colour or another.

No mirrored and no turned views: a mirrored cut-out is another picture (letters, a parting), and what is learned would
be both. The size and the place vary because the look shall not depend on them, the colour because what lies outside the
cut-out shall not be learned; it cannot weigh in the loss, but the autoencoder and the denoiser see it.
"""

from __future__ import annotations

import numpy as np
import torch

from pipelines.pictures import Pixels

SMALLEST, LARGEST = 0.5, 0.95
"""Longest side of the cut-out as a share of the view's: ours, as layers of a collage that are worth a look."""


def plain(cutout: Pixels) -> Pixels:
    """The cut-out, uint8 (h, w, 4), with black where it is transparent: what is not seen decides nothing."""
    shown = cutout.copy()
    shown[cutout[..., 3] == 0] = 0
    return shown


def view(cutout: Pixels, side: int, generator: torch.Generator) -> tuple[Pixels, torch.Tensor]:
    """One view: uint8 (side, side, 3), and how much of each pixel the cut-out covers, float (side, side) in 0..1."""
    share, down, right, *colour = torch.rand(6, generator=generator).tolist()
    longest = side * (SMALLEST + (LARGEST - SMALLEST) * share)
    height, width = (max(1, round(n * longest / max(cutout.shape[:2]))) for n in cutout.shape[:2])
    given = torch.from_numpy(plain(cutout)).permute(2, 0, 1)[None].float() / 255
    given[:, :3] *= given[:, 3:]  # else colours of what is transparent would bleed in
    sized = torch.nn.functional.interpolate(
        given, (height, width), mode="bilinear", antialias=True, align_corners=False
    )[0]
    top, left = round(down * (side - height)), round(right * (side - width))
    mask = torch.zeros(side, side)
    mask[top : top + height, left : left + width] = sized[3]
    picture = torch.tensor(colour)[:, None, None] * (1 - mask)
    picture[:, top : top + height, left : left + width] += sized[:3]
    pixels = (picture.clamp(0, 1) * 255).round().permute(1, 2, 0)
    return np.ascontiguousarray(pixels.to(torch.uint8).numpy()), mask
