"""References that are made and not given, and ready settings for what the same push is used for.

Quality and style guidance are NegToMe with another reference (arXiv 2412.01339): away from a blurred or noisy copy,
away from a picture of a style, or towards it. The copy is one of a given picture or of the flat collage, which is what
is known before the run (ours).
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import numpy as np
from PIL import Image, ImageFilter

from pipelines.pictures import Pixels

BLUR = 1 / 32
"""Deviation of the blur as a share of the shorter side: ours, the size of one latent cell at 256 pixels."""
NOISE = 0.25
"""Deviation of the noise as a share of the range: ours, what is seen at once and hides no object."""
NOISE_SEED = 20_241_201
"""Any fixed number: the same collage makes the same reference."""

READY: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    {
        "blurred": {"name": "blurred copy", "made": "blurred"},
        "noisy": {"name": "noisy copy", "made": "noisy"},
        # half of what the paper's slider allows below 0: the whole of it puts the reference in place of the features
        "style": {"name": "style", "alpha": -0.5},
        "unstyle": {"name": "style"},  # away from it, as hard as from any picture
    }
)
"""Fields of an `Avoid` by use; what is not there is the default."""


def made(picture: Pixels, how: str) -> Pixels:
    """A reference (H, W, 3) out of a picture of that shape: "given" is the picture itself, "blurred", "noisy"."""
    if how == "blurred":
        radius = BLUR * min(picture.shape[:2])
        return np.asarray(Image.fromarray(picture).filter(ImageFilter.GaussianBlur(radius)))
    if how == "noisy":
        noise = np.random.default_rng(NOISE_SEED).normal(0, NOISE * 255, picture.shape)
        return np.rint(np.clip(picture + noise, 0, 255)).astype(np.uint8)
    return picture
