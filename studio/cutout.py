"""A layer's cut-out alone: what its look is learned from.

It shows what the layer shows, with its own mask, clip polygon, flips and proportions, but no place, size, turn or
opacity, and nothing that lies above it: moving a layer does not change its look.
"""

from __future__ import annotations

import math

import numpy as np

from pipelines.pictures import Pixels
from studio.compositing import place
from studio.document import Canvas, Layer
from studio.pictures import Library


def cutout(layer: Layer, library: Library, side: int) -> Pixels:
    """uint8 (h, w, 4), not premultiplied, cropped to what is visible; at most ``side`` pixels, never enlarged.

    One transparent pixel where nothing is visible. Raises `PictureError` when a picture is missing.
    """
    # rounded, because resizing by hand leaves the last digits of the two scales apart
    ratio = 2.0 ** round(math.log2(layer.scale_x / layer.scale_y), 3)
    across, down = min(1.0, ratio), min(1.0, 1 / ratio)
    width, height = library.size(layer.picture)
    shrink = min(1.0, side / (width * across), side / (height * down))
    alone = layer.replace(
        x=side / 2,
        y=side / 2,
        scale_x=max(0.001, across * shrink),
        scale_y=max(0.001, down * shrink),
        rotation=0.0,
        opacity=1.0,
    )
    plane = place(alone, library, Canvas(width=side, height=side))
    rows, columns = np.nonzero(np.rint(plane[..., 3] * 255))
    if not len(rows):
        return np.zeros((1, 1, 4), np.uint8)
    shown = plane[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
    colour = shown[..., :3] / np.maximum(shown[..., 3:], 1 / 255)
    whole = np.concatenate((colour, shown[..., 3:]), axis=-1)
    pixels: Pixels = np.rint(np.clip(whole, 0, 1) * 255).astype(np.uint8)
    pixels[pixels[..., 3] == 0] = 0
    return pixels
