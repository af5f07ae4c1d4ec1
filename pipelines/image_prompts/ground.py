"""A cut-out as an image encoder is shown it: alone, whole, on a ground that says nothing."""

from __future__ import annotations

import numpy as np

from pipelines.errors import PictureError
from pipelines.pictures import Pixels

GROUND = (123, 117, 104)
"""The mean colour of what CLIP was trained on: its image processor turns it into zeros. Ours, as the neutral ground."""


def on_ground(cutout: Pixels, layer: str) -> Pixels:
    """uint8 (h, w, 4) → uint8 (s, s, 3): cropped to what shows, in the middle of a square of `GROUND`.

    A square, because the encoder's own preparation cuts off what is longer than wide. Raises `PictureError`, which
    names ``layer``, where nothing shows.
    """
    rows, columns = np.nonzero(cutout[..., 3])
    if not len(rows):
        raise PictureError(f"layer {layer!r}: its cut-out shows nothing that could be a prompt; change it.")
    shown = cutout[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1].astype(np.float32)
    height, width = shown.shape[:2]
    side = max(height, width)
    square = np.empty((side, side, 3), np.float32)
    square[:] = GROUND
    top, left = (side - height) // 2, (side - width) // 2
    alpha = shown[..., 3:] / 255
    part = square[top : top + height, left : left + width]
    part[:] = part * (1 - alpha) + shown[..., :3] * alpha
    pixels: Pixels = np.rint(square).astype(np.uint8)
    return pixels
