"""One call of a stock pipeline with methods around it, and nothing left behind.

The pipeline object and its scheduler are made for the call over the loaded parts; the only things put on shared
modules are the tapped processors, two hooks on the denoiser and what remembers the text's keys and values, and all are
taken out again whatever happens.
"""

from __future__ import annotations

import types
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from diffusers.utils.torch_utils import get_module_execution_device, randn_tensor
from PIL import Image

from pipelines import schedulers
from pipelines.attention.kernel import Kernel
from pipelines.attention.memo import remembered
from pipelines.attention.tap import installed
from pipelines.errors import EngineError, UnsupportedError
from pipelines.listening import Compose, Latest, listen
from pipelines.methods.base import Method, Run, Step
from pipelines.methods.confine import Confine
from pipelines.methods.harmonize import Harmonize, steps_run
from pipelines.models.card import ModelCard
from pipelines.pictures import PictureStore, Pixels
from pipelines.refusals import NOT_TOGETHER
from pipelines.request import RenderRequest

NOTHING: Mapping[str, Any] = types.MappingProxyType({})
OnStep = Callable[[int, int, Callable[[], torch.Tensor]], None]
"""(steps done in this call, steps of this call, function giving the predicted clean latents (n, C, h, w))."""


def _silent(message: str) -> None:
    """Nobody listens."""


@dataclass(frozen=True)
class Plan:
    """How a request is run: ``first`` of ``steps`` is where it starts, ``from_picture`` whether img2img does it."""

    steps: int
    first: int
    from_picture: bool

    @property
    def count(self) -> int:
        """Denoiser steps really run for each image; 0 means that nothing may change."""
        return self.steps - self.first


def plan(request: RenderRequest) -> Plan:
    """Start at the largest strength among layers and background; strength 1 starts from pure noise."""
    if request.collage is None:
        return Plan(request.steps, 0, False)
    largest = max([request.background_harmonize, *(layer.harmonize for layer in request.layers)])
    count = steps_run(largest, request.steps)
    return Plan(request.steps, request.steps - count, from_picture=largest < 1)


