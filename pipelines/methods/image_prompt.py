"""Image prompts inside their masks: the decoupled cross-attention of IP-Adapter (arXiv 2308.06721, eq. 5), masked.

diffusers adds to what a place p reads from the text, for each image prompt i, strength_i · mask_i(p) · Attention(q(p),
K_i, V_i). Its own way from a mask to a grid of tokens guesses the grid from the mask's proportions and reads the mask
at each cell's centre, cubically: a narrow layer falls between the centres, and near an edge the weight is below 0 or
above 1. Here a place has the mean of the mask over its own cell, on the UNet's real grids, as everywhere else (ours):
in 0..1, and where the cell is outside the mask exactly 0, so that the prompt adds exactly nothing.
"""

from __future__ import annotations

import torch

from pipelines.attention.kernel import Kernel
from pipelines.errors import EngineError
from pipelines.methods.base import Method, Run, area_resized, grid_of


class ImagePrompt(Method):
    """Lays the masks of image prompts over the queries; the prompts themselves are arguments of the stock call."""

    order = 12

    def begin(self, run: Run, kernel: Kernel) -> None:
        """Take the kernel's slot for masks."""
        self._cells = run.latent_size
        self._laid: dict[tuple[int, int], torch.Tensor] = {}
        kernel.lay_mask = self.lay_mask

    def lay_mask(self, mask: torch.Tensor, queries: int) -> torch.Tensor:
        """(1, H, W) over the canvas in 0..1 → (1, N), computed once a run for each mask and grid.

        A mask is known by where its numbers lie: the run holds all of them, in one tensor.
        """
        key = mask.data_ptr(), queries
        if key not in self._laid:
            grid = grid_of(queries, self._cells)
            if grid is None:
                raise EngineError(f"an attention of {queries} places has no grid; use another canvas size.")
            self._laid[key] = area_resized(mask, grid).flatten(1)
        return self._laid[key]
