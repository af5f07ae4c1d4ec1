"""Pipelines as one file: diffusers' names of weights turned into those of the original releases."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

_RESNET = {
    "norm1": "in_layers.0",
    "conv1": "in_layers.2",
    "time_emb_proj": "emb_layers.1",
    "norm2": "out_layers.0",
    "conv2": "out_layers.3",
    "conv_shortcut": "skip_connection",
}
_OPEN_CLIP = {
    "encoder.layers.": "transformer.resblocks.",
    "layer_norm1": "ln_1",
    "layer_norm2": "ln_2",
    ".fc1.": ".c_fc.",
    ".fc2.": ".c_proj.",
    ".self_attn.": ".attn.",
    "final_layer_norm.": "ln_final.",
    "embeddings.token_embedding.": "token_embedding.",
    "embeddings.position_embedding.weight": "positional_embedding",
    "text_projection.weight": "text_projection",
}
_VAE_ATTENTION = {"group_norm": "norm", "to_q": "q", "to_k": "k", "to_v": "v", "to_out.0": "proj_out"}


def save_single(pipe: Any, path: Path) -> Path:
    """Write the UNet, autoencoder and text encoders of Stable Diffusion 1, 2 or XL to one safetensors file."""
    weights = {
        **_renamed(pipe.unet, _unet_places(pipe.unet), _RESNET, "model.diffusion_model."),
        **_renamed(pipe.vae, _vae_places(pipe.vae), {"conv_shortcut": "nin_shortcut"}, "first_stage_model."),
    }
    for name, value in weights.items():
        if name.startswith("first_stage_model.") and ".attn_1." in name and value.ndim == 2:
            weights[name] = value[:, :, None, None]  # attention by convolutions of one pixel
    if hasattr(pipe, "text_encoder_2"):
        weights |= _clip(pipe.text_encoder, "conditioner.embedders.0.")
        weights |= _open_clip(pipe.text_encoder_2, "conditioner.embedders.1.model.")
    elif pipe.text_encoder.config.hidden_act == "gelu":  # Stable Diffusion 2
        weights |= _open_clip(pipe.text_encoder, "cond_stage_model.model.")
    else:
        weights |= _clip(pipe.text_encoder, "cond_stage_model.")
    save_file({name: value.contiguous() for name, value in weights.items()}, path)
    return path


def _clip(encoder: Any, prefix: str) -> dict[str, torch.Tensor]:
    """A text tower with its own names."""
    states = encoder.state_dict().items()
    return {
        f"{prefix}transformer.text_model.{name.removeprefix('text_model.')}": value for name, value in states
    }


def _open_clip(encoder: Any, prefix: str) -> dict[str, torch.Tensor]:
    """A text tower with OpenCLIP's names: queries, keys and values in one, the projection turned."""
    states = {name.removeprefix("text_model."): value for name, value in encoder.state_dict().items()}
    out = {}
    for name, value in states.items():
        if ".self_attn.k_proj" in name or ".self_attn.v_proj" in name:
            continue
        if ".self_attn.q_proj." in name:
            value = torch.cat([states[name.replace("q_proj", f"{one}_proj")] for one in "qkv"])
            name = name.replace("q_proj.", "in_proj_")
        if name == "text_projection.weight":
            value = value.T
        for ours, theirs in _OPEN_CLIP.items():
            name = name.replace(ours, theirs)
        out[f"{prefix}{name}"] = value
    return out


def _renamed(
    model: Any, places: dict[str, str], resnet: dict[str, str], prefix: str
) -> dict[str, torch.Tensor]:
    out = {}
    for name, value in model.state_dict().items():
        start = max((place for place in places if name.startswith(f"{place}.")), key=len, default=None)
        assert start is not None, name
        rest = name[len(start) + 1 :]
        inner = resnet if "resnets" in start else _VAE_ATTENTION if "attn_1" in places[start] else {}
        for ours, theirs in inner.items():
            if rest.startswith(f"{ours}."):
                rest = theirs + rest[len(ours) :]
        out[f"{prefix}{places[start]}.{rest}"] = value
    return out


def _unet_places(unet: Any) -> dict[str, str]:
    levels, layers = len(unet.down_blocks), unet.config.layers_per_block
    places = {
        "time_embedding.linear_1": "time_embed.0",
        "time_embedding.linear_2": "time_embed.2",
        "add_embedding.linear_1": "label_emb.0.0",
        "add_embedding.linear_2": "label_emb.0.2",
        "conv_in": "input_blocks.0.0",
        "conv_norm_out": "out.0",
        "conv_out": "out.2",
        "mid_block.resnets.0": "middle_block.0",
        "mid_block.attentions.0": "middle_block.1",
        "mid_block.resnets.1": "middle_block.2",
    }
    going_down, coming_up = 1, 0
    for level in range(levels):
        for layer in range(layers):
            places[f"down_blocks.{level}.resnets.{layer}"] = f"input_blocks.{going_down}.0"
            places[f"down_blocks.{level}.attentions.{layer}"] = f"input_blocks.{going_down}.1"
            going_down += 1
        places[f"down_blocks.{level}.downsamplers.0.conv"] = f"input_blocks.{going_down}.0.op"
        going_down += 1
        for layer in range(layers + 1):
            places[f"up_blocks.{level}.resnets.{layer}"] = f"output_blocks.{coming_up}.0"
            places[f"up_blocks.{level}.attentions.{layer}"] = f"output_blocks.{coming_up}.1"
            coming_up += 1
        places[f"up_blocks.{level}.upsamplers.0.conv"] = f"output_blocks.{coming_up - 1}.2.conv"
    return places


def _vae_places(vae: Any) -> dict[str, str]:
    levels, layers = len(vae.config.block_out_channels), vae.config.layers_per_block
    places = {"quant_conv": "quant_conv", "post_quant_conv": "post_quant_conv"}
    for half, blocks, count in (("encoder", "down", layers), ("decoder", "up", layers + 1)):
        places |= {
            f"{half}.conv_in": f"{half}.conv_in",
            f"{half}.conv_norm_out": f"{half}.norm_out",
            f"{half}.conv_out": f"{half}.conv_out",
            f"{half}.mid_block.resnets.0": f"{half}.mid.block_1",
            f"{half}.mid_block.attentions.0": f"{half}.mid.attn_1",
            f"{half}.mid_block.resnets.1": f"{half}.mid.block_2",
        }
        for level in range(levels):
            there = level if blocks == "down" else levels - 1 - level
            for layer in range(count):
                places[f"{half}.{blocks}_blocks.{level}.resnets.{layer}"] = (
                    f"{half}.{blocks}.{there}.block.{layer}"
                )
            places[f"{half}.{blocks}_blocks.{level}.{blocks}samplers.0.conv"] = (
                f"{half}.{blocks}.{there}.{blocks}sample.conv"
            )
    return places
