"""Schedulers: names, fresh objects, and one unit of noise for all of them."""

from __future__ import annotations

import math

import pytest
import torch
from diffusers import FlowMatchEulerDiscreteScheduler

from pipelines import schedulers
from pipelines.engine import Engine
from pipelines.errors import UnsupportedError
from pipelines.models.card import SCHEDULERS
from tests.pipelines import tiny


@pytest.fixture(params=SCHEDULERS)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def built(engine: Engine, model: str, name: str, steps: int = 7, pinned: bool = False) -> object:
    loaded = engine.load(model)
    scheduler = schedulers.build(name, loaded.pipe.scheduler, loaded.card, pinned=pinned, steps=steps)
    scheduler.set_timesteps(steps)
    return scheduler


def test_fresh_and_with_the_models_own_training_schedule(engine: Engine, model: str, name: str) -> None:
    base = engine.load(model).pipe.scheduler
    before = dict(base.config)
    one, two = built(engine, model, name), built(engine, model, name)
    assert one is not two and one is not base
    for word in ("beta_start", "beta_end", "beta_schedule"):
        assert one.config[word] == base.config[word]
    assert one.config.prediction_type == base.config.get("prediction_type", "epsilon")
    assert not one.config.get("clip_sample", False), "latents are wider than -1..1"
    assert dict(base.config) == before


def test_levels_are_a_circle_falling_to_clean(engine: Engine, model: str, name: str) -> None:
    levels = schedulers.levels(built(engine, model, name))
    assert len(levels) == 8 and levels[-1] == (1.0, 0.0)
    assert all(a * a + s * s == pytest.approx(1, abs=1e-6) for a, s in levels)
    sigmas = [s for _, s in levels]
    assert sigmas == sorted(sigmas, reverse=True) and sigmas[0] > 0.9


def test_levels_are_those_of_add_noise(engine: Engine, model: str, name: str) -> None:
    scheduler = built(engine, model, name)
    clean, noise = torch.randn(2, 1, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    exploding = name in schedulers.EXPLODING
    for level, time in zip(schedulers.levels(scheduler), scheduler.timesteps, strict=False):
        ours = schedulers.noised(clean, noise, level, exploding)
        assert torch.allclose(ours, scheduler.add_noise(clean, noise, time[None]), rtol=1e-4, atol=1e-4)
    assert schedulers.noised(clean, noise, (1.0, 0.0), exploding) is clean


def test_levels_are_what_the_denoiser_reads(engine: Engine, model: str, name: str) -> None:
    """Noisy latents, scaled as the pipeline scales its input, are alpha·clean + sigma·noise for every scheduler."""
    scheduler = built(engine, model, name)
    clean, noise = torch.randn(2, 1, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    for level, time in zip(schedulers.levels(scheduler), scheduler.timesteps, strict=False):
        noisy = scheduler.add_noise(clean, noise, time[None])
        scheduler._step_index = None
        read = scheduler.scale_model_input(noisy, time)
        assert torch.allclose(read, schedulers.noised(clean, noise, level, False), atol=1e-4)


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction", "sample"])
@pytest.mark.parametrize("exploding", [False, True])
def test_predicted_clean_inverts_the_noise(prediction: str, exploding: bool) -> None:
    clean, noise = torch.randn(2, 1, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    alpha, sigma = 0.6, 0.8
    sample = schedulers.noised(clean, noise, (alpha, sigma), exploding)
    output = {"epsilon": noise, "v_prediction": alpha * noise - sigma * clean, "sample": clean}[prediction]
    found = schedulers.predicted_clean(sample, output, (alpha, sigma), prediction, exploding)
    assert torch.allclose(found, clean, atol=1e-5)


def test_predicted_clean_inverts_the_noise_of_a_flow() -> None:
    """Whose levels add up to 1, and whose output points from clean to noise."""
    clean, noise = torch.randn(2, 1, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    level = (0.3, 0.7)
    sample = schedulers.noised(clean, noise, level, False)
    found = schedulers.predicted_clean(sample, noise - clean, level, "flow", False)
    assert torch.allclose(found, clean, atol=1e-5)
    scheduler = FlowMatchEulerDiscreteScheduler()
    scheduler.set_timesteps(sigmas=[0.7, 0.2])
    stepped = scheduler.step(noise - clean, scheduler.timesteps[0], sample).prev_sample
    assert torch.allclose(stepped, schedulers.noised(clean, noise, (0.8, 0.2), False), atol=1e-5)


def test_ratio_is_bounded() -> None:
    assert schedulers.ratio((0.6, 0.8)) == pytest.approx(0.8 / 0.6)
    assert schedulers.ratio((0.0, 1.0)) == schedulers.ratio((1e-5, 1.0)) == schedulers.SIGMA_LIMIT
    first = math.sqrt((1 - 0.0046600) / 0.0046600)
    assert pytest.approx(first, rel=0.01) == schedulers.SIGMA_LIMIT


def test_zero_terminal_noise_starts_at_noise_alone(engine: Engine, name: str) -> None:
    alpha, sigma = schedulers.levels(built(engine, "sd_velocity", name))[0]
    assert alpha < 0.03 and sigma > 0.999
    alpha, _ = schedulers.levels(built(engine, "sd_noise", name))[0]
    assert alpha > 0.05


def test_only_unipc_learns_of_pins(engine: Engine) -> None:
    assert built(engine, "sd_noise", "unipc", pinned=True).disable_corrector == list(range(7))
    assert built(engine, "sd_noise", "unipc").disable_corrector == []


def test_others_are_refused_by_name(engine: Engine) -> None:
    with pytest.raises(
        UnsupportedError, match=r"'heun'.*sd_noise.*dpm\+\+2m, euler, euler_a, ddim, lcm, unipc"
    ):
        built(engine, "sd_noise", "heun")
    with pytest.raises(UnsupportedError, match=r"'lcm'.*50 steps"):
        built(engine, "sd_noise", "lcm", steps=51)
    assert len(built(engine, "sd_noise", "lcm", steps=50).timesteps) == 50
    card = tiny.card_for("sd_noise")
    only = type(card)(**{**vars(card), "schedulers": ("ddim",)})
    with pytest.raises(UnsupportedError, match=r"'euler'.*one of ddim"):
        schedulers.build("euler", engine.load("sd_noise").pipe.scheduler, only, pinned=False, steps=5)
