"""Harmonize: how far each layer may change to fit the scene.

Collage Diffusion (arXiv 2303.00262, section 4.3), the rule also known from Differential Diffusion (arXiv 2306.00950):
the run starts from the noised collage at the largest strength; a place whose own strength is s takes part in the last
share s of the steps and until then is held at the collage, noised to the level the latents have, always with the same
noise. Strength 0 is held to the end, where the level is clean.

Two options of the released code: strength as a share of the timesteps ("timestep": held while s < t), which for flow
matching with a shift is another moment; and growth, what is held reaching over its edge by int(4 t) latent cells.
"""

from __future__ import annotations

import math

import torch

from pipelines.attention.kernel import Kernel
from pipelines.errors import EngineError
from pipelines.methods.base import Method, Run, area_resized
from pipelines.schedulers import noised

LEAST = 1e-7
"""Less of a blurred mask is nothing: transforms leave 1e-17 everywhere."""
ROUNDING = 1e-3
"""Of a step: means of float32 strengths such as .28 must count as 7 of 25 steps, .92 as 184 of 200."""


def steps_run(strength: float, steps: int) -> int:
    """How many of ``steps`` a place of this strength takes part in: img2img's rule, int(steps · strength).

    In decimals, that is: int(100 · .29) is 28 in binary floats, and 29 here.
    """
    return min(steps, math.floor(steps * strength + ROUNDING))


def gaussian(mask: torch.Tensor, radius: float) -> torch.Tensor:
    """Blur of (H, W) with deviation ``radius`` pixels, edges repeated; radius 0 returns the mask itself.

    Rows, then columns, by Fourier transforms, whose time does not grow with the radius: 1,537 taps on each of 2048²
    pixels took seconds a layer. In double precision, within 1e-6 of the sum over all taps.
    """
    if radius <= 0:
        return mask
    reach = max(1, math.ceil(3 * radius))
    axis = torch.arange(-reach, reach + 1, dtype=torch.float64, device=mask.device)
    taps = torch.exp(-0.5 * (axis / radius) ** 2)
    taps = taps / taps.sum()
    blurred = mask.double()
    for _ in range(2):
        rows = torch.nn.functional.pad(blurred[None], (reach, reach), mode="replicate")[0]
        length = rows.shape[-1]
        circular = torch.fft.irfft(torch.fft.rfft(rows) * torch.fft.rfft(taps, length), length)
        blurred = circular[:, 2 * reach :].T  # before that the two ends of the padded row meet
    return torch.where(blurred < LEAST, 0.0, blurred).clamp_max(1).to(mask.dtype)


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


def release_by_times(strengths: torch.Tensor, size: tuple[int, int], times: list[float]) -> torch.Tensor:
    """The step (0..steps) from which each latent cell may change: the first whose timestep is at most its strength.

    strengths: (H, W) → int64 (h, w); times: steps + 1 falling numbers in 0..1, 0 the last. Strength 1 starts at once.
    """
    if strengths.ndim == 0:
        strengths = strengths.expand(size)
    cells = area_resized(strengths[None].double(), size)[0]
    later = torch.tensor(times, dtype=torch.float64, device=cells.device)[:, None, None] > cells + 1e-6
    return torch.where(cells >= 1 - 1e-6, 0, later.sum(0))


def grown(held: torch.Tensor, cells: int) -> torch.Tensor:
    """A bool map (h, w) that reaches ``cells`` further in each direction; with less than 0, the rest does instead."""
    if cells == 0:
        return held
    rising = (held if cells > 0 else ~held).float()
    reach = abs(cells)
    wide = torch.nn.functional.max_pool2d(rising[None], 2 * reach + 1, stride=1, padding=reach)[0] > 0
    return wide if cells > 0 else ~wide


class Harmonize(Method):
    """Pins the latents of places whose time has not come.

    `RenderRequest.grow` is in canvas pixels at full noise and falls with the timestep, int(grow · t / factor) cells, so
    that the end is exact. Above 0 what is held grows, as in the released code (32 on its 8-pixel cells); below 0 what
    may change does, as in Blended Latent Diffusion (arXiv 2206.02779), which that code's comment names.
    """

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
        self._strengths = strengths
        self._times: list[float] = []
        self._schedule()

    def _schedule(self) -> None:
        """The release map, again where the pipeline has set other timesteps since."""
        run = self._run
        if self._times is run.times:
            return
        self._times = run.times
        if run.request.harmonize_by == "timestep":
            release = release_by_times(self._strengths, run.latent_size, run.times)
        else:
            release = release_map(self._strengths, run.latent_size, run.steps)
        self.release = release
        self._last = int(self.release.max())

    def held(self, reached: int, before: int) -> torch.Tensor:
        """Cells (h, w) held at step ``reached``: those whose release is ``before`` or later, and what they grow by."""
        run = self._run
        cells = int(run.request.grow * run.times[reached] / run.card.factor)
        self.release = self.release.to(self._known()[0].device)  # where the latents are
        return grown(self.release >= before, cells)

    def after_step(self, index: int, latents: torch.Tensor) -> torch.Tensor:
        """Cells with a release step after ``index`` get the collage at the level the latents now have."""
        self._schedule()
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
        return torch.where(self.held(0, 1)[None, None], collage, noise)

    def pinned(self, latents: torch.Tensor, reached: int) -> torch.Tensor:
        """``latents`` at step ``reached`` with every cell that is still held put back."""
        clean, noise = self._known()
        kept = noised(clean, noise, self._run.levels[reached], self._run.exploding)
        # at the step a cell is released it must start from the collage, so it counts as held
        return torch.where(self.held(reached, reached)[None, None], kept.to(latents), latents)

    def _known(self) -> tuple[torch.Tensor, torch.Tensor]:
        """The collage's clean latents and the start noise."""
        run = self._run
        if run.clean is None or run.noise is None:
            raise EngineError(
                "this model's pipeline does not tell its start noise; harmonize cannot hold pixels."
            )
        return run.clean, run.noise