def sample(
    base: Any,
    family: Any,
    card: ModelCard,
    request: RenderRequest,
    pictures: PictureStore,
    methods: list[Method],
    seeds: list[int],
    on_step: OnStep,
    more: Mapping[str, Any] = NOTHING,
    controlnet: Any = None,
    device: torch.device | None = None,
    warn: Callable[[str], None] = _silent,
) -> list[Pixels]:
    """The pictures of ``seeds``, uint8 (H, W, 3), in one pipeline call. Raises what ``on_step`` raises.

    ``more`` are further arguments of the call, ``controlnet`` what keeps shapes where a layer asks for it, ``device``
    where the denoiser runs, if that is known: it walks through all modules to tell. ``warn`` is told of pictures that
    the model's safety checker has blacked out.
    """
    told = [request.of_image(seed - request.seed) for seed in seeds] if request.variants else []
    if len(told) == 1:
        request, told = told[0], []
    how = plan(request)
    held = next((method for method in methods if isinstance(method, Harmonize)), None)
    scheduler = schedulers.build(
        request.scheduler, base.scheduler, card, pinned=held is not None, steps=how.steps
    )
    pipe = family.pipeline(base, scheduler, from_picture=how.from_picture and bool(family.image_to_image))
    pipe.set_progress_bar_config(disable=True)
    denoiser = family.denoiser(pipe)
    # after the pipeline is made, which mends old scheduler configs; it sets the same steps again when called
    family.set_timesteps(pipe, scheduler, request, how.steps)
    run = Run(
        request=request,
        pictures=pictures,
        card=card,
        pipe=pipe,
        family=family,
        images=len(seeds),
        first=how.first,
        steps=how.steps,
        seeds=seeds,
        levels=schedulers.levels(scheduler),
        times=schedulers.times(scheduler),
        exploding=request.scheduler in schedulers.EXPLODING,
        latent_size=(request.height // card.factor, request.width // card.factor),
        tokens=family.tokens(pipe, request),
        device=get_module_execution_device(denoiser) if device is None else device,
        dtype=torch.float32 if family.keeps_float32 else denoiser.dtype,  # of what is not quantized
        variant_tokens=[family.tokens(pipe, one) for one in told],
        reaches=family.reaches(pipe, request),
        controlnet=controlnet,
    )
    if any(family.reaches(pipe, one) for one in told):
        raise UnsupportedError(NOT_TOGETHER)
    if run.reaches:  # which words are confined the family knows, with its tokenizer
        methods = sorted([*methods, Confine()], key=lambda method: method.order)
    kernel = Kernel()
    for method in methods:
        method.begin(run, kernel)
    compose = _composed(methods)
    generators = [torch.Generator().manual_seed(seed) for seed in seeds]
    latest = listen(scheduler, run, how.first if how.from_picture else 0, compose)
    # a flow starts from unscaled noise and its scheduler says nothing of it
    start_scale = float(getattr(scheduler, "init_noise_sigma", 1.0))
    arguments = {**_arguments(run, how, held, generators, start_scale, compose), **more}
    if told:
        arguments |= _each_its_own(arguments, [one.prompt for one in told])

    def after(_pipe: Any, index: int, _timestep: Any, tensors: dict[str, Any]) -> dict[str, Any]:
        absolute = how.first + index
        latents = family.unpack(tensors["latents"], run.latent_size)
        for method in methods:
            latents = method.after_step(absolute, latents)
        level = run.levels[absolute]
        if index + 1 == how.count:
            memory.forget()  # the decoder wants the room
        on_step(index + 1, how.count, lambda: family.unpack(latest.clean(level, run), run.latent_size))
        return {"latents": family.pack(latents)}

    hooked = _hooked(denoiser, run, methods, latest)
    with _of_its_dtype(base.vae), hooked, remembered(denoiser, family.site) as memory:
        if kernel.empty:
            out = pipe(**arguments, callback_on_step_end=after)
        else:
            with installed(denoiser, kernel, family.site):
                out = pipe(**arguments, callback_on_step_end=after)
    blacked = getattr(out, "nsfw_content_detected", None) or [False] * len(seeds)
    for seed, black in zip(seeds, blacked, strict=True):
        if black:
            warn(
                f"image {seed - request.seed + 1} was blacked out by the model's safety checker; change the prompt or "
                "the seed."
            )
    return _to_pixels(out.images)


def _composed(methods: list[Method]) -> Compose | None:
    """What is done to all that the run draws; None where nothing is."""
    composing = [method for method in methods if method.composes]
    if not composing:
        return None

    def compose(drawn: torch.Tensor) -> torch.Tensor:
        for method in composing:
            drawn = method.compose(drawn)
        return drawn

    return compose


def _arguments(
    run: Run,
    how: Plan,
    held: Harmonize | None,
    generators: list[torch.Generator],
    start_scale: float,
    compose: Compose | None,
) -> dict[str, Any]:
    """The stock call's arguments. ``start_scale`` is what text-to-image multiplies its start noise with."""
    request = run.request
    arguments: dict[str, Any] = {
        **run.family.arguments(run.pipe, request),
        "num_inference_steps": how.steps,
        "num_images_per_prompt": len(generators),
        "generator": generators if len(generators) > 1 else generators[0],
        "output_type": "np",
    }
    if how.from_picture and request.collage is not None and run.family.image_to_image:
        picture = Image.fromarray(run.pictures.get(request.collage))
        arguments["image"] = run.family.copies(picture, len(generators))
        arguments["strength"] = min(1.0, (how.count + run.family.half_step) / how.steps)
        return arguments
    arguments |= {"height": request.height, "width": request.width}
    if request.collage is not None and (held is not None or how.from_picture or compose is not None):
        clean = run.family.encode_picture(run.pipe, run.pictures.get(request.collage))
        run.clean = clean.to(run.dtype).repeat(len(generators), 1, 1, 1)
        run.noise = randn_tensor(
            run.clean.shape, generator=generators, device=run.clean.device, dtype=run.dtype
        )
        if compose is not None:
            run.noise = compose(run.noise)
        if how.from_picture:  # the noised collage itself; the scheduler starts at its step
            start = (
                schedulers.noised(run.clean, run.noise, run.levels[how.first], run.exploding) / start_scale
            )
        else:
            # from pure noise, with the places whose time has not come already at the collage
            start = run.noise if held is None else held.start(start_scale)
        arguments["latents"] = run.family.given(start)
    return arguments


def _each_its_own(arguments: dict[str, Any], prompts: list[str]) -> dict[str, Any]:
    """What the stock call is given otherwise where each image has its prompt: lists in place of one for all."""
    own: dict[str, Any] = {"prompt": prompts, "num_images_per_prompt": 1}
    for name in ("negative_prompt", "image"):
        value = arguments.get(name)
        if value is not None and not isinstance(value, list):
            own[name] = [value] * len(prompts)
    if (states := arguments.get("negative_prompt_embeds")) is not None:  # Klein's negative prompt
        own["negative_prompt_embeds"] = states.repeat(len(prompts), 1, 1)
    return own


@contextmanager
def _of_its_dtype(vae: torch.nn.Module) -> Iterator[None]:
    """Stock pipelines of XL widen a 16-bit autoencoder to decode, and where that fails they leave it wide: the next run
    would fail after all its steps.
    """
    before = [parameter.dtype for parameter in vae.parameters()]
    try:
        yield
    finally:
        for parameter, dtype in zip(vae.parameters(), before, strict=True):
            if parameter.dtype != dtype:
                parameter.data = parameter.data.to(dtype)


@contextmanager
def _hooked(denoiser: torch.nn.Module, run: Run, methods: list[Method], latest: Latest) -> Iterator[None]:
    """Tell the methods of each denoiser call; remove the hooks at the end."""
    current: Step | None = None

    def before(module: torch.nn.Module, args: Any, kwargs: dict[str, Any]) -> Any:
        nonlocal current
        inputs = run.family.read(module, args, kwargs)
        rows = inputs.sample.shape[0]
        conditional, branches = run.family.rows(rows, run.images, latest.turn)
        index = run.first + latest.steps
        latest.turn += 1
        current = Step(
            index=index,
            level=run.levels[index],
            rows=rows,
            latent_size=run.latent_size,
            conditional=conditional,
            branches=branches,
            steering=run.family.steering(run.pipe, run.request, branches),
        )
        for method in methods:
            method.before_forward(current, inputs)
        return run.family.write(inputs, args)

    def after(module: torch.nn.Module, args: Any, kwargs: dict[str, Any], output: Any) -> Any:
        if current is None:
            return output
        given = output[0] if isinstance(output, tuple) else output.sample
        result = given
        for method in methods:
            result = method.after_forward(current, result)
        if result is given:
            return output
        return (result, *output[1:]) if isinstance(output, tuple) else type(output)(sample=result)

    compiled = denoiser._compiled_call_impl
    if compiled is not None:
        # Module.compile() compiles a module's hooks with it, and does not see any that come later

        def call(*args: Any, **kwargs: Any) -> Any:
            args, kwargs = before(denoiser, args, kwargs)
            return after(denoiser, args, kwargs, compiled(*args, **kwargs))

        denoiser._compiled_call_impl = call
        try:
            yield
        finally:
            denoiser._compiled_call_impl = compiled
        return
    handles = [
        denoiser.register_forward_pre_hook(before, with_kwargs=True),
        denoiser.register_forward_hook(after, with_kwargs=True),
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _to_pixels(images: Any) -> list[Pixels]:
    array = np.asarray(images)
    if not np.isfinite(array).all():
        raise EngineError(
            "the model gave numbers that are no picture; lower the guidance or use a wider dtype."
        )
    return list(np.rint(array.clip(0, 1) * 255).astype(np.uint8))
