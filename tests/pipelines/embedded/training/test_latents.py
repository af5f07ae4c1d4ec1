"""The pool: crops hold their object, class maps agree with masks, chunks survive the disk."""

from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import AutoencoderTiny

from pipelines.embedded.training import latents
from pipelines.embedded.training.cutouts import CutoutStore
from pipelines.embedded.training.scenes import render, sample_scene
from pipelines.embedded.training.world import World


@pytest.fixture
def encoder() -> torch.nn.Module:
    torch.manual_seed(0)
    small = AutoencoderTiny(
        latent_channels=12,
        encoder_block_out_channels=(8, 8, 8, 8),
        decoder_block_out_channels=(8, 8, 8, 8),
        num_encoder_blocks=(0, 0, 1, 1),
        num_decoder_blocks=(1, 1, 1, 0),
    )
    return small.encoder.eval()


def test_crop_holds_its_object(small: World, shapes: CutoutStore) -> None:
    rng = np.random.default_rng(0)
    for _ in range(20):
        scene = sample_scene(small, rng, shapes)
        masks = render(scene, shapes).masks
        for index in range(len(scene.items)):
            left, top, right, bottom = box = latents.crop_box(scene, index, rng)
            assert 0 <= left < right <= 256 and 0 <= top < bottom <= 256
            assert right - left == bottom - top
            assert index in latents.named_in(masks, box)


def test_class_map_marks_covered_cells_only() -> None:
    masks = np.zeros((2, 64, 64), np.float32)
    masks[0, :32] = 1
    masks[1, 32:, :16] = 1
    cells = latents.class_map(masks, [4, 7], 8)
    assert (cells[:4] == 5).all()
    assert (cells[4:, :2] == 8).all()
    assert (cells[4:, 2:] == 0).all()


def test_chunk_round_trip(
    small: World,
    shapes: CutoutStore,
    encoder: torch.nn.Module,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(latents, "CHUNK", 4)
    chunk = latents.make_chunk(small, shapes, encoder, seed=3)
    latents.save_chunk(tmp_path, 0, chunk)
    for kind, side in (("whole", 32), ("crops", 16)):
        pool = latents.Pool(tmp_path, kind, pixels=True)
        assert pool.refresh() and not pool.refresh()
        assert pool.scenes == chunk[kind].scenes and pool.named == chunk[kind].named
        assert pool.latents is not None and pool.latents.shape[1:] == (12, side, side)
        np.testing.assert_array_equal(pool.latents, chunk[kind].latents)
        assert pool.pictures is not None and pool.pictures.shape[1:] == (128, 128, 3)
    again = latents.make_chunk(small, shapes, encoder, seed=3)
    np.testing.assert_array_equal(again["whole"].latents, chunk["whole"].latents)
