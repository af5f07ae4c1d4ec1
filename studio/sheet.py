"""A contact sheet: rows of pictures with a label before each."""

from __future__ import annotations

from collections.abc import Sequence

from PIL import Image, ImageDraw, ImageOps

from pipelines.pictures import Pixels

LEFT = 132
"""Width of the labels in pixels; a line of them has about 20 letters."""


def sheet(rows: Sequence[tuple[str, Sequence[Pixels]]], side: int = 192) -> Image.Image:
    """Every picture fitted into ``side`` × ``side``, nothing left out; a row's label stands before it, lines kept."""
    columns = max((len(pictures) for _, pictures in rows), default=0)
    out = Image.new("RGB", (LEFT + columns * (side + 2), max(1, len(rows) * (side + 2))), "white")
    pen = ImageDraw.Draw(out)
    for row, (label, pictures) in enumerate(rows):
        top = row * (side + 2)
        pen.multiline_text((4, top + 4), label, fill="black", spacing=3)
        for column, picture in enumerate(pictures):
            small = ImageOps.contain(Image.fromarray(picture), (side, side), Image.Resampling.LANCZOS)
            out.paste(small, (LEFT + column * (side + 2), top))
    return out
