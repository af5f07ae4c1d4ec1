"""Pictures by the sha256 of their pixels: what requests name and engines read."""

from __future__ import annotations

import hashlib

import numpy as np
from numpy.typing import NDArray

from pipelines.errors import PictureError

Pixels = NDArray[np.uint8]


def digest(pixels: Pixels) -> str:
    """sha256 over shape and bytes of a uint8 array (H, W), (H, W, 3) or (H, W, 4)."""
    if pixels.dtype != np.uint8 or pixels.ndim not in (2, 3):
        raise PictureError(f"a picture must be uint8 with 2 or 3 axes, not {pixels.dtype} {pixels.shape}.")
    return hashlib.sha256(repr(pixels.shape).encode() + np.ascontiguousarray(pixels).tobytes()).hexdigest()


class PictureStore:
    """An in-memory store, read-only once filled: arrays are frozen when put in."""

    def __init__(self) -> None:
        self._pixels: dict[str, Pixels] = {}

    def put(self, pixels: Pixels) -> str:
        """Keep a copy and return its digest."""
        name = digest(pixels)
        if name not in self._pixels:
            kept = np.ascontiguousarray(pixels).copy()
            kept.flags.writeable = False
            self._pixels[name] = kept
        return name

    def get(self, name: str) -> Pixels:
        """The pixels under a digest; `PictureError` when the store does not have them."""
        try:
            return self._pixels[name]
        except KeyError:
            raise PictureError(f"picture {name[:12]} is not in the store; add it before rendering.") from None

    def __contains__(self, name: object) -> bool:
        return name in self._pixels

    def __len__(self) -> int:
        return len(self._pixels)
