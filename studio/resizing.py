"""A collage on a canvas of another size, as another model wants it."""

from __future__ import annotations

import re

from pipelines.errors import FieldError
from studio.document import Canvas, Collage, Layer
from studio.field_errors import bounds

CELL = 8
"""Sides of a canvas are multiples of it."""


def canvas_of(text: str, canvas: Canvas) -> Canvas:
    """The canvas that ``text`` asks for: "1024x768", or "1024" for the longer side in the proportions of ``canvas``.

    Raises `FieldError`.
    """
    asked = re.fullmatch(r"(\d{1,5})(?:x(\d{1,5}))?", text.strip().lower())
    if asked is None:
        raise FieldError(f"size {text!r} is no size; write the longer side, as 1024, or both, as 1024x768.")
    longer = int(asked[1])
    if asked[2]:
        return Canvas(width=longer, height=int(asked[2]))
    factor = longer / max(canvas.width, canvas.height)
    least = int(bounds(Canvas, "width")[0])
    width, height = (
        longer if side == max(canvas.width, canvas.height) else max(least, round(side * factor / CELL) * CELL)
        for side in (canvas.width, canvas.height)
    )
    return Canvas(width=width, height=height)


def resized(collage: Collage, canvas: Canvas) -> Collage:
    """``collage`` on ``canvas``: all that is in it is scaled by as much as still fits, and stays centred.

    What is measured in canvas pixels grows with it: places and sizes, feather, and `Collage.grow`. The background
    covers any canvas; shares and words stay. The page does the same (`Store.resize`). Raises `FieldError` where a layer
    would be too large or too small.
    """
    before = collage.canvas
    factor = min(canvas.width / before.width, canvas.height / before.height)
    most_feather, most_grow = bounds(Layer, "feather")[1], bounds(Collage, "grow")[1]
    layers = tuple(
        layer.replace(
            x=canvas.width / 2 + factor * (layer.x - before.width / 2),
            y=canvas.height / 2 + factor * (layer.y - before.height / 2),
            scale_x=layer.scale_x * factor,
            scale_y=layer.scale_y * factor,
            feather=None if layer.feather is None else min(most_feather, layer.feather * factor),
        )
        for layer in collage.layers
    )
    grow = max(-most_grow, min(most_grow, collage.grow * factor))
    return collage.replace(canvas=canvas, layers=layers, grow=grow)
