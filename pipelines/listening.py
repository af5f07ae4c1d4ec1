"""What a run's own scheduler tells, which pipelines keep to themselves: start noise, levels, each step's prediction.

The scheduler is made for the run, so its methods are replaced on the object and go with it.
"""

from __future__ import annotations

import functools
import inspect
import types
from collections.abc import Callable
from typing import Any

import torch
from diffusers.utils.torch_utils import randn_tensor

from pipelines import schedulers
from pipelines.errors import EngineError
from pipelines.methods.base import Run

Compose = Callable[[torch.Tensor], torch.Tensor]
"""What the run draws for its images → what it goes on with (`Method.compose`)."""


class Latest:
    """The last denoiser output, the latents it was made from, and the place in the run.

    ``steps`` counts the scheduler's steps, ``turn`` the denoiser's calls since: guidance may ask it twice a step.
    """

    def __init__(self, prediction: str) -> None:
        self.prediction = prediction
        self.steps = 0
        self.turn = 0
        self.output: torch.Tensor | None = None
        self.sample: torch.Tensor | None = None

    def clean(self, level: tuple[float, float], run: Run) -> torch.Tensor:
        """The clean latents they predict, packed, unscaled by nothing: what the autoencoder's scale expects."""
        if self.output is None or self.sample is None:
            raise EngineError("the scheduler was not called; this model's pipeline cannot show previews.")
        return schedulers.predicted_clean(self.sample, self.output, level, self.prediction, run.exploding)


def composed_step(step: Any, compose: Compose) -> Any:
    """The scheduler's own step, with the noise that an ancestral one draws composed; others draw none.

    The same code over another `randn_tensor`, as the tapped processors are over another kernel.
    """

    def drawn(*args: Any, **kwargs: Any) -> torch.Tensor:
        return compose(randn_tensor(*args, **kwargs))

    stock = step.__func__
    own = types.FunctionType(
        stock.__code__,
        {**stock.__globals__, "randn_tensor": drawn},
        stock.__name__,
        stock.__defaults__,
        stock.__closure__,
    )
    own.__kwdefaults__ = stock.__kwdefaults__
    return types.MethodType(functools.wraps(stock)(own), step.__self__)


def listen(scheduler: Any, run: Run, skipped: int, compose: Compose | None) -> Latest:
    """Let the run's own scheduler tell the start noise (img2img draws it inside) and each step's prediction.

    Also the noise levels, which for a flow depend on a shift that only the pipeline knows. ``skipped`` steps come
    before the run's first. ``compose`` is applied to the noise, and to the clean latents that a sampling autoencoder
    has drawn.
    """
    latest = Latest(run.family.prediction or scheduler.config.prediction_type)
    stock_step, stock_set = scheduler.step, scheduler.set_timesteps
    if compose is not None:
        stock_step = composed_step(stock_step, compose)

    @functools.wraps(stock_step)  # pipelines ask the signature for what they may pass
    def step(
        model_output: torch.Tensor, timestep: Any, sample: torch.Tensor, *args: Any, **kwargs: Any
    ) -> Any:
        latest.output, latest.sample = model_output, sample
        latest.steps, latest.turn = latest.steps + 1, 0
        return stock_step(model_output, timestep, sample, *args, **kwargs)

    @functools.wraps(stock_set)
    def set_timesteps(*args: Any, **kwargs: Any) -> None:
        stock_set(*args, **kwargs)
        run.levels, run.times = schedulers.levels(scheduler), schedulers.times(scheduler)
        if skipped and not run.family.image_to_image:
            # a pipeline without a strength of its own is given the rest of the schedule only
            scheduler.timesteps = scheduler.timesteps[skipped:]
            scheduler.sigmas = scheduler.sigmas[skipped:]

    def caught(stock: Any) -> Any:
        @functools.wraps(stock)
        def add_noise(*args: torch.Tensor, **kwargs: torch.Tensor) -> torch.Tensor:
            given = inspect.signature(stock).bind(*args, **kwargs).arguments
            clean = "original_samples" if "original_samples" in given else "sample"
            if compose is not None:
                given |= {clean: compose(given[clean]), "noise": compose(given["noise"])}
            run.clean, run.noise = run.family.start(given[clean]), run.family.start(given["noise"])
            noisy: torch.Tensor = stock(**given)
            return noisy

        return add_noise

    scheduler.step, scheduler.set_timesteps = step, set_timesteps
    for name in ("add_noise", "scale_noise"):
        if hasattr(scheduler, name):
            setattr(scheduler, name, caught(getattr(scheduler, name)))
    return latest
