"""Which part of the canvas is run to render one layer anew, and at what size: the cost follows the layer's area.

Ours. Other tools run a box around the mask at the model's full size ("only masked", "scale before processing"), which
costs as much as the whole picture however small the mask is.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from pipelines.models import ModelCard
from studio.compositing import Box
from studio.document import Canvas

CONTEXT = 0.1
"""How far the crop reaches beyond the layer on each side, as a share of the layer's larger side. By eye and by the
judge no more is needed (40 layers of a tenth of the canvas, embedded model: 32 objects recognised with a twentieth
or a tenth, 33 with .15), and .15 runs a tenth more pixels."""
WHOLE = 0.7
"""From this share of the canvas's work on, the whole canvas is run: little is saved, and context is lost."""
LARGEST_SCALE = 2
"""A smaller crop is given more of the canvas instead: what is enlarged further has no more detail to give."""
SMALLEST_SCALE = 1.5
"""So is one that would be enlarged by less than this: sampling it anew would cost more sharpness than it brings."""


@dataclass(frozen=True)
class Crop:
    """``box`` of the canvas (left, top, right, bottom, in pixels), run at ``width`` × ``height`` pixels."""

    box: Box
    width: int
    height: int

    @property
    def scale(self) -> float:
        """Pixels of the run for a pixel of the canvas."""
        return math.sqrt(
            self.width * self.height / ((self.box[2] - self.box[0]) * (self.box[3] - self.box[1]))
        )


def choose(layer: Box, changing: Box, canvas: Canvas, model: ModelCard) -> Crop:
    """The crop for a layer that shows in the box ``layer`` and whose feathered mask lies in the box ``changing``.

    That is about `CONTEXT` around the layer and at least all that may change, in multiples of what the family takes;
    enlarged, at most `LARGEST_SCALE` times, where it has fewer pixels than the square of ``model.least_side``. The
    whole canvas at its own size where that saves too little (`WHOLE`).
    """
    from pipelines.families import family  # brings torch, which the run is about to need

    step = family(model.family).multiple
    reach = CONTEXT * max(layer[2] - layer[0], layer[3] - layer[1])
    least = model.least_side
    spans = []
    for low, high, side in ((0, 2, canvas.width), (1, 3, canvas.height)):
        start = max(0, math.floor(min(layer[low] - reach, changing[low])))
        end = min(side, math.ceil(max(layer[high] + reach, changing[high])))
        nearly = (end - start) * SMALLEST_SCALE >= least
        smallest = least if nearly else max(64, least // LARGEST_SCALE)
        spans.append(_snapped((start, end), (changing[low], changing[high]), smallest, side, step))
    (left, right), (top, bottom) = spans
    width, height = right - left, bottom - top
    if width * height < least**2:
        scale = math.sqrt(least**2 / (width * height))
        width, height = (max(step, round(side * scale / step) * step) for side in (width, height))
    if width * height >= WHOLE * canvas.width * canvas.height:
        return Crop((0, 0, canvas.width, canvas.height), canvas.width, canvas.height)
    return Crop((left, top, right, bottom), width, height)


def _snapped(
    wish: tuple[int, int], must: tuple[int, int], least: int, side: int, step: int
) -> tuple[int, int]:
    """``wish`` about its middle in the nearest multiple of ``step``: at least ``least``, inside 0 to ``side``, ``must``
    inside it.
    """
    whole = max(round((wish[1] - wish[0]) / step), math.ceil(max(must[1] - must[0], least) / step))
    length = min(side, whole * step)
    first = min(max((sum(wish) - length) // 2, must[1] - length), must[0])
    first = min(max(0, first), side - length)
    return first, first + length
