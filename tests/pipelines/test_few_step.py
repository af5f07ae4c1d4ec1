"""Models of few steps: their defaults against the installed schedulers, and a latent consistency model at work."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import diffusers
import pytest
import torch
from diffusers.pipelines.flux2.pipeline_flux2_klein import compute_empirical_mu

from pipelines.engine import Engine
from pipelines.models import CARDS, card
from pipelines.models.card import FLOW_SCHEDULERS
from pipelines.pictures import PictureStore
from tests.pipelines import tiny

FEW = [name for name, one in CARDS.items() if "window" in one.own and name != "embedded"]


def test_these_are_the_models_of_few_steps() -> None:
    assert {name for name, one in CARDS.items() if one.steps < 10} == set(FEW)
    assert {"lcm", "sd-turbo", "sdxl-turbo", "sdxl-lightning", "flux-schnell"} <= set(FEW)


def timesteps(name: str) -> torch.Tensor:
    """Of a run from pure noise, 0 to 1000, by the scheduler that the model ships with or is given."""
    one = CARDS[name]
    betas: dict[str, Any] = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
    if name == "lcm":
        scheduler: Any = diffusers.LCMScheduler(**betas)
        scheduler.set_timesteps(one.steps)
    elif one.schedulers == FLOW_SCHEDULERS:
        moving = name == "flux2-klein"
        scheduler = diffusers.FlowMatchEulerDiscreteScheduler(
            shift=3.0 if name == "z-image-turbo" else 1.0, use_dynamic_shifting=moving
        )
        even = torch.linspace(1, 1 / one.steps, one.steps).tolist()
        # 1024 pixels are 64 by 64 tokens
        scheduler.set_timesteps(
            sigmas=even, **({"mu": compute_empirical_mu(64 * 64, one.steps)} if moving else {})
        )
    else:
        scheduler = diffusers.EulerDiscreteScheduler(**betas, timestep_spacing=one.spacing)
        scheduler.set_timesteps(one.steps)
    steps: torch.Tensor = scheduler.timesteps.float()
    return steps


@pytest.mark.parametrize("name", FEW)
def test_windows_are_as_long_as_those_that_negtome_released(name: str) -> None:
    """SDXL's evaluation acts down to t = 600, FLUX down to 900."""
    down_to = 900 if CARDS[name].schedulers == FLOW_SCHEDULERS else 600
    steps = timesteps(name)
    assert len(steps) == CARDS[name].steps
    assert float((steps >= down_to - 1e-3).float().mean()) == CARDS[name].own["window"]


def test_a_look_is_learned_with_the_guidance_that_the_unet_reads() -> None:
    pipe, given = tiny.lcm(), list[Any]()
    family = Engine().adopt("lcm", pipe, tiny.card_for("lcm")).family
    pipe.unet.register_forward_pre_hook(
        lambda *args: given.append(args[-1].get("timestep_cond")), with_kwargs=True
    )
    noisy, text = torch.zeros(2, 4, 8, 8), family.text(pipe, "a cat", (64, 64))
    for guidance in (8.5, 2.0):
        family.predict(pipe, noisy, torch.tensor([500.0, 20.0]), text, guidance)
    for one, guidance in zip(given, (8.5, 2.0), strict=True):
        stock = pipe.get_guidance_scale_embedding(torch.full((2,), guidance - 1), embedding_dim=16)
        assert torch.equal(one, stock)
    assert not torch.equal(*given)


def test_defaults_are_the_installed_pipelines_own() -> None:
    def default(kind: Any, word: str) -> Any:
        import inspect

        return inspect.signature(kind.__call__).parameters[word].default

    for name, kind, guidance in (
        ("lcm", diffusers.LatentConsistencyModelPipeline, "guidance_scale"),
        ("flux", diffusers.FluxPipeline, "guidance_scale"),
        ("flux2", diffusers.Flux2Pipeline, "guidance_scale"),
        ("flux2-klein-base", diffusers.Flux2KleinPipeline, "guidance_scale"),
        ("qwen-image", diffusers.QwenImagePipeline, "true_cfg_scale"),
    ):
        assert CARDS[name].steps == default(kind, "num_inference_steps"), name
        assert CARDS[name].guidance == default(kind, guidance), name
    assert CARDS["sd3"].steps == default(diffusers.StableDiffusion3Pipeline, "num_inference_steps")
    assert CARDS["sdxl"].guidance == default(diffusers.StableDiffusionXLPipeline, "guidance_scale")


def test_a_latent_consistency_model_reads_guidance_as_an_input(tmp_path: Path, store: PictureStore) -> None:
    stock = tiny.lcm()
    diffusers.LatentConsistencyModelPipeline(
        **{
            **stock.components,
            "scheduler": diffusers.LCMScheduler.from_config(stock.scheduler.config),
        },
        requires_safety_checker=False,
    ).save_pretrained(tmp_path)
    one = card(str(tmp_path))
    assert (one.steps, one.guidance, one.schedulers, one.own["window"]) == (4, 8.5, ("lcm",), 0.5)

    engine = Engine()
    rows: list[int] = []
    engine.load(str(tmp_path)).pipe.unet.register_forward_pre_hook(lambda _, args: rows.append(len(args[0])))
    request = dataclasses.replace(
        tiny.text_request(str(tmp_path)), scheduler=one.scheduler, steps=one.steps, guidance=one.guidance
    )
    strong = tiny.pictures(engine, request, store)[0]
    assert rows == [1] * 4  # no row without the prompt
    weak = tiny.pictures(engine, dataclasses.replace(request, guidance=1.5), store)[0]
    assert tiny.moved(strong, weak) > 0
