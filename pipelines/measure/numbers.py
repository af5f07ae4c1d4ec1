"""Numbers that go with the pictures of a run: what changed, how they differ, how near they are to what is avoided.

Features are the embedded CLIP's picture vectors; it is read when a run first needs it. Similarities are cosines. Small
differences of one picture mean little: compare runs over the same seeds.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pipelines.events import RenderResult
from pipelines.pictures import PictureStore, Pixels
from pipelines.request import AvoidRequest, RenderRequest

if TYPE_CHECKING:
    from pipelines.measure.encoders import PictureFeatures
    from pipelines.measure.features import Features

CHANGED = 8
"""A pixel has changed where a channel differs by more than this, of 255: ours, a step hardly seen (3 %)."""
GREY = 128
"""Laid over what shall not count."""

Mask = NDArray[np.bool_]


def changed_share(picture: Pixels, flat: Pixels) -> float:
    """The share, 0 to 1, of the pixels (H, W, 3) that differ by more than `CHANGED` in a channel."""
    return float((apart((picture, flat)) > CHANGED).mean())


def apart(images: Sequence[Pixels]) -> Pixels:
    """How far one or more pictures (H, W, 3) lie apart at each pixel, uint8 (H, W): the most in any channel."""
    # written out, as numpy takes twenty times as long over a last axis of three
    red, green, blue = np.moveaxis(
        functools.reduce(np.maximum, images) - functools.reduce(np.minimum, images), 2, 0
    )
    found: Pixels = np.maximum(np.maximum(red, green), blue)
    return found


def shown(picture: Pixels, mask: Mask) -> Pixels | None:
    """What of a picture (H, W, 3) lies in a mask (H, W): its box, the rest of it grey. None where nothing does."""
    if not mask.any():
        return None
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    box = np.s_[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    return np.where(mask[box][..., None], picture[box], np.uint8(GREY))


def held(mask: NDArray[np.uint8]) -> Mask:
    """What a visible mask (H, W) holds: where it covers more than half; of a faint one, more than half of its most."""
    found: Mask = mask > min(127, int(mask.max(initial=0)) // 2)
    return found


def measured(
    result: RenderResult, pictures: PictureStore, features: PictureFeatures | None = None
) -> RenderResult:
    """The result with ``report["numbers"]``, as `numbers` finds them; ``pictures`` holds the request's.

    Where the run was watched (``report["attention"]``) also with what of each layer is there.
    """
    found = numbers(result.request, result.pictures, pictures, features)
    attention = result.report.get("attention")
    if isinstance(attention, list) and result.pictures and result.request.collage is not None:
        from pipelines.measure.layers import layer_numbers

        judge = _embedded()
        found["layers"] = layer_numbers(result.request, result.pictures, pictures, attention, judge)
        found["layers_by"] = "attention alone, no CLIP is installed" if judge is None else "the embedded CLIP"
    return replace(result, report={**result.report, "numbers": found}) if found else result


def numbers(
    request: RenderRequest,
    images: tuple[Pixels, ...],
    pictures: PictureStore,
    features: PictureFeatures | None = None,
) -> dict[str, Any]:
    """JSON-ready; a list has one number an image. Only what there is to tell:

    ``changed``: `changed_share` against the flat collage, where there is one. ``spread``, of two images or more:
    ``distance``, 1 − mean cosine over the pairs, and ``vendi``, the number of different pictures that the batch counts
    for. ``avoids``, for each reference that acts: its ``name`` and the similarity to it ``inside`` its reach (the layer
    it is confined to, else the whole picture) and ``outside`` (None where that is nothing). Where a reference has a
    mask, only what is in it is compared. ``vary``, where layers do: the distance between the images ``inside`` those
    layers and ``outside``, and ``apart``, the largest difference, of 255, of a pixel that no part of them covers.
    ``features`` replaces the embedded CLIP; without it and its weights there are no similarities. Where there are, they
    go with its name, ``features``: "embedded", or the folder or hub id.
    """
    found: dict[str, Any] = {}
    if request.collage is not None:
        flat = pictures.get(request.collage)
        found["changed"] = [round(changed_share(picture, flat), 4) for picture in images]
    avoids = [avoid for avoid in request.avoids if avoid.alpha]
    if not images or (len(images) < 2 and not avoids):
        return found
    features = features or _embedded()
    if features is None:
        return found
    if len(images) > 1:
        from pipelines.measure.features import mean_pairwise_distance, vendi

        vectors = features.pictures(images)
        distance = round(mean_pairwise_distance(vectors), 4)
        found["spread"] = {"distance": distance, "vendi": round(vendi(vectors), 4)}
        varying = [pictures.get(layer.mask) for layer in request.layers if layer.vary]
        if varying:
            found["vary"] = agreement(np.maximum.reduce(varying), images, features)
    if avoids:
        found["avoids"] = [_nearness(avoid, request, images, pictures, features) for avoid in avoids]
    return {**found, "features": features.name}


def told(found: dict[str, Any], image: int) -> list[str]:
    """The numbers of one image in words, those of the batch with them.

    Also ``outside``, where one ``layer`` alone was rendered: the ``largest`` difference outside it, for each image.
    """
    lines = []
    if "changed" in found:
        lines.append(f"changed {100 * float(found['changed'][image]):.0f} %")
    if "outside" in found:
        name = " ".join(str(found["outside"]["layer"])[:100].split())
        lines.append(f"outside {name!r} at most {int(found['outside']['largest'][image])} of 255")
    if "spread" in found:
        distance, vendi = (float(found["spread"][word]) for word in ("distance", "vendi"))
        lines.append(f"spread {distance:.3f}, vendi {vendi:.2f}")
    if "vary" in found:
        vary = found["vary"]
        parts = [
            f"{word} {float(vary[word]):.3f}" for word in ("inside", "outside") if vary[word] is not None
        ]
        lines.append(f"vary {', '.join(parts)}, at most {int(vary['apart'])} of 255 outside")
    for avoid in found.get("avoids", ()):
        name = " ".join(str(avoid["name"])[:100].split())
        places = (("inside", f"near {name!r}"), ("outside", "outside"))
        parts = [f"{word} {float(avoid[at][image]):.3f}" for at, word in places if avoid[at] is not None]
        lines += [", ".join(parts)] if parts else []
    if "features" in found:
        name = " ".join(str(found["features"])[:200].split())
        lines.append(f"by features of {'the embedded CLIP' if name == 'embedded' else repr(name)}")
    if found.get("layers"):
        from pipelines.measure.layers import lost_in

        lines += lost_in(found["layers"], image) or ["no layer lost"]
        lines[-1] += f" (by {found['layers_by']})"
    return lines


def agreement(
    mask: NDArray[np.uint8], images: tuple[Pixels, ...], features: PictureFeatures
) -> dict[str, Any]:
    """``vary`` of `numbers`: ``mask`` (H, W) covers what varies. A soft edge counts for neither side of ``apart``."""
    from pipelines.measure.features import mean_pairwise_distance

    found: dict[str, Any] = {}
    inside = held(mask)
    for word, where in (("inside", inside), ("outside", ~inside)):
        parts = [part for picture in images if (part := shown(picture, where)) is not None]
        found[word] = round(mean_pairwise_distance(features.pictures(parts)), 4) if parts else None
    return {**found, "apart": int(apart(images)[mask == 0].max(initial=0))}


def _nearness(
    avoid: AvoidRequest,
    request: RenderRequest,
    images: tuple[Pixels, ...],
    pictures: PictureStore,
    features: PictureFeatures,
) -> dict[str, Any]:
    whole = np.ones((request.height, request.width), np.bool_)
    counts = whole if avoid.mask is None else held(pictures.get(avoid.mask))
    reach = whole if avoid.layer is None else held(pictures.get(request.layers[avoid.layer].mask))
    reference = shown(pictures.get(avoid.picture), counts)

    def similar(mask: Mask) -> list[float] | None:
        parts = [part for picture in images if (part := shown(picture, mask)) is not None]
        if reference is None or not parts:
            return None
        vectors = features.pictures([reference, *parts])
        return [round(float(cosine), 4) for cosine in vectors[1:] @ vectors[0]]

    return {"name": avoid.name, "inside": similar(reach), "outside": similar(~reach)}


@functools.cache
def _embedded() -> Features | None:
    """The embedded CLIP, read once; None where its weights are not installed."""
    from pipelines.measure.features import CLIP, Features

    return Features() if (CLIP / "config.json").is_file() else None
