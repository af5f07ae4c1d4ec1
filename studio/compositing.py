"""From layers to pixels: placing, visible masks front to back, the flat collage, what stays frozen.

A layer's visible mask is its alpha × opacity × its own mask × its clip polygon, times what the layers above
leave uncovered (Collage Diffusion, arXiv 2303.00262, section 3). Feather plays no part here: it softens the
strength map only.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageOps

from pipelines.pictures import Pixels
from studio.document import Avoid, Background, Canvas, Collage, Layer
from studio.pictures import Library

Plane = NDArray[np.floating[Any]]  # (height, width) in 0..1, or (height, width, 3 or 4) premultiplied
Box = tuple[int, int, int, int]  # left, top, right, bottom

_FINER = 4  # the clip polygon is drawn so many times finer than the canvas, then averaged


@dataclass(frozen=True)
class Composition:
    """A collage in pixels. Lists have one entry for each layer that is not hidden, bottom to top.

    ``flat`` is uint8 (height, width, 3). ``visible`` are float32 (height, width) in 0..1, and together with
    ``background_visible`` they sum to 1. ``placed`` tells how many canvas pixels each layer would show if
    nothing lay above it. ``indices`` are places in ``Collage.layers``, ``names`` the layers' labels.
    ``frozen`` is uint8 (height, width, 4): the colour that layers and background with harmonize 0
    contribute, not premultiplied, alpha the sum of their visible masks; where that is 1 the colour equals
    ``flat`` exactly.
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
        window, plane = place_part(layer, library, collage.canvas)
        contribution = plane * uncovered[window][..., None]
        flat[window] += contribution[..., :3]
        if layer.harmonize == 0:
            kept[window] += contribution
        mask = np.zeros(shape, np.float32)
        mask[window] = contribution[..., 3]
        visible.append(mask)
        placed.append(float(plane[..., 3].sum()))
        uncovered[window] *= 1 - plane[..., 3]

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
    whole = np.zeros((canvas.height, canvas.width, 4), np.float32)
    window, plane = place_part(layer, library, canvas)
    whole[window] = plane
    return whole


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


def place_reference(
    avoid: Avoid, library: Library, canvas: Canvas, flat: Pixels
) -> tuple[Pixels, Pixels | None]:
    """A reference picture at canvas size and the part of it that counts.

    Without a picture of its own it is ``flat``, the flat collage (height, width, 3), cut by its mask alone.

    The picture, uint8 (height, width, 3), is scaled to fit and centred, so that nothing of it is lost or
    bent; what it leaves free takes its mean colour. The mask, uint8 (height, width), 255 = counts, leaves
    out that rim, what is transparent, and what the reference's own mask leaves out; None when all of it
    counts.
    """
    picture = Image.fromarray(flat).convert("RGBA") if avoid.picture is None else library.open(avoid.picture)
    if avoid.mask is not None:
        _apply_mask(picture, read_mask(library, avoid.mask))
    fitted = picture.resize(_fitting(picture.size, canvas), Image.Resampling.LANCZOS)
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


def _fitting(size: tuple[int, int], canvas: Canvas) -> tuple[int, int]:
    """The largest (width, height) of this shape on the canvas; a thread of a picture keeps a pixel across."""
    width, height = size
    if width * canvas.height > height * canvas.width:
        return canvas.width, max(1, round(height / width * canvas.width))
    return max(1, round(width / height * canvas.height)), canvas.height


def read_mask(library: Library, digest: str) -> Image.Image:
    """A mask picture as mode L, 255 = keep: its alpha where it has one, else its brightness."""
    picture = library.open(digest)
    alpha = picture.getchannel("A")
    return alpha if alpha.getextrema() != (255, 255) else picture.convert("L")


def _apply_mask(picture: Image.Image, mask: Image.Image) -> None:
    stretched = mask.resize(picture.size, Image.Resampling.BILINEAR) if mask.size != picture.size else mask
    alpha = np.asarray(picture.getchannel("A")).astype(np.float32) * np.asarray(stretched) / 255
    picture.putalpha(Image.fromarray(np.rint(alpha).astype(np.uint8)))


def place_part(layer: Layer, library: Library, canvas: Canvas) -> tuple[tuple[slice, slice], Plane]:
    """The part of the canvas that the layer can touch (rows, columns), and the layer there, as in `place`."""
    picture = library.open(layer.picture)
    if layer.mask is not None:
        _apply_mask(picture, read_mask(library, layer.mask))
    left, top, right, bottom = box = _box(layer, picture.size, canvas)
    window = np.s_[top:bottom, left:right]
    if left >= right or top >= bottom:
        return window, np.zeros((max(0, bottom - top), max(0, right - left), 4), np.float32)
    matrix = _canvas_to_picture(layer, picture.size)
    amount = _inside(picture.size, matrix, box)
    if layer.clip is not None:
        amount = amount * _polygon(layer, picture.size, box)
    return window, _sample(picture, matrix, box) * (amount * np.float32(layer.opacity))[..., None]


