"""What tests of every family share: one pipeline call, a request of all methods, and what a run could leave changed."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import Any

import numpy as np

from pipelines import sampling
from pipelines.engine import Loaded
from pipelines.methods import methods_for
from pipelines.methods.base import Method
from pipelines.pictures import PictureStore, Pixels
from pipelines.request import RenderRequest
from tests.pipelines import tiny


def sampled(
    loaded: Loaded,
    request: RenderRequest,
    store: PictureStore,
    methods: list[Method] | None = None,
    images: Iterable[int] = (0,),
) -> list[Pixels]:
    """These images of a request in one pipeline call, by default with the methods that it needs."""
    return sampling.sample(
        loaded.pipe,
        loaded.family,
        loaded.card,
        request,
        store,
        methods_for(request) if methods is None else methods,
        [request.seed + k for k in images],
        lambda *_: None,
        loaded.arguments,
    )


def every_method(store: PictureStore, model: str = "sd_velocity", **words: Any) -> RenderRequest:
    """A request that needs all methods in one run."""
    return tiny.collage_request(
        store,
        model,
        car={"attend_inside": 0.8, "attend_outside": 0.5},
        cat={"harmonize": 0.0},
        images=2,
        spread=1.0,
        spread_threshold=0.0,
        avoids=(tiny.avoid(store),),
        **words,
    )


def widened(request: RenderRequest, store: PictureStore, width: int) -> RenderRequest:
    """The same collage on a canvas of that width: everything stays at the left, and black comes beside it."""

    def wider(digest: str | None) -> str | None:
        if digest is None:
            return None
        pixels = store.get(digest)
        more = [(0, 0), (0, width - pixels.shape[1])] + [(0, 0)] * (pixels.ndim - 2)
        return store.put(np.pad(pixels, more))

    layers = tuple(dataclasses.replace(layer, mask=str(wider(layer.mask))) for layer in request.layers)
    pictures = {"collage": wider(request.collage), "frozen": wider(request.frozen)}
    return request.replace(width=width, layers=layers, **pictures)


def fingerprint(pipe: Any) -> tuple[Any, ...]:
    """Everything about a pipeline that a run could leave changed: objects by identity, numbers by value."""
    denoiser = pipe.unet if hasattr(pipe, "unet") else pipe.transformer
    modules = list(denoiser.modules())
    return (
        {name: id(part) for name, part in pipe.components.items()},
        [id(module.processor) for module in modules if hasattr(module, "processor")],
        [len(module._forward_hooks) + len(module._forward_pre_hooks) for module in modules],
        dict(pipe.scheduler.config),
        {name: id(value) for name, value in vars(pipe.scheduler).items()},
        dict(pipe.config),
        [(name, p.dtype, p.detach().sum().item()) for name, p in pipe.vae.named_parameters()],
    )
