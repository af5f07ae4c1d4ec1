"""Model families: where text and image tokens sit, and how a picture becomes latents. One small file each."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipelines.errors import UnsupportedError

if TYPE_CHECKING:
    from pipelines.families.unet import UNetFamily


def family(name: str) -> UNetFamily:
    """The family called ``name`` ("sd", "sdxl"); `UnsupportedError` for others."""
    from pipelines.families.unet import SDFamily, SDXLFamily

    known = {"sd": SDFamily, "sdxl": SDXLFamily}
    if name not in known:
        raise UnsupportedError(f"model family {name!r} is not supported; use one of {', '.join(known)}.")
    return known[name]()
