"""Which ControlNet keeps shapes on a model, and what is said where one cannot be had."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from accelerate import dispatch_model
from diffusers import ControlNetModel, ControlNetUnionModel

from pipelines.engine import Engine
from pipelines.errors import ModelError, UnsupportedError
from pipelines.families import families
from pipelines.loading import LoadOptions, at_hand, controlnet_of, no_shape
from pipelines.loading.control import FAMILIES, load_controlnet
from pipelines.models import CARDS, card
from pipelines.pictures import PictureStore
from pipelines.request import EDGES
from tests.pipelines import control, tiny

CPU = LoadOptions(device="cpu")


def silent(done: int, total: int) -> None:
    """Nobody watches."""


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model's folder with a ControlNet of its own in it."""
    folder = tmp_path_factory.mktemp("model")
    pipe = tiny.sd_velocity()
    pipe.save_pretrained(folder)
    control.controlnet(pipe.unet).save_pretrained(folder / "controlnet")
    return folder


def test_the_families_are_those_that_say_so() -> None:
    assert {name for name, kind in families().items() if kind.controlled} == set(FAMILIES)


def test_the_one_asked_for_comes_first_then_the_models_own_then_the_cards(model: Path) -> None:
    known = dataclasses.replace(card(str(model)), controlnets={"canny": "a/b", "soft": "c/d"})
    own = str(model / "controlnet")
    assert [controlnet_of(known, CPU, kind) for kind in EDGES] == [own, "c/d"]
    asked = LoadOptions(controlnet="e/f")
    assert [controlnet_of(known, asked, kind) for kind in EDGES] == ["e/f", "e/f"]
    assert controlnet_of(CARDS["sd15"], CPU, "canny") == "lllyasviel/control_v11p_sd15_canny"
    assert controlnet_of(CARDS["sdxl"], CPU, "soft") == controlnet_of(CARDS["sdxl"], CPU, "canny")
    assert at_hand(own) and not at_hand("nobody/nothing-at-all")


def test_why_not_says_what_to_do(model: Path) -> None:
    assert no_shape(card(str(model)), CPU, "canny") is None
    assert "no ControlNet for soft edges; give one with --controlnet" in str(
        no_shape(card(str(model)), CPU, "soft")
    )
    assert "flux cannot keep shapes" in str(no_shape(CARDS["flux"], LoadOptions(controlnet="a/b"), "canny"))


def test_a_folder_of_other_sizes_gets_none_from_the_card(model: Path) -> None:
    assert card(str(model)).controlnets == {}


def test_a_model_with_its_own_keeps_shapes_by_itself(model: Path, store: PictureStore) -> None:
    engine = Engine(0, CPU)
    plain, kept = (
        tiny.pictures(engine, tiny.collage_request(store, str(model), cat={"keep_shape": share}), store)[0]
        for share in (0.0, 1.0)
    )
    assert tiny.moved(plain, kept) > 0
    with pytest.raises(UnsupportedError, match=r"'cat'.*soft edges"):
        tiny.pictures(
            engine, tiny.collage_request(store, str(model), cat={"keep_shape": 1.0}, edges="soft"), store
        )


@pytest.mark.parametrize("union", [False, True])
def test_a_union_is_told_by_its_weights(tmp_path: Path, union: bool) -> None:
    pipe = tiny.sdxl()
    control.controlnet(pipe.unet, union=union).save_pretrained(tmp_path)
    pipe.unet.to(torch.bfloat16)
    made = load_controlnet(str(tmp_path), pipe, pipe.unet, CPU, silent)
    assert type(made) is (ControlNetUnionModel if union else ControlNetModel)
    assert made.dtype == torch.bfloat16 and not made.training
    assert not any(parameter.requires_grad for parameter in made.parameters())