def _box(layer: Layer, size: tuple[int, int], canvas: Canvas) -> Box:
    width, height = size
    corners = on_canvas(layer, size, [(0, 0), (width, 0), (0, height), (width, height)])
    across, down = zip(*corners, strict=True)
    left, top = max(0, math.floor(min(across)) - 1), max(0, math.floor(min(down)) - 1)
    right, bottom = math.ceil(max(across)) + 1, math.ceil(max(down)) + 1
    return (
        min(left, canvas.width),
        min(top, canvas.height),
        max(0, min(right, canvas.width)),
        max(0, min(bottom, canvas.height)),
    )


def on_canvas(
    layer: Layer, size: tuple[int, int], points: Iterable[tuple[float, float]]
) -> list[tuple[float, float]]:
    """Where points (x, y) of a layer's picture of this (width, height) come to lie on the canvas."""
    cos, sin = _cos_sin(layer.rotation)
    placed = []
    for u, v in points:
        across = (u - size[0] / 2) * layer.scale_x * (-1 if layer.flip_x else 1)
        down = (v - size[1] / 2) * layer.scale_y * (-1 if layer.flip_y else 1)
        placed.append((layer.x + cos * across - sin * down, layer.y + sin * across + cos * down))
    return placed


def _canvas_to_picture(
    layer: Layer, size: tuple[int, int]
) -> tuple[float, float, float, float, float, float]:
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


def _sample(picture: Image.Image, matrix: tuple[float, ...], box: Box) -> Plane:
    """The picture seen through ``matrix``, premultiplied; its edge goes on for one picture pixel more."""
    a, b, c, d, e, f = matrix
    factor = (max(1, int(math.hypot(a, b))), max(1, int(math.hypot(d, e))))
    source = picture.convert("RGBa")
    if factor != (1, 1):  # bicubic looks at 4 x 4 pixels only, so averaging comes first
        factor = (min(factor[0], source.width), min(factor[1], source.height))
        source = source.reduce(factor)
        a, b, c, d, e, f = (
            a / factor[0],
            b / factor[0],
            c / factor[0],
            d / factor[1],
            e / factor[1],
            f / factor[1],
        )
    left, top, right, bottom = box
    seen = _with_rim(source).transform(
        (right - left, bottom - top),
        Image.Transform.AFFINE,
        (a, b, c + a * left + b * top + 1, d, e, f + d * left + e * top + 1),
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


def _inside(size: tuple[int, int], matrix: tuple[float, ...], box: Box) -> Plane:
    """How much of each pixel the picture's rectangle covers, from the distance to its sides."""
    a, b, c, d, e, f = matrix
    x = np.arange(box[0], box[2], dtype=np.float64) + 0.5
    y = (np.arange(box[1], box[3], dtype=np.float64) + 0.5)[:, None]
    return np.asarray(
        _between(a * x + b * y + c, size[0], math.hypot(a, b))
        * _between(d * x + e * y + f, size[1], math.hypot(d, e)),
        np.float32,
    )


def _between(along: Plane, length: int, step: float) -> Plane:
    """Share of a pixel, ``step`` picture pixels wide, that lies between 0 and ``length``."""
    amount: Plane = np.clip(along / step + 0.5, 0, 1) - np.clip((along - length) / step + 0.5, 0, 1)
    return amount


def _polygon(layer: Layer, size: tuple[int, int], box: Box) -> Plane:
    left, top, right, bottom = box
    corners = [
        ((x - left) * _FINER - 0.5, (y - top) * _FINER - 0.5)
        for x, y in on_canvas(layer, size, layer.clip or ())
    ]
    fine = Image.new("L", ((right - left) * _FINER, (bottom - top) * _FINER))
    ImageDraw.Draw(fine).polygon(corners, fill=255)
    return np.asarray(fine.reduce(_FINER)).astype(np.float32) / 255


def _frozen(kept: Plane, flat: Pixels) -> Pixels:
    alpha = _bytes(kept[..., 3:])
    colour = _bytes(kept[..., :3] / np.maximum(kept[..., 3:], 1e-6))
    return np.concatenate((np.where(alpha == 255, flat, colour), alpha), axis=-1)


def _bytes(plane: Plane) -> Pixels:
    return np.rint(np.clip(plane, 0, 1) * 255).astype(np.uint8)
