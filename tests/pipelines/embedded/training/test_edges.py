"""The edge ControlNet: begins as nothing, learns, leaves the denoiser alone, is read by diffusers."""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from diffusers import AutoencoderTiny, ControlNetModel, UNet2DConditionModel
from transformers import CLIPTextModel

from pipelines.edges import edges
from pipelines.embedded.training import edges as module
from pipelines.embedded.training import latents, train
from pipelines.embedded.training.captions import all_words
from pipelines.embedded.training.clip import new_clip
from pipelines.embedded.training.cutouts import CutoutStore
from pipelines.embedded.training.denoiser import WIDTH, text_tower
from pipelines.embedded.training.edges import Shapes, Teaching, new_controlnet
from pipelines.embedded.training.scenes import render
from pipelines.embedded.training.tokenizer import build_tokenizer
from pipelines.embedded.training.world import World


@pytest.fixture(scope="module")
def shapes_drawn(small: World, shapes: CutoutStore, tmp_path_factory: pytest.TempPathFactory) -> Shapes:
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
    pool = latents.Pool(folder, "whole")
    pool.refresh()
    draws = train.Draws(small, pool, build_tokenizer(all_words(small)), 1.0, 4, Accelerator(cpu=True).device)
    return Shapes(draws, shapes)


@pytest.fixture(autouse=True)
def held_out_two(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(train, "HELD_OUT", 2)


@pytest.fixture
def teaching(shapes_drawn: Shapes) -> Teaching:
    torch.manual_seed(0)
    unet = UNet2DConditionModel(
        sample_size=32,
        in_channels=12,
        out_channels=12,
        block_out_channels=(16, 32, 32),
        layers_per_block=1,
        down_block_types=("CrossAttnDownBlock2D",) * 3,
        up_block_types=("CrossAttnUpBlock2D",) * 3,
        attention_head_dim=1,
        cross_attention_dim=WIDTH,
        norm_num_groups=8,
    ).requires_grad_(False)
    text: CLIPTextModel = text_tower(new_clip(shapes_drawn.draws.tokenizer)).requires_grad_(False)
    return Teaching(unet, text, new_controlnet(unet), Accelerator(cpu=True))


def test_the_edges_are_those_of_the_flat_picture(shapes_drawn: Shapes) -> None:
    _, _, shown, counting = shapes_drawn(np.random.default_rng(0))
    assert shown.shape == (4, 3, 256, 256) and counting.shape == (4, 1, 32, 32)
    for k, one in zip(shapes_drawn.draws.chosen, shown, strict=True):
        flat = render(shapes_drawn.draws.pool.scenes[int(k)], shapes_drawn.store, light=False).image
        assert torch.equal(one[0] * 255, torch.from_numpy(edges(flat)).float()) and one.any()
        assert torch.equal(one[0], one[2])


def test_some_scenes_keep_the_shape_of_some_objects(shapes_drawn: Shapes) -> None:
    rng = np.random.default_rng(0)
    shares = torch.cat([shapes_drawn(rng)[3].mean((1, 2, 3)) for _ in range(20)])
    assert 0.3 < (shares < 1).float().mean() < 0.7
    assert shares[shares < 1].min() > 0
    assert (shapes_drawn(rng, held_out=True)[3] == 1).all()
    assert set(shapes_drawn.draws.chosen) <= {0, 1}


def test_a_new_one_begins_with_the_denoisers_weights_and_adds_nothing(
    teaching: Teaching, shapes_drawn: Shapes
) -> None:
    drawn = shapes_drawn(np.random.default_rng(0))
    times = torch.tensor([10, 300, 700, 999])
    off = teaching.predict(drawn[0], times, drawn, 0.0)
    assert torch.equal(teaching.predict(drawn[0], times, drawn), off)
    kept = teaching.controlnet.down_blocks[0].resnets[0].conv1.weight
    assert torch.equal(kept, teaching.unet.down_blocks[0].resnets[0].conv1.weight)
    assert teaching.controlnet.controlnet_cond_embedding.conv_out.weight.abs().max() > 0


def test_teaching_lowers_the_loss_and_leaves_the_denoiser_alone(
    teaching: Teaching, shapes_drawn: Shapes
) -> None:
    before = {name: p.clone() for name, p in teaching.unet.state_dict().items()}
    drawn = shapes_drawn(np.random.default_rng(0))
    losses = []
    for _ in range(10):
        teaching.step(drawn, torch.Generator().manual_seed(1), 1.0)  # always the same noise
        losses.append(teaching.mean)
        teaching.mean = 0.0
    assert losses[-1] < 0.99 * losses[0]
    assert all(torch.equal(p, before[name]) for name, p in teaching.unet.state_dict().items())
    with_edges, without = teaching.held_out(shapes_drawn, batches=1)
    assert with_edges != without


def test_a_stop_loses_nothing(teaching: Teaching, shapes_drawn: Shapes, tmp_path: Path) -> None:
    options = argparse.Namespace(out=tmp_path, minutes=0.02, cool=0.01)
    module.run(teaching, shapes_drawn, options)
    assert teaching.counts["seen"] == 4 * teaching.counts["step"] > 0
    assert "without edges" in (tmp_path / "edges.txt").read_text()
    again = Teaching(teaching.unet, teaching.text, new_controlnet(teaching.unet), Accelerator(cpu=True))
    again.load(tmp_path / "edges.pt")
    assert again.counts == teaching.counts
    for name, p in again.controlnet.state_dict().items():
        assert torch.equal(p, teaching.controlnet.state_dict()[name])
    again.step(shapes_drawn(np.random.default_rng(0)), torch.Generator(), 1.0)
    assert again.counts["step"] == teaching.counts["step"] + 1


def test_what_is_exported_is_read_by_diffusers(teaching: Teaching, tmp_path: Path) -> None:
    for p in teaching.average.values():
        p.add_(0.01)
    assert teaching.export(tmp_path / "made") > 0
    read = ControlNetModel.from_pretrained(tmp_path / "made")
    assert not any(hasattr(block, "attentions") for block in read.down_blocks)
    for name, p in read.state_dict().items():
        assert torch.equal(p, teaching.average[name].half()), name
