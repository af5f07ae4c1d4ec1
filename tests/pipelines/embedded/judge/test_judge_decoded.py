"""Examples that need a decoder or a denoiser, made with tiny real ones."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import AutoencoderTiny, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel

from pipelines.embedded.judge.data import IGNORE
from pipelines.embedded.judge.decoded import decoded_examples, unfinished_examples
from pipelines.embedded.judge.model import Vocabulary
from pipelines.embedded.training.captions import all_words
from pipelines.embedded.training.tokenizer import build_tokenizer
from pipelines.embedded.training.world import World


@pytest.fixture(scope="module")
def model(small: World, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny stock pipeline with random weights, twelve latent channels at an eighth of the size."""
    folder = tmp_path_factory.mktemp("model")
    torch.manual_seed(0)
    tokenizer = build_tokenizer(all_words(small))
    text = CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        max_position_embeddings=77,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    StableDiffusionPipeline(
        vae=AutoencoderTiny(
            encoder_block_out_channels=(8, 8, 8, 8),
            decoder_block_out_channels=(8, 8, 8, 8),
            num_encoder_blocks=(0, 0, 1, 1),
            num_decoder_blocks=(1, 1, 1, 0),
            latent_channels=12,
        ),
        text_encoder=CLIPTextModel(text),
        tokenizer=tokenizer,
        unet=UNet2DConditionModel(
            sample_size=16,
            in_channels=12,
            out_channels=12,
            block_out_channels=(8, 16),
            layers_per_block=1,
            down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
            up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
            attention_head_dim=2,
            cross_attention_dim=16,
            norm_num_groups=4,
        ),
        scheduler=DDIMScheduler(prediction_type="v_prediction", steps_offset=1, clip_sample=False),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    ).save_pretrained(folder)
    return folder


def test_decoded_examples_keep_the_truth_and_ruined_ones_have_none(
    pool: Path, vocabulary: Vocabulary, model: Path
) -> None:
    path = sorted(pool.glob("*.npz"))[0]
    found = decoded_examples(path, vocabulary, model / "vae", 8, 4)
    assert len(found) == 8 + 8 + 4 + 4 and found.pictures.shape[1:] == (128, 128, 3)
    kept, ruined, whole, empty = (slice(0, 8), slice(8, 16), slice(16, 20), slice(20, 24))
    nothing = len(vocabulary.labels)
    assert (found.targets["object"][kept] != nothing).all() and (found.presence[kept] == 1).any()
    assert (found.targets["object"][ruined] == nothing).all() and (found.presence[ruined] == -1).all()
    assert set(found.targets["place"][ruined]) <= {IGNORE, len(vocabulary.places)}
    assert (found.presence[whole] >= 0).all()
    assert (found.targets["object"][empty] == nothing).all() and (found.presence[empty] == 0).all()
    again = decoded_examples(path, vocabulary, model / "vae", 8, 4)
    assert np.array_equal(found.pictures, again.pictures)


def test_unfinished_pictures_are_nothing(
    pool: Path, vocabulary: Vocabulary, small: World, model: Path
) -> None:
    path = sorted(pool.glob("*.npz"))[1]
    found = unfinished_examples(path, vocabulary, model, small, 4)
    assert found.pictures.shape == (4, 128, 128, 3) and found.pictures.std() > 1
    assert (found.targets["object"] == len(vocabulary.labels)).all()
    assert all((t == IGNORE).all() for head, t in found.targets.items() if head != "object")
    assert (found.cells == -1).all()
