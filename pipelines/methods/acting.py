"""Where NegToMe acts: in parts of the denoiser, on grids that are not too small.

The model card says how small is too small (``smallest_grid``; NegToMe's released code asks for 32 of the 128 cells of
SDXL), for the self-attention of a UNet, whose grids are of several sizes; joint attention has one, on which it always
acts. So a canvas can be too small for a part, or for all.
"""

from __future__ import annotations

from collections.abc import Collection

from pipelines.methods.base import Run, grids
from pipelines.models.card import ModelCard

Levels = Collection[tuple[str, int | None]]
"""`Family.levels`: parts of a denoiser, and how often the latents' grid is halved there."""


def is_large_enough(grid: tuple[int, int], card: ModelCard, latent_size: tuple[int, int]) -> bool:
    """Whether NegToMe acts on a ``grid`` (h, w) of a UNet; on the finest also where latents are smaller than that."""
    return min(grid) >= min(card.smallest_grid, *latent_size)


def acts(levels: Levels, parts: Collection[str], card: ModelCard, latent_size: tuple[int, int]) -> bool:
    """Whether there is a place in any of ``parts`` on which NegToMe acts."""
    sizes = grids(latent_size)
    return any(
        part in parts
        and (level is None or is_large_enough(sizes[min(level, len(sizes) - 1)], card, latent_size))
        for part, level in levels
    )


def avoids_somewhere(run: Run) -> bool:
    """Whether there is a place on which a reference picture can act."""
    return acts(run.family.levels(run.pipe), run.card.negtome_blocks, run.card, run.latent_size)


def least_side(levels: Levels, parts: Collection[str], card: ModelCard, multiple: int) -> int:
    """Pixels, a multiple of ``multiple``, that the shorter side needs for NegToMe to act in one of ``parts``.

    Of parts without attention of the picture's own it is that of all.
    """
    own = [level for part, level in levels if part in parts] or [level for _, level in levels]
    halved = min((level or 0 for level in own), default=0)
    # each level halves and rounds up
    cells = ((card.smallest_grid - 1) << halved) + 1
    return -(-cells * card.factor // multiple) * multiple
