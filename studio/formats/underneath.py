"""What one layer was rendered on, kept in the result's PNG: the pixels that the rendering replaced, and no others.

With them the layer can be rendered anew, with the same values to the same picture, and with others in place of its
last rendering instead of over it.
"""

from __future__ import annotations

import io
import json

import numpy as np
from PIL import Image

from pipelines.errors import PictureError
from pipelines.pictures import Pixels, digest
from studio.pictures import read_pixels


def pack(layer: str, under: Pixels, whole: Pixels) -> bytes:
    """``under`` as far as ``whole`` differs from it, both uint8 (height, width, 3); ``layer`` is the layer's id.

    A line of JSON, and a PNG of the box around all that differs.
    """
    differs = (under != whole).any(-1)
    rows, columns = np.flatnonzero(differs.any(1)), np.flatnonzero(differs.any(0))
    top, left = (int(found[0]) if len(found) else 0 for found in (rows, columns))
    bottom, right = (int(found[-1]) + 1 if len(found) else 1 for found in (rows, columns))
    facts = {"layer": layer, "on": digest(under), "at": [left, top]}
    buffer = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(under[top:bottom, left:right])).save(buffer, "PNG")
    return json.dumps(facts, ensure_ascii=True).encode() + b"\n" + buffer.getvalue()


def unpack(data: bytes, whole: Pixels, layer: str) -> Pixels | None:
    """The picture underneath ``whole``; None where it was another layer, or is not to the pixel what it was."""
    line, _, picture = data.partition(b"\n")
    try:
        facts = json.loads(line)
        part = read_pixels(picture)
        left, top = (int(number) for number in facts["at"])
        if facts["layer"] != layer or left < 0 or top < 0:
            return None
        under = whole.copy()
        under[top : top + part.shape[0], left : left + part.shape[1]] = part
        return under if digest(under) == facts["on"] else None
    except (PictureError, ValueError, LookupError, TypeError, OverflowError, RecursionError):
        return None
