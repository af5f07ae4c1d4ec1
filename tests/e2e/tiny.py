"""A stock Stable Diffusion pipeline of the embedded model's kind, tiny and with random weights."""

from __future__ import annotations

from typing import Any


def tiny_pipeline() -> Any:
    """Real classes, 12 latent channels, 8 pixels a cell, a vocabulary of a few words; takes a moment to build."""
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
    tokenizer = build_tokenizer(["a", "and", "dog", "car", "ring", "red", "on", "the", "beach", "at", "sunset"])
    pipe = StableDiffusionPipeline(
        vae=AutoencoderTiny(
            latent_channels=12,
            encoder_block_out_channels=(8, 8, 8, 8),
            decoder_block_out_channels=(8, 8, 8, 8),
            num_encoder_blocks=(1, 1, 1, 1),
            num_decoder_blocks=(1, 1, 1, 1),
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
            in_channels=12,
            out_channels=12,
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
    pipe.set_progress_bar_config(disable=True)
    return pipe
