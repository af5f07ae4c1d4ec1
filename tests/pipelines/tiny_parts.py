"""Parts of the tiny transformer pipelines: stock classes, random weights."""

from __future__ import annotations

from typing import Any

import torch
from diffusers import (
    AutoencoderKL,
    AutoencoderKLFlux2,
    ChromaTransformer2DModel,
    Flux2Transformer2DModel,
)
from transformers import (
    Qwen3Config,
    Qwen3ForCausalLM,
    T5Config,
    T5EncoderModel,
)

from tests.pipelines.tiny_words import (
    qwen_words,
    t5_words,
)

WIDE = 32


def t5_encoder(seed: int) -> T5EncoderModel:
    """Two layers, 32 wide."""
    torch.manual_seed(seed)
    config = T5Config(
        vocab_size=len(t5_words()),
        d_model=WIDE,
        d_kv=8,
        d_ff=64,
        num_layers=2,
        num_heads=4,
        is_encoder_decoder=False,
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
        looks = (".to_q.", ".to_k.", ".add_q_proj.", ".add_k_proj.")
        if any(part in name for part in looks) and parameter.ndim > 1:
            parameter.data *= 2
    return model.eval()


def language_model(seed: int, layers: int) -> Qwen3ForCausalLM:
    """Qwen 3, 16 wide."""
    torch.manual_seed(seed)
    config = Qwen3Config(
        vocab_size=len(qwen_words()) + 8,
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=layers,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=8,
        max_position_embeddings=1024,
        bos_token_id=None,
        eos_token_id=None,
        pad_token_id=None,
    )
    return Qwen3ForCausalLM(config).eval()


def chroma_transformer() -> ChromaTransformer2DModel:
    """One block of each kind."""
    return ChromaTransformer2DModel(
        in_channels=16,
        num_layers=1,
        num_single_layers=1,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=WIDE,
        axes_dims_rope=(4, 6, 6),
        approximator_num_channels=8,
        approximator_hidden_dim=16,
        approximator_layers=1,
    )


def flux2_transformer(guided: bool) -> Flux2Transformer2DModel:
    """One block of each kind."""
    return Flux2Transformer2DModel(
        in_channels=16,
        num_layers=1,
        num_single_layers=1,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=48,
        timestep_guidance_channels=16,
        axes_dims_rope=(4, 4, 4, 4),
        guidance_embeds=guided,
    )


def flux2_autoencoder() -> AutoencoderKLFlux2:
    """With statistics of its own, as a trained one has."""
    vae = AutoencoderKLFlux2(
        block_out_channels=(8, 8, 8, 8),
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        norm_num_groups=4,
        latent_channels=4,
        layers_per_block=1,
    ).eval()
    vae.bn.running_mean.normal_(std=0.2)
    vae.bn.running_var.uniform_(0.2, 0.6)
    return vae
