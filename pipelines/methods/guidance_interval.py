"""Guidance only in an interval of noise levels.

Applying Guidance in a Limited Interval (arXiv 2404.07724, equation 5): the guidance weight is g where the noise level
lies in (σ_lo, σ_hi] and 1 elsewhere. At high noise guidance narrows what the images of a prompt can become, at low
noise it is of no use. Levels are σ/α, the paper's own unit for a model of any kind, at most `schedulers.SIGMA_LIMIT`.

Outside the interval the negative branch is answered with the prompt's own prediction: whatever weight the stock
pipeline then takes, the difference of the two is 0, exactly. Where guidance is off, what steers by it pushes instead
(`Step.guided` is False), each feature as far as it would have pulled the negative branch's.
"""

from __future__ import annotations

from typing import TypeVar

import torch

from pipelines.attention.kernel import Kernel
from pipelines.methods.base import Inputs, Method, Run, Step
from pipelines.schedulers import ratio

Output = TypeVar("Output", torch.Tensor, list[torch.Tensor])


def guided(level: tuple[float, float], interval: tuple[float, float]) -> bool:
    """Whether guidance acts at a noise level (alpha, sigma)."""
    low, high = interval
    return low < ratio(level) <= high


def unguided(output: Output, conditional: list[int], branches: list[list[int]]) -> Output:
    """``output`` (rows of a tensor, or a list of rows) with the prompt's rows in place of every branch's."""
    source = list(range(len(output)))
    for branch in branches:
        for row, prompt in zip(branch, conditional, strict=True):
            source[row] = prompt
    return output[source] if isinstance(output, torch.Tensor) else [output[row] for row in source]


class GuidanceInterval(Method):
    """Takes guidance away outside the request's interval."""

    order = 6

    def begin(self, run: Run, kernel: Kernel) -> None:
        """Remember the run."""
        self._run = run
        self._off = False
        self._prompt: torch.Tensor | None = None

    def before_forward(self, step: Step, inputs: Inputs) -> None:
        """Look at the level; what steers by guidance is told that there is none."""
        interval = self._run.request.guidance_interval
        self._off = interval is not None and not guided(step.level, interval)
        if self._off:
            step.guided = False

    def after_forward(self, step: Step, output: torch.Tensor) -> torch.Tensor:
        """The negative rows become the prompt's; where guidance is a second call, its answer is that of the first."""
        if not self._off:
            return output
        if step.conditional:
            self._prompt = output
            return output if len(step.branches) == 1 else unguided(output, step.conditional, step.branches)
        assert self._prompt is not None
        return self._prompt
