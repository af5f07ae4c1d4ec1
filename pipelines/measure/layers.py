"""Which layers did the model lose? What of each layer the finished pictures show, and which slider would help.

Three numbers a layer: the share of its words' attention inside its mask (`methods.watch`), and the cosines of its
region in the picture with its words and with the same region of the flat collage, by the embedded model's small CLIP. A
cosine alone says little, so it is put on a scale: 0 is the picture's own region with the layer's place filled from
around it, 1 the flat collage's. A layer is lost where neither its words nor its cut-out reach `HALF`: what is there is
nearer to nothing than to what was put there. Ours; the midpoint is a convention, not a fitted threshold.

The CLIP knows the embedded model's world. Words that are not in its vocabulary are not judged. Where it is not
installed, or neither scale is long enough to tell, attention alone decides: lost where the words act inside their mask
no more than an even spread would.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pipelines.pictures import PictureStore, Pixels
from pipelines.request import LayerRequest, RenderRequest

if TYPE_CHECKING:
    from pipelines.measure.features import Features

HALF = 0.5
SHORTEST = 0.05
"""A scale shorter than this in cosine tells nothing."""
CELL = 64
"""Pixels of a latent cell: less than one cannot show anything."""
SMALL = 4 * CELL
"""Below this a layer's size comes before its sliders."""

Mask = NDArray[np.bool_]


def layer_numbers(
    request: RenderRequest,
    images: tuple[Pixels, ...],
    pictures: PictureStore,
    attention: list[list[float | None]],
    features: Features | None,
) -> list[dict[str, Any]]:
    """JSON-ready, one for each layer of a request with a collage; lists have one number an image, None where there is
    none to tell.

    ``name``; ``area``, the layer's share of the picture; ``attention``, its words' share inside its mask
    (``attention[image][layer]``, empty where nothing was run); ``words`` and ``cutout``, cosines of its region;
    ``lost``; ``advice``, what would help where it was lost, else None.
    """
    return [
        _one(number, request, images, pictures, attention, features) for number in range(len(request.layers))
    ]


def lost_in(found: list[dict[str, Any]], image: int) -> list[str]:
    """A sentence for each layer that image ``image`` lost."""
    return [
        f"layer {_line(layer['name'])!r} was lost: {layer['advice']}"
        for layer in found
        if layer["lost"][image]
    ]


def lost_sentences(found: list[dict[str, Any]], images: int) -> list[str]:
    """A sentence for each layer that any of the pictures lost, with how many of them."""
    sentences = []
    for layer in found:
        count = sum(layer["lost"])
        where = f" in {count} of {images} pictures" if images > 1 else ""
        if count:
            sentences.append(f"layer {_line(layer['name'])!r} was lost{where}: {layer['advice']}")
    return sentences


def layer_lines(found: list[dict[str, Any]]) -> list[str]:
    """What was measured of each layer, in words; where there are several pictures, one number each."""

    def each(values: list[float | None], form: str) -> str | None:
        told = ["–" if value is None else form.format(value) for value in values]
        return ", ".join(told) if any(value is not None for value in values) else None

    lines = []
    for layer in found:
        parts = [
            (each(layer["attention"], "{:.0%}"), "of its words' attention inside"),
            (each(layer["words"], "{:.2f}"), "like its words"),
            (each(layer["cutout"], "{:.2f}"), "like its cut-out"),
        ]
        told = [f"{values} {what}" for values, what in parts if values] or ["nothing to measure"]
        lines.append(
            f"{_line(layer['name'])}: {'; '.join([*told, *(['lost'] if any(layer['lost']) else [])])}"
        )
    return lines


def _one(
    number: int,
    request: RenderRequest,
    images: tuple[Pixels, ...],
    pictures: PictureStore,
    attention: list[list[float | None]],
    features: Features | None,
) -> dict[str, Any]:
    layer = request.layers[number]
    values = pictures.get(layer.mask)
    area = float(values.mean() / 255)
    inside = [image[number] for image in attention] or [None] * len(images)
    mask = values >= 128
    mask = mask if mask.any() else values > 0  # a layer seen through
    large = int(mask.sum()) >= CELL
    scales = _scales(number, request, images, pictures, mask, features) if large else []
    words = [scale.get("words") for scale in scales] or [None] * len(images)
    cutout = [scale.get("cutout") for scale in scales] or [None] * len(images)
    lost = []
    for image in range(len(images)):
        own = scales[image] if scales else {}
        reached = [own[name] for name in ("seen_words", "seen_cutout") if name in own]
        share = inside[image]
        if layer.harmonize == 0:
            lost.append(False)
        elif not large:
            lost.append(True)
        elif reached:
            lost.append(max(reached) < HALF)
        else:
            lost.append(share is not None and share <= area)
    found: dict[str, Any] = {
        "name": layer.name,
        "area": round(area, 4),
        "attention": _rounded(inside),
        "words": _rounded(words),
        "cutout": _rounded(cutout),
        "lost": lost,
    }
    worded = any(_words(number, request.of_image(image)) for image in range(len(images)))
    return found | {"advice": _advice(layer, int(mask.sum()), inside, worded) if any(lost) else None}


