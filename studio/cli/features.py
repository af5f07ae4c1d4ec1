"""``--features``: what measures similarity, and what is said where that is left to the embedded CLIP."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from pipelines.events import Warned
from pipelines.models import CARDS
from pipelines.request import RenderRequest

if TYPE_CHECKING:
    from pipelines.measure.encoders import PictureFeatures


def encoder(name: str | None) -> PictureFeatures | None:
    """The features asked for; None leaves the choice to `numbers`, which loads the embedded CLIP if it needs it."""
    if name is None:
        return None
    from pipelines.measure.encoders import features_of

    return features_of(name)


def unlike(requests: Iterable[RenderRequest]) -> Warned | None:
    """What is said, once, where the embedded CLIP is to compare pictures of other models, because nothing else was
    named: it has seen those of the embedded model alone. A better one would have to be downloaded, so it stays.
    """
    from pipelines.measure.features import CLIP

    names = [request.model for request in requests if _compared(request) and not _is_embedded(request.model)]
    if not names or not (CLIP / "config.json").is_file():
        return None
    models = ", ".join(dict.fromkeys(names))
    return Warned(
        "similarity is measured by the embedded model's own CLIP, which has seen no pictures like those of "
        f"{models}; name a CLIP or DINOv2 with --features for numbers that say more."
    )


def _compared(request: RenderRequest) -> bool:
    return request.images > 1 or any(avoid.alpha for avoid in request.avoids)


def _is_embedded(model: str) -> bool:
    return model == "embedded" or Path(model).resolve() == CARDS["embedded"].folder