HELD: dict[str, tuple[bool, Any]] = {
    "on the device": (False, lambda pipe: None),
    "by a device map": (False, lambda pipe: dispatch_model(pipe.unet, {"": "cpu"}, force_hooks=True)),
    "a part at a time": (True, lambda pipe: pipe.enable_model_cpu_offload(device="cpu")),
    "a layer at a time": (
        True,
        lambda pipe: pipe.enable_group_offload(onload_device=torch.device("cpu"), offload_type="leaf_level"),
    ),
}
"""How a model is held, whether its weights wait off the device, and what brings that about."""


@pytest.mark.parametrize("held", HELD)
def test_weights_wait_where_the_denoisers_do(tmp_path: Path, store: PictureStore, held: str) -> None:
    """A CPU stands in for the accelerator; the pictures stay."""
    engine = control.engine_with(tmp_path, "sd_noise")
    request = tiny.collage_request(store, "sd_noise", cat={"keep_shape": 1.0}, steps=2)
    plain = tiny.pictures(engine, request, store)[0]
    loaded = engine.load("sd_noise")
    loaded.controlnets.clear()
    waits, hold = HELD[held]
    hold(loaded.pipe)
    assert np.array_equal(plain, tiny.pictures(engine, request, store)[0])
    [made] = loaded.controlnets.values()
    hooks = [hook for module in made.modules() if (hook := getattr(module, "_diffusers_hook", None))]
    assert any("group_offloading" in hook.hooks for hook in hooks) == waits


def test_one_made_for_another_model_is_refused_before_its_weights_are_read(tmp_path: Path) -> None:
    control.controlnet(tiny.sdxl().unet).save_pretrained(tmp_path)
    (tmp_path / "diffusion_pytorch_model.safetensors").write_bytes(b"not read")
    pipe = tiny.sd_noise()
    with pytest.raises(
        ModelError, match=r"made for another model \(cross_attention_dim 64, and this one has 32\)"
    ):
        load_controlnet(str(tmp_path), pipe, pipe.unet, CPU, silent)


def _no_config(folder: Path) -> None:
    (folder / "config.json").unlink()


def _damaged(folder: Path) -> None:
    (folder / "diffusion_pytorch_model.safetensors").write_bytes(b"torn")


def _pickled(folder: Path) -> None:
    (folder / "diffusion_pytorch_model.safetensors").rename(folder / "diffusion_pytorch_model.bin")


def _no_json(folder: Path) -> None:
    (folder / "config.json").write_text("{")


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (_no_config, "has no config.json"),
        (_damaged, "could not be loaded"),
        (_pickled, "pickled"),
        (_no_json, "could not"),
    ],
)
def test_what_cannot_be_read_is_one_sentence(tmp_path: Path, spoil: Any, says: str) -> None:
    pipe = tiny.sd_noise()
    control.controlnet(pipe.unet).save_pretrained(tmp_path)
    spoil(tmp_path)
    with pytest.raises(ModelError, match=says) as error:
        load_controlnet(str(tmp_path), pipe, pipe.unet, CPU, silent)
    assert "\n" not in str(error.value) and str(tmp_path) in str(error.value)


def test_too_little_memory_is_not_a_damaged_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A CPU's allocator says so in a plain error, which the run has its own sentence for."""
    pipe = tiny.sd_noise()
    control.controlnet(pipe.unet).save_pretrained(tmp_path)
    monkeypatch.setattr(ControlNetModel, "from_pretrained", lambda *_, **__: torch.empty(2**50))
    with pytest.raises(RuntimeError, match="DefaultCPUAllocator"):
        load_controlnet(str(tmp_path), pipe, pipe.unet, CPU, silent)


def test_shipped_cards_name_a_controlnet_for_every_kind_or_none() -> None:
    for one in CARDS.values():
        assert set(one.controlnets) in ({*EDGES}, set())
        assert not one.controlnets or one.family in FAMILIES
    assert json.dumps(sorted(CARDS["sd15"].controlnets)) == '["canny", "soft"]'
