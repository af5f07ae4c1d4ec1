"""Harmonize: how far each layer may change to fit the scene.

Collage Diffusion (arXiv 2303.00262, section 4.3), the rule also known from Differential Diffusion (arXiv 2306.00950):
the run starts from the noised collage at the largest strength; a place whose own strength is s takes part in the last
share s of the steps and until then is held at the collage, noised to the level the latents have, always with the same
noise. Strength 0 is held to the end, where the level is clean.
"""

from __future__ import annotations

import math

import torch

from pipelines.attention.kernel import Kernel
from pipelines.errors import EngineError
from pipelines.methods.base import Method, Run, area_resized
from pipelines.schedulers import noised

ROUNDING = 1e-3
"""Of a step: means of float32 strengths such as .28 must count as 7 of 25 steps, .92 as 184 of 200."""


def steps_run(strength: float, steps: int) -> int:
    """How many of ``steps`` a place of this strength takes part in: img2img's rule, int(steps · strength).

    In decimals, that is: int(100 · .29) is 28 in binary floats, and 29 here.
    """
    return min(steps, math.floor(steps * strength + ROUNDING))


def gaussian(mask: torch.Tensor, radius: float) -> torch.Tensor:
    """Blur of (H, W) with deviation ``radius`` pixels, edges repeated; radius 0 returns the mask itself."""
    if radius <= 0:
        return mask
    reach = max(1, math.ceil(3 * radius))
    axis = torch.arange(-reach, reach + 1, dtype=mask.dtype, device=mask.device)
    kernel = torch.exp(-0.5 * (axis / radius) ** 2)
    kernel = kernel / kernel.sum()
    rows = torch.nn.functional.pad(mask[None, None], (reach, reach, 0, 0), mode="replicate")
    rows = torch.nn.functional.conv2d(rows, kernel.view(1, 1, 1, -1))
    columns = torch.nn.functional.pad(rows, (0, 0, reach, reach), mode="replicate")
    return torch.nn.functional.conv2d(columns, kernel.view(1, 1, -1, 1))[0, 0]


def strength_map(
    masks: torch.Tensor, strengths: list[float], background: float, feathers: list[float]
) -> torch.Tensor:
    """Strength of each pixel (H, W): the mean of the layers' strengths, weighted by their (feathered) visible masks.

    masks: (L, H, W) in 0..1, visible masks that sum to at most 1; what they leave, feathered too, counts for the
    background. With one feather for all this is the paper's blur of the whole map. Ours in that half-transparent edges
    mix strengths; the released code pastes them hard.
    """
    if not len(masks):
        return torch.tensor(float(background))
    covered, mixed = torch.zeros_like(masks[0]), torch.zeros_like(masks[0])
    for mask, strength, radius in zip(masks, strengths, feathers, strict=True):
        softened = gaussian(mask, radius)
        covered += softened
        mixed += softened * strength
    return (mixed + (1 - covered).clamp_min(0) * background) / covered.clamp_min(1)


def release_map(strengths: torch.Tensor, size: tuple[int, int], steps: int) -> torch.Tensor:
    """The step (0..steps) from which each latent cell may change: steps − int(steps · mean strength of its pixels).

    strengths: (H, W) → int64 (h, w). A cell that is half frozen starts later, so the frozen side loses nothing it
    needs: what is really frozen is laid over exactly at the end.
    """
    if strengths.ndim == 0:
        strengths = strengths.expand(size)
    cells = area_resized(strengths[None].double(), size)[0]
    return steps - torch.floor(cells.double() * steps + ROUNDING).clamp(0, steps).long()


class Harmonize(Method):
    """Pins the latents of places whose time has not come."""

    order = 90

    def begin(self, run: Run, kernel: Kernel) -> None:
        """Build the release map; needs ``run.clean`` and ``run.noise``."""
        self._run = run
        request = run.request
        height, width = request.height, request.width
        masks = [
            torch.from_numpy(run.pictures.get(layer.mask).copy()).float() / 255 for layer in request.layers
        ]
        strengths = strength_map(
            torch.stack(masks) if masks else torch.zeros(0, height, width),
            [layer.harmonize for layer in request.layers],
            request.background_harmonize,
            [layer.feather for layer in request.layers],
        )
        self.release = release_map(strengths, run.latent_size, run.steps).to(run.device)
        self._last = int(self.release.max())

    def after_step(self, index: int, latents: torch.Tensor) -> torch.Tensor:
        """Cells with a release step after ``index`` get the collage at the level the latents now have."""
        reached = index + 1
        if reached > self._last:
            return latents
        return self.pinned(latents, reached)

    def start(self, scale: float) -> torch.Tensor:
        """Start of a run from pure noise, (images, C, h, w): noise at strength 1, the noised collage elsewhere.

        ``scale`` is what the pipeline will multiply it with.
        """
        clean, noise = self._known()
        collage = noised(clean, noise, self._run.levels[0], self._run.exploding) / scale
        return torch.where((self.release > 0)[None, None], collage, noise)

    def pinned(self, latents: torch.Tensor, reached: int) -> torch.Tensor:
        """``latents`` at step ``reached`` with every cell that is still held put back."""
        clean, noise = self._known()
        held = noised(clean, noise, self._run.levels[reached], self._run.exploding)
        # at the step a cell is released it must start from the collage, hence ≥
        return torch.where((self.release >= reached)[None, None], held.to(latents), latents)

    def _known(self) -> tuple[torch.Tensor, torch.Tensor]:
        """The collage's clean latents and the start noise."""
        run = self._run
        if run.clean is None or run.noise is None:
            raise EngineError(
                "this model's pipeline does not tell its start noise; harmonize cannot hold pixels."
            )
        return run.clean, run.noise
