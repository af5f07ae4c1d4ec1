"""From layers to pixels: placing, visible masks front to back, the flat collage, what stays frozen.

A layer's visible mask is its alpha × opacity × its own mask × its clip polygon, times what the layers above
leave uncovered (Collage Diffusion, arXiv 2303.00262, section 3). Feather plays no part here: it softens the
strength map only.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageOps

from pipelines.pictures import Pixels
from studio.document import Avoid, Background, Canvas, Collage, Layer
from studio.pictures import Library

Plane = NDArray[np.float32]  # (height, width) in 0..1, or (height, width, 4) premultiplied

_FINER = 4  # the clip polygon is drawn so many times finer than the canvas, then averaged


@dataclass(frozen=True)
class Composition:
    """A collage in pixels. Lists have one entry for each layer that is not hidden, bottom to top.

    ``flat`` is uint8 (height, width, 3). ``visible`` are float32 (height, width) in 0..1, and together with
    ``background_visible`` they sum to 1. ``placed`` tells how many canvas pixels each layer would show if nothing
    lay above it. ``indices`` are places in ``Collage.layers``, ``names`` the layers' labels. ``frozen`` is uint8
    (height, width, 4): the colour that layers and background with harmonize 0 contribute, not premultiplied, alpha
    the sum of their visible masks; where that is 1 the colour equals ``flat`` exactly.
    """

    flat: Pixels
    visible: tuple[Plane, ...]
    background_visible: Plane
    placed: tuple[float, ...]
    indices: tuple[int, ...]
    names: tuple[str, ...]
    frozen: Pixels


def compose(collage: Collage, library: Library) -> Composition:
    """Flatten all layers that are not hidden; `PictureError` when a picture is missing or damaged."""
    shape = (collage.canvas.height, collage.canvas.width)
    uncovered = np.ones(shape, np.float32)
    flat = np.zeros((*shape, 3), np.float32)
    kept = np.zeros((*shape, 4), np.float32)
    shown = [index for index, layer in enumerate(collage.layers) if layer.visible]
    visible: list[Plane] = []
    placed: list[float] = []

    for index in reversed(shown):
        layer = collage.layers[index]
        plane = place(layer, library, collage.canvas)
        contribution = plane * uncovered[..., None]
        flat += contribution[..., :3]
        if layer.harmonize == 0:
            kept += contribution
        visible.append(contribution[..., 3])
        placed.append(float(plane[..., 3].sum()))
        uncovered = uncovered * (1 - plane[..., 3])

    under = place_background(collage.background, library, collage.canvas) * uncovered[..., None]
    flat += under
    if collage.background.harmonize == 0:
        kept[..., :3] += under
        kept[..., 3] += uncovered

    pixels = _bytes(flat)
    return Composition(
        flat=pixels,
        visible=tuple(reversed(visible)),
        background_visible=uncovered,
        placed=tuple(reversed(placed)),
        indices=tuple(shown),
        names=tuple(collage.layers[index].label for index in shown),
        frozen=_frozen(kept, pixels),
    )


def place(layer: Layer, library: Library, canvas: Canvas) -> Plane:
    """The layer alone on the canvas: float32 (height, width, 4), premultiplied by its alpha, in 0..1.

    Alpha holds everything that is the layer's own: the picture's alpha, opacity, mask and clip polygon.
    """
    picture = library.open(layer.picture)
    if layer.mask is not None:
        _apply_mask(picture, read_mask(library, layer.mask))
    matrix = _canvas_to_picture(layer, picture.size)
    plane = _sample(picture, matrix, canvas)
    amount = _inside(picture.size, matrix, canvas)
    if layer.clip is not None:
        amount = amount * _polygon(layer, picture.size, canvas)
    return plane * (amount * np.float32(layer.opacity))[..., None]


def place_background(background: Background, library: Library, canvas: Canvas) -> Plane:
    """float32 (height, width, 3) in 0..1: the colour, and over it the picture, scaled to cover, centred."""
    colour = np.array([int(background.colour[at : at + 2], 16) for at in (1, 3, 5)], np.float32) / 255
    plane = np.broadcast_to(colour, (canvas.height, canvas.width, 3))
    if background.picture is None:
        return plane
    size = (canvas.width, canvas.height)
    picture = ImageOps.fit(library.open(background.picture), size, Image.Resampling.LANCZOS)
    over = np.asarray(picture).astype(np.float32) / 255
    return over[..., :3] * over[..., 3:] + plane * (1 - over[..., 3:])


def place_reference(avoid: Avoid, library: Library, canvas: Canvas) -> tuple[Pixels, Pixels | None]:
    """A reference picture at canvas size and the part of it that counts.

    The picture, uint8 (height, width, 3), is scaled to fit and centred, so that nothing of it is lost or bent;
    what it leaves free takes its mean colour. The mask, uint8 (height, width), 255 = counts, leaves out that
    rim, what is transparent, and what the reference's own mask leaves out; None when all of it counts.
    """
    picture = library.open(avoid.picture)
    if avoid.mask is not None:
        _apply_mask(picture, read_mask(library, avoid.mask))
    fitted = ImageOps.contain(picture, (canvas.width, canvas.height), Image.Resampling.LANCZOS)
    pixels = np.asarray(fitted).astype(np.float32)
    alpha = pixels[..., 3:] / 255
    mean = (pixels[..., :3] * alpha).sum((0, 1)) / max(float(alpha.sum()), 1e-6)
    left, top = (canvas.width - fitted.width) // 2, (canvas.height - fitted.height) // 2
    inner = np.s_[top : top + fitted.height, left : left + fitted.width]
    plane = np.empty((canvas.height, canvas.width, 3), np.float32)
    plane[:] = mean
    plane[inner] = pixels[..., :3] * alpha + mean * (1 - alpha)
    mask = np.zeros((canvas.height, canvas.width), np.uint8)
    mask[inner] = pixels[..., 3].astype(np.uint8)
    return _bytes(plane / 255), None if bool((mask == 255).all()) else mask


def read_mask(library: Library, digest: str) -> Image.Image:
    """A mask picture as mode L, 255 = keep: its alpha where it has one, else its brightness."""
    picture = library.open(digest)
    alpha = picture.getchannel("A")
    return alpha if alpha.getextrema() != (255, 255) else picture.convert("L")


def _apply_mask(picture: Image.Image, mask: Image.Image) -> None:
    stretched = mask.resize(picture.size, Image.Resampling.BILINEAR) if mask.size != picture.size else mask
    alpha = np.asarray(picture.getchannel("A")).astype(np.float32) * np.asarray(stretched) / 255
    picture.putalpha(Image.fromarray(np.rint(alpha).astype(np.uint8)))


def _canvas_to_picture(layer: Layer, size: tuple[int, int]) -> tuple[float, float, float, float, float, float]:
    """(a, b, c, d, e, f): canvas point (x, y) shows picture point (ax + by + c, dx + ey + f).

    Points are continuous: pixel i spans i to i + 1.
    """
    cos, sin = _cos_sin(layer.rotation)
    across = (-1 if layer.flip_x else 1) / layer.scale_x
    down = (-1 if layer.flip_y else 1) / layer.scale_y
    a, b, d, e = cos * across, sin * across, -sin * down, cos * down
    return a, b, size[0] / 2 - a * layer.x - b * layer.y, d, e, size[1] / 2 - d * layer.x - e * layer.y


def _cos_sin(degrees: float) -> tuple[float, float]:
    quarter = degrees / 90
    if quarter == round(quarter):  # exact, so that a right angle leaves pixels as they are
        return ((1.0, 0.0), (0.0, 1.0), (-1.0, 0.0), (0.0, -1.0))[round(quarter) % 4]
    return math.cos(math.radians(degrees)), math.sin(math.radians(degrees))


def _sample(picture: Image.Image, matrix: tuple[float, ...], canvas: Canvas) -> Plane:
    """The picture seen through ``matrix``, premultiplied; a rim of one picture pixel around it is its own edge."""
    a, b, c, d, e, f = matrix
    factor = (max(1, int(math.hypot(a, b))), max(1, int(math.hypot(d, e))))
    source = picture.convert("RGBa")
    if factor != (1, 1):  # bicubic looks at 4 x 4 pixels only, so averaging comes first
        factor = (min(factor[0], source.width), min(factor[1], source.height))
        source = source.reduce(factor)
        a, b, c, d, e, f = a / factor[0], b / factor[0], c / factor[0], d / factor[1], e / factor[1], f / factor[1]
    seen = _with_rim(source).transform(
        (canvas.width, canvas.height),
        Image.Transform.AFFINE,
        (a, b, c + 1, d, e, f + 1),
        Image.Resampling.BICUBIC,
    )
    plane = np.asarray(seen).astype(np.float32) / 255
    np.minimum(plane[..., :3], plane[..., 3:], out=plane[..., :3])  # bicubic overshoots
    return plane


def _with_rim(source: Image.Image) -> Image.Image:
    width, height = source.size
    wide = Image.new(source.mode, (width + 2, height + 2))
    wide.paste(source, (1, 1))
    for column, to in ((1, 0), (width, width + 1)):
        wide.paste(wide.crop((column, 0, column + 1, height + 2)), (to, 0))
    for row, to in ((1, 0), (height, height + 1)):
        wide.paste(wide.crop((0, row, width + 2, row + 1)), (0, to))
    return wide


def _inside(size: tuple[int, int], matrix: tuple[float, ...], canvas: Canvas) -> Plane:
    """How much of each canvas pixel the picture's rectangle covers: distance to its sides, in canvas pixels."""
    a, b, c, d, e, f = matrix
    x = np.arange(canvas.width, dtype=np.float64) + 0.5
    y = (np.arange(canvas.height, dtype=np.float64) + 0.5)[:, None]
    amount = np.ones((canvas.height, canvas.width))
    for along, steps, length in ((a * x + b * y + c, math.hypot(a, b), size[0]), (d * x + e * y + f, math.hypot(d, e), size[1])):
        amount *= np.clip(along / steps + 0.5, 0, 1) - np.clip((along - length) / steps + 0.5, 0, 1)
    return amount.astype(np.float32)


