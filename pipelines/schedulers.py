"""Schedulers by name, and their noise levels in one unit.

A noise level is ``(alpha, sigma)``: noisy = alpha·clean + sigma·noise is what the denoiser reads at that step,
whichever scheduler runs; alpha² + sigma² = 1 for diffusion and alpha + sigma = 1 for flow matching. Euler keeps its own
latents at sigma/alpha scale ("exploding"); the others keep them as the denoiser reads them ("preserving").
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pipelines.errors import UnsupportedError
from pipelines.models.card import SCHEDULERS, ModelCard

if TYPE_CHECKING:
    import torch

SIGMA_LIMIT = 14.6
"""Largest sigma/alpha that the attention weight uses: Stable Diffusion's first step; a zero terminal signal-to-noise
ratio would make it infinite."""
EXPLODING = ("euler", "euler_a")
LCM_STEPS = 50
"""Length of the schedule latent consistency models are distilled on (arXiv 2310.04378); a run picks its steps there."""


def check(name: str, card: ModelCard, steps: int) -> None:
    """`UnsupportedError` for a name that the model does not allow, or more steps than it has."""
    if name not in card.schedulers:
        raise UnsupportedError(
            f"scheduler {name!r} cannot be used with {card.name}; choose one of {', '.join(card.schedulers)}."
        )
    if name == "lcm" and steps > LCM_STEPS:
        raise UnsupportedError(
            f"scheduler 'lcm' has at most {LCM_STEPS} steps, not {steps}; lower the steps."
        )


def build(name: str, base: Any, card: ModelCard, *, pinned: bool, steps: int) -> Any:
    """A fresh scheduler called ``name`` over the config of ``base``; never ``base`` itself.

    ``pinned`` tells that harmonize will hold pixels: UniPC then runs without its corrector, which recomputes a step
    from the last sample and would undo the pins. Raises as `check` does.
    """
    check(name, card, steps)
    import diffusers

    if name == "flow_euler":
        return diffusers.FlowMatchEulerDiscreteScheduler.from_config(base.config)
    if name == "dpm++2m":
        return diffusers.DPMSolverMultistepScheduler.from_config(
            base.config, algorithm_type="dpmsolver++", solver_order=2, solver_type="midpoint"
        )
    if name == "unipc":
        off = list(range(steps)) if pinned else []
        return diffusers.UniPCMultistepScheduler.from_config(base.config, disable_corrector=off)
    kinds = {
        "euler": diffusers.EulerDiscreteScheduler,
        "euler_a": diffusers.EulerAncestralDiscreteScheduler,
        "ddim": diffusers.DDIMScheduler,
        "lcm": diffusers.LCMScheduler,
    }
    # clipping is for pixels in −1..1; latents are wider, and the schedulers that know the option default to it
    clip = {"clip_sample": False} if name in ("ddim", "lcm") else {}
    return kinds[name].from_config(base.config, **clip)


def levels(scheduler: Any) -> list[tuple[float, float]]:
    """The (alpha, sigma) before each step of a scheduler with timesteps set, and (1, 0) after the last."""
    steps = len(scheduler.timesteps)
    if hasattr(scheduler, "scale_noise"):
        before = [(1 - float(sigma), float(sigma)) for sigma in scheduler.sigmas[:steps]]
    elif hasattr(scheduler, "sigmas"):
        ratios = [float(value) for value in scheduler.sigmas[:steps]]
        before = [(1 / (1 + r * r) ** 0.5, r / (1 + r * r) ** 0.5) for r in ratios]
    else:
        kept = [float(scheduler.alphas_cumprod[int(t)]) for t in scheduler.timesteps]
        before = [(a**0.5, (1 - a) ** 0.5) for a in kept]
    return [*before, (1.0, 0.0)]


def times(scheduler: Any) -> list[float]:
    """The timestep before each step as a share of all that the model was trained on, 0..1, and 0 after the last."""
    count = scheduler.config.num_train_timesteps
    return [*(float(t) / count for t in scheduler.timesteps), 0.0]


def ratio(level: tuple[float, float]) -> float:
    """sigma/alpha, at most `SIGMA_LIMIT`."""
    alpha, sigma = level
    return min(sigma / alpha, SIGMA_LIMIT) if alpha > 0 else SIGMA_LIMIT


def noised(
    clean: torch.Tensor, noise: torch.Tensor, level: tuple[float, float], exploding: bool
) -> torch.Tensor:
    """``clean`` at a noise level, in the unit of the scheduler's latents. Exact at (1, 0)."""
    alpha, sigma = level
    if sigma == 0:
        return clean
    if exploding:
        return clean + noise * (sigma / alpha)
    return clean * alpha + noise * sigma


def predicted_clean(
    sample: torch.Tensor, output: torch.Tensor, level: tuple[float, float], prediction: str, exploding: bool
) -> torch.Tensor:
    """The clean latents a denoiser's output stands for: "epsilon", "v_prediction", "flow" or "sample"."""
    alpha, sigma = level
    if prediction == "flow":  # (1 − σ)·clean + σ·noise, and the output is noise − clean
        return sample - sigma * output
    if exploding:
        sample = sample * alpha  # (clean + r·noise)·alpha is what the denoiser read
    if prediction == "v_prediction":
        return alpha * sample - sigma * output
    if prediction == "epsilon":
        return (sample - sigma * output) / max(alpha, 1e-4)
    return output


__all__ = [
    "EXPLODING",
    "SCHEDULERS",
    "SIGMA_LIMIT",
    "build",
    "check",
    "levels",
    "noised",
    "predicted_clean",
    "ratio",
    "times",
]
