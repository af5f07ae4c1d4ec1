"""Denoisers whose weights are whole numbers: as bitsandbytes keeps them, where latents and noise must stay floating,
and by torchao itself where it is installed.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pipelines.engine import Engine, Loaded
from pipelines.learning.invert import learn
from pipelines.loading import LoadOptions
from pipelines.pictures import PictureStore
from tests.needs import library
from tests.pipelines import runs, tiny
from tests.pipelines import tiny_transformers as tt
from tests.pipelines.learning.conftest import CUTOUT, rows_of
from tests.pipelines.loading.test_offload import plainly
from tests.pipelines.test_adapters import everything


class Whole(torch.nn.Linear):
    """A layer whose weights are int8 or uint8, and one number for all of them."""

    def __init__(self, like: torch.nn.Linear, kind: torch.dtype) -> None:
        super().__init__(like.in_features, like.out_features, like.bias is not None)
        self.step, self.zero = float(like.weight.detach().abs().max()) / 127, 128 * (kind == torch.uint8)
        whole = (like.weight.detach() / self.step).round() + self.zero
        self.weight = torch.nn.Parameter(whole.to(kind), requires_grad=False)
        self.bias = like.bias

    def floating(self) -> torch.Tensor:
        return (self.weight.float() - self.zero) * self.step

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.linear(x, self.floating(), self.bias)


def both(model: str, kind: torch.dtype) -> tuple[Loaded, Loaded]:
    """A transformer with whole numbers in its first layer, and with the same numbers as floating ones."""
    found = []
    for name in ("whole", "floating"):
        pipe = tt.KINDS[model]()
        transformer: Any = pipe.transformer
        path = next(path for path, _ in transformer.named_parameters()).removesuffix(".weight")
        parent, _, last = path.rpartition(".")
        layer = transformer.get_submodule(path)
        whole = Whole(layer, kind)
        if name == "whole":
            setattr(transformer.get_submodule(parent), last, whole)
            assert next(transformer.parameters()).dtype == kind
        else:
            layer.weight.data = whole.floating()
        card = dataclasses.replace(tt.card_for(model), look_side=64, look_batch=2)
        found.append(Engine(1e9).adopt(model, pipe, card))
    return found[0], found[1]


@pytest.mark.parametrize("kind", [torch.int8, torch.uint8])
@pytest.mark.parametrize("model", ["flux", "klein", "qwen", "chroma"])
def test_all_methods_run_on_whole_numbers(store: PictureStore, model: str, kind: torch.dtype) -> None:
    pictures = []
    for loaded in both(model, kind):
        request = everything(loaded, store)
        pictures.append(runs.sampled(loaded, request, store, images=range(2)))
    assert all(np.array_equal(*pair) for pair in zip(*pictures, strict=True))


def test_a_look_is_learned_on_whole_numbers() -> None:
    losses = []
    for loaded in both("flux", torch.int8):
        begin = rows_of(loaded, "cat")
        words = ("red <look-0>", "<look-0>", begin, 2, lambda step, steps: None)
        losses.append(learn(loaded.pipe, loaded.family, loaded.card, CUTOUT, *words).losses)
    assert losses[0] == losses[1] and min(losses[0]) > 0


@pytest.mark.parametrize("model", ["sd_noise", "flux"])
def test_all_methods_run_on_int8(store: PictureStore, tmp_path: Path, model: str) -> None:
    """Nearly the pictures of the weights as they were, with and without the methods, which act as much."""
    library("torchao")
    kinds: Any = tt if model in tt.KINDS else tiny
    kinds.KINDS[model]().save_pretrained(folder := str(tmp_path))
    found = {}
    for quantize in (None, "int8"):
        engine = Engine(1e9, LoadOptions(device="cpu", quantize=quantize))
        loaded = engine.load(folder)
        denoiser = loaded.family.denoiser(loaded.pipe)
        assert any("Int8" in type(one).__name__ for one in denoiser.parameters()) == (quantize == "int8")
        plain = tiny.collage_request(store, folder, **plainly(loaded))
        found[quantize] = [tiny.pictures(engine, one, store)[0] for one in (everything(loaded, store), plain)]
    for ours, theirs in zip(found["int8"], found[None], strict=True):
        assert 0 < tiny.moved(ours, theirs) < tiny.moved(*found[None]) / 5
    assert tiny.moved(*found["int8"]) > 0.9 * tiny.moved(*found[None])
