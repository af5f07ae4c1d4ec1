"""What a picture shows of its intention: errors inside masks, similarity of pictures and texts, and how sure
that is.

`similarity` (numpy): masked error, PSNR, SSIM. `intervals` (numpy): Wilson and bootstrap intervals.
`features` (torch, loaded when first used): the embedded CLIP's picture and text vectors. `numbers`: what a report says
of a run's pictures.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pipelines.measure.intervals import Interval, bootstrap, wilson
from pipelines.measure.similarity import masked_error, psnr, ssim

if TYPE_CHECKING:
    from pipelines.measure.features import Features

__all__ = ["Features", "Interval", "bootstrap", "masked_error", "psnr", "ssim", "wilson"]


def __getattr__(name: str) -> Any:
    if name == "Features":
        from pipelines.measure.features import Features

        return Features
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
