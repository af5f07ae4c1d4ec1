"""Colours as a picture file means them: an embedded ICC profile is brought to sRGB, what everything here works in.

Cameras and phones write Display P3 or Adobe RGB; read as sRGB, their pictures look pale.
"""

from __future__ import annotations

import io

import numpy as np
from PIL import Image, ImageCms

MAX_PROFILE = 4 * 2**20  # bytes; printers' tables take one or two
_SAME = 2  # of 255: sRGB under another name, so that most files keep every pixel
_STEPS = 9  # values a channel that a profile is tried on


def to_srgb(picture: Image.Image, rgba: Image.Image) -> Image.Image:
    """``rgba`` in sRGB: ``picture``'s own 8-bit RGBA reading, whose profile is in ``picture.info``.

    Relative colorimetric with black point compensation; alpha stays. ``rgba`` itself comes back where there is no
    profile, or one that is sRGB, for other colours than the picture's, larger than `MAX_PROFILE`, or broken: a picture
    is never refused for it.
    """
    data = picture.info.get("icc_profile")
    if not isinstance(data, bytes) or not 0 < len(data) <= MAX_PROFILE:
        return rgba
    try:
        profile = ImageCms.ImageCmsProfile(io.BytesIO(data))
        source = _source(profile.profile.xcolor_space.strip(), picture, rgba)
        if source is None:
            return rgba
        change = ImageCms.buildTransform(
            profile,
            ImageCms.createProfile("sRGB"),
            source.mode,
            "RGB",
            ImageCms.Intent.RELATIVE_COLORIMETRIC,
            ImageCms.Flags.BLACKPOINTCOMPENSATION,
        )
        if source.mode != "CMYK" and _changes_nothing(change, source.mode):
            return rgba
        made = change.apply(source).convert("RGBA")
    except (ImageCms.PyCMSError, OSError, ValueError):
        return rgba
    made.putalpha(rgba.getchannel("A"))
    return made


def _source(space: str, picture: Image.Image, rgba: Image.Image) -> Image.Image | None:
    """What a profile for ``space`` is to be applied to; None where the picture is of another kind."""
    if picture.mode == "CMYK":
        return picture if space == "CMYK" else None
    if space == "RGB":
        return rgba.convert("RGB")
    grey = picture.mode in ("1", "L", "LA", "La", "I", "F") or picture.mode.startswith("I;16")
    return rgba.getchannel("R") if space == "GRAY" and grey else None


def _changes_nothing(change: ImageCms.ImageCmsTransform, mode: str) -> bool:
    """Whether it leaves a grid over all colours as it is."""
    values = np.linspace(0, 255, _STEPS).astype(np.uint8)
    colours = np.stack(np.meshgrid(values, values, values), -1).reshape(1, -1, 3)
    if mode == "L":
        colours = np.repeat(values[None, :, None], 3, -1)
    asked = Image.fromarray(np.ascontiguousarray(colours)).convert(mode)
    found = np.asarray(change.apply(asked)).astype(np.int16)
    return int(np.abs(found - colours).max()) <= _SAME
