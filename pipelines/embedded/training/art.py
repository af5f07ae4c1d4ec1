"""Emoji art from iconify packages: one named drawing rendered to RGBA, trimmed, recoloured where asked."""

from __future__ import annotations

import colorsys
import io
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pipelines.embedded.training.world import COLOURS
from pipelines.errors import PictureError

__all__ = ["SETS", "SIDE", "IconSet", "Pixels", "fit", "load_sets", "recolour", "render_key", "render_svg"]

SIDE = 160
"""Longest side of a stored cut-out in pixels; scenes never show one larger than 170."""

SETS: Mapping[str, str] = {
    "flat": "fluent-emoji-flat",
    "fluent": "fluent-emoji",
    "noto": "noto",
    "twemoji": "twemoji",
}
"""Drawing style -> iconify package."""

Pixels = NDArray[np.uint8]


class IconSet:
    """One iconify package: SVG bodies by slug, aliases followed."""

    def __init__(self, folder: Path) -> None:
        try:
            data = json.loads((folder / "icons.json").read_text())
        except OSError as error:
            raise PictureError(
                f"the art folder has no {folder.name}/icons.json: install that package."
            ) from error
        self.info: dict[str, Any] = json.loads((folder / "info.json").read_text())
        self._icons: dict[str, dict[str, Any]] = data["icons"]
        self._aliases: dict[str, dict[str, Any]] = data.get("aliases", {})
        self._side: int = data.get("width", 16)

    def __contains__(self, slug: str) -> bool:
        return slug in self._icons or slug in self._aliases

    def slugs(self) -> set[str]:
        """All names, aliases included."""
        return set(self._icons) | set(self._aliases)

    def svg(self, slug: str) -> str:
        """The whole SVG document of one icon (an alias that only mirrors its parent counts as the parent)."""
        while slug in self._aliases:
            slug = self._aliases[slug]["parent"]
        if slug not in self._icons:
            raise PictureError(f"the art set {self.info['prefix']} has no icon {slug!r}.")
        icon = self._icons[slug]
        w, h = icon.get("width", self._side), icon.get("height", self._side)
        box = f"{icon.get('left', 0)} {icon.get('top', 0)} {w} {h}"
        ns = 'xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink"'
        return f'<svg {ns} viewBox="{box}" width="{w}" height="{h}">{icon["body"]}</svg>'

    def person(self, role: str, tone: str, gender: str) -> str:
        """The slug of a role in one look; sets name tones ``-dark`` or ``-dark-skin-tone``."""
        base = f"{gender}-{role}"
        if gender == "person":
            base = role if role in self else f"person-{role}"
        if tone == "default":
            return base
        return next(
            (s for s in (f"{base}-{tone}-skin-tone", f"{base}-{tone}") if s in self), f"{base}-{tone}"
        )


def _raster(svg: str, side: int) -> Pixels:
    import resvg_py

    png = bytes(resvg_py.svg_to_bytes(svg_string=svg, width=side, height=side, skip_system_fonts=True))
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGBA"))


def _trim(pixels: Pixels) -> Pixels:
    rows, cols = (np.flatnonzero((pixels[..., 3] > 8).any(axis=a)) for a in (1, 0))
    if not len(rows):
        raise PictureError("an icon is empty: leave its slug out of the world.")
    return pixels[rows[0] : rows[-1] + 1, cols[0] : cols[-1] + 1]


def _resize(pixels: Pixels, size: tuple[int, int]) -> Pixels:
    """RGBA uint8 resized (width, height) with premultiplied alpha, so that no fringe shows."""
    picture = (
        Image.fromarray(pixels, "RGBA")
        .convert("RGBa")
        .resize(size, Image.Resampling.LANCZOS, reducing_gap=2.0)
    )
    return np.asarray(picture.convert("RGBA"))


def fit(pixels: Pixels, side: int) -> Pixels:
    """``pixels`` resized so that the longest side is ``side`` pixels."""
    h, w = pixels.shape[:2]
    if max(h, w) == side:
        return pixels
    scale = side / max(h, w)
    return _resize(pixels, (max(1, round(w * scale)), max(1, round(h * scale))))


