"""Which IP-Adapter makes a picture a prompt (arXiv 2308.06721): data, no torch."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import PurePosixPath

from pipelines.errors import FieldError

ENCODER = "image_encoder"
"""Name of the image encoder's folder, beside the weights unless told otherwise."""
_COLON = re.compile(r":(?![\\/])")  # not that of a Windows drive


@dataclass(frozen=True)
class IPAdapter:
    """One IP-Adapter: ``source`` is a folder or a hub id, ``weights`` the file in it, ``encoder`` the folder in it with
    the CLIP vision model that it was trained with. Both are relative to ``source``, with forward slashes.
    """

    source: str
    weights: str
    encoder: str

    def __str__(self) -> str:
        return f"{self.source}:{self.weights}:{self.encoder}"

    @classmethod
    def parse(cls, text: str) -> IPAdapter:
        """``SOURCE:WEIGHTS`` or ``SOURCE:WEIGHTS:ENCODER``. Raises `FieldError`."""
        parts = _COLON.split(text)
        if len(parts) not in (2, 3) or not all(parts):
            raise FieldError(
                f"ip_adapter is {text!r}; give SOURCE:WEIGHTS or SOURCE:WEIGHTS:ENCODER, such as {SD15}."
            )
        beside = PurePosixPath(parts[1]).parent / ENCODER
        return cls(parts[0], parts[1], parts[2] if len(parts) == 3 else str(beside))


SD15 = IPAdapter("h94/IP-Adapter", "models/ip-adapter_sd15.safetensors", "models/image_encoder")
SDXL = IPAdapter("h94/IP-Adapter", "sdxl_models/ip-adapter_sdxl_vit-h.safetensors", "models/image_encoder")
"""Both read the same, smaller of the two published image encoders."""
