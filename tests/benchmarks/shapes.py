"""Denoisers and autoencoders at their real sizes, without weights, and calls of them as their pipelines make them.

On torch's meta device a tensor has a shape and no numbers: a model of any size takes no memory,
and whatever is counted over its calls is counted at the real shapes.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import diffusers
import torch

from pipelines.families import family
from pipelines.families.base import Family

SDXL_UNET: dict[str, Any] = {
    "sample_size": 128,
    "block_out_channels": (320, 640, 1280),
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
    "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
    "transformer_layers_per_block": (1, 2, 10),
    "attention_head_dim": (5, 10, 20),
    "cross_attention_dim": 2048,
    "use_linear_projection": True,
    "addition_embed_type": "text_time",
    "addition_time_embed_dim": 256,
    "projection_class_embeddings_input_dim": 2816,
}
SD35_MEDIUM: dict[str, Any] = {
    "num_layers": 24,
    "num_attention_heads": 24,
    "caption_projection_dim": 1536,
    "pos_embed_max_size": 384,
    "dual_attention_layers": tuple(range(13)),
    "qk_norm": "rms_norm",
}
KLEIN_4B: dict[str, Any] = {
    "num_layers": 5,
    "num_single_layers": 20,
    "num_attention_heads": 24,
    "joint_attention_dim": 7680,
    "guidance_embeds": False,
}
KL: dict[str, Any] = {
    "block_out_channels": (128, 256, 512, 512),
    "down_block_types": ("DownEncoderBlock2D",) * 4,
    "up_block_types": ("UpDecoderBlock2D",) * 4,
    "layers_per_block": 2,
}
KL16 = {**KL, "latent_channels": 16, "use_quant_conv": False, "use_post_quant_conv": False}


@dataclass(frozen=True)
class Shape:
    """One model: ``sizes`` and ``encoder`` are the configs where they differ from diffusers' own defaults.

    ``steps`` and ``guidance`` are what its users run, ``text`` the text tokens of a row, ``clip`` how many of them are
    CLIP's where a phrase stands both there and behind them.
    """

    name: str
    family: str
    kind: str
    sizes: dict[str, Any]
    vae: str
    encoder: dict[str, Any]
    steps: int
    guidance: float
    text: int
    factor: int = 8
    clip: int = 0
    distilled: bool = False


_FLUX, _KL, _KLEIN = "FluxTransformer2DModel", "AutoencoderKL", "Flux2Transformer2DModel"
_FLUX2_VAE, _QWEN_VAE = "AutoencoderKLFlux2", "AutoencoderKLQwenImage"
_SHIFTED = {**KL16, "shift_factor": 0.1}
SHAPES = (
    Shape("SDXL", "sdxl", "UNet2DConditionModel", SDXL_UNET, _KL, KL, 30, 5.0, 77),
    Shape("FLUX.1 dev", "flux", _FLUX, {"guidance_embeds": True}, _KL, _SHIFTED, 28, 3.5, 512),
    Shape("FLUX.1 schnell", "flux", _FLUX, {}, _KL, _SHIFTED, 4, 0.0, 512),
    Shape("SD 3.5 medium", "sd3", "SD3Transformer2DModel", SD35_MEDIUM, _KL, _SHIFTED, 40, 4.5, 333, clip=77),
    Shape("FLUX.2 Klein 4B base", "klein", _KLEIN, KLEIN_4B, _FLUX2_VAE, {}, 50, 4.0, 512, 16),
    Shape("FLUX.2 Klein 4B", "klein", _KLEIN, KLEIN_4B, _FLUX2_VAE, {}, 4, 1.0, 512, 16, distilled=True),
    Shape("Qwen-Image", "qwen", "QwenImageTransformer2DModel", {}, _QWEN_VAE, {}, 50, 4.0, 128),
    Shape("Z-Image Turbo", "zimage", "ZImageTransformer2DModel", {}, _KL, _SHIFTED, 9, 0.0, 128),
    Shape("Z-Image", "zimage", "ZImageTransformer2DModel", {}, _KL, _SHIFTED, 50, 4.0, 128),
    Shape("Chroma", "chroma", "ChromaTransformer2DModel", {}, _KL, _SHIFTED, 40, 3.0, 512),
)
"""Defaults of steps and guidance: the models' own cards; diffusers' configs where nothing is given."""

Call = Callable[[], Any]


def parts(shape: Shape) -> SimpleNamespace:
    """What methods ask of a pipeline, on the meta device: denoiser, autoencoder, execution device."""
    with torch.device("meta"), warnings.catch_warnings():
        warnings.simplefilter(
            "ignore", FutureWarning
        )  # diffusers' own class uses what diffusers calls deprecated
        denoiser = getattr(diffusers, shape.kind)(**shape.sizes).eval()
        vae = getattr(diffusers, shape.vae)(**shape.encoder).eval()
    config = SimpleNamespace(is_distilled=shape.distilled)
    pipe = SimpleNamespace(vae=vae, config=config, _execution_device=torch.device("meta"))
    setattr(pipe, "unet" if shape.family == "sdxl" else "transformer", denoiser)
    return pipe


def branches(kind: Family, guidance: float, distilled: bool) -> tuple[int, int]:
    """(guidance branches in one denoiser call, calls a step)."""
    if kind.name in ("flux", "flux2") or distilled:
        return 1, 1
    guided = guidance > (0 if kind.name == "zimage" else 1)
    if getattr(kind, "two_calls", False):
        return 1, 2 if guided else 1
    return 2 if guided else 1, 1


def arguments(
    name: str, denoiser: Any, rows: int, size: tuple[int, int], text: int
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Positional and keyword arguments as the family's pipeline gives them: ``size`` in latent cells."""
    config, device = denoiser.config, next(denoiser.parameters()).device
    h, w = size

    def blank(*lengths: int) -> torch.Tensor:
        return torch.zeros(lengths, device=device)

    time = blank(rows)
    if name in ("sd", "sdxl"):
        states = blank(rows, text, config.cross_attention_dim)
        given: dict[str, Any] = {"encoder_hidden_states": states, "return_dict": False}
        if name == "sdxl":
            pooled = config.projection_class_embeddings_input_dim - 6 * config.addition_time_embed_dim
            given["added_cond_kwargs"] = {"text_embeds": blank(rows, pooled), "time_ids": blank(rows, 6)}
        return (blank(rows, config.in_channels, h, w), time[0]), given
    if name == "zimage":
        pictures = list(blank(rows, config.in_channels, 1, h, w).unbind(0))
        return (pictures, time, list(blank(rows, text, config.cap_feat_dim).unbind(0))), {
            "return_dict": False
        }
    given = {"timestep": time, "return_dict": False}
    given["encoder_hidden_states"] = blank(rows, text, config.joint_attention_dim)
    if name == "sd3":
        given["pooled_projections"] = blank(rows, config.pooled_projection_dim)
        return (), {**given, "hidden_states": blank(rows, config.in_channels, h, w)}
    tokens = h * w if name in ("flux2", "klein") else (h // 2) * (w // 2)
    given["hidden_states"] = blank(rows, tokens, config.in_channels)
    if name == "qwen":
        given["img_shapes"] = [[(1, h // 2, w // 2)]] * rows
        given["encoder_hidden_states_mask"] = None
        return (), given
    axes = len(config.axes_dims_rope)
    given |= {"img_ids": blank(tokens, axes), "txt_ids": blank(text, axes)}
    if name == "chroma":
        given["attention_mask"] = torch.ones((rows, text + tokens), dtype=torch.bool, device=device)
    if name == "flux":
        given["pooled_projections"] = blank(rows, config.pooled_projection_dim)
    if getattr(config, "guidance_embeds", False):
        given["guidance"] = blank(rows)
    return (), given


def empty_text(name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, torch.Tensor]:
    """What `Family.empty_text` answers, of the shapes of a call's first row: the empty prompt as long as the prompt."""
    if name == "zimage":
        return {"cap_feats": args[2][0][None]}
    states = kwargs["encoder_hidden_states"][:1]
    if name in ("sd", "sdxl"):
        added = kwargs.get("added_cond_kwargs", {"text_embeds": states, "time_ids": states})
        return {"states": states, "pooled": added["text_embeds"][:1], "ids": added["time_ids"][:1]}
    own = ("encoder_hidden_states", "pooled_projections", "attention_mask")
    return {key: kwargs[key][:1] for key in own if kwargs.get(key) is not None}


def family_of(name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Family:
    """The family, its empty prompt taken from a call: text encoders are no part of what is counted."""
    kind = family(name)
    text = empty_text(name, args, kwargs)
    kind.empty_text = lambda pipe, request: text  # type: ignore[method-assign]
    return kind
