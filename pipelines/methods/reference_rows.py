"""Reference rows: avoid pictures that ride along in the batch while NegToMe is active.

Each reference is encoded once, noised to the step's level with noise drawn once from its own generator, and joins the
batch as one row that both guidance branches look at. It leaves before the pipeline sees the output, so a step without
NegToMe costs nothing. Ours: the release encodes the picture anew at each step and pays for it in every step.

Encoded latents are kept for the next render (`kept_latents`). The row's features are not, although no other row changes
them: without the row the batch has another size, in which the other rows differ in the last bits, so that the second of
two equal requests would give another picture than the first; and they are large, in 16 bit the outputs of all blocks
that act some 0.1 GB a step for SDXL at 1024² and 1.4 GB for FLUX, times 8 and 7 steps.
"""

from __future__ import annotations

import threading
import weakref
from collections import OrderedDict
from typing import Any

import torch

from pipelines.attention.kernel import Kernel
from pipelines.methods.acting import avoids_somewhere
from pipelines.methods.base import Inputs, Method, Run, Step
from pipelines.schedulers import noised

NOISE_SEED = 20_241_201
"""Any fixed number: the references' noise depends on nothing the user sets, and on no sampler's generator."""
KEPT = 32
"""References whose latents are kept, for each autoencoder: at 1024² some 8 to 32 MB in all."""

_kept: weakref.WeakKeyDictionary[torch.nn.Module, OrderedDict[Any, torch.Tensor]] = (
    weakref.WeakKeyDictionary()
)
_keeping = threading.Lock()


def kept_latents(run: Run, picture: str) -> torch.Tensor:
    """The clean latents (1, C, h, w) of the picture called ``picture``, encoded on first use; the last `KEPT` are kept.

    The key is all that decides them: pixels (the name is their digest, size included), the autoencoder, how it computes
    and how often its weights were written to (moving them, as offload does, is no writing). It goes when the
    autoencoder does, and nothing is put on it.
    """
    vae = run.pipe.vae
    written = sum(parameter._version for parameter in vae.parameters())
    ways = tuple(getattr(vae, way, False) for way in ("use_tiling", "use_slicing"))
    key = (picture, run.family.name, vae.dtype, run.device, ways, written)
    with _keeping:
        mine = _kept.setdefault(vae, OrderedDict())
        if key in mine:
            mine.move_to_end(key)
            return mine[key]
    found: torch.Tensor = run.family.encode_picture(run.pipe, run.pictures.get(picture))
    with _keeping:
        mine[key] = found
        while len(mine) > KEPT:
            mine.popitem(last=False)
    return found


class ReferenceRows(Method):
    """Appends one row for each avoid reference and drops it again."""

    order = 20

    def __init__(self) -> None:
        self._clean: torch.Tensor | None = None
        self._longer: tuple[torch.Tensor, int, torch.Tensor] | None = None

    def begin(self, run: Run, kernel: Kernel) -> None:
        """Encode the references and the empty text, where there is a place on which they can act."""
        self._run, self._longer = run, None
        if self._clean is not None:  # the next image of the same run
            return
        if not avoids_somewhere(run):
            return
        self._clean = torch.cat([kept_latents(run, avoid.picture) for avoid in run.request.avoids])
        generator = torch.Generator().manual_seed(NOISE_SEED)
        noise = torch.randn(self._clean.shape, generator=generator)
        self._noise = noise.to(self._clean)
        self._text = run.family.empty_text(run.pipe, run.request)

    def before_forward(self, step: Step, inputs: Inputs) -> None:
        """Lengthen the batch by the references that act in this step, where any of its rows is to move."""
        acting = self._acting(step)
        if self._clean is None or not acting:
            return
        if self._run.request.avoid_by == "guidance" and step.steers and len(step.conditional) == step.rows:
            return  # guidance in two calls, and this is the prompt's
        # not by a list of numbers, which a GPU would have to wait for
        clean, noise = (torch.stack([rows[one] for one in acting]) for rows in (self._clean, self._noise))
        rows = noised(clean, noise, step.level, exploding=False).to(inputs.sample.dtype)
        inputs.sample = torch.cat([inputs.sample, self._run.family.pack(rows)])
        self._lengthen(inputs.kwargs, len(rows))
        step.references = {number: step.rows + at for at, number in enumerate(acting)}

    def _lengthen(self, kwargs: dict[str, Any], count: int) -> None:
        """As the family does it; equal states are the same tensor in every step, so that their keys are kept."""
        states = kwargs.get("encoder_hidden_states")
        self._run.family.lengthen(kwargs, self._text, count)
        if states is None:
            return
        if self._longer is not None and self._longer[0] is states and self._longer[1] == count:
            kwargs["encoder_hidden_states"] = self._longer[2]
        else:
            self._longer = states, count, kwargs["encoder_hidden_states"]

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
