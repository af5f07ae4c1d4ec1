"""Vary: one layer differs between the images of a batch while the rest agrees.

Ours. Image k starts from its own noise inside the layers that vary, and from image 0's everywhere else; the same goes
for whatever else the run draws image by image: the clean latents of an autoencoder that samples, and the noise of an
ancestral step. What is left of agreement is then up to the model, whose attention carries differences everywhere; what
harmonize pins outside agrees exactly. Between the images NegToMe (arXiv 2412.01339) pushes inside the layer:
`negtome.Spread` takes max(spread, vary × visible mask) as the alpha of a token.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from pipelines.attention.kernel import Kernel
from pipelines.methods.base import Method, Run, area_resized
from pipelines.request import LayerRequest


def inside_cells(masks: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """Which latent cells have noise of their own: visible masks (L, H, W) in 0..1 → bool (h, w), any of the layers.

    A cell is one or the other, never a mixture: two noises mixed have less variance than noise. It is inside where the
    mask covers more than half of it; of a layer that covers no cell by half, the cells it covers most.
    """
    cover = area_resized(masks, size)
    least = (cover.amax((1, 2), keepdim=True) / 2).clamp_max(0.5)
    return (cover > least).any(0)


def composed(values: torch.Tensor, inside: torch.Tensor) -> torch.Tensor:
    """(images, …, h, w): image 0's values outside ``inside`` (h, w), each image's own inside."""
    return torch.where(inside, values, values[:1])


def token_alpha(
    spread: float, layers: Sequence[LayerRequest], masks: torch.Tensor, grid: tuple[int, int]
) -> torch.Tensor:
    """Alpha of NegToMe between the images for each token, (h·w,): max(spread, vary × mask) where a layer varies.

    masks: (L, H, W) in 0..1, the layers' visible masks.
    """
    cover = area_resized(masks, grid).flatten(1)
    vary = torch.tensor([layer.vary for layer in layers], dtype=cover.dtype, device=cover.device)
    inside = (cover * vary[:, None]).amax(0)
    return torch.where(inside > 0, inside.clamp_min(spread), torch.full_like(inside, spread))


class Vary(Method):
    """Composes what the run draws for its images. The push is done by `negtome.Spread`."""

    order = 5
    joint = True
    composes = True

    def begin(self, run: Run, kernel: Kernel) -> None:
        """Find the latent cells of the layers that vary."""
        self.inside = inside_cells(varying_masks(run), run.latent_size)

    def compose(self, drawn: torch.Tensor) -> torch.Tensor:
        """One noise outside."""
        return composed(drawn, self.inside.to(drawn.device))


def varying_layers(run: Run) -> list[LayerRequest]:
    """The layers of the run's request that vary."""
    return [layer for layer in run.request.layers if layer.vary]


def varying_masks(run: Run) -> torch.Tensor:
    """Their visible masks, (L, H, W) in 0..1."""
    masks = [torch.from_numpy(run.pictures.get(layer.mask).copy()) for layer in varying_layers(run)]
    return torch.stack(masks).to(run.device).float() / 255
