"""Where weights go: device, offload, quantization. `docs/models.md` has the rule."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from pipelines.errors import ModelError
from pipelines.loading.options import QUANTIZERS, LoadOptions
from pipelines.loading.weights import taken

if TYPE_CHECKING:
    import torch

SPARE = 1.3
"""Free memory over weights that a run needs for what it computes: ours, a round number, not measured."""
HEAVY_PARTS = ("unet", "transformer", "text_encoder_2", "text_encoder_3")
"""What is quantized: the denoiser, and text encoders that may be as large. FLUX.2's and Qwen-Image's only one too."""


def choose_device(options: LoadOptions) -> str:
    """The device asked for, else cuda, else mps, else cpu. Raises `ModelError` for what torch does not know."""
    import torch

    if options.device is None:
        return "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        kind = torch.device(options.device).type
    except RuntimeError as error:
        raise ModelError(
            f"device {options.device!r} is none that torch knows; give cpu, cuda or mps."
        ) from error
    here = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if not here.get(kind, True):
        raise ModelError(
            f"device {options.device!r} is not on this machine; leave --device out, or give cpu."
        )
    return options.device


def choose_offload(total: int, largest: int, free: int) -> str:
    """Where weights go, in bytes: all on the device, a component at a time, or a group of layers at a time."""
    if total * SPARE <= free:
        return "none"
    return "model" if largest * SPARE <= free else "group"


def check_offload(device: str, options: LoadOptions) -> None:
    """`ModelError` where weights are to wait off a device that is the CPU: there is nowhere else for them."""
    import torch

    if options.offload not in (None, "none") and torch.device(device).type == "cpu":
        raise ModelError(
            f"offload {options.offload!r} needs an accelerator, and the device is cpu; leave it out."
        )


def place(pipe: Any, device: str, options: LoadOptions, let_go: Callable[[], bool] = lambda: False) -> str:
    """Put a pipeline's parts on the device, or have them come there in turn; the offload chosen.

    They come in turn where they do not fit even after ``let_go`` has given back what it can; it says whether there was
    anything.

    On an accelerator, where images share a call, its autoencoder decodes them one after another: the same pictures,
    and the room of one.
    """
    import torch

    parts = [part for part in pipe.components.values() if isinstance(part, torch.nn.Module)]
    offload, kind = options.offload, torch.device(device).type
    if offload is None and kind == "cuda":
        sizes = [taken(part) for part in parts]
        # bitsandbytes' weights are on the device from the start, where they count as no longer free
        there = sum(taken(part, kind) for part in parts)
        offload = choose_offload(sum(sizes), max(sizes), torch.cuda.mem_get_info(device)[0] + there)
        if offload != "none" and let_go():
            offload = choose_offload(sum(sizes), max(sizes), torch.cuda.mem_get_info(device)[0] + there)
        if offload == "group" and not options.in_groups:
            offload = "model"
    if offload == "model":
        pipe.enable_model_cpu_offload(device=device)
    elif offload == "group":
        pipe.enable_group_offload(
            onload_device=torch.device(device), offload_type="leaf_level", use_stream=False
        )
    else:
        pipe.to(device)
    if kind != "cpu" and hasattr(pipe.vae, "use_slicing"):
        pipe.vae.enable_slicing()
    return offload or "none"


def quantization(options: LoadOptions, parts: set[str], dtype: torch.dtype | None = None) -> Any:
    """diffusers' config for ``options.quantize`` over those ``parts`` that are large, None for none.

    4 bits are normal floats (nf4: QLoRA, arXiv 2305.14314), computed with in ``dtype``; the libraries' own default,
    float32, is several times slower. Raises `ModelError` where the package it needs is not installed.
    """
    if options.quantize is None:
        return None
    package = QUANTIZERS[options.quantize]
    if importlib.util.find_spec(package) is None:
        raise ModelError(
            f"quantize {options.quantize!r} needs the package {package}; install it, or leave --quantize out."
        )
    import diffusers
    import transformers

    mapping = {}
    for part in quantized_parts(parts):
        library: Any = transformers if part.startswith("text_encoder") else diffusers
        if package == "torchao":
            from torchao.quantization import Int8WeightOnlyConfig

            mapping[part] = library.TorchAoConfig(Int8WeightOnlyConfig())
        else:
            four = {"bnb_4bit_quant_type": "nf4", "bnb_4bit_compute_dtype": dtype}
            mapping[part] = (
                library.BitsAndBytesConfig(load_in_4bit=True, **four)
                if options.quantize == "bnb4"
                else library.BitsAndBytesConfig(load_in_8bit=True)
            )
    return diffusers.PipelineQuantizationConfig(quant_mapping=mapping)


def quantized_parts(parts: set[str]) -> list[str]:
    """Those of a model's ``parts`` that are large enough to be quantized."""
    heavy = [part for part in HEAVY_PARTS if part in parts]
    if not {"text_encoder_2", "unet"} & set(heavy):  # a single, large text encoder
        heavy.append("text_encoder")
    return heavy