def render_svg(svg: str, side: int = SIDE) -> Pixels:
    """RGBA uint8, trimmed to what is not transparent, longest side exactly ``side``, aspect kept."""
    probe = _trim(_raster(svg, 256))
    return fit(_trim(_raster(svg, round(256 * side / max(probe.shape[:2])))), side)


def _hsv(hexadecimal: str) -> tuple[float, float, float]:
    digits = hexadecimal.lstrip("#")
    if len(digits) == 3:
        digits = "".join(2 * d for d in digits)
    r, g, b = (int(digits[i : i + 2], 16) / 255 for i in (0, 2, 4))
    return colorsys.rgb_to_hsv(r, g, b)


def _dominant(pixels: Pixels) -> tuple[float, float, float]:
    """(hue, saturation, value), each 0 to 1, of the colour that covers most of the picture.

    Sky blue counts less than half, because on vehicles it is window glass.
    """
    hsv = np.asarray(Image.fromarray(pixels[..., :3], "RGB").convert("HSV")).reshape(-1, 3) / 255.0
    weight = (
        (pixels[..., 3].reshape(-1) > 128)
        * (hsv[:, 1] > 0.2)
        * (hsv[:, 2] > 0.4)
        * hsv[:, 1]
        * hsv[:, 2] ** 2
    )
    angle = np.exp(2j * np.pi * hsv[:, 0])
    bins = np.exp(2j * np.pi * np.arange(36) / 36)
    near = (angle[None, :] * bins.conj()[:, None]).real > np.cos(np.radians(15))
    glass = np.exp(2j * np.pi * 197 / 360)
    score = (near @ weight) * np.where((bins * np.conj(glass)).real > np.cos(np.radians(35)), 0.4, 1.0)
    peak = bins[int(np.argmax(score))]
    member = weight * ((angle * np.conj(peak)).real > np.cos(np.radians(20)))
    hue = float(np.angle((angle * member).sum()) / (2 * np.pi)) % 1.0
    s, v = ((hsv[:, i] * member).sum() / member.sum() for i in (1, 2))
    return hue, float(s), float(v)


def recolour(svg: str, colour: str) -> str:
    """The SVG with every colour near its dominant hue turned into ``colour``, lighter and darker shades kept.

    Ours: colours are replaced in the drawing and not in the pixels, so edges stay clean and gradients follow.
    """
    hue, s_ref, v_ref = _dominant(_raster(svg, 96))
    h_new, s_new, v_new = colorsys.rgb_to_hsv(*(c / 255 for c in COLOURS[colour]))

    def turn(match: re.Match[str]) -> str:
        h, s, v = _hsv(match[0])
        distance = abs((h - hue + 0.5) % 1.0 - 0.5)
        if s < 0.2 or v < 0.2 or distance > 32 / 360:
            return match[0]
        rgb = colorsys.hsv_to_rgb(h_new, min(1.0, s_new * s / s_ref), min(1.0, v_new * v / v_ref))
        return "#" + "".join(f"{round(255 * c):02x}" for c in rgb)

    return re.sub(r"#(?:[0-9A-Fa-f]{6}|[0-9A-Fa-f]{3})(?![0-9A-Fa-f])", turn, svg)


def render_key(sets: Mapping[str, IconSet], key: str, side: int = SIDE) -> Pixels:
    """The cut-out called ``key`` (``style/slug[/tone-gender][#colour]``), longest side ``side``."""
    name, _, colour = key.partition("#")
    style, slug, *person = name.split("/")
    icons = sets[style]
    if person:
        tone, _, gender = person[0].rpartition("-")
        slug = icons.person(slug, tone, gender)
    svg = icons.svg(slug)
    return render_svg(recolour(svg, colour) if colour else svg, side)


def load_sets(art: Path, styles: tuple[str, ...]) -> dict[str, IconSet]:
    """The icon sets of these styles under ``art`` (a ``node_modules`` folder)."""
    return {style: IconSet(art / "@iconify-json" / SETS[style]) for style in styles}
