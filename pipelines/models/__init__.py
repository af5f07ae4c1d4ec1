"""Model cards by name; a folder or hub id in diffusers' layout gets a card from what its files say.

`card("embedded")`, `card("sdxl")`, `card("/path/to/folder")`, `card("owner/name")`, `card("file.safetensors")`.
Torch-free. Of a hub id only the small files that tell its kind are fetched here.
"""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pipelines.errors import ModelError
from pipelines.models.card import SCHEDULERS, ModelCard
from pipelines.models.embedded import CARD as EMBEDDED
from pipelines.models.few_step import LCM_SD15, SD_TURBO, SDXL_LIGHTNING, SDXL_TURBO
from pipelines.models.flow import (
    CHROMA,
    FLUX,
    FLUX2,
    KLEIN,
    KLEIN_BASE,
    QWEN,
    SCHNELL,
    SD3,
    Z_IMAGE,
    Z_IMAGE_TURBO,
)
from pipelines.models.single_file import FILES, of_file
from pipelines.models.stable_diffusion import SD15, SD21, SDXL

__all__ = ["CARDS", "SCHEDULERS", "ModelCard", "card", "shipped"]

_UNETS = (EMBEDDED, SD15, SD21, SDXL, LCM_SD15, SD_TURBO, SDXL_TURBO, SDXL_LIGHTNING)
_FLOWS = (SD3, FLUX, SCHNELL, FLUX2, KLEIN_BASE, KLEIN, QWEN, Z_IMAGE, Z_IMAGE_TURBO, CHROMA)
CARDS = {known.name: known for known in (*_UNETS, *_FLOWS)}
_CLASSES = {
    "StableDiffusionPipeline": SD15,
    "StableDiffusionImg2ImgPipeline": SD15,
    "LatentConsistencyModelPipeline": LCM_SD15,
    "StableDiffusionXLPipeline": SDXL,
    "StableDiffusionXLImg2ImgPipeline": SDXL,
    "StableDiffusion3Pipeline": SD3,
    "FluxPipeline": FLUX,
    "Flux2Pipeline": FLUX2,
    "Flux2KleinPipeline": KLEIN_BASE,
    "QwenImagePipeline": QWEN,
    "ZImagePipeline": Z_IMAGE_TURBO,
    "ChromaPipeline": CHROMA,
}
_TEXT = {"sd": 768, "sdxl": 2048}
"""How wide text is in the UNets that the cards' ControlNets and IP-Adapters were made for: of Stable Diffusion 1, not
2, and XL."""
LEVELS = 8
"""Levels of an autoencoder; published ones have three to six."""
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")

_Config = Callable[[str], dict[str, Any]]
"""The JSON in a file of a model's folder, {} where there is no such file."""


def shipped(model: str) -> ModelCard | None:
    """The card called ``model``, or whose hub id that is; None where files would have to be read to know one."""
    if model in CARDS:
        return CARDS[model]
    known = next((one for one in CARDS.values() if one.source == model), None)
    # a folder of that name here is meant before the hub's
    return None if known is None or Path(model).exists() else dataclasses.replace(known, name=model)


def card(model: str) -> ModelCard:
    """The card called ``model``, or one read from a file, folder or hub id of that name. Raises `ModelError`."""
    if (known := shipped(model)) is not None:
        return known
    path = Path(model)
    try:
        is_file, is_folder = path.is_file(), path.is_dir()
    except OSError:  # a name that no file can have
        is_file = is_folder = False
    if is_file:
        return of_file(path)
    if is_folder:

        def config(name: str) -> dict[str, Any]:
            return _read(path / name) if (path / name).is_file() else {}

    elif path.suffix in FILES:
        raise ModelError(f"model file {model!r} is not on this machine; check its path.")
    elif _HUB_ID.fullmatch(model):

        def config(name: str) -> dict[str, Any]:
            from pipelines.loading.fetch import fetch_file

            found = fetch_file(model, name)
            return _read(found) if found else {}

    else:

        def config(name: str) -> dict[str, Any]:
            return {}

    index = config("model_index.json")
    if not index:
        raise ModelError(
            f"model {model!r} is not known and has no model_index.json; choose one of {', '.join(CARDS)}, or give a "
            "folder, hub id or file that is a model."
        )
    try:
        return _of_files(model, index, config)
    except (TypeError, ValueError, LookupError, ArithmeticError, AttributeError) as error:
        raise ModelError(
            f"the configs of model {model!r} do not say what they should ({error}); download it again."
        ) from error


def _of_files(model: str, index: dict[str, Any], config: _Config) -> ModelCard:
    kind = str(index.get("_class_name"))
    if kind not in _CLASSES:
        raise ModelError(
            f"model {model!r} is a {kind}, which is not supported; use one of {', '.join(_CLASSES)}."
        )
    known = _CLASSES[kind]
    if known in _FLOWS:
        if known is FLUX and not config("transformer/config.json").get("guidance_embeds", False):
            known = SCHNELL
        if known is KLEIN_BASE and index.get("is_distilled"):
            known = KLEIN
        return dataclasses.replace(known, name=model, source=model)
    _refuse_strangers(model, index)
    side, factor, smallest = _sizes(config)
    unet = config("unet/config.json")
    fits = unet.get("cross_attention_dim") == _TEXT[known.family]
    # a latent consistency model, in whichever pipeline
    reads_guidance = unet.get("time_cond_proj_dim") is not None
    return dataclasses.replace(
        known,
        name=model,
        source=model,
        side=side,
        factor=factor,
        smallest_grid=smallest,
        steers_above=None if reads_guidance else known.steers_above,
        controlnets=known.controlnets if fits else {},
        ip_adapter=known.ip_adapter if fits else None,
    )


def _refuse_strangers(model: str, index: dict[str, Any]) -> None:
    """`ModelError` for UNets in a pipeline of a kind that is known, which do not work as the kind does."""
    scheduler = str((index.get("scheduler") or [None, None])[1])
    if scheduler.startswith(("EDM", "FlowMatch")):
        raise ModelError(
            f"model {model!r} runs on {scheduler}, whose noise levels no scheduler here has; use another model."
        )
    if "tokenizer" in index and index["tokenizer"][0] is None:
        raise ModelError(
            f"model {model!r} lacks a tokenizer, as XL's refiner does, which makes no picture alone; use a base model."
        )


def _sizes(config: _Config) -> tuple[int, int, int]:
    """Trained side, pixels per cell and the smallest grid worth matching, from the files of a UNet's parts."""
    unet, vae = config("unet/config.json"), config("vae/config.json")
    blocks = vae.get("block_out_channels") or vae.get("decoder_block_out_channels") or [0] * 4
    if len(blocks) > LEVELS:
        raise ValueError(f"an autoencoder of {len(blocks)} levels")
    factor = 2 ** (len(blocks) - 1)
    cells = int(unet.get("sample_size") or 64)
    # NegToMe's released code asks for 32 of the 128 cells of SDXL: a quarter of the finest grid
    return cells * factor, factor, max(1, min(32, cells // 4))


def _read(path: Path) -> dict[str, Any]:
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ModelError(f"{path} cannot be read ({error}); download the model again.") from error
    if not isinstance(data, dict):
        raise ModelError(f"{path} holds no JSON object; download the model again.")
    return data
