"""The methods, and which of them a request needs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipelines.request import RenderRequest

if TYPE_CHECKING:
    from pipelines.methods.base import Method


def methods_for(request: RenderRequest) -> list[Method]:
    """Fresh method objects in their order. What is off is not there, so that off means off."""
    from pipelines.image_prompts import prompting
    from pipelines.methods.cads import Cads
    from pipelines.methods.guidance_interval import GuidanceInterval
    from pipelines.methods.harmonize import Harmonize
    from pipelines.methods.image_prompt import ImagePrompt
    from pipelines.methods.layer_attention import LayerAttention
    from pipelines.methods.layer_control import LayerControl
    from pipelines.methods.negtome import Avoid, Spread
    from pipelines.methods.reference_rows import ReferenceRows
    from pipelines.methods.vary import Vary

    chosen: list[Method] = []
    spans = [one.spans for one in request.variants] or [tuple(layer.span for layer in request.layers)]
    has_words = [any(each) for each in zip(*spans, strict=True)]
    if any(
        told and (layer.attend_inside or layer.attend_outside)
        for told, layer in zip(has_words, request.layers, strict=True)
    ):
        chosen.append(LayerAttention())
    if prompting(request):
        chosen.append(ImagePrompt())
    if any(avoid.alpha for avoid in request.avoids):
        chosen += [ReferenceRows(), Avoid()]
    varies = any(layer.vary for layer in request.layers)
    if varies and request.images > 1:
        chosen.append(Vary())
    if (request.spread or varies) and request.images > 1:
        chosen.append(Spread())
    if any(layer.keeps_shape for layer in request.layers):
        chosen.append(LayerControl())
    if request.cads:
        chosen.append(Cads())
    if request.guidance_interval is not None:
        chosen.append(GuidanceInterval())
    strengths = {request.background_harmonize, *(layer.harmonize for layer in request.layers)}
    # one strength everywhere is plain image-to-image, whose strength is a share of the steps
    uneven = len(strengths) > 1 or (request.harmonize_by == "timestep" and min(strengths) < 1)
    if request.collage is not None and uneven:
        chosen.append(Harmonize())
    return sorted(chosen, key=lambda method: method.order)
