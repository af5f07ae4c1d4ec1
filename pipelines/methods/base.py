"""What a method is, and what it is told.

A method is an object with an ``order`` and any of the five moments below. The engine makes the objects from the
request, sorts them and calls them; it knows none by name. Everything a method needs is on the `Run` (one call of a
pipeline) and the `Step` (one call of its denoiser).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch

from pipelines.attention.kernel import Kernel
from pipelines.models.card import ModelCard
from pipelines.pictures import PictureStore
from pipelines.request import RenderRequest


@dataclass(frozen=True)
class Reach:
    """Text keys that only part of the picture sees.

    In ``rows`` ("prompt", "negative" or "reference" rows) the text tokens ``keys`` are seen inside the masks of
    ``layers``, numbers in `RenderRequest.layers`, or with ``inside`` false only outside of them. No layers and
    ``inside`` means that nothing sees them: what makes rows equally long.
    """

    rows: str
    keys: tuple[int, ...]
    layers: tuple[int, ...] = ()
    inside: bool = True


@dataclass
class Run:
    """One pipeline call. Filled by the engine before the first step.

    ``levels[i]`` is the (alpha, sigma) before step i of the *full* schedule and ``times[i]`` its timestep in 0..1, both
    told anew (as another list) when the pipeline sets its own shift; ``first`` is the step that the run starts at,
    ``images`` the number of pictures in this call and ``seeds`` theirs. ``clean`` and ``noise`` are the collage's
    latents and the start noise, (images, C, h, w), None in plain text-to-image without a collage. ``tokens[l]`` are the
    token positions of layer l's words; where the images have prompts of their own, ``variant_tokens[k][l]`` are those
    of image k in their place. ``reaches`` say which text keys are not seen everywhere. ``controlnet`` is what keeps
    shapes, where a layer asks for it. ``device`` is where the denoiser's attention is; a device map may put the rest of
    the pipeline, and the latents with it, elsewhere.
    """

    request: RenderRequest
    pictures: PictureStore
    card: ModelCard
    pipe: Any
    family: Any
    images: int
    first: int
    steps: int
    seeds: list[int]
    levels: list[tuple[float, float]]
    times: list[float]
    exploding: bool
    latent_size: tuple[int, int]
    tokens: list[list[int]]
    device: torch.device
    dtype: torch.dtype
    clean: torch.Tensor | None = None
    noise: torch.Tensor | None = None
    variant_tokens: list[list[list[int]]] = field(default_factory=list)
    reaches: tuple[Reach, ...] = ()
    controlnet: Any = None

    @property
    def active_steps(self) -> int:
        """How many of the steps that are run NegToMe acts in: the request's share, at least one."""
        return self.steps_of(self.request.window)

    def steps_of(self, window: float) -> int:
        """How many of the steps that are run a share of them is, at least one."""
        return max(1, round(window * (self.steps - self.first)))


@dataclass
class Step:
    """One denoiser call. ``index`` counts in the full schedule; ``rows`` are the batch rows of the pipeline.

    ``conditional`` lists the rows guided by the prompt, ``branches`` the rows of each guidance branch, images in
    order; ``steering`` is how far guidance moves the picture for each unit that the negative branch moves by, the other
    way, and 0 where there is no such branch; ``guided`` turns False in a step that a guidance interval leaves out.
    ``references`` is filled by reference rows: the row, after the pipeline's own, of each avoid that acts in this step,
    by its number in the request.
    """

    index: int
    level: tuple[float, float]
    rows: int
    latent_size: tuple[int, int]
    conditional: list[int]
    branches: list[list[int]]
    steering: float = 0.0
    guided: bool = True
    references: dict[int, int] = field(default_factory=dict)

    @property
    def steers(self) -> bool:
        """Whether what moves the negative branch moves the picture."""
        return self.guided and self.steering > 0


@dataclass
class Inputs:
    """The tensors of a denoiser call that a method may lengthen by rows; ``time`` is the denoiser's own."""

    sample: torch.Tensor
    kwargs: dict[str, Any]
    time: Any = None


def word_count(inputs: Inputs) -> int | None:
    """How many text keys a denoiser call has, where text comes as one tensor; other keys are a picture prompt's."""
    words = inputs.kwargs.get("encoder_hidden_states")
    return words.shape[1] if isinstance(words, torch.Tensor) else None


class Method:
    """Base of all methods: does nothing. Lower ``order`` acts first."""

    order = 0
    joint = False
    """True where the images of a batch act on each other and so must be sampled in one call."""
    composes = False
    """True where the method changes what the run draws (`compose`)."""

    def begin(self, run: Run, kernel: Kernel) -> None:
        """Before the first step of each call: build what does not change, put functions into the kernel's slots."""

    def compose(self, drawn: torch.Tensor) -> torch.Tensor:
        """What the run draws for its images, (images, …, h, w): start noise, sampled clean latents, a step's noise."""
        return drawn

    def before_forward(self, step: Step, inputs: Inputs) -> None:
        """Before each denoiser call; may lengthen ``inputs``."""

    def after_forward(self, step: Step, output: torch.Tensor) -> torch.Tensor:
        """After each denoiser call; takes its own rows out again."""
        return output

    def after_step(self, index: int, latents: torch.Tensor) -> torch.Tensor:
        """After the scheduler's step ``index`` (of the full schedule): the latents to go on with."""
        return latents


def area_resized(mask: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """Masks (n, H, W) averaged over the cells of a grid of ``size`` (h, w) → (n, h, w). Any sizes."""
    device = mask.device
    if device.type == "mps":  # which refuses a size that is no multiple of the grid's
        mask = mask.cpu()
    return torch.nn.functional.adaptive_avg_pool2d(mask[:, None].float(), size)[:, 0].to(device)


def grids(latent_size: tuple[int, int]) -> list[tuple[int, int]]:
    """Every (h, w) that a denoiser may have of latents (h, w), largest first: each level halves, rounding up."""
    found = [latent_size]
    while found[-1] != (1, 1):
        h, w = found[-1]
        found.append((-(-h // 2), -(-w // 2)))
    return found


def grid_of(tokens: int, latent_size: tuple[int, int]) -> tuple[int, int] | None:
    """The (h, w) of a UNet level with this many tokens. None where none fits."""
    for h, w in grids(latent_size):
        if h * w == tokens:
            return h, w
    return None
