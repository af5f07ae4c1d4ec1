"""Tiny real pipelines of the transformer families: stock classes and tokenizer classes, random weights, 64×64 pixels."""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
from diffusers import (
    AutoencoderKL,
    FlowMatchEulerDiscreteScheduler,
    FluxPipeline,
    FluxTransformer2DModel,
    SD3Transformer2DModel,
    StableDiffusion3Pipeline,
)
from transformers import T5Config, T5EncoderModel, T5TokenizerFast

from pipelines.models.card import FLOW_SCHEDULERS, ModelCard
from tests.pipelines import tiny

WIDE = 32


@cache
def t5_words() -> T5TokenizerFast:
    """T5's tokenizer class over the letters and two words in pieces, so that phrases have several tokens."""
    pieces = ["▁", *(f"▁{word}" for word in ("a", "red", "and", "on", "the")), "be", "ach", "c", "ar", "at"]
    letters = [chr(code) for code in range(ord("a"), ord("z") + 1) if chr(code) != "c"]
    vocab = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0)]
    vocab += [(piece, -2.0) for piece in pieces] + [(letter, -6.0) for letter in [*letters, ",", "."]]
    return T5TokenizerFast(vocab=vocab, extra_ids=0, additional_special_tokens=[], model_max_length=512)


def t5_encoder(seed: int) -> T5EncoderModel:
    """Two layers, 32 wide."""
    torch.manual_seed(seed)
    config = T5Config(
        vocab_size=len(t5_words()), d_model=WIDE, d_kv=8, d_ff=64, num_layers=2, num_heads=4, is_encoder_decoder=False
    )
    return T5EncoderModel(config).eval()


def autoencoder(seed: int) -> AutoencoderKL:
    """Factor 8, four latent channels, with the shift that these families have."""
    torch.manual_seed(seed)
    return AutoencoderKL(
        block_out_channels=(8, 8, 8, 8),
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        norm_num_groups=4,
        latent_channels=4,
        shift_factor=0.06,
        scaling_factor=1.5,
        use_quant_conv=False,
        use_post_quant_conv=False,
    ).eval()


def awake(model: Any) -> Any:
    """Weights wide enough that attention and text show in the picture."""
    for name, parameter in model.named_parameters():
        if parameter.ndim > 1:
            torch.nn.init.normal_(parameter, std=1.2 / parameter.shape[-1] ** 0.5)
        if name.rsplit(".", 2)[-2] in ("to_q", "to_k", "add_q_proj", "add_k_proj") and parameter.ndim > 1:
            parameter.data *= 2
    return model.eval()


def sd3() -> StableDiffusion3Pipeline:
    """As Stable Diffusion 3.5 medium: the first block has a second attention, inside the picture only."""
    torch.manual_seed(20)
    transformer = SD3Transformer2DModel(
        sample_size=8,
        patch_size=2,
        in_channels=4,
        out_channels=4,
        num_layers=2,
        attention_head_dim=8,
        num_attention_heads=4,
        joint_attention_dim=64,
        caption_projection_dim=WIDE,
        pooled_projection_dim=64,
        pos_embed_max_size=16,
        dual_attention_layers=(0,),
        qk_norm="rms_norm",
    )
    torch.manual_seed(20)
    encoders = tiny.text_encoder(21, pooled=True), tiny.text_encoder(22, pooled=True)
    t5 = T5EncoderModel(
        T5Config(
            vocab_size=len(t5_words()), d_model=64, d_kv=8, d_ff=64, num_layers=2, num_heads=4, is_encoder_decoder=False
        )
    ).eval()
    return StableDiffusion3Pipeline(
        transformer=awake(transformer),
        scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0),
        vae=autoencoder(23),
        text_encoder=encoders[0],
        tokenizer=tiny.tokenizer(),
        text_encoder_2=encoders[1],
        tokenizer_2=tiny.tokenizer(),
        text_encoder_3=t5,
        tokenizer_3=t5_words(),
    )


def flux(*, guided: bool = True) -> FluxPipeline:
    """As FLUX.1 dev, or schnell, which has no guidance and no shift by size."""
    torch.manual_seed(30)
    transformer = FluxTransformer2DModel(
        in_channels=16,
        num_layers=1,
        num_single_layers=1,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=WIDE,
        pooled_projection_dim=WIDE,
        guidance_embeds=guided,
        axes_dims_rope=(4, 6, 6),
    )
    torch.manual_seed(30)
    return FluxPipeline(
        transformer=awake(transformer),
        scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0 if guided else 1.0, use_dynamic_shifting=guided),
        vae=autoencoder(31),
        text_encoder=tiny.text_encoder(32),
        tokenizer=tiny.tokenizer(),
        text_encoder_2=t5_encoder(33),
        tokenizer_2=t5_words(),
    )


KINDS: dict[str, Any] = {"sd3": sd3, "flux": flux, "schnell": lambda: flux(guided=False)}
FAMILY = {"schnell": "flux"}


def card_for(name: str) -> ModelCard:
    """A card for one of `KINDS`."""
    return ModelCard(
        name=name,
        family=FAMILY.get(name, name),
        source=name,
        side=tiny.SIDE,
        scheduler="flow_euler",
        schedulers=FLOW_SCHEDULERS,
        steps=4,
        guidance=0.0 if name == "schnell" else 3.5,
        negtome_blocks=("double", "single"),
        origin="tests",
    )
