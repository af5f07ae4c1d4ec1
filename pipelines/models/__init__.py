"""Model cards by name; a folder in diffusers' layout gets a card from what its files say.

`card("embedded")`, `card("sdxl")`, `card("/path/to/folder")`. Torch-free.
"""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

from pipelines.errors import ModelError
from pipelines.models.card import SCHEDULERS, ModelCard
from pipelines.models.embedded import CARD as EMBEDDED
from pipelines.models.few_step import LCM_SD15, SD_TURBO, SDXL_TURBO
from pipelines.models.stable_diffusion import SD15, SD21, SDXL

__all__ = ["CARDS", "SCHEDULERS", "ModelCard", "card"]

CARDS = {known.name: known for known in (EMBEDDED, SD15, SD21, SDXL, LCM_SD15, SD_TURBO, SDXL_TURBO)}
_CLASSES = {
    "StableDiffusionPipeline": SD15,
    "StableDiffusionImg2ImgPipeline": SD15,
    "StableDiffusionXLPipeline": SDXL,
    "StableDiffusionXLImg2ImgPipeline": SDXL,
}


def card(model: str) -> ModelCard:
    """The card called ``model``, or one read from a folder of that path. Raises `ModelError`."""
    if model in CARDS:
        return CARDS[model]
    path = Path(model)
    if path.is_file():
        return _single(path)
    index = Path(model) / "model_index.json"
    if not index.is_file():
        raise ModelError(
            f"model {model!r} is not known and is no folder with a model_index.json; choose one of "
            f"{', '.join(CARDS)} or give such a folder."
        )
    kind = str(_read(index).get("_class_name"))
    if kind not in _CLASSES:
        raise ModelError(
            f"model {model!r} is a {kind}, which is not supported; use a Stable Diffusion 1, 2 or XL folder."
        )
    side, factor, smallest = _sizes(Path(model))
    return dataclasses.replace(
        _CLASSES[kind], name=model, source=model, side=side, factor=factor, smallest_grid=smallest
    )


def _single(path: Path) -> ModelCard:
    """A card for one file; a Stable Diffusion file is told from an XL one by its second text encoder's weights."""
    kind = SD15
    if path.suffix == ".safetensors":
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(path, framework="numpy") as file:
                names = list(file.keys())
        except (SafetensorError, OSError) as error:
            raise ModelError(
                f"model file {str(path)!r} is damaged or no safetensors file; download it again."
            ) from error
        if not any(name.startswith("model.diffusion_model.") for name in names):
            raise ModelError(
                f"model file {str(path)!r} is no Stable Diffusion checkpoint; use such a file, or a folder."
            )
        if any(name.startswith("conditioner.embedders.1.") for name in names):
            kind = SDXL
    elif path.suffix != ".ckpt":
        raise ModelError(f"model file {str(path)!r} is no .safetensors file; give one, or a folder.")
    return dataclasses.replace(kind, name=str(path), source=str(path))


def _sizes(folder: Path) -> tuple[int, int, int]:
    """Trained side, pixels per cell and the smallest grid worth matching, from the files of the parts."""
    unet, vae = _config(folder / "unet"), _config(folder / "vae")
    blocks = vae.get("block_out_channels") or vae.get("decoder_block_out_channels") or [0] * 4
    factor = 2 ** (len(blocks) - 1)
    cells = int(unet.get("sample_size") or 64)
    # NegToMe's released code asks for 32 of the 128 cells of SDXL: a quarter of the finest grid
    return cells * factor, factor, max(1, min(32, cells // 4))


def _config(folder: Path) -> dict[str, Any]:
    path = folder / "config.json"
    return _read(path) if path.is_file() else {}


def _read(path: Path) -> dict[str, Any]:
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(f"{path} cannot be read ({error}); download the model again.") from error
    if not isinstance(data, dict):
        raise ModelError(f"{path} holds no JSON object; download the model again.")
    return data
