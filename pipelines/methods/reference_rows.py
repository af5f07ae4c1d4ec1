"""Reference rows: avoid pictures that ride along in the batch while NegToMe is active.

Each reference is encoded once, noised to the step's level with noise drawn once from its own generator, and joins the
batch as one row that both guidance branches look at. It leaves before the pipeline sees the output, so a step without
NegToMe costs nothing. Ours: the release encodes the picture anew at each step and pays for it in every step.
"""

from __future__ import annotations

import torch

from pipelines.attention.kernel import Kernel
from pipelines.methods.base import Inputs, Method, Run, Step
from pipelines.schedulers import noised

NOISE_SEED = 20_241_201
"""Any fixed number: the references' noise depends on nothing the user sets, and on no sampler's generator."""


class ReferenceRows(Method):
    """Appends one row for each avoid reference and drops it again."""

    order = 20

    def __init__(self) -> None:
        self._clean: torch.Tensor | None = None

    def begin(self, run: Run, kernel: Kernel) -> None:
        """Encode the references and the empty text."""
        self._run = run
        if self._clean is not None:  # the next image of the same run
            return
        pictures = [run.pictures.get(avoid.picture) for avoid in run.request.avoids]
        self._clean = torch.cat([run.family.encode_picture(run.pipe, picture) for picture in pictures])
        generator = torch.Generator().manual_seed(NOISE_SEED)
        noise = torch.randn(self._clean.shape, generator=generator)
        self._noise = noise.to(self._clean)
        self._text = run.family.empty_text(run.pipe, run.request)

    def before_forward(self, step: Step, inputs: Inputs) -> None:
        """Lengthen the batch by the references that act in this step, where any of its rows is to move."""
        acting = self._acting(step)
        if self._clean is None or not acting:
            return
        if (
            self._run.request.avoid_by == "guidance"
            and step.steering > 0
            and len(step.conditional) == step.rows
        ):
            return  # guidance in two calls, and this is the prompt's
        clean, noise = self._clean[acting], self._noise[acting]
        rows = noised(clean, noise, step.level, exploding=False).to(inputs.sample.dtype)
        inputs.sample = torch.cat([inputs.sample, self._run.family.pack(rows)])
        self._run.family.lengthen(inputs.kwargs, self._text, len(rows))
        step.references = {number: step.rows + at for at, number in enumerate(acting)}

    def _acting(self, step: Step) -> list[int]:
        """Numbers of the references whose own window holds the step."""
        run, found = self._run, []
        for number, avoid in enumerate(run.request.avoids):
            window = run.request.window if avoid.window is None else avoid.window
            if avoid.alpha and step.index - run.first < run.steps_of(window):
                found.append(number)
        return found

    def after_forward(self, step: Step, output: torch.Tensor) -> torch.Tensor:
        """Drop the rows that are not the pipeline's."""
        return output[: step.rows] if step.references else output
