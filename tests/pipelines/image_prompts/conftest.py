"""Tiny models with a tiny IP-Adapter each, in files."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch

from pipelines.engine import Engine, Loaded
from pipelines.pictures import PictureStore
from pipelines.request import ImagePromptRequest
from tests.pipelines import tiny, tiny_adapter

CUTOUT = np.dstack([tiny.picture(3), tiny.box(8, 8, 56, 40)])


@pytest.fixture(scope="session")
def adapters(tmp_path_factory: pytest.TempPathFactory) -> Engine:
    """Models "sd_noise", "sdxl", and "plus" with an IP-Adapter Plus, whose files are this machine's."""
    made = Engine(preview_seconds=1e9)
    for name, kind in (("sd_noise", "sd_noise"), ("sdxl", "sdxl"), ("plus", "sd_noise")):
        pipe = tiny.KINDS[kind]()
        source = tiny_adapter.save(tmp_path_factory.mktemp(name), pipe.unet, plus=name == "plus")
        made.adopt(name, pipe, dataclasses.replace(tiny.card_for(kind), ip_adapter=source))
    return made


@pytest.fixture(params=["sd_noise", "sdxl", "plus"])
def loaded(request: pytest.FixtureRequest, adapters: Engine) -> Loaded:
    """Each in turn."""
    return adapters.load(request.param)


def prompt(store: PictureStore, strength: float = 1.0, **words: Any) -> ImagePromptRequest:
    """The cut-out as prompt."""
    return ImagePromptRequest(**{"cutout": store.put(CUTOUT), "strength": strength, **words})


def state(unet: Any) -> dict[str, Any]:
    """All that an adapter could leave changed: objects by identity, names and numbers by value."""
    return {
        "modules": {name: id(module) for name, module in unet.named_modules()},
        "processors": {
            name: (id(module.processor), "processor" in vars(module))
            for name, module in unet.named_modules()
            if hasattr(module, "processor")
        },
        "weights": {name: (id(one), one._version) for name, one in unet.named_parameters()},
        "numbers": {name: one.double().sum().item() for name, one in unet.state_dict().items()},
        "config": (dict(unet.config), dict(vars(unet.config))),
        "projection": (unet.encoder_hid_proj, "encoder_hid_proj" in unet._modules),
        "names": sorted(vars(unet)),
        "hooks": sum(len(part._forward_hooks) + len(part._forward_pre_hooks) for part in unet.modules()),
        "random": torch.random.get_rng_state().tolist(),
    }
