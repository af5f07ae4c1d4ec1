"""CADS: noise on the condition, less and less, so that the images of a prompt differ more.

Condition-Annealed Diffusion Sampler (arXiv 2310.17347, section 3, equations 3 to 5): at time t, which runs from 1 to 0,
the condition y becomes ŷ = √γ(t) y + s √(1 − γ(t)) n with n ~ N(0, I); γ is 1 up to τ1, 0 from τ2 on and linear
between. ŷ is brought back to the mean and deviation of y, and mixed with what it was by ψ.

Acts on the token states of the rows that the prompt guides; pooled vectors stay. Ours: n is in units of the condition's
own deviation, so that one s means the same for every text encoder (CLIP's states, which the paper used, have a
deviation near 1). Not the sampler's generator: the noise of image k depends on its seed and on the step, nothing else.
"""

from __future__ import annotations

import hashlib
import math

import torch

from pipelines.attention.kernel import Kernel
from pipelines.methods.base import Inputs, Method, Run, Step


def kept(t: float, low: float, high: float) -> float:
    """γ(t): the share of the condition that is kept; 1 up to ``low`` (τ1), 0 from ``high`` (τ2) on."""
    if t <= low:
        return 1.0
    return 0.0 if t >= high else (high - t) / (high - low)


def disturbed(
    states: torch.Tensor, noise: torch.Tensor, gamma: float, strength: float, mix: float
) -> torch.Tensor:
    """ψ·rescaled(ŷ) + (1 − ψ)·ŷ of one condition (T, D); ``noise`` (T, D) of deviation 1, ``mix`` is ψ."""
    y = states.float()
    mean, deviation = y.mean(), y.std()
    noisy = math.sqrt(gamma) * y + strength * math.sqrt(1 - gamma) * deviation * noise.to(y)
    rescaled = (noisy - noisy.mean()) / noisy.std().clamp_min(1e-12) * deviation + mean
    return (mix * rescaled + (1 - mix) * noisy).to(states)


def drawn(shape: torch.Size, seed: int, step: int) -> torch.Tensor:
    """The noise of one image at one step, from a generator of its own."""
    digest = hashlib.sha256(f"cads {seed} {step}".encode()).digest()
    generator = torch.Generator().manual_seed(int.from_bytes(digest[:7], "big"))
    return torch.randn(shape, generator=generator)


class Cads(Method):
    """Disturbs the prompt's rows in the early steps. Time is the place in the full schedule: 1 at its first step."""

    order = 8

    def begin(self, run: Run, kernel: Kernel) -> None:
        """Remember the run."""
        self._run = run

    def before_forward(self, step: Step, inputs: Inputs) -> None:
        """Other states for the rows that the prompt guides; none where γ is 1."""
        run, request = self._run, self._run.request
        gamma = kept(1 - step.index / run.steps, request.cads_low, request.cads_high)
        if gamma == 1 or not step.conditional:
            return
        texts = run.family.texts(inputs.kwargs)
        for row, seed in zip(step.conditional, run.seeds, strict=True):
            noise = drawn(texts[row].shape, seed, step.index)
            texts[row] = disturbed(texts[row], noise, gamma, request.cads, request.cads_mix)
        run.family.put_texts(inputs.kwargs, texts)
