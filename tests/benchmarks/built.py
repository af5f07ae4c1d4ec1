"""Whole pipelines of real shapes with random weights: what is timed where no weights can be had.

Denoiser and autoencoder are whole. Text encoders have their real widths and two layers, because they run once a run, on
both sides of a ratio alike. Tokenizers and the scheduler's config are those of the tests' tiny pipelines.
"""

from __future__ import annotations

import copy
import dataclasses
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import diffusers
import torch

from pipelines.engine import Engine, Loaded
from tests.benchmarks import shapes
from tests.pipelines import tiny
from tests.pipelines import tiny_transformers as tt

CLIP_L = {"hidden_size": 768, "intermediate_size": 3072, "num_attention_heads": 12}
CLIP_G = {"hidden_size": 1280, "intermediate_size": 5120, "num_attention_heads": 20, "projection_dim": 1280}
T5_XXL = {"d_model": 4096, "d_kv": 64, "d_ff": 10240, "num_heads": 64}


@dataclass(frozen=True)
class Subject:
    """A shape, the tiny pipeline of its ``kind`` that gives words and schedule, and the sizes of its text encoders."""

    kind: str
    shape: shapes.Shape
    texts: dict[str, dict[str, Any]]


_SHAPES = {shape.name: shape for shape in shapes.SHAPES}
SUBJECTS = {
    "SDXL": Subject("sdxl", _SHAPES["SDXL"], {"text_encoder": CLIP_L, "text_encoder_2": CLIP_G}),
    "FLUX.1 dev": Subject("flux", _SHAPES["FLUX.1 dev"], {"text_encoder": CLIP_L, "text_encoder_2": T5_XXL}),
}
THIRD = Subject(
    "sdxl",
    dataclasses.replace(
        _SHAPES["SDXL"],
        card=dataclasses.replace(_SHAPES["SDXL"].card, side=256, smallest_grid=8),
        sizes=shapes.SDXL_THIRD,
        encoder={**shapes.KL, "block_out_channels": (32, 64, 128, 128)},
    ),
    {
        "text_encoder": {"hidden_size": 256, "intermediate_size": 1024},
        "text_encoder_2": {"hidden_size": 424, "intermediate_size": 1696, "projection_dim": 320},
    },
)
"""SDXL's blocks at a third of their width, and 256 × 256: what one core can time."""


@contextmanager
def made_on(device: torch.device, dtype: torch.dtype) -> Iterator[None]:
    """Modules are made where and as they are needed: FLUX in float32 would not fit where it does in 16 bit."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        with device, warnings.catch_warnings():
            warnings.simplefilter(
                "ignore", FutureWarning
            )  # diffusers' own class uses what diffusers calls deprecated
            yield
    finally:
        torch.set_default_dtype(before)


def built(subject: Subject, device: torch.device, dtype: torch.dtype) -> Loaded:
    """A whole stock pipeline with random weights, loaded under its shape's card."""
    pipe = (tt.KINDS if subject.kind in tt.KINDS else tiny.KINDS)[subject.kind]()
    shape = subject.shape
    torch.manual_seed(0)
    with made_on(device, dtype):
        denoiser = getattr(diffusers, shape.kind)(**shape.sizes).eval()
        vae = getattr(diffusers, shape.vae)(**shape.encoder).eval()
    parts = {"unet" if hasattr(pipe, "unet") else "transformer": denoiser, "vae": vae}
    for name, sizes in subject.texts.items():
        small = getattr(pipe, name)
        config = copy.deepcopy(small.config)
        config.update(sizes)
        parts[name] = type(small)(config).eval()
    pipe.register_modules(**parts)
    pipe.to(device, dtype)
    return Engine().adopt(shape.name, pipe, shape.card)
