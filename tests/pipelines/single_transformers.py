"""Transformers as one file: diffusers' names of weights turned into those of the original releases."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file


@dataclass(frozen=True)
class Release:
    """How a transformer was released: ``names`` replaced one after another, queries, keys and values in one matrix.

    ``fused`` are the places of q, k and v, with a star for the letter, and of the one that they become. The halves of
    what begins with one of ``swapped`` change places.
    """

    names: dict[str, str]
    fused: dict[str, str]
    swapped: tuple[str, ...] = ()
    prefix: str = "model.diffusion_model."


RELEASES = {
    "zimage": Release(
        names={
            "all_final_layer.2-1.": "final_layer.",
            "all_x_embedder.2-1.": "x_embedder.",
            ".attention.to_out.0.": ".attention.out.",
            ".attention.norm_k.": ".attention.k_norm.",
            ".attention.norm_q.": ".attention.q_norm.",
        },
        fused={".attention.to_*.": ".attention.qkv."},
    ),
    "sd3": Release(
        names={
            "pos_embed.pos_embed": "pos_embed",
            "pos_embed.proj.": "x_embedder.proj.",
            "time_text_embed.timestep_embedder.linear_1.": "t_embedder.mlp.0.",
            "time_text_embed.timestep_embedder.linear_2.": "t_embedder.mlp.2.",
            "time_text_embed.text_embedder.linear_1.": "y_embedder.mlp.0.",
            "time_text_embed.text_embedder.linear_2.": "y_embedder.mlp.2.",
            "transformer_blocks.": "joint_blocks.",
            ".norm1.linear.": ".x_block.adaLN_modulation.1.",
            ".norm1_context.linear.": ".context_block.adaLN_modulation.1.",
            ".attn.norm_added_": ".context_block.attn.ln_",
            ".attn.norm_": ".x_block.attn.ln_",
            ".attn.to_add_out.": ".context_block.attn.proj.",
            ".attn.to_out.0.": ".x_block.attn.proj.",
            ".attn2.norm_": ".x_block.attn2.ln_",
            ".attn2.to_out.0.": ".x_block.attn2.proj.",
            ".ff.net.0.proj.": ".x_block.mlp.fc1.",
            ".ff.net.2.": ".x_block.mlp.fc2.",
            ".ff_context.net.0.proj.": ".context_block.mlp.fc1.",
            ".ff_context.net.2.": ".context_block.mlp.fc2.",
            "norm_out.linear.": "final_layer.adaLN_modulation.1.",
            "proj_out.": "final_layer.linear.",
        },
        fused={
            ".attn.to_*.": ".x_block.attn.qkv.",
            ".attn.add_*_proj.": ".context_block.attn.qkv.",
            ".attn2.to_*.": ".x_block.attn2.qkv.",
        },
        swapped=("norm_out.linear.", "transformer_blocks.1.norm1_context.linear."),  # the last block's
    ),
    "flux2": Release(
        names={
            "x_embedder.": "img_in.",
            "context_embedder.": "txt_in.",
            "time_guidance_embed.timestep_embedder.linear_1.": "time_in.in_layer.",
            "time_guidance_embed.timestep_embedder.linear_2.": "time_in.out_layer.",
            "time_guidance_embed.guidance_embedder.linear_1.": "guidance_in.in_layer.",
            "time_guidance_embed.guidance_embedder.linear_2.": "guidance_in.out_layer.",
            "_modulation_img.linear.": "_modulation_img.lin.",
            "_modulation_txt.linear.": "_modulation_txt.lin.",
            "single_stream_modulation.linear.": "single_stream_modulation.lin.",
            "norm_out.linear.": "final_layer.adaLN_modulation.1.",
            "proj_out.": "final_layer.linear.",
            "single_transformer_blocks.0.attn.norm_q.weight": "single_blocks.0.norm.query_norm.scale",
            "single_transformer_blocks.0.attn.norm_k.weight": "single_blocks.0.norm.key_norm.scale",
            "single_transformer_blocks.0.attn.to_out.": "single_blocks.0.linear2.",
            "single_transformer_blocks.": "single_blocks.",
            ".attn.to_qkv_mlp_proj.": ".linear1.",
            "transformer_blocks.": "double_blocks.",
            ".attn.norm_q.weight": ".img_attn.norm.query_norm.scale",
            ".attn.norm_k.weight": ".img_attn.norm.key_norm.scale",
            ".attn.norm_added_q.weight": ".txt_attn.norm.query_norm.scale",
            ".attn.norm_added_k.weight": ".txt_attn.norm.key_norm.scale",
            ".attn.to_out.0.": ".img_attn.proj.",
            ".attn.to_add_out.": ".txt_attn.proj.",
            ".ff.linear_in.": ".img_mlp.0.",
            ".ff.linear_out.": ".img_mlp.2.",
            ".ff_context.linear_in.": ".txt_mlp.0.",
            ".ff_context.linear_out.": ".txt_mlp.2.",
        },
        fused={".attn.to_*.": ".img_attn.qkv.", ".attn.add_*_proj.": ".txt_attn.qkv."},
        swapped=("norm_out.linear.",),
        prefix="",
    ),
    "qwen": Release(names={}, fused={}, prefix=""),
}
"""By the name of the tiny pipeline; with the prefix that some programs write before a transformer's, or without."""
RELEASES["klein"] = RELEASES["flux2"]


def save_transformer(kind: str, transformer: Any, path: Path) -> Path:
    """Write a transformer alone, as it was released, to a safetensors file."""
    release, weights = RELEASES[kind], dict(transformer.state_dict())
    for name in weights:
        if name.startswith(release.swapped):
            weights[name] = torch.cat(weights[name].chunk(2)[::-1])
    for parts, whole in release.fused.items():
        query = parts.replace("*", "q")
        for name in [name for name in weights if query in name]:
            own = [weights.pop(name.replace(query, parts.replace("*", letter))) for letter in "qkv"]
            weights[name.replace(query, whole)] = torch.cat(own)
    renamed = {}
    for name, value in weights.items():
        for ours, theirs in release.names.items():
            name = name.replace(ours, theirs)
        renamed[f"{release.prefix}{name}"] = value.contiguous()
    save_file(renamed, path)
    return path
