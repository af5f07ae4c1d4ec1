"""Fewer reference tokens on fine grids: one of each two by two.

The product of all tokens with all reference tokens is what matching costs, and on the finest grid of SDXL or FLUX at
1024² it is most of what NegToMe adds (docs/results/flops.md). Neighbours there cover a 64th of the picture's side and
look alike, which is what token merging lives on: ToMe for Stable Diffusion (arXiv 2303.17604) takes its destinations in
the same way, one of each two by two. A token is picked and not a mean made, so that a partner stays a feature that the
model has. What it changes is measured on the embedded model alone (docs/results/thinning.md): pushes have a cosine of
.76 with the exact ones on 32 × 32 tokens, .89 on 16 × 16, as much as a mean's; every fourth along the lines is nearer
there (.82, .89), and leaves out three columns of four. Ours: NegToMe's release compares all with all.
"""

from __future__ import annotations

import torch

from pipelines.models.card import ModelCard
from pipelines.request import RenderRequest


def thins(card: ModelCard, request: RenderRequest, grid: tuple[int, int]) -> bool:
    """Whether references of ``grid`` (h, w) are thinned: the card says from how many tokens on.

    Never where the request wants every token compared, nor on the released axis, which needs them all.
    """
    if card.thin_from is None or request.exact_match or request.axis == "released":
        return False
    return grid[0] * grid[1] >= card.thin_from


def thinned(features: torch.Tensor, grid: tuple[int, int]) -> torch.Tensor:
    """(rows, h · w, D) of a ``grid`` (h, w) → (rows, ⌈h/2⌉ · ⌈w/2⌉, D): the upper left of each two by two."""
    rows, _, size = features.shape
    return features.reshape(rows, *grid, size)[:, ::2, ::2].flatten(1, 2)


def picked(allowed: torch.Tensor, grid: tuple[int, int]) -> torch.Tensor:
    """As `thinned`, of the ``allowed`` (h · w,) bool: places (M,) of one of them in each two by two that has any.

    So a small part of a reference is thinned, too, and never away.
    """
    h, w = grid
    places = allowed.nonzero().flatten()
    cells = (places // w // 2) * -(-w // 2) + places % w // 2
    first = torch.full((-(-h // 2) * -(-w // 2),), h * w, device=allowed.device)
    first.scatter_reduce_(0, cells, places, "amin")
    return first[first < h * w]
