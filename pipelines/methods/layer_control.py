"""Keep shape: a ControlNet whose strength each layer sets for itself.

Collage Diffusion (arXiv 2303.00262) shows a ControlNet (arXiv 2302.05543) the edges of the flat collage and scales
what it adds to the denoiser by a map of the layers' strengths. The ControlNet runs beside the denoiser of whatever
stock pipeline the run uses, so nothing is swapped and nothing stays; at strength 1 everywhere the pictures are those
of diffusers' own ControlNet pipelines.

The map is the layers' strengths on their (feathered) visible masks, 0 where no layer is, averaged over the cells of
each residual: where that is 0, nothing at all is added.
"""

from __future__ import annotations

import numpy as np
import torch

from pipelines.attention.kernel import Kernel
from pipelines.edges import edges
from pipelines.errors import EngineError
from pipelines.methods.base import Inputs, Method, Run, Step, area_resized
from pipelines.methods.harmonize import strength_map

MODES = {"canny": 3, "soft": 2}
"""Each kind of edges by its number among those that ControlNet-Union for SDXL was trained with."""


def scaled(residual: torch.Tensor, cells: torch.Tensor, rows: int) -> torch.Tensor:
    """``residual`` (n, C, h, w) times the strengths ``cells`` (h, w), and rows of zeros after it up to ``rows``."""
    own = residual * cells.to(residual)
    if rows == len(own):
        return own
    return torch.cat([own, own.new_zeros(rows - len(own), *own.shape[1:])])


class LayerControl(Method):
    """Runs the ControlNet on the pipeline's own rows; rows of avoid references are left as they are.

    It reads the words as the denoiser does, but for those that only part of the picture sees: of prompts in several
    chunks it reads the first.
    """

    order = 30

    def begin(self, run: Run, kernel: Kernel) -> None:
        """Make the edge map and the map of strengths."""
        request = run.request
        if run.controlnet is None or request.collage is None:
            raise EngineError("keep shape has no ControlNet, or no collage to show it; set it to 0.")
        self._run = run
        shown = edges(run.pictures.get(request.collage), request.edges).astype(np.float32) / 255
        dtype = run.controlnet.dtype
        self._picture = torch.from_numpy(shown).expand(1, 3, -1, -1).to(dtype)
        masks = [torch.from_numpy(run.pictures.get(one.mask).copy()).float() / 255 for one in request.layers]
        self._strengths = strength_map(
            torch.stack(masks),
            [layer.keep_shape if layer.keeps_shape else 0.0 for layer in request.layers],
            0.0,
            [layer.feather for layer in request.layers],
        )
        self._cells: dict[tuple[int, int], torch.Tensor] = {}
        self._words = run.pipe.tokenizer.model_max_length if run.reaches else None

    def before_forward(self, step: Step, inputs: Inputs) -> None:
        """Add the scaled residuals to the denoiser's arguments."""
        run = self._run
        self._picture = self._picture.to(inputs.sample.device)
        residuals = run.family.control(
            run.controlnet, inputs, self._picture, MODES[run.request.edges], step.rows, self._words
        )
        rows = len(inputs.sample)
        run.family.put_control(
            inputs.kwargs, [scaled(residual, self._strengths_of(residual), rows) for residual in residuals]
        )

    def _strengths_of(self, residual: torch.Tensor) -> torch.Tensor:
        size = (residual.shape[-2], residual.shape[-1])
        if size not in self._cells:
            self._cells[size] = area_resized(self._strengths[None], size)[0].to(residual.device)
        return self._cells[size]