def _scales(
    number: int,
    request: RenderRequest,
    images: tuple[Pixels, ...],
    pictures: PictureStore,
    mask: Mask,
    features: Features | None,
) -> list[dict[str, float]]:
    """For each image the cosines and, where their scales are long enough, the places on them."""
    if features is None or request.collage is None:
        return []
    box = _box(mask)
    regions = [picture[box] for picture in images]
    empty = [without(region, mask[box]) for region in regions]
    vectors = features.pictures([pictures.get(request.collage)[box], *regions, *empty])
    whole, got, bare = vectors[0], vectors[1 : len(images) + 1], vectors[len(images) + 1 :]
    # where images have prompts of their own, each is held against its own words
    texts = [_words(number, request.of_image(image)) for image in range(len(images))]
    known = [text for text in dict.fromkeys(texts) if text and features.knows(text)]
    said = dict(zip(known, features.texts(known) if known else [], strict=True))
    found = []
    for vector, gone, text in zip(got, bare, texts, strict=True):
        own: dict[str, float] = {}
        asked = {"cutout": whole, **({"words": said[text]} if text in said else {})}
        for name, wanted in asked.items():
            own[name] = float(vector @ wanted)
            low, high = float(gone @ wanted), float(whole @ wanted)
            if high - low >= SHORTEST:
                own[f"seen_{name}"] = (own[name] - low) / (high - low)
        found.append(own)
    return found


def _words(number: int, request: RenderRequest) -> str:
    """What a request without variants says of a layer."""
    span = request.layers[number].span
    return request.prompt[slice(*span)] if span else ""


def _box(mask: Mask) -> tuple[slice, slice]:
    """The mask's box with a quarter of its longer side around it, cut at the picture's edge."""
    found = []
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    margin = max(rows[-1] - rows[0], columns[-1] - columns[0]) // 4 + 1
    for own, side in ((rows, mask.shape[0]), (columns, mask.shape[1])):
        found.append(slice(max(0, own[0] - margin), min(side, own[-1] + 1 + margin)))
    return found[0], found[1]


def without(picture: Pixels, mask: Mask) -> Pixels:
    """The picture (H, W, 3) with what is in the mask (H, W) filled from around it: nearby colours, weighed by a wide
    blur. All of a picture becomes its mean.
    """
    if mask.all():
        return np.broadcast_to(np.rint(picture.mean((0, 1))).astype(np.uint8), picture.shape).copy()
    keep = (~mask).astype(np.float64)
    radius = max(picture.shape[:2]) / 8
    weight = _blurred(keep, radius) + 1e-6
    kept = picture * keep[..., None]
    mean = kept.sum((0, 1)) / keep.sum()
    fill = [(_blurred(kept[..., c], radius) + 1e-6 * mean[c]) / weight for c in range(3)]
    return np.where(mask[..., None], np.rint(np.stack(fill, 2)), picture).clip(0, 255).astype(np.uint8)


def _blurred(values: NDArray[np.float64], deviation: float) -> NDArray[np.float64]:
    """(H, W) by a Gaussian of this deviation in pixels; nothing beyond the edges."""
    for axis, side in enumerate(values.shape):
        at = np.arange(side)
        taps = np.exp(-((at[:, None] - at) ** 2) / (2 * deviation**2))
        values = taps @ values if axis == 0 else values @ taps
    return values


def _advice(layer: LayerRequest, pixels: int, inside: list[float | None], worded: bool) -> str:
    """The slider that helps most, by what was measured: size; the weaker of what
    binds the words to their place, where most of their attention is elsewhere; how much may change.
    """
    if pixels < SMALL:
        return "make it larger"
    if worded:
        shares = [share for share in inside if share is not None]
        mean = sum(shares) / len(shares) if shares else 0.0
        weaker = min(layer.attend_inside, layer.attend_outside)
        if mean < HALF and weaker < 1:  # most of what the words do, they do elsewhere
            return "raise Insist" if layer.attend_inside == weaker else "raise Stay inside"
    return "lower Harmonize"


def _rounded(values: list[float | None]) -> list[float | None]:
    return [None if value is None else round(value, 4) for value in values]


def _line(name: object) -> str:
    return " ".join(str(name)[:100].split())
