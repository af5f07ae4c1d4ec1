"""What is refused before a run: as far as the model's card tells, and as far as the model does once it is loaded."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pipelines.errors import UnsupportedError
from pipelines.request import RenderRequest

if TYPE_CHECKING:
    from pipelines.engine import Loaded
    from pipelines.loading import LoadOptions
    from pipelines.models import ModelCard

NOT_TOGETHER = (
    "images with prompts of their own (variants) cannot be made together where a prompt is longer than the model reads "
    "at once or a layer has negative words; shorten the prompts or make one image at a time."
)


def by_card(request: RenderRequest, card: ModelCard, options: LoadOptions) -> None:
    """`UnsupportedError` for what the request asks in vain of every model of this card. Nothing is fetched for it."""
    from pipelines import schedulers
    from pipelines.families import family
    from pipelines.image_prompts import adapter_asked
    from pipelines.loading import controlnet_asked

    schedulers.check(request.scheduler, card, request.steps)
    family(card.family).check(request)
    controlnet_asked(card, request, options)
    adapter_asked(card, request, options)


def by_model(request: RenderRequest, loaded: Loaded) -> None:
    """`UnsupportedError` for what the request asks in vain of this very model, `PhraseError` where it cannot read it.

    With learned looks prompts have another length, so whether images can share a call shows in the run alone.
    """
    from pipelines.methods import methods_for
    from pipelines.sampling import plan

    loaded.family.check(request, loaded.pipe)
    if plan(request).count == 0 or any(layer.look is not None for layer in request.layers):
        return
    if any(method.joint for method in methods_for(request)) and apart(request, loaded.family, loaded.pipe):
        raise UnsupportedError(NOT_TOGETHER)


def apart(request: RenderRequest, family: Any, pipe: Any) -> bool:
    """Whether images cannot share a call: they have prompts of their own, and text keys that not everything sees."""
    told = [request.of_image(image) for image in range(len(request.variants))]
    return any(family.reaches(pipe, one) for one in told)
