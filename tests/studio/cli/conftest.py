"""A small collage, and a tiny model of the real classes with random weights, as a folder that the engine loads."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from studio.document import Collage, Layer
from studio.pictures import Library


@pytest.fixture
def collage(library: Library) -> Collage:
    picture = library.add(Image.new("RGB", (20, 20), "red"))
    return Collage(
        canvas={"width": 64, "height": 64},
        prompt="a beach",
        steps=3,
        layers=(Layer(id="a", name="cat", prompt="cat", picture=picture, x=30.0, y=20.0),),
    )


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    import torch
    from diffusers import (
        AutoencoderTiny,
        DPMSolverMultistepScheduler,
        StableDiffusionPipeline,
        UNet2DConditionModel,
    )
    from transformers import CLIPTextConfig, CLIPTextModel

    from pipelines.embedded.training.tokenizer import build_tokenizer

    torch.manual_seed(0)
    tokenizer = build_tokenizer(["a", "cat", "on", "beach"])
    pipe = StableDiffusionPipeline(
        vae=AutoencoderTiny(
            latent_channels=4,
            encoder_block_out_channels=(8, 8),
            decoder_block_out_channels=(8, 8),
            num_encoder_blocks=(1, 1),
            num_decoder_blocks=(1, 1),
        ),
        text_encoder=CLIPTextModel(
            CLIPTextConfig(
                vocab_size=len(tokenizer),
                hidden_size=16,
                intermediate_size=16,
                num_hidden_layers=1,
                num_attention_heads=2,
                bos_token_id=tokenizer.bos_token_id,
                eos_token_id=tokenizer.eos_token_id,
            )
        ),
        tokenizer=tokenizer,
        unet=UNet2DConditionModel(
            sample_size=32,
            block_out_channels=(16, 32),
            layers_per_block=1,
            norm_num_groups=8,
            cross_attention_dim=16,
            attention_head_dim=8,
            down_block_types=("CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
            up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
        ),
        scheduler=DPMSolverMultistepScheduler(steps_offset=1),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    folder = tmp_path_factory.mktemp("tiny")
    pipe.save_pretrained(folder)
    return folder
