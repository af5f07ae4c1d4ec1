"""What the tests of NegToMe share: features to move, and a method in its first step."""

from __future__ import annotations

from typing import Any

import torch

from pipelines.attention.kernel import Kernel, Site
from pipelines.engine import Engine
from pipelines.methods.base import Inputs, Run
from pipelines.methods.negtome import match
from pipelines.pictures import PictureStore
from pipelines.request import RenderRequest
from tests.pipelines import tiny

OWN = Site(cross=False, part="up")
NO_INPUTS = Inputs(torch.zeros(0), {})


def tokens(count: int = 64, size: int = 16, seed: int = 0) -> torch.Tensor:
    return torch.randn(count, size, generator=torch.Generator().manual_seed(seed))


def begun(
    kind: type, engine: Engine, request: RenderRequest, store: PictureStore, images: int = 1
) -> tuple[Any, Run]:
    run = tiny.run_of(engine, request, store, images)
    method = kind()
    method.begin(run, Kernel())
    method.before_forward(tiny.step_of(run, run.first, guided=request.guidance > 1), NO_INPUTS)
    return method, run


def similar(features: torch.Tensor) -> float:
    """Mean over all pairs of images of the mean cosine of each token with its best match: (images, N, D)."""
    found = [
        float(match(features[a], features[b])[0].mean())
        for a in range(len(features))
        for b in range(len(features))
        if a != b
    ]
    return sum(found) / len(found)
