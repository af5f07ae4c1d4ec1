"""A compiled denoiser runs all methods, gives the same picture, and is not compiled again from step to step."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch._dynamo.utils import counters

from pipelines import sampling
from pipelines.engine import Engine, Loaded
from pipelines.methods import methods_for
from pipelines.methods.base import Method
from pipelines.pictures import PictureStore, Pixels
from pipelines.request import RenderRequest
from tests.pipelines import control, tiny
from tests.pipelines import tiny_transformers as tt

WAYS = ("torch.compile", "compile", "compile_repeated_blocks", "forward")


@pytest.fixture(autouse=True)
def fresh() -> Iterator[None]:
    """Nothing compiled before, nothing left behind."""
    torch._dynamo.reset()
    counters.clear()
    yield
    torch._dynamo.reset()


def compiled(pipe: Any, part: str, way: str) -> None:
    """As users do it; the backend runs the traced graphs as they are, so that this is quick."""
    denoiser = getattr(pipe, part)
    if way == "torch.compile":
        setattr(pipe, part, torch.compile(denoiser, backend="eager"))
    elif way == "forward":
        denoiser.forward = torch.compile(denoiser.forward, backend="eager")
    else:
        getattr(denoiser, way)(backend="eager")


def sampled(
    loaded: Loaded,
    request: RenderRequest,
    store: PictureStore,
    methods: list[Method],
    controlnet: Any = None,
) -> tuple[list[Pixels], list[int]]:
    """The pictures, and how many graphs there were after each step."""
    graphs: list[int] = []

    def on_step(*_: Any) -> None:
        graphs.append(counters["stats"]["unique_graphs"])

    pictures = sampling.sample(
        loaded.pipe,
        loaded.family,
        loaded.card,
        request,
        store,
        methods,
        [7, 8],
        on_step,
        controlnet=controlnet,
    )
    return pictures, graphs


OTHERS = sorted({*tiny.KINDS, *tt.KINDS} - {"flux", "sdxl", "schnell"})
"""Each in the quickest way that it knows (diffusers names no repeated blocks of SD 3); schnell is flux."""


@pytest.mark.parametrize(
    ("model", "way"),
    [
        *((model, way) for model in ("flux", "sdxl") for way in WAYS),
        *((model, "compile" if model == "sd3" else "compile_repeated_blocks") for model in OTHERS),
    ],
)
def test_all_methods_in_a_compiled_denoiser(store: PictureStore, model: str, way: str) -> None:
    kinds: Any = tt if model in tt.KINDS else tiny
    pipe, card = kinds.KINDS[model](), kinds.card_for(model)
    loaded = Engine().adopt(model, pipe, card)
    request = tiny.collage_request(
        store,
        model,
        scheduler=card.scheduler,
        guidance=card.guidance,
        steps=6,
        car={"harmonize": 1.0, "attend_inside": 0.8, "attend_outside": 0.5},
        cat={"harmonize": 0.5, "vary": 2.0},
        images=2,
        spread=1.0,
        spread_threshold=0.0,
        window=0.5,
        avoids=(tiny.avoid(store),),
    )
    stock = sampled(loaded, request, store, [])[0]
    plain = sampled(loaded, request, store, methods_for(request))[0]
    compiled(pipe, "transformer" if model in tt.KINDS else "unet", way)
    compiled_stock = sampled(loaded, request, store, [])[0]
    before = counters["stats"]["unique_graphs"]
    found, graphs = sampled(loaded, request, store, methods_for(request))
    assert before > 0, "it was compiled"
    assert max(tiny.moved(a, b) for a, b in zip(compiled_stock, stock, strict=True)) < 0.1
    assert max(tiny.moved(a, b) for a, b in zip(found, plain, strict=True)) < 0.1
    assert min(tiny.moved(a, b) for a, b in zip(found, stock, strict=True)) > 1.0, "the methods act"
    assert len(graphs) == 6 and graphs[0] > before
    assert graphs[0] == graphs[1] == graphs[2], "not again while NegToMe acts"
    assert graphs[3] == graphs[4] == graphs[5], "and once more when it has ended, no more"
    again, later = sampled(loaded, request, store, methods_for(request))
    assert set(later) == {graphs[-1]}, "nor in a second render"
    assert all(np.array_equal(a, b) for a, b in zip(again, found, strict=True))
    mask = store.put(tiny.box(0, 0, 40, 40))
    moved = tuple(dataclasses.replace(layer, mask=mask) for layer in request.layers)
    others = request.replace(layers=moved, avoids=(tiny.avoid(store, 12),))
    another, latest = sampled(loaded, others, store, methods_for(others))
    assert set(latest) == {graphs[-1]}, "nor with other masks and pictures of the same shapes"
    assert min(tiny.moved(a, b) for a, b in zip(another, found, strict=True)) > 0.1


@pytest.mark.parametrize("way", WAYS)
def test_keep_shape_in_a_compiled_denoiser(store: PictureStore, way: str) -> None:
    pipe, card = tiny.sdxl(), tiny.card_for("sdxl")
    loaded, keeper = Engine().adopt("sdxl", pipe, card), control.controlnet(pipe.unet)
    request = tiny.collage_request(store, "sdxl", steps=4, cat={"keep_shape": 0.8}, images=2)
    off = tiny.collage_request(store, "sdxl", steps=4, images=2)
    without = sampled(loaded, off, store, methods_for(off))[0]
    plain = sampled(loaded, request, store, methods_for(request), keeper)[0]
    compiled(pipe, "unet", way)
    found, graphs = sampled(loaded, request, store, methods_for(request), keeper)
    assert max(tiny.moved(a, b) for a, b in zip(found, plain, strict=True)) < 0.1
    assert min(tiny.moved(a, b) for a, b in zip(found, without, strict=True)) > 0.3, "it acts"
    assert graphs[0] > 0 and set(graphs) == {graphs[0]}, "not again from step to step"
    other = request.replace(
        layers=(request.layers[0], dataclasses.replace(request.layers[1], keep_shape=0.3))
    )
    again, later = sampled(loaded, other, store, methods_for(other), keeper)
    assert set(later) == {graphs[0]}, "nor at another strength"
    assert min(tiny.moved(a, b) for a, b in zip(again, found, strict=True)) > 0.1