def _polygon(layer: Layer, size: tuple[int, int], canvas: Canvas) -> Plane:
    assert layer.clip is not None
    cos, sin = _cos_sin(layer.rotation)
    corners = []
    for u, v in layer.clip:
        across = (u - size[0] / 2) * layer.scale_x * (-1 if layer.flip_x else 1)
        down = (v - size[1] / 2) * layer.scale_y * (-1 if layer.flip_y else 1)
        x, y = layer.x + cos * across - sin * down, layer.y + sin * across + cos * down
        corners.append((x * _FINER - 0.5, y * _FINER - 0.5))
    fine = Image.new("L", (canvas.width * _FINER, canvas.height * _FINER))
    ImageDraw.Draw(fine).polygon(corners, fill=255)
    return np.asarray(fine.reduce(_FINER)).astype(np.float32) / 255


def _frozen(kept: Plane, flat: Pixels) -> Pixels:
    alpha = _bytes(kept[..., 3:])
    colour = _bytes(kept[..., :3] / np.maximum(kept[..., 3:], 1e-6))
    return np.concatenate((np.where(alpha == 255, flat, colour), alpha), axis=-1)


def _bytes(plane: Plane) -> Pixels:
    return np.rint(np.clip(plane, 0, 1) * 255).astype(np.uint8)
