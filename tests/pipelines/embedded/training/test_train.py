"""The training loop: it learns, stops without loss, goes on, and cools on a branch."""

import argparse
from pathlib import Path

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from diffusers import AutoencoderTiny

from pipelines.embedded.training import denoiser, latents, train
from pipelines.embedded.training.captions import all_words
from pipelines.embedded.training.clip import new_clip
from pipelines.embedded.training.cutouts import CutoutStore
from pipelines.embedded.training.tokenizer import build_tokenizer
from pipelines.embedded.training.world import World


@pytest.fixture(scope="module")
def pool_folder(small: World, shapes: CutoutStore, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pool")
    torch.manual_seed(0)
    encoder = AutoencoderTiny(
        latent_channels=12,
        encoder_block_out_channels=(8, 8, 8, 8),
        decoder_block_out_channels=(8, 8, 8, 8),
        num_encoder_blocks=(0, 0, 1, 1),
        num_decoder_blocks=(1, 1, 1, 0),
    ).encoder.eval()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(latents, "CHUNK", 8)
        latents.save_chunk(folder, 0, latents.make_chunk(small, shapes, encoder, seed=1))
    return folder


@pytest.fixture
def parts(
    small: World, pool_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> tuple[train.Training, train.Draws]:
    monkeypatch.setattr(train, "HELD_OUT", 2)
    monkeypatch.setattr(denoiser, "SIZES", {"cpu": (16, 32, 32)})
    torch.manual_seed(0)
    tokenizer = build_tokenizer(all_words(small))
    unet = denoiser.UNet2DConditionModel(
        sample_size=32,
        in_channels=12,
        out_channels=12,
        block_out_channels=(16, 32, 32),
        layers_per_block=1,
        down_block_types=("CrossAttnDownBlock2D",) * 3,
        up_block_types=("CrossAttnUpBlock2D",) * 3,
        attention_head_dim=1,
        cross_attention_dim=denoiser.WIDTH,
        norm_num_groups=8,
    )
    trainee = denoiser.Trainee(unet, denoiser.text_tower(new_clip(tokenizer)), len(small.labels))
    accelerator = Accelerator(cpu=True)
    training = train.Training(trainee, denoiser.optimizers(trainee, "muon", 1e-3), accelerator, 1.0)
    pool = latents.Pool(pool_folder, "crops")
    pool.refresh()
    return training, train.Draws(small, pool, tokenizer, 1.0, 4, accelerator.device)


def test_draws_are_scaled_and_leave_out_some_captions(parts: tuple[train.Training, train.Draws]) -> None:
    _, draws = parts
    rng = np.random.default_rng(0)
    empty = sum(int((draws(rng)[1][:, 1] == draws.tokenizer.eos_token_id).sum()) for _ in range(50))
    assert 5 <= empty <= 40
    draws.scale = 2.0
    doubled = draws(np.random.default_rng(1))[0]
    draws.scale = 1.0
    torch.testing.assert_close(doubled, 2 * draws(np.random.default_rng(1))[0])


def test_scenes_can_be_drawn_by_their_number_of_objects(parts: tuple[train.Training, train.Draws]) -> None:
    _, draws = parts
    counts = [len(scene.items) for scene in draws.pool.scenes[train.HELD_OUT :]]
    assert {1, 2} <= set(counts), "the pool of this test must hold both"
    drawn: list[int] = []
    texts = draws._text

    def spy(k: int, rng: np.random.Generator) -> str:
        drawn.append(k)
        return texts(k, rng)

    draws._text = spy  # type: ignore[method-assign]
    draws.shares = (0.0, 1.0)
    draws(np.random.default_rng(0))
    assert {len(draws.pool.scenes[k].items) for k in drawn} == {2}
    assert min(drawn) >= train.HELD_OUT
    drawn.clear()
    draws(np.random.default_rng(0), held_out=True)
    assert max(drawn) < train.HELD_OUT


def test_steps_lower_the_loss_and_a_saved_run_goes_on(
    parts: tuple[train.Training, train.Draws], tmp_path: Path
) -> None:
    training, draws = parts
    before = training.held_out(draws)
    rng, generator = np.random.default_rng(0), torch.Generator().manual_seed(0)
    for _ in range(12):
        training.step(draws(rng), generator, "crops", 0.99)
    assert training.held_out(draws) < before
    assert training.counts == {"step": 12, "crops": 48, "whole": 0}
    training.save(tmp_path / "state.pt")
    weights = {name: p.clone() for name, p in training.trainee.state_dict().items()}
    training.step(draws(rng), generator, "crops", 0.99)
    training.load(tmp_path / "state.pt")
    assert training.counts["step"] == 12
    for name, p in training.trainee.state_dict().items():
        torch.testing.assert_close(p, weights[name])


def test_a_loaded_run_takes_the_rate_asked_for_now(
    parts: tuple[train.Training, train.Draws], tmp_path: Path
) -> None:
    training, _ = parts
    training.save(tmp_path / "state.pt")
    for group in training.made[0].param_groups:
        group["full"] = 1e-5
    training.load(tmp_path / "state.pt")
    assert {group["full"] for group in training.made[0].param_groups} == {1e-5}


def test_words_a_state_did_not_know_stay_as_the_clip_has_them(
    parts: tuple[train.Training, train.Draws], tmp_path: Path
) -> None:
    training, _ = parts
    rows = training.trainee.state_dict()[train.WORDS]
    training.known = 10
    training.save(tmp_path / "state.pt")
    saved = rows.clone()
    with torch.no_grad():
        rows += 1.0
    training.known = 12
    training.load(tmp_path / "state.pt")
    torch.testing.assert_close(rows[:10], saved[:10])
    torch.testing.assert_close(rows[10:12], saved[10:12] + 1.0)
    torch.testing.assert_close(rows[12:], saved[12:])
    torch.testing.assert_close(training.average[train.WORDS], rows)


def test_cool_down_leaves_the_run_alone(parts: tuple[train.Training, train.Draws], tmp_path: Path) -> None:
    training, draws = parts
    for average in training.average.values():
        average.zero_()  # what a long past may have left
    options = argparse.Namespace(out=tmp_path, minutes=0.02, cool=True, stage="crops")
    train.run(training, draws, options)
    assert (tmp_path / "cooled.pt").exists()
    assert not (tmp_path / "state.pt").exists()
    name = "unet.conv_in.weight"
    torch.testing.assert_close(
        training.average[name], training.trainee.state_dict()[name], atol=0.02, rtol=0.1
    )
    assert training.made[0].param_groups[0]["lr"] < training.made[0].param_groups[0]["full"]
    assert (tmp_path / "log.txt").read_text().startswith("# ")
