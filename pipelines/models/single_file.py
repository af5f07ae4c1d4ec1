"""A card for one file: told by the names of its weights, read without the weights."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from pipelines.errors import ModelError
from pipelines.models.card import ModelCard
from pipelines.models.flow import CHROMA, FLUX, FLUX2, KLEIN_BASE, QWEN, SCHNELL, SD3, Z_IMAGE_TURBO
from pipelines.models.stable_diffusion import SD15, SD21, SDXL

FILES = (".safetensors", ".ckpt", ".gguf", ".bin", ".pt", ".pth")
"""How files with weights end, readable or not: a name that ends so is no hub id."""
_DENOISER = "model.diffusion_model."
_KINDS: tuple[tuple[tuple[str, ...], ModelCard], ...] = (
    (("input_blocks.", "conditioner.embedders.1."), SDXL),
    (("input_blocks.", "cond_stage_model.model."), SD21),
    (("input_blocks.", "cond_stage_model."), SD15),
    (("distilled_guidance_layer.", "double_blocks."), CHROMA),
    (("double_stream_modulation_img.", "guidance_in."), FLUX2),
    (("double_stream_modulation_img.",), KLEIN_BASE),
    (("double_blocks.", "vector_in.", "txt_in.weight", "guidance_in."), FLUX),
    (("double_blocks.", "vector_in.", "txt_in.weight"), SCHNELL),
    (("joint_blocks.", "y_embedder."), SD3),
    (("noise_refiner.", "cap_embedder.", "layers.0.adaLN_modulation.0."), Z_IMAGE_TURBO),
    (("transformer_blocks.0.img_mod.", "txt_norm."), QWEN),
)
"""Beginnings of names that a file of a kind has, each of them; the first kind of which that is true. What the
transformers of a kind have in common does not tell its few-step models; a FLUX.1 file without guidance is schnell's.
"""


def of_file(path: Path) -> ModelCard:
    """The card of a `.safetensors` or `.ckpt` file. Raises `ModelError`.

    A pickled file says nothing without being run, and is taken for Stable Diffusion 1.
    """
    kind = SD15
    if path.suffix == ".safetensors":
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(path, framework="numpy") as file:
                names = [name.removeprefix(_DENOISER) for name in file.keys()]  # noqa: SIM118 - no dict
        except (SafetensorError, OSError) as error:
            raise ModelError(
                f"model file {str(path)!r} is damaged or no safetensors file; download it again."
            ) from error
        kinds = [kind for marks, kind in _KINDS if _has(names, marks)]
        if not kinds:
            raise ModelError(
                f"model file {str(path)!r} is none that is known by its weights (Stable Diffusion 1, 2 and XL, and "
                "transformers of SD 3, FLUX, Qwen-Image, Z-Image and Chroma as they were released); use such a file, "
                "or a folder."
            )
        kind = kinds[0]
    elif path.suffix != ".ckpt":
        raise ModelError(f"model file {str(path)!r} is no .safetensors file; give one, or a folder.")
    return dataclasses.replace(kind, name=str(path), source=str(path))


def example_of(card: ModelCard) -> str:
    """The hub id of the model that a file's card was made of, else of one of its family, to name in an error."""
    alike = [kind for _, kind in _KINDS if kind.family == card.family]
    return next((kind for kind in alike if kind.origin == card.origin), alike[0]).source


def _has(names: list[str], marks: tuple[str, ...]) -> bool:
    return all(any(name.startswith(mark) for name in names) for mark in marks)
