"""Previews: a small autoencoder, or a linear map from clean latents to RGB, fitted once for a loaded autoencoder."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from pipelines.pictures import Pixels

PATCH = 16


def smooth_pictures(count: int = 12, side: int = 128, seed: int = 0) -> Pixels:
    """Random soft colour fields, uint8 (count, side, side, 3): enough colours to fit a map, no data set needed."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(count, 3, side // PATCH, side // PATCH, generator=generator)
    coarse = ((coarse - 0.5) * 1.6 + 0.5).clamp(0, 1)
    fine = torch.nn.functional.interpolate(coarse, (side, side), mode="bilinear")
    return (fine * 255).round().byte().permute(0, 2, 3, 1).numpy()


@torch.no_grad()
def fit(family: Any, pipe: Any) -> torch.Tensor:
    """Least squares of mean cell colours on latents: (C + 1, 3), colours in 0..1, last row the constant.

    Ours: every autoencoder gets its own map at no cost to the user; published matrices exist for few.
    """
    pictures = smooth_pictures()
    latents = torch.cat([family.encode_picture(pipe, picture) for picture in pictures]).float().cpu()
    colours = torch.from_numpy(pictures).permute(0, 3, 1, 2).float() / 255
    colours = torch.nn.functional.adaptive_avg_pool2d(colours, (latents.shape[-2], latents.shape[-1]))
    x = latents.permute(0, 2, 3, 1).reshape(-1, latents.shape[1])
    y = colours.permute(0, 2, 3, 1).reshape(-1, 3)
    middle, grey = x.mean(0), y.mean(0)
    gram = (x - middle).T @ (x - middle)
    # a little ridge, in the latents' own scale: soft pictures leave some channels almost unused
    gram += 1e-3 * gram.diagonal().mean() * torch.eye(len(gram))
    slopes: torch.Tensor = torch.linalg.solve(gram, (x - middle).T @ (y - grey))
    return torch.cat([slopes, (grey - middle @ slopes)[None]])


def preview(latents: torch.Tensor, matrix: torch.Tensor, size: tuple[int, int]) -> Pixels:
    """Clean latents (C, h, w) → uint8 (H, W, 3) of ``size`` (H, W)."""
    x = latents.float().cpu().permute(1, 2, 0)
    colours = x @ matrix[:-1] + matrix[-1]
    return _pixels(colours.permute(2, 0, 1)[None], size)


@torch.no_grad()
def decode(latents: torch.Tensor, tiny: Any, size: tuple[int, int]) -> Pixels:
    """Clean latents (C, h, w) → uint8 (H, W, 3) of ``size`` (H, W), by a stock `AutoencoderTiny`.

    Its latents are the denoiser's own, which for other autoencoders are scaled first.
    """
    given = latents[None].to(tiny.device, tiny.dtype) / tiny.config.scaling_factor
    return _pixels(tiny.decode(given).sample.float().cpu() / 2 + 0.5, size)


def _pixels(colours: torch.Tensor, size: tuple[int, int]) -> Pixels:
    picture = torch.nn.functional.interpolate(colours, size, mode="bilinear")[0]
    out: Pixels = (picture.clamp(0, 1) * 255).round().byte().permute(1, 2, 0).numpy()
    return out


def lay_over(picture: Pixels, frozen: Pixels | None) -> Pixels:
    """Frozen pixels (H, W, 4) over a picture (H, W, 3), exact where their alpha is 255; None changes nothing."""
    if frozen is None:
        return picture
    alpha = frozen[..., 3:].astype(np.float32) / 255
    mixed = frozen[..., :3] * alpha + picture * (1 - alpha)
    out: Pixels = np.rint(mixed).astype(np.uint8)
    return out
