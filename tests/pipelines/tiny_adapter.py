"""A tiny IP-Adapter in files: real classes, random weights, as the published ones are laid out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from diffusers.models.attention_processor import SD3IPAdapterJointAttnProcessor2_0
from diffusers.models.embeddings import IPAdapterTimeImageProjection
from safetensors.torch import save_file
from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

from pipelines.engine import Loaded
from pipelines.models.ip_adapter import IPAdapter

TOKENS = 4
_EMBEDDED, _HIDDEN = 24, 32


def save(folder: Path, unet: Any, *, plus: bool = False) -> IPAdapter:
    """An adapter for ``unet`` in ``folder``: keys, values and projection in one file, the image encoder beside it."""
    generator = torch.Generator().manual_seed(1)
    text = unet.config.cross_attention_dim

    def weights(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator) / shape[-1] ** 0.5

    tensors: dict[str, torch.Tensor] = {}
    number = 1
    for name in unet.attn_processors:
        if name.endswith("attn2.processor"):
            wide = unet.get_submodule(name.removesuffix(".processor")).to_k.weight.shape[0]
            tensors[f"ip_adapter.{number}.to_k_ip.weight"] = 3 * weights(wide, text)
            tensors[f"ip_adapter.{number}.to_v_ip.weight"] = 3 * weights(wide, text)
            number += 2
    own = _resampler(weights, text) if plus else _linear(weights, text)
    tensors |= {f"image_proj.{name}": tensor for name, tensor in own.items()}
    (folder / "models").mkdir(parents=True, exist_ok=True)
    save_file(tensors, folder / "models" / "tiny.safetensors")
    encoder().save_pretrained(folder / "models" / "image_encoder")
    return IPAdapter.parse(f"{folder}:models/tiny.safetensors")


def encoder() -> Any:
    """Two layers of CLIP's vision tower, over pictures of 32 by 32."""
    torch.manual_seed(2)
    config = CLIPVisionConfig(
        hidden_size=_HIDDEN,
        intermediate_size=64,
        projection_dim=_EMBEDDED,
        num_hidden_layers=2,
        num_attention_heads=4,
        image_size=32,
        patch_size=8,
    )
    return CLIPVisionModelWithProjection(config).eval()


def _linear(weights: Any, text: int) -> dict[str, torch.Tensor]:
    return {
        "proj.weight": weights(TOKENS * text, _EMBEDDED),
        "proj.bias": torch.zeros(TOKENS * text),
        "norm.weight": torch.ones(text),
        "norm.bias": torch.zeros(text),
    }


def _resampler(weights: Any, text: int) -> dict[str, torch.Tensor]:
    """IP-Adapter Plus: learned queries that read the encoder's states, in four layers with heads of 64, as there."""
    wide = 64
    tensors = {
        "latents": weights(1, TOKENS, wide),
        "proj_in.weight": weights(wide, _HIDDEN),
        "proj_in.bias": torch.zeros(wide),
        "proj_out.weight": weights(text, wide),
        "proj_out.bias": torch.zeros(text),
    }
    norms = {"norm_out": text}
    for layer in (f"layers.{number}" for number in range(4)):
        norms |= {f"{layer}.0.norm1": wide, f"{layer}.0.norm2": wide, f"{layer}.1.0": wide}
        tensors |= {
            f"{layer}.0.to_q.weight": weights(64, wide),
            f"{layer}.0.to_kv.weight": weights(128, wide),
            f"{layer}.0.to_out.weight": weights(wide, 64),
            f"{layer}.1.1.weight": weights(4 * wide, wide),
            f"{layer}.1.3.weight": weights(wide, 4 * wide),
        }
    for norm, size in norms.items():
        tensors |= {f"{norm}.weight": torch.ones(size), f"{norm}.bias": torch.zeros(size)}
    return tensors


def join(loaded: Loaded) -> None:
    """Put an adapter of random weights into a tiny FLUX.1, Chroma or Stable Diffusion 3, and a picture prompt into
    its calls.

    By the transformer's own loader; the pipelines' around it would want files and an image encoder.
    """
    torch.manual_seed(3)
    transformer, flux = loaded.pipe.transformer, loaded.card.family in ("flux", "chroma")
    own: dict[str, torch.Tensor] = {}
    inner = transformer.config.attention_head_dim * transformer.config.num_attention_heads
    text = transformer.config.joint_attention_dim
    if flux:
        for number in range(transformer.config.num_layers):
            for part in ("to_k_ip", "to_v_ip"):
                own[f"{number}.{part}.weight"] = 3 * torch.randn(inner, text) / text**0.5
                own[f"{number}.{part}.bias"] = torch.zeros(inner)
        shown = _linear(lambda *shape: torch.randn(*shape) / shape[-1] ** 0.5, text)
    else:
        head = transformer.config.attention_head_dim
        for number in range(len(transformer.attn_processors)):
            processor = SD3IPAdapterJointAttnProcessor2_0(inner, inner, head, timesteps_emb_dim=64)
            torch.nn.init.normal_(processor.to_v_ip.weight, std=3 / inner**0.5)
            own |= {f"{number}.{name}": one for name, one in processor.state_dict().items()}
        projection = IPAdapterTimeImageProjection(
            embed_dim=_EMBEDDED,
            output_dim=inner,
            hidden_dim=64,
            heads=1,
            num_queries=TOKENS,
            timestep_in_dim=32,
        )
        shown = projection.state_dict()
    transformer._load_ip_adapter_weights({"image_proj": shown, "ip_adapter": own}, low_cpu_mem_usage=False)
    prompt = torch.randn(1, 1, _EMBEDDED)
    if flux:  # without one it would encode a black picture for the negative branch, also where it runs none
        loaded.arguments["negative_ip_adapter_image_embeds"] = [torch.zeros_like(prompt)]
        loaded.arguments["ip_adapter_image_embeds"] = [prompt]
    else:
        loaded.arguments["ip_adapter_image_embeds"] = torch.cat([torch.zeros_like(prompt), prompt])


def spread(numbers: torch.Tensor) -> float:
    """Their standard deviation."""
    return float(numbers.std())
