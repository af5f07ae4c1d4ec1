"""Tiny real pipelines of the transformer families: stock classes, tokenizers' too, random weights, 64×64 pixels."""

from __future__ import annotations

import warnings
from typing import Any

import torch
from diffusers import (
    AutoencoderKLQwenImage,
    ChromaPipeline,
    FlowMatchEulerDiscreteScheduler,
    Flux2KleinPipeline,
    Flux2Pipeline,
    FluxPipeline,
    FluxTransformer2DModel,
    QwenImagePipeline,
    QwenImageTransformer2DModel,
    SD3Transformer2DModel,
    StableDiffusion3Pipeline,
    ZImagePipeline,
    ZImageTransformer2DModel,
)
from transformers import (
    Mistral3Config,
    Mistral3ForConditionalGeneration,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    T5Config,
    T5EncoderModel,
)

from pipelines.models.card import FLOW_SCHEDULERS, ModelCard
from tests.pipelines import tiny
from tests.pipelines.tiny_parts import (
    WIDE,
    autoencoder,
    awake,
    chroma_transformer,
    flux2_autoencoder,
    flux2_transformer,
    language_model,
    t5_encoder,
)
from tests.pipelines.tiny_words import (
    mistral_words,
    qwen_words,
    t5_words,
)


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
            vocab_size=len(t5_words()),
            d_model=64,
            d_kv=8,
            d_ff=64,
            num_layers=2,
            num_heads=4,
            is_encoder_decoder=False,
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


def flow(**more: Any) -> FlowMatchEulerDiscreteScheduler:
    """The shift by size that these families have."""
    return FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True, **more)


def chroma() -> ChromaPipeline:
    """As Chroma: FLUX without CLIP and with masks."""
    torch.manual_seed(40)
    with warnings.catch_warnings():  # diffusers' own class uses what diffusers calls deprecated
        warnings.simplefilter("ignore", FutureWarning)
        transformer = chroma_transformer()
    torch.manual_seed(40)
    return ChromaPipeline(
        transformer=awake(transformer),
        scheduler=FlowMatchEulerDiscreteScheduler(shift=1.0),
        vae=autoencoder(41),
        text_encoder=t5_encoder(42),
        tokenizer=t5_words(),
    )


def zimage() -> ZImagePipeline:
    """As Z-Image: one line of blocks after two short ones."""
    torch.manual_seed(50)
    transformer = ZImageTransformer2DModel(
        in_channels=4,
        dim=32,
        n_layers=2,
        n_refiner_layers=1,
        n_heads=2,
        n_kv_heads=2,
        cap_feat_dim=16,
        axes_dims=[4, 6, 6],
        axes_lens=[640, 64, 64],
    )
    torch.manual_seed(50)
    return ZImagePipeline(
        transformer=awake(transformer),
        scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0),
        vae=autoencoder(51),
        text_encoder=language_model(52, 2),
        tokenizer=qwen_words(),
    )


def klein() -> Flux2KleinPipeline:
    """As FLUX.2 Klein base: three of the text model's 28 layers are read."""
    torch.manual_seed(60)
    transformer, vae = flux2_transformer(guided=False), flux2_autoencoder()
    torch.manual_seed(60)
    return Flux2KleinPipeline(
        transformer=awake(transformer),
        scheduler=flow(),
        vae=vae,
        text_encoder=language_model(62, 28),
        tokenizer=qwen_words(),
        is_distilled=False,
    )


def flux2() -> Flux2Pipeline:
    """As FLUX.2 dev: three of the text model's 30 layers are read."""
    torch.manual_seed(80)
    transformer, vae = flux2_transformer(guided=True), flux2_autoencoder()
    size = {"hidden_size": 16, "intermediate_size": 16, "num_attention_heads": 2, "head_dim": 8}
    config = Mistral3Config(
        text_config={
            **size,
            "model_type": "mistral",
            "vocab_size": len(mistral_words().tokenizer) + 8,
            "num_hidden_layers": 30,
            "num_key_value_heads": 1,
        },
        vision_config={
            **size,
            "model_type": "pixtral",
            "num_hidden_layers": 1,
            "image_size": 16,
            "patch_size": 8,
        },
        image_token_index=1,
    )
    torch.manual_seed(80)
    return Flux2Pipeline(
        transformer=awake(transformer),
        scheduler=flow(),
        vae=vae,
        text_encoder=Mistral3ForConditionalGeneration(config).eval(),
        tokenizer=mistral_words(),
    )


def qwen() -> QwenImagePipeline:
    """As Qwen-Image: a film autoencoder and a vision-language model that only reads."""
    torch.manual_seed(70)
    transformer = QwenImageTransformer2DModel(
        in_channels=16,
        out_channels=4,
        num_layers=2,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=16,
        axes_dims_rope=(4, 6, 6),
    )
    vae = AutoencoderKLQwenImage(
        base_dim=8,
        z_dim=4,
        dim_mult=[1, 1, 1, 1],
        num_res_blocks=1,
        temperal_downsample=[False, True, True],
        latents_mean=[0.1, -0.1, 0.2, 0.0],
        latents_std=[0.8, 1.2, 1.0, 0.9],
    ).eval()
    size = len(qwen_words()) + 8
    config = Qwen2_5_VLConfig(
        text_config={
            "vocab_size": size,
            "hidden_size": 16,
            "intermediate_size": 16,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "num_key_value_heads": 1,
            "rope_scaling": {"type": "default", "mrope_section": [1, 1, 2], "rope_type": "default"},
            "bos_token_id": None,
            "eos_token_id": None,
            "pad_token_id": None,
        },
        vision_config={
            "depth": 1,
            "hidden_size": 16,
            "intermediate_size": 16,
            "num_heads": 2,
            "out_hidden_size": 16,
            "fullatt_block_indexes": [0],
        },
        image_token_id=1,
        video_token_id=2,
        vision_start_token_id=3,
        vision_end_token_id=4,
    )
    torch.manual_seed(71)
    return QwenImagePipeline(
        transformer=awake(transformer),
        scheduler=flow(shift_terminal=0.02),
        vae=vae,
        text_encoder=Qwen2_5_VLForConditionalGeneration(config).eval(),
        tokenizer=qwen_words(),
    )


KINDS: dict[str, Any] = {
    "sd3": sd3,
    "flux": flux,
    "schnell": lambda: flux(guided=False),
    "chroma": chroma,
    "zimage": zimage,
    "flux2": flux2,
    "klein": klein,
    "qwen": qwen,
}


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
        factor=16 if name in ("flux2", "klein") else 8,
        negtome_blocks=("double", "single"),
        origin="tests",
    )
