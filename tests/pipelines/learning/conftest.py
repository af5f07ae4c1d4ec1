"""Tiny models of every family that learns looks, and an engine that learns fast."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pipelines.engine import Engine, Loaded
from pipelines.learning import invert
from pipelines.request import RenderRequest
from tests.pipelines import tiny, tiny_transformers

NAMES = ("sd_velocity", "sd_noise", "sdxl", "flux")
CUTOUT = np.dstack([tiny.picture(3), tiny.box(8, 8, 56, 40)])


@pytest.fixture(scope="session")
def all_loaded() -> dict[str, Loaded]:
    """By name, with 64 pixels for learning."""
    engine = Engine()
    for name in NAMES[:3]:
        engine.adopt(name, tiny.KINDS[name](), dataclasses.replace(tiny.card_for(name), look_batch=2))
    flux = dataclasses.replace(tiny_transformers.card_for("flux"), look_side=64, look_batch=2)
    engine.adopt("flux", tiny_transformers.KINDS["flux"](), flux)
    return {name: engine.load(name) for name in NAMES}


@pytest.fixture(params=NAMES)
def loaded(request: pytest.FixtureRequest, all_loaded: dict[str, Loaded]) -> Loaded:
    """Each family's tiny model in turn."""
    return all_loaded[request.param]


@pytest.fixture
def engine(all_loaded: dict[str, Loaded], tmp_path: Path) -> Engine:
    """All four tiny models, and a folder of its own."""
    made = Engine(preview_seconds=0, looks=tmp_path / "looks")
    for name in NAMES:
        made.adopt(name, all_loaded[name].pipe, all_loaded[name].card)
    return made


@pytest.fixture
def fast(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that two steps show in a picture."""
    monkeypatch.setattr(invert, "RATE", 1.0)
    monkeypatch.setattr(invert, "VIEWS", 2)


@pytest.fixture
def velocity(all_loaded: dict[str, Loaded]) -> Loaded:
    """The model like the embedded one."""
    return all_loaded["sd_velocity"]


def without(request: RenderRequest) -> RenderRequest:
    """The same request, no layer of which has a look."""
    return request.replace(layers=tuple(dataclasses.replace(one, look=None) for one in request.layers))


def parts(loaded: Loaded) -> Iterator[tuple[str, Any]]:
    """Its tokenizers and text encoders by name."""
    for pair in loaded.family.encoders:
        for name in pair:
            yield name, getattr(loaded.pipe, name)


def state(loaded: Loaded) -> dict[str, Any]:
    """All that learning and wearing a look could leave changed: objects by identity, numbers by value."""
    found: dict[str, Any] = {"random": torch.random.get_rng_state().tolist()}
    for name, part in parts(loaded):
        if "tokenizer" in name:
            found[name] = (id(part), len(part), dict(part.get_vocab()), part("a red cat")["input_ids"])
            continue
        modules = dict(part.named_modules(remove_duplicate=False))
        found[name] = {
            "modules": {path: id(module) for path, module in modules.items()},
            "weights": {path: id(weight) for path, weight in part.named_parameters(remove_duplicate=False)},
            "asking": [weight.requires_grad for weight in part.parameters()],
            "gradients": [weight.grad for weight in part.parameters()],
            "config": copy.deepcopy(part.config.to_dict()),
            "attributes": {
                path: sorted(set(vars(module)) - {"_is_full_backward_hook"})
                for path, module in modules.items()
            },
            "ends": [getattr(module, "eos_token_id", None) for module in modules.values()],
            "numbers": {path: value.clone() for path, value in part.state_dict().items()},
        }
    denoiser = loaded.family.denoiser(loaded.pipe)
    found["denoiser"] = [(one.requires_grad, one.grad) for one in denoiser.parameters()]
    found["scheduler"] = dict(loaded.pipe.scheduler.config)
    return found


def same(one: Any, two: Any) -> bool:
    """Whether two states are equal, tensors bit for bit."""
    if isinstance(one, torch.Tensor):
        return torch.equal(one, two)
    if isinstance(one, dict):
        return one.keys() == two.keys() and all(same(one[key], two[key]) for key in one)
    return bool(one == two)


def rows_of(loaded: Loaded, words: str) -> tuple[torch.Tensor, ...]:
    """The embeddings of some words, one entry a text encoder."""
    found = []
    for tokenizer, encoder in loaded.family.encoders:
        ids = getattr(loaded.pipe, tokenizer)(words, add_special_tokens=False)["input_ids"]
        found.append(getattr(loaded.pipe, encoder).get_input_embeddings().weight.detach()[ids].clone())
    return tuple(found)
