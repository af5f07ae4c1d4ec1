"""Model families: where text and image tokens sit, and how a picture becomes latents. One small file each."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipelines.errors import UnsupportedError

if TYPE_CHECKING:
    from pipelines.families.base import Family

LOOK_FAMILIES = ("sd", "sdxl", "flux")
"""Where looks can be learned, known without torch; each family says so of itself (`encoders`), and a test compares."""


def families() -> dict[str, type[Family]]:
    """All families by name."""
    from pipelines.families.chroma import ChromaFamily
    from pipelines.families.flux import FluxFamily
    from pipelines.families.flux2 import Flux2Family, KleinFamily
    from pipelines.families.qwen_image import QwenImageFamily
    from pipelines.families.sd3 import SD3Family
    from pipelines.families.unet import SDFamily, SDXLFamily
    from pipelines.families.z_image import ZImageFamily

    unets: list[type[Family]] = [SDFamily, SDXLFamily]
    flows: list[type[Family]] = [SD3Family, FluxFamily, Flux2Family, KleinFamily]
    more: list[type[Family]] = [QwenImageFamily, ZImageFamily, ChromaFamily]
    return {kind.name: kind for kind in [*unets, *flows, *more]}


def family(name: str) -> Family:
    """The family called ``name``; `UnsupportedError` for others."""
    known = families()
    if name not in known:
        raise UnsupportedError(f"model family {name!r} is not supported; use one of {', '.join(known)}.")
    return known[name]()
