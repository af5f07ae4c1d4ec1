"""What is looked at before a run: its pictures' sizes, and what it asks for in vain. Says, and changes nothing."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pipelines.errors import PictureError
from pipelines.events import Warned
from pipelines.pictures import PictureStore
from pipelines.request import RenderRequest


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


def in_vain(request: RenderRequest, family: Any, pipe: Any) -> Iterator[Warned]:
    """What can have no effect in this run. Raises `PhraseError` where a layer's own words are cut off."""
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


def too_little(request: RenderRequest, steps: int) -> Warned | None:
    """Of a run in which nothing moves although something was meant to: every harmonize is less than one step."""
    if max([request.background_harmonize, *(layer.harmonize for layer in request.layers)]) > 0:
        return Warned(
            f"harmonize is less than one of {steps} steps everywhere, so the collage stays as it is; raise it."
        )
    return None
