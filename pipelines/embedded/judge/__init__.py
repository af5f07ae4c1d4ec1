"""The judge: an independent small classifier that says what a picture of the embedded world shows.

It shares neither weights, nor architecture, nor seed with the CLIP or the denoiser that it judges. Public
names: `Judge` (`Judge.load()`, `whole`, `regions`, `find`), `Vocabulary`. Commands: ``train`` and
``evaluate``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pipelines.embedded.judge.judge import Found, Judge, RegionVerdict, WholeVerdict
    from pipelines.embedded.judge.model import Vocabulary

__all__ = ["Found", "Judge", "RegionVerdict", "Vocabulary", "WholeVerdict"]


def __getattr__(name: str) -> Any:
    if name == "Vocabulary":
        from pipelines.embedded.judge.model import Vocabulary

        return Vocabulary
    if name in __all__:
        from pipelines.embedded.judge import judge

        return getattr(judge, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
