"""Denoisers and autoencoders at their real sizes, without weights, and calls of them as their pipelines make them.

On torch's meta device a tensor has a shape and no numbers: a model of any size takes no memory,
and whatever is counted over its calls is counted at the real shapes.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import diffusers
import torch

from pipelines.families import family
from pipelines.families.base import Family
from pipelines.models import CARDS, ModelCard
from studio.defaults import DEFAULTS
from tests.benchmarks import common

SD15_UNET: dict[str, Any] = {"sample_size": 64, "cross_attention_dim": 768}
SD21_UNET: dict[str, Any] = {
    "sample_size": 96,
    "attention_head_dim": (5, 10, 20, 20),
    "cross_attention_dim": 1024,
    "use_linear_projection": True,
}
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
SDXL_THIRD: dict[str, Any] = {
    **SDXL_UNET,
    "sample_size": 32,
    "block_out_channels": (96, 192, 384),
    "attention_head_dim": (3, 6, 12),
    "cross_attention_dim": 680,
    "addition_time_embed_dim": 64,
    "projection_class_embeddings_input_dim": 6 * 64 + 320,
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


def own_config(part: str) -> dict[str, Any]:
    """The config of a part of the embedded model, as its folder has it."""
    data: dict[str, Any] = json.loads((common.WEIGHTS / part / "config.json").read_text())
    return {name: value for name, value in data.items() if not name.startswith("_")}


@dataclass(frozen=True)
class Shape:
    """One model: ``sizes`` and ``encoder`` are the configs where they differ from diffusers' own defaults.

    Its card says what its users run: steps, guidance, window, side, and where NegToMe acts. ``text`` are the text
    tokens of a row, ``clip`` how many of them are CLIP's where a phrase stands both there and behind them.
    """

    name: str
    card: ModelCard
    kind: str
    sizes: dict[str, Any]
    vae: str
    encoder: dict[str, Any]
    text: int
    clip: int = 0
    distilled: bool = False

    @property
    def family(self) -> str:
        """The family's name."""
        return self.card.family

    @property
    def window(self) -> float:
        """The share of the steps in which NegToMe acts: the card's own, else every model's."""
        return self.card.own.get("window", DEFAULTS["window"])


_UNET, _FLUX, _FLUX2 = "UNet2DConditionModel", "FluxTransformer2DModel", "Flux2Transformer2DModel"
_KL, _FLUX2_VAE, _QWEN_VAE = "AutoencoderKL", "AutoencoderKLFlux2", "AutoencoderKLQwenImage"
_SHIFTED = {**KL16, "shift_factor": 0.1}


def _shape(name: str, card: str, *rest: Any, **more: Any) -> Shape:
    return Shape(name, CARDS[card], *rest, **more)


SHAPES = (
    _shape("embedded", "embedded", _UNET, own_config("unet"), "AutoencoderTiny", own_config("vae"), 77),
    _shape("SD 1.5", "sd15", _UNET, SD15_UNET, _KL, KL, 77),
    _shape("SD 2.1", "sd21", _UNET, SD21_UNET, _KL, KL, 77),
    _shape("SDXL", "sdxl", _UNET, SDXL_UNET, _KL, KL, 77),
    _shape("FLUX.1 dev", "flux", _FLUX, {"guidance_embeds": True}, _KL, _SHIFTED, 512),
    _shape("FLUX.1 schnell", "flux-schnell", _FLUX, {}, _KL, _SHIFTED, 512),
    _shape("SD 3.5 medium", "sd3", "SD3Transformer2DModel", SD35_MEDIUM, _KL, _SHIFTED, 333, clip=77),
    _shape("FLUX.2 dev", "flux2", _FLUX2, {}, _FLUX2_VAE, {}, 512),
    _shape("FLUX.2 Klein 4B base", "flux2-klein-base", _FLUX2, KLEIN_4B, _FLUX2_VAE, {}, 512),
    _shape("FLUX.2 Klein 4B", "flux2-klein", _FLUX2, KLEIN_4B, _FLUX2_VAE, {}, 512, distilled=True),
    _shape("Qwen-Image", "qwen-image", "QwenImageTransformer2DModel", {}, _QWEN_VAE, {}, 128),
    _shape("Z-Image Turbo", "z-image-turbo", "ZImageTransformer2DModel", {}, _KL, _SHIFTED, 128),
    _shape("Chroma", "chroma", "ChromaTransformer2DModel", {}, _KL, _SHIFTED, 512),
)
"""Every family's models, each with the card that users of it get."""

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
    setattr(pipe, "unet" if shape.kind == _UNET else "transformer", denoiser)
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
