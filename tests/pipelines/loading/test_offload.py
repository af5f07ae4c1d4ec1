"""Offload with all methods: weights that come and go change no bit, and nothing of ours stays.

A CPU stands in for the accelerator: the hooks are the libraries' own, the way between the devices is short.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import accelerate
import numpy as np
import pytest
import torch
from accelerate.hooks import AlignDevicesHook, add_hook_to_module

from pipelines.attention.kernel import Kernel
from pipelines.engine import Engine
from pipelines.errors import Cancelled
from pipelines.job import _report
from pipelines.loading import LoadOptions
from pipelines.methods import methods_for
from pipelines.methods.base import Inputs, Method, Run, Step
from pipelines.methods.confine import Confine
from pipelines.methods.harmonize import Harmonize
from pipelines.methods.layer_attention import LayerAttention
from pipelines.methods.layer_control import LayerControl
from pipelines.methods.negtome import Avoid, Spread
from pipelines.methods.reference_rows import ReferenceRows
from pipelines.methods.watch import Watch
from pipelines.pictures import PictureStore
from pipelines.sampling import sample
from tests.pipelines import control, tiny
from tests.pipelines import tiny_transformers as tt
from tests.pipelines.test_adapters import everything

CPU = torch.device("cpu")
WAYS: dict[str, Any] = {
    "model": lambda pipe: pipe.enable_model_cpu_offload(device="cpu"),
    "group": lambda pipe: pipe.enable_group_offload(onload_device=CPU, offload_type="leaf_level"),
}


ALIKE = {"sd_velocity": "group", "sd2": "model", "schnell": "model"}
"""Models with the parts of another, in one way each."""


@pytest.mark.parametrize(
    ("model", "way"),
    [(m, way) for m in [*tiny.KINDS, *tt.KINDS] for way in WAYS if ALIKE.get(m, way) == way],
)
def test_offload_changes_nothing(store: PictureStore, model: str, way: str) -> None:
    kinds: Any = tt if model in tt.KINDS else tiny
    engine = Engine(preview_seconds=1e9)
    loaded = engine.adopt(model, kinds.KINDS[model](), kinds.card_for(model))
    request = everything(loaded, store)
    plain, stock = (
        tiny.pictures(engine, one, store)
        for one in (request, tiny.collage_request(store, model, **plainly(loaded)))
    )
    WAYS[way](loaded.pipe)
    denoiser = loaded.family.denoiser(loaded.pipe)
    before = [id(module.processor) for module in denoiser.modules() if hasattr(module, "processor")]
    hooks = sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in denoiser.modules())
    hooked = [m for m in loaded.pipe.vae.modules() if hasattr(m, "_hf_hook") or hasattr(m, "_diffusers_hook")]
    assert hooked, "offload is on"
    found = tiny.pictures(engine, request, store)
    assert all(np.array_equal(a, b) for a, b in zip(plain, found, strict=True))
    assert tiny.moved(found[0], stock[0]) > 0.02, "the methods act"
    again = tiny.pictures(engine, tiny.collage_request(store, model, **plainly(loaded)), store)
    assert all(np.array_equal(a, b) for a, b in zip(stock, again, strict=True))
    assert before == [id(module.processor) for module in denoiser.modules() if hasattr(module, "processor")]
    assert hooks == sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in denoiser.modules())


def test_the_report_tells_where_offloaded_weights_are_computed(engine: Engine) -> None:
    """At the end of a run they are off the device again; "meta" stands in for it."""
    loaded = dataclasses.replace(engine.load("sd_noise"), pipe=tiny.sd_noise())
    for part in loaded.pipe.components.values():
        if isinstance(part, torch.nn.Module):
            accelerate.cpu_offload_with_hook(part, torch.device("meta"))
    assert loaded.pipe.device == CPU
    assert _report(loaded, 0, 0.0, [])["device"] == "meta"


def test_a_device_map_runs_all_methods(store: PictureStore, tmp_path: Path) -> None:
    """All parts on the CPU, as the map says; the pictures are those of the model loaded without one."""
    folder = str(tmp_path)
    tiny.sd_noise().save_pretrained(folder)
    found = {}
    for name, options in (("map", LoadOptions(device_map="cpu")), ("plain", LoadOptions(device="cpu"))):
        engine = Engine(preview_seconds=1e9, options=options)
        loaded = engine.load(folder)
        assert (getattr(loaded.pipe, "hf_device_map", None) is not None) == (name == "map")
        request = everything(loaded, store)
        found[name] = tiny.pictures(engine, request, store)
        stock = tiny.pictures(engine, tiny.collage_request(store, folder, **plainly(loaded)), store)
        assert tiny.moved(found[name][0], stock[0]) > 0.02, "the methods act"
    assert all(np.array_equal(a, b) for a, b in zip(found["map"], found["plain"], strict=True))


@pytest.mark.parametrize(("model", "background"), [("sd_noise", 0.6), ("sd_noise", 1.0), ("flux", 1.0)])
def test_where_a_device_map_puts_the_denoiser_apart(
    store: PictureStore, model: str, background: float
) -> None:
    """Attention's tensors are with the denoiser, those of latents and ControlNets with the rest, up to its first call.

    Its device is "meta" by accelerate's own hook: no picture can come back from there.
    """
    kinds: Any = tt if model in tt.KINDS else tiny
    loaded = Engine(preview_seconds=1e9).adopt(model, kinds.KINDS[model](), kinds.card_for(model))
    denoiser = loaded.family.denoiser(loaded.pipe)
    add_hook_to_module(denoiser, AlignDevicesHook(execution_device="meta", io_same_device=True))
    request = everything(loaded, store)
    shaped = 0.5 if model == "sd_noise" else 0.0
    layers = [dataclasses.replace(one, keep_shape=shaped) for one in request.layers]
    if model == "sd_noise":
        layers[0] = dataclasses.replace(layers[0], negative="night")
    avoids = (tiny.avoid(store, layer=0), tiny.avoid(store))
    request = request.replace(background_harmonize=background, layers=tuple(layers), avoids=avoids)
    stop, methods = Stop(), methods_for(request)
    net = control.controlnet(loaded.pipe.unet) if shaped else None
    parts = (loaded.pipe, loaded.family, loaded.card, request, store)
    with pytest.raises(Cancelled):
        sample(*parts, [*methods, Watch(), stop], [7, 8], lambda *_: None, controlnet=net)
    slots = [*stop.kernel.logit_bias, *stop.kernel.map_output, *stop.kernel.watch]
    inside = [slot.__self__ for slot in slots]  # type: ignore[attr-defined]
    asked = {LayerAttention, Avoid, Spread, Watch} | ({Confine} if shaped else set())
    assert {type(one) for one in inside} == asked
    assert all(devices(one) == {torch.device("meta")} for one in inside if type(one) is not Spread)
    outside = [one for one in methods if isinstance(one, Harmonize | LayerControl | ReferenceRows)]
    assert len(outside) == 2 + bool(shaped) and all(devices(one) == {CPU} for one in outside)
    assert stop.run.device.type == "meta" and devices([stop.run.clean, stop.run.noise]) == {CPU}


class Stop(Method):
    """Ends a run where the denoiser would be called."""

    order = 99

    def begin(self, run: Run, kernel: Kernel) -> None:
        self.run, self.kernel = run, kernel

    def before_forward(self, step: Step, inputs: Inputs) -> None:
        assert inputs.sample.device == CPU and len(inputs.sample) > step.rows, "with rows of references"
        raise Cancelled("here")


def devices(held: Any) -> set[torch.device]:
    """Where tensors are that something holds, but for the run that it knows."""
    if isinstance(held, torch.Tensor):
        return {held.device}
    if isinstance(held, dict | Method) or dataclasses.is_dataclass(held):
        held = (held if isinstance(held, dict) else vars(held)).values()
    elif not isinstance(held, list | tuple):
        return set()
    return {one for each in held if not isinstance(each, Run | Step) for one in devices(each)}


def plainly(loaded: Any) -> dict[str, Any]:
    """The same run without a method."""
    card = loaded.card
    strengths: dict[str, Any] = {
        "car": {"harmonize": 1.0},
        "cat": {"harmonize": 1.0},
        "background_harmonize": 1.0,
    }
    return {"scheduler": card.scheduler, "guidance": card.guidance, "steps": 4, "images": 2, **strengths}
