"""What tests of every family share: one pipeline call, a request of all methods, and what a run could leave changed."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable
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


def redrawn(
    request: RenderRequest, store: PictureStore, change: Callable[[Pixels], Pixels], **size: int
) -> RenderRequest:
    """The same request with all its pictures and masks changed."""

    def new(digest: str | None) -> str | None:
        return None if digest is None else store.put(change(store.get(digest)))

    layers = tuple(dataclasses.replace(layer, mask=new(layer.mask)) for layer in request.layers)
    avoids = tuple(
        dataclasses.replace(one, picture=new(one.picture), mask=new(one.mask)) for one in request.avoids
    )
    pictures = {"collage": new(request.collage), "frozen": new(request.frozen)}
    return request.replace(layers=layers, avoids=avoids, **pictures, **size)


def widened(request: RenderRequest, store: PictureStore, width: int) -> RenderRequest:
    """The same collage on a canvas of that width: everything stays at the left, and black comes beside it."""

    def wider(pixels: Pixels) -> Pixels:
        more = [(0, 0), (0, width - pixels.shape[1])] + [(0, 0)] * (pixels.ndim - 2)
        return np.pad(pixels, more)

    return redrawn(request, store, wider, width=width)


def doubled(request: RenderRequest, store: PictureStore) -> RenderRequest:
    """The same collage at twice the size."""
    size = {"width": 2 * request.width, "height": 2 * request.height}
    return redrawn(request, store, twice, **size)


def twice(pixels: Pixels) -> Pixels:
    """Each pixel as two by two."""
    return pixels.repeat(2, 0).repeat(2, 1)


def fingerprint(pipe: Any) -> tuple[Any, ...]:
    """Everything about a pipeline that a run could leave changed: objects by identity, numbers by value."""
    denoiser = pipe.unet if hasattr(pipe, "unet") else pipe.transformer
    modules = list(denoiser.modules())
    return (
        {name: id(part) for name, part in pipe.components.items()},
        [id(module.processor) for module in modules if hasattr(module, "processor")],
        [len(module._forward_hooks) + len(module._forward_pre_hooks) for module in modules],
        [id(vars(module).get("forward")) for module in modules],
        dict(pipe.scheduler.config),
        {name: id(value) for name, value in vars(pipe.scheduler).items()},
        dict(pipe.config),
        [(name, p.dtype, p.detach().sum().item()) for name, p in pipe.vae.named_parameters()],
    )
