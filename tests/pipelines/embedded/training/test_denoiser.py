"""The denoiser's objective, its shape, and the way from a run's state to a stock pipeline."""

from pathlib import Path

import pytest
import torch
from diffusers import AutoencoderTiny, DDIMScheduler, StableDiffusionPipeline
from safetensors import safe_open

from pipelines.embedded.training import denoiser
from pipelines.embedded.training.clip import new_clip
from pipelines.embedded.training.export import build_pipeline, load_trained
from pipelines.embedded.training.tokenizer import build_tokenizer


def test_terminal_noise_holds_nothing_of_the_picture() -> None:
    alphas = DDIMScheduler(**denoiser.SCHEDULE).alphas_cumprod
    assert alphas[-1] == 0
    assert alphas[0] > 0.99


def test_diffuse_gives_v() -> None:
    alphas = DDIMScheduler(**denoiser.SCHEDULE).alphas_cumprod
    x = torch.randn(6, 12, 4, 4, generator=torch.Generator().manual_seed(1))
    noisy, timesteps, v = denoiser.diffuse(x, alphas, torch.Generator().manual_seed(2))
    a = alphas[timesteps].view(-1, 1, 1, 1)
    # arXiv 2202.00512: x = √ᾱ z − √(1−ᾱ) v
    assert torch.allclose(a.sqrt() * noisy - (1 - a).sqrt() * v, x, atol=1e-5)


def test_timesteps_lean_towards_noise_and_cover_all() -> None:
    t = denoiser.sample_timesteps(20_000, torch.Generator().manual_seed(0)).float()
    assert 520 < t.mean() < 640
    assert t.min() < 30 and t.max() > 970


def test_optimizers_share_out_every_weight_once() -> None:
    torch.manual_seed(0)
    tokenizer = build_tokenizer(["cat"])
    trainee = denoiser.Trainee(denoiser.new_unet(), denoiser.text_tower(new_clip(tokenizer)), 3)
    for kind in ("adamw", "muon"):
        given = [
            id(p)
            for o in denoiser.optimizers(trainee, kind, 1e-3)
            for group in o.param_groups
            for p in group["params"]
        ]
        assert len(given) == len(set(given)) == len(list(trainee.parameters()))


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An untrained run, exported as a trained one is."""
    folder = tmp_path_factory.mktemp("run")
    torch.manual_seed(0)
    tokenizer = build_tokenizer(["cat", "a"])
    clip = new_clip(tokenizer)
    clip.save_pretrained(folder / "clip")
    trainee = denoiser.Trainee(denoiser.new_unet(), denoiser.text_tower(clip), 3)
    state = {"average": trainee.state_dict(), "counts": {"step": 1}, "scale": 1.05}
    torch.save(state, folder / "state.pt")
    AutoencoderTiny(
        latent_channels=12,
        encoder_block_out_channels=(8, 8, 8, 8),
        decoder_block_out_channels=(8, 8, 8, 8),
        num_encoder_blocks=(0, 0, 1, 1),
        num_decoder_blocks=(1, 1, 1, 0),
    ).save_pretrained(folder / "vae")
    loaded, scale, counts = load_trained(folder / "state.pt", folder / "clip", "cpu", 3)
    assert counts == {"step": 1}
    pipe = build_pipeline(loaded, scale, tokenizer, folder / "vae")
    pipe.set_progress_bar_config(disable=True)
    pipe.save_pretrained(folder / "weights", max_shard_size="9MB")
    return folder


def test_export_loads_as_a_stock_pipeline_and_runs(exported: Path) -> None:
    pipe = StableDiffusionPipeline.from_pretrained(exported / "weights")
    pipe.set_progress_bar_config(disable=True)
    assert pipe.vae.config.scaling_factor == pytest.approx(1.05)
    assert pipe.scheduler.config.prediction_type == "v_prediction"
    picture = pipe("a cat", num_inference_steps=2, output_type="np").images[0]
    assert picture.shape == (256, 256, 3)


def test_export_is_safetensors_in_small_files(exported: Path) -> None:
    files = list((exported / "weights").rglob("*.safetensors"))
    assert not list((exported / "weights").rglob("*.bin"))
    unet = [path for path in files if path.parent.name == "unet"]
    assert len(unet) > 1
    assert all(path.stat().st_size < 10e6 for path in files)
    names = set()
    for path in unet:
        with safe_open(path, "pt") as file:
            names |= set(file.keys())
    assert names == set(denoiser.new_unet().state_dict())


def test_a_new_run_can_start_from_exported_weights(exported: Path) -> None:
    torch.manual_seed(5)
    tokenizer = build_tokenizer(["cat", "a"])
    trainee = denoiser.Trainee(denoiser.new_unet(), denoiser.text_tower(new_clip(tokenizer)), 3)
    scale = denoiser.start_from(trainee, exported / "weights")
    state = torch.load(exported / "state.pt", weights_only=True)["average"]
    assert scale == pytest.approx(1.05)
    for name, weight in trainee.state_dict().items():
        if not name.startswith("head."):
            torch.testing.assert_close(weight, state[name])
