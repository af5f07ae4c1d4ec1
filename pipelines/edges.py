"""Edge maps: what a ControlNet is shown of the flat collage.

"canny" is J. Canny's detector (IEEE PAMI 8, 1986) as ControlNets were trained with it: Sobel gradients with L1 length,
no blur, thresholds 100 and 200, and of three channels the one that is steepest. "soft" is the blurred gradient's length
with no threshold: a stand-in (ours) for the learned edges of soft-edge ControlNets, without a further model to load.

numpy only: a page or a command shows edges without torch.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pipelines.pictures import Pixels
from pipelines.request import EDGES

LOW, HIGH = 100.0, 200.0
"""Thresholds in the units of a 3×3 Sobel filter over 0..255; those of the released Collage Diffusion code."""
STEEPEST = 99.0
"""Per cent of the soft edges that are below white."""
KINDS = EDGES

Field = NDArray[np.float32]


def edges(picture: Pixels, kind: str = "canny") -> Pixels:
    """The edge map of uint8 (H, W, 3), any size: uint8 (H, W), 255 on an edge. ``kind`` is one of `KINDS`."""
    return canny(picture) if kind == "canny" else soft(picture)


def canny(picture: Pixels, low: float = LOW, high: float = HIGH) -> Pixels:
    """Edges of uint8 (H, W, 3), 0 or 255: thin, at least ``low`` steep, and joined to one at least ``high`` steep."""
    across, down = gradients(picture.astype(np.float32))
    steep = np.abs(across) + np.abs(down)
    ridge = _ridges(across, down, steep)
    return np.where(_joined(ridge & (steep > low), ridge & (steep > high)), 255, 0).astype(np.uint8)


def soft(picture: Pixels) -> Pixels:
    """How steep uint8 (H, W, 3) is, 0..255, after a blur of one pixel; its steepest per cent is white."""
    blurred = picture.astype(np.float32)
    weights = np.array([0.061, 0.242, 0.394, 0.242, 0.061], np.float32)  # a Gaussian of deviation 1, sum 1
    for axis in (0, 1):
        padded = np.pad(blurred, [(2, 2) if one == axis else (0, 0) for one in range(3)], mode="edge")
        length = blurred.shape[axis]
        blurred = sum(
            (weight * padded.take(range(k, k + length), axis) for k, weight in enumerate(weights)),
            np.zeros_like(blurred),
        )
    steep = np.hypot(*gradients(blurred))
    white = max(float(np.percentile(steep, STEEPEST)), LOW)  # a plain picture has no edges to stretch
    return np.rint(np.clip(steep / white, 0, 1) * 255).astype(np.uint8)


def gradients(picture: Field) -> tuple[Field, Field]:
    """3×3 Sobel of (H, W, 3), across and down, (H, W) each: of the channel in which |across| + |down| is largest."""
    padded = np.pad(picture, ((1, 1), (1, 1), (0, 0)), mode="edge")
    rows = padded[:-2] + 2 * padded[1:-1] + padded[2:]
    columns = padded[:, :-2] + 2 * padded[:, 1:-1] + padded[:, 2:]
    across, down = rows[:, 2:] - rows[:, :-2], columns[2:] - columns[:-2]
    chosen = (np.abs(across) + np.abs(down)).argmax(-1)[..., None]
    return np.take_along_axis(across, chosen, -1)[..., 0], np.take_along_axis(down, chosen, -1)[..., 0]


def _ridges(across: Field, down: Field, steep: Field) -> NDArray[np.bool_]:
    """Places steeper than their two neighbours along the gradient, which is rounded to 45°; of two equal ones the
    first, so that a clean step is one pixel wide.
    """
    padded = np.pad(steep, 1)
    height, width = steep.shape

    def neighbour(dy: int, dx: int) -> Field:
        return padded[1 + dy : 1 + dy + height, 1 + dx : 1 + dx + width]

    flat, upright = np.tan(np.pi / 8), np.tan(3 * np.pi / 8)
    level = np.abs(down) < flat * np.abs(across)
    steeply = np.abs(down) > upright * np.abs(across)
    falling = (across >= 0) == (down >= 0)  # the gradient points to the lower right, or to the upper left
    directions = [level, steeply, falling]
    before = np.select(directions, [neighbour(0, -1), neighbour(-1, 0), neighbour(-1, -1)], neighbour(-1, 1))
    after = np.select(directions, [neighbour(0, 1), neighbour(1, 0), neighbour(1, 1)], neighbour(1, -1))
    found: NDArray[np.bool_] = (steep > before) & (steep >= after)
    return found


def _joined(weak: NDArray[np.bool_], strong: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The ``weak`` places (H, W) that a chain of weak neighbours, eight each, joins to a ``strong`` one."""
    width = weak.shape[1] + 2
    open_places = np.pad(weak, 1).ravel()
    found = np.zeros_like(open_places)
    front = np.flatnonzero(np.pad(strong, 1))
    steps = np.array([dy * width + dx for dy in (-1, 0, 1) for dx in (-1, 0, 1) if dy or dx])
    while len(front):
        found[front] = True
        open_places[front] = False
        reached = (front[:, None] + steps).ravel()
        front = np.unique(reached[open_places[reached]])
    return found.reshape(-1, width)[1:-1, 1:-1]
