"""Transformers as one file: diffusers' names of weights turned into those of the original releases."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file


@dataclass(frozen=True)
class Release:
    """How a transformer was released: what was ``fused`` into one matrix, then ``names`` replaced one after another.

    ``fused`` are the places of several matrices, one after another, and of the one that they become. The halves of what
    begins with one of ``swapped`` change places.
    """

    names: dict[str, str]
    fused: dict[tuple[str, ...], str]
    swapped: tuple[str, ...] = ()
    prefix: str = "model.diffusion_model."


def _three(place: str, *more: str) -> tuple[str, ...]:
    """Queries, keys and values, where the star is; and what follows them."""
    return (*(place.replace("*", letter) for letter in "qkv"), *more)


_DOUBLE = {
    ".attn.norm_q.weight": ".img_attn.norm.query_norm.scale",
    ".attn.norm_k.weight": ".img_attn.norm.key_norm.scale",
    ".attn.norm_added_q.weight": ".txt_attn.norm.query_norm.scale",
    ".attn.norm_added_k.weight": ".txt_attn.norm.key_norm.scale",
    ".attn.to_out.0.": ".img_attn.proj.",
    ".attn.to_add_out.": ".txt_attn.proj.",
}
"""In FLUX's blocks of two streams."""
_FLUX_BLOCKS = {
    "x_embedder.": "img_in.",
    "context_embedder.": "txt_in.",
    "single_transformer_blocks.0.proj_out.": "single_blocks.0.linear2.",
    "single_transformer_blocks.0.norm.linear.": "single_blocks.0.modulation.lin.",
    "single_transformer_blocks.0.attn.norm_q.weight": "single_blocks.0.norm.query_norm.scale",
    "single_transformer_blocks.0.attn.norm_k.weight": "single_blocks.0.norm.key_norm.scale",
    "transformer_blocks.": "double_blocks.",
    ".norm1.linear.": ".img_mod.lin.",
    ".norm1_context.linear.": ".txt_mod.lin.",
    **_DOUBLE,
    ".ff.net.0.proj.": ".img_mlp.0.",
    ".ff.net.2.": ".img_mlp.2.",
    ".ff_context.net.0.proj.": ".txt_mlp.0.",
    ".ff_context.net.2.": ".txt_mlp.2.",
    "norm_out.linear.": "final_layer.adaLN_modulation.1.",
    "proj_out.": "final_layer.linear.",
}
_FLUX_FUSED = {
    _three(
        "single_transformer_blocks.0.attn.to_*.", "single_transformer_blocks.0.proj_mlp."
    ): "single_blocks.0.linear1.",
    _three(".attn.to_*."): ".img_attn.qkv.",
    _three(".attn.add_*_proj."): ".txt_attn.qkv.",
}
RELEASES = {
    "flux": Release(
        names={
            "time_text_embed.timestep_embedder.linear_1.": "time_in.in_layer.",
            "time_text_embed.timestep_embedder.linear_2.": "time_in.out_layer.",
            "time_text_embed.guidance_embedder.linear_1.": "guidance_in.in_layer.",
            "time_text_embed.guidance_embedder.linear_2.": "guidance_in.out_layer.",
            "time_text_embed.text_embedder.linear_1.": "vector_in.in_layer.",
            "time_text_embed.text_embedder.linear_2.": "vector_in.out_layer.",
            **_FLUX_BLOCKS,
        },
        fused=_FLUX_FUSED,
        swapped=("norm_out.linear.",),
    ),
    "chroma": Release(
        names={
            "layers.0.linear_1.": "layers.0.in_layer.",
            "layers.0.linear_2.": "layers.0.out_layer.",
            "distilled_guidance_layer.norms.0.weight": "distilled_guidance_layer.norms.0.scale",
            **_FLUX_BLOCKS,
        },
        fused=_FLUX_FUSED,
    ),
    "zimage": Release(
        names={
            "all_final_layer.2-1.": "final_layer.",
            "all_x_embedder.2-1.": "x_embedder.",
            ".attention.to_out.0.": ".attention.out.",
            ".attention.norm_k.": ".attention.k_norm.",
            ".attention.norm_q.": ".attention.q_norm.",
        },
        fused={_three(".attention.to_*."): ".attention.qkv."},
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
            _three(".attn.to_*."): ".x_block.attn.qkv.",
            _three(".attn.add_*_proj."): ".context_block.attn.qkv.",
            _three(".attn2.to_*."): ".x_block.attn2.qkv.",
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
            **_DOUBLE,
            ".ff.linear_in.": ".img_mlp.0.",
            ".ff.linear_out.": ".img_mlp.2.",
            ".ff_context.linear_in.": ".txt_mlp.0.",
            ".ff_context.linear_out.": ".txt_mlp.2.",
        },
        fused={_three(".attn.to_*."): ".img_attn.qkv.", _three(".attn.add_*_proj."): ".txt_attn.qkv."},
        swapped=("norm_out.linear.",),
        prefix="",
    ),
    "qwen": Release(names={}, fused={}, prefix=""),
}
"""By the name of the tiny pipeline; with the prefix that some programs write before a transformer's, or without."""
RELEASES["klein"], RELEASES["schnell"] = RELEASES["flux2"], RELEASES["flux"]


def save_transformer(kind: str, transformer: Any, path: Path) -> Path:
    """Write a transformer alone, as it was released, to a safetensors file."""
    release, weights = RELEASES[kind], dict(transformer.state_dict())
    for name in weights:
        if name.startswith(release.swapped):
            weights[name] = torch.cat(weights[name].chunk(2)[::-1])
    for parts, whole in release.fused.items():
        for name in [name for name in weights if parts[0] in name]:
            own = [weights.pop(name.replace(parts[0], part)) for part in parts]
            weights[name.replace(parts[0], whole)] = torch.cat(own)
    renamed = {}
    for name, value in weights.items():
        for ours, theirs in release.names.items():
            name = name.replace(ours, theirs)
        renamed[f"{release.prefix}{name}"] = value.contiguous()
    save_file(renamed, path)
    return path
