"""What is looked at before a run: its pictures' sizes, and what it asks for in vain. Says, and changes nothing."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from pipelines.errors import PictureError
from pipelines.events import Warned
from pipelines.pictures import PictureStore
from pipelines.request import RenderRequest

if TYPE_CHECKING:
    from pipelines.engine import Loaded
    from pipelines.sampling import Plan


def check_pictures(request: RenderRequest, pictures: PictureStore) -> None:
    """`PictureError` where one is missing or not of the canvas's size, before anything is loaded."""
    size = (request.height, request.width)
    wanted: list[tuple[str, str | None, tuple[int, ...]]] = [
        ("the collage", request.collage, (*size, 3)),
        ("what is frozen", request.frozen, (*size, 4)),
    ]
    for layer in request.layers:
        wanted.append((f"layer {layer.name!r}: its mask", layer.mask, size))
        for one in (layer.look, layer.image_prompt):
            if one is not None and (found := pictures.get(one.cutout).shape)[2:] != (4,):
                raise PictureError(
                    f"layer {layer.name!r}: its cut-out has the shape {found} where (h, w, 4) is needed; give "
                    "colour and alpha."
                )
    for avoid in request.avoids:
        wanted.append((f"avoid {avoid.name!r}: its picture", avoid.picture, (*size, 3)))
        wanted.append((f"avoid {avoid.name!r}: its mask", avoid.mask, size))
    for what, name, shape in wanted:
        if name is not None and (found := pictures.get(name).shape) != shape:
            raise PictureError(
                f"{what} has the shape {found} where {shape} is needed; place it on the canvas."
            )


def in_vain(request: RenderRequest, loaded: Loaded, how: Plan) -> Iterator[Warned]:
    """What can have no effect in this run. Raises `PhraseError` where a layer's own words are cut off."""
    family, pipe = loaded.family, loaded.pipe
    if request.spread and request.images == 1:
        yield Warned("spread has no other image to push away from; set images to 2 or more.")
    for layer in request.layers:
        where = f"layer {layer.name!r}"
        if layer.vary and request.images == 1:
            yield Warned(f"{where}: vary has no other image; set images to 2 or more.", layer.name)
        elif layer.vary and layer.harmonize == 0:
            yield Warned(f"{where} is frozen, so vary cannot change it; raise harmonize.", layer.name)
        if layer.keep_shape and layer.harmonize == 0:
            yield Warned(f"{where} is frozen and keeps its shape anyway; set keep shape to 0.", layer.name)
        if layer.look is not None and not layer.span:
            yield Warned(f"{where} has no words that its look could stand for; give it some.", layer.name)
        elif layer.look is not None and layer.harmonize == 0:
            yield Warned(f"{where} is frozen, so look cannot change it; raise harmonize.", layer.name)
        if layer.image_prompt is not None and layer.harmonize == 0:
            yield Warned(
                f"{where} is frozen, so its picture as prompt cannot change it; raise harmonize.", layer.name
            )
        if layer.negative and not family.guided(pipe, request):
            yield Warned(
                f"{where}: its negative words have no effect without guidance; raise guidance.", layer.name
            )
    for avoid in request.avoids:
        if avoid.alpha and avoid.layer is not None and request.layers[avoid.layer].harmonize == 0:
            name = request.layers[avoid.layer].name
            yield Warned(
                f"layer {name!r} is frozen, so avoid {avoid.name!r} cannot change it; raise harmonize.", name
            )
    yield from _nowhere(request, loaded)
    start = 1 - how.first / how.steps
    if request.cads and how.count and start <= request.cads_low:
        yield Warned(
            f"cads acts above {request.cads_low:.2g} of the schedule, and this run starts at {start:.2g}; lower "
            f"cads_low{' or raise harmonize' if start < 1 else ''}."
        )
    if request.guidance_interval is not None and not family.guided(pipe, request):
        above = loaded.card.steers_above
        yield Warned(
            "guidance_interval has no guidance to confine; "
            + ("leave it off." if above is None else f"raise guidance above {above:g}, or leave it off.")
        )
    told = [request.of_image(image) for image in range(len(request.variants) or 1)]
    # a layer whose own words are cut off is an error, and said first
    for one in told:
        family.tokens(pipe, one)
        family.reaches(pipe, one)
    for what in ("prompt", "negative_prompt"):
        if any(family.cut_off(pipe, one, getattr(one, what)) for one in told):
            yield Warned(
                f"the {what.replace('_', ' ')} is longer than the model reads; its end has no effect."
            )


def _nowhere(request: RenderRequest, loaded: Loaded) -> Iterator[Warned]:
    """What of NegToMe finds no grid that is large enough for it (`pipelines.methods.acting`)."""
    from pipelines.methods.acting import acts, least_side

    family, card = loaded.family, loaded.card
    varying = [layer for layer in request.layers if layer.vary and layer.harmonize and request.images > 1]
    spreads = bool(request.spread) and request.images > 1
    avoids = [avoid for avoid in request.avoids if avoid.alpha]
    if not (spreads or varying or avoids):
        return
    levels = family.levels(loaded.pipe)
    size = (request.height // card.factor, request.width // card.factor)
    own, named = card.negtome_blocks, request.spread_parts or card.negtome_blocks
    nowhere = "in no part of the denoiser at this size"
    if not acts(levels, named, card, size):
        others = [part for part in family.parts if acts(levels, (part,), card, size)]
        side = least_side(levels, named, card, family.multiple)
        way = f"name other parts ({', '.join(others)})" if others else _larger(side)
        if spreads:
            yield Warned(f"spread acts {nowhere}; {way}.")
        for layer in varying:
            yield Warned(f"layer {layer.name!r}: vary pushes {nowhere}; {way}.", layer.name)
    if not acts(levels, own, card, size):
        for avoid in avoids:
            yield Warned(
                f"avoid {avoid.name!r} acts {nowhere}; {_larger(least_side(levels, own, card, family.multiple))}."
            )


def _larger(side: int) -> str:
    return f"make the shorter side at least {side} pixels"


def too_little(request: RenderRequest, steps: int) -> Warned | None:
    """Of a run in which nothing moves although something was meant to: every harmonize is less than one step."""
    if max([request.background_harmonize, *(layer.harmonize for layer in request.layers)]) > 0:
        return Warned(
            f"harmonize is less than one of {steps} steps everywhere, so the collage stays as it is; raise it."
        )
    return None
