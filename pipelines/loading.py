"""From a model card to a stock pipeline in memory: hub id, folder or one file, and how it is held there.

`LoadOptions` says all that a user may choose; what is left open is chosen from the machine, and said in the log.
`docs/models.md` has the rule. Torch is imported inside the functions.
"""

from __future__ import annotations

import importlib.util
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipelines.errors import FieldError, ModelError
from pipelines.models import ModelCard

log = logging.getLogger(__name__)

DTYPES = ("float32", "float16", "bfloat16")
OFFLOADS = ("none", "model", "group")
QUANTIZERS = {
    "bnb4": ("bitsandbytes", "bitsandbytes_4bit", {"load_in_4bit": True}),
    "bnb8": ("bitsandbytes", "bitsandbytes_8bit", {"load_in_8bit": True}),
}
"""Name: the package it needs, and diffusers' backend and arguments."""
SPARE = 1.3
"""Free memory over weights that a run needs for what it computes: ours, a round number, not measured."""
_PICKLES = (".bin", ".ckpt", ".pt", ".pth")


@dataclass(frozen=True)
class Lora:
    """A LoRA: a .safetensors file, a folder or a hub id, and its weight (1 is as trained)."""

    source: str
    weight: float = 1.0

    @classmethod
    def parse(cls, text: str) -> Lora:
        """``NAME`` or ``NAME:WEIGHT``; what stands after the last colon counts as a weight if it is a number."""
        name, colon, weight = text.rpartition(":")
        try:
            return cls(name, float(weight)) if colon and name else cls(text)
        except ValueError:
            return cls(text)


@dataclass(frozen=True, kw_only=True)
class LoadOptions:
    """How models are loaded; None leaves a choice to the machine. Raises `FieldError` for unknown words.

    ``dtype`` one of `DTYPES`, ``device`` as torch names it, ``device_map`` as diffusers names it ("balanced",
    "cuda"), ``offload`` one of `OFFLOADS`, ``quantize`` one of `QUANTIZERS`. ``config`` is a folder or hub id with
    the configs that a single file lacks. ``allow_pickle`` lets weights be read that can run code.
    """

    dtype: str | None = None
    device: str | None = None
    device_map: str | None = None
    offload: str | None = None
    quantize: str | None = None
    loras: tuple[Lora, ...] = ()
    config: str | None = None
    allow_pickle: bool = False

    def __post_init__(self) -> None:
        for word, known in (("dtype", DTYPES), ("offload", OFFLOADS), ("quantize", tuple(QUANTIZERS))):
            value = getattr(self, word)
            if value is not None and value not in known:
                raise FieldError(f"{word} is {value!r}; give one of {', '.join(known)}.")
        if self.device_map and (self.device or self.offload):
            raise FieldError("device_map goes with neither device nor offload; give one of them.")


def choose_offload(total: int, largest: int, free: int) -> str:
    """Where weights go, in bytes: all on the device, a component at a time, or a group of layers at a time."""
    if total * SPARE <= free:
        return "none"
    return "model" if largest * SPARE <= free else "group"


def load_pipeline(card: ModelCard, options: LoadOptions) -> Any:
    """The stock pipeline of ``card``, placed as ``options`` say. Raises `ModelError`, one sentence each cause."""
    import torch

    if card.name == "embedded" and card.folder is None:
        raise ModelError(
            "the embedded model's weights are not installed; install the package again, or choose a model."
        )
    device = options.device or (
        "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    )
    name = options.dtype or ("float32" if device == "cpu" else "float16")
    quantize = _quantization(options, device)
    try:
        with _quiet():
            pipe = _read(card, options, getattr(torch, name), quantize)
            for number, lora in enumerate(options.loras):
                _add_lora(pipe, lora, f"lora{number}", options)
            if options.loras:
                pipe.set_adapters(
                    [f"lora{number}" for number in range(len(options.loras))],
                    [lora.weight for lora in options.loras],
                )
            offload = "device map" if options.device_map else _place(pipe, device, options)
    except ModelError:
        raise
    except (MemoryError, torch.OutOfMemoryError) as error:
        raise ModelError(_no_room(card.name)) from error
    except Exception as error:  # the libraries raise what they like; each cause gets its sentence
        raise ModelError(_sentence(card, error)) from error
    log.info(
        "model %s: device %s, %s, offload %s, quantize %s, %d LoRA",
        *(card.name, device, name, offload, options.quantize or "none", len(options.loras)),
    )
    return pipe


def _read(card: ModelCard, options: LoadOptions, dtype: Any, quantize: Any) -> Any:
    import diffusers

    path = Path(card.source)
    more = {"device_map": options.device_map} if options.device_map else {}
    if path.is_file():
        if path.suffix in _PICKLES and not options.allow_pickle:
            raise ModelError(_pickled(card.name))
        if quantize:
            raise ModelError(
                f"model {card.name!r} is a single file, which cannot be quantized; use a folder."
            )
        kind = {
            "sd": diffusers.StableDiffusionPipeline,
            "sdxl": diffusers.StableDiffusionXLPipeline,
        }[card.family]
        config = {"config": options.config} if options.config else {}
        return kind.from_single_file(str(path), torch_dtype=dtype, **config, **more)
    if path.is_dir() and not options.allow_pickle:
        _refuse_pickles(card, path)
    if not path.is_dir():
        # fetched first, so that a failed download is told apart from broken files
        path = Path(
            diffusers.DiffusionPipeline.download(
                card.source, use_safetensors=None if options.allow_pickle else True
            )
        )
    _check_room(card, path)
    if quantize:
        more["quantization_config"] = quantize
    return diffusers.DiffusionPipeline.from_pretrained(
        str(path), dtype=dtype, use_safetensors=None if options.allow_pickle else True, **more
    )


def _refuse_pickles(card: ModelCard, folder: Path) -> None:
    for part in sorted(inner for inner in folder.iterdir() if inner.is_dir()):
        kinds = {file.suffix for file in part.iterdir()}
        if kinds & set(_PICKLES) and ".safetensors" not in kinds:
            raise ModelError(_pickled(card.name))


def _check_room(card: ModelCard, folder: Path) -> None:
    """`ModelError` where the folder's largest weights file alone is more than this machine's free memory."""
    import psutil

    largest = max((file.stat().st_size for file in folder.glob("*/*.safetensors")), default=0)
    if largest > psutil.virtual_memory().available:
        raise ModelError(_no_room(card.name))


def _add_lora(pipe: Any, lora: Lora, name: str, options: LoadOptions) -> None:
    if importlib.util.find_spec("peft") is None:
        raise ModelError("LoRAs need the package peft; install it, or leave --lora out.")
    if Path(lora.source).suffix in _PICKLES and not options.allow_pickle:
        raise ModelError(_pickled(lora.source))
    try:
        pipe.load_lora_weights(
            lora.source, adapter_name=name, use_safetensors=None if options.allow_pickle else True
        )
    except Exception as error:  # as above: the libraries raise what they like
        raise ModelError(
            f"LoRA {lora.source!r} could not be loaded ({_first_line(error)}); check its name and that it was made "
            "for this model."
        ) from error
    if name not in {one for names in pipe.get_list_adapters().values() for one in names}:
        raise ModelError(f"LoRA {lora.source!r} has no weights for this model; choose one made for it.")


def _place(pipe: Any, device: str, options: LoadOptions) -> str:
    import torch

    sizes = [
        sum(one.numel() * one.element_size() for one in part.parameters())
        for part in pipe.components.values()
        if isinstance(part, torch.nn.Module)
    ]
    offload = options.offload
    if offload is None:
        on_cuda = torch.device(device).type == "cuda"
        offload = (
            choose_offload(sum(sizes), max(sizes), torch.cuda.mem_get_info(device)[0]) if on_cuda else "none"
        )
    elif offload != "none" and torch.device(device).type == "cpu":
        raise ModelError(f"offload {offload!r} needs an accelerator, and the device is cpu; leave it out.")
    if offload == "model":
        pipe.enable_model_cpu_offload(device=device)
    elif offload == "group":
        pipe.enable_group_offload(
            onload_device=torch.device(device), offload_type="leaf_level", use_stream=False
        )
    else:
        pipe.to(device)
    return offload


def _quantization(options: LoadOptions, device: str) -> Any:
    if options.quantize is None:
        return None
    package, backend, arguments = QUANTIZERS[options.quantize]
    if importlib.util.find_spec(package) is None:
        raise ModelError(
            f"quantize {options.quantize!r} needs the package {package}; install it, or leave --quantize out."
        )
    from diffusers import PipelineQuantizationConfig

    return PipelineQuantizationConfig(
        quant_backend=backend,
        quant_kwargs=arguments,
        components_to_quantize=["unet", "transformer", "text_encoder_2"],
    )


@contextmanager
def _quiet() -> Iterator[None]:
    """AutoencoderTiny where a pipeline says AutoencoderKL is meant, and not worth a warning to the user."""
    from diffusers.utils import logging as diffusers_logging
    from transformers.utils import logging as transformers_logging

    levels = diffusers_logging.get_verbosity(), transformers_logging.get_verbosity()
    diffusers_logging.set_verbosity_error()
    transformers_logging.set_verbosity_error()
    diffusers_logging.disable_progress_bar()
    transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        diffusers_logging.set_verbosity(levels[0])
        transformers_logging.set_verbosity(levels[1])


def _sentence(card: ModelCard, error: BaseException) -> str:
    """What went wrong, told from the classes of the whole chain of errors: libraries wrap the hub's own."""
    kinds, text = set(), ""
    link: BaseException | None = error
    while link is not None:
        kinds |= {base.__name__ for base in type(link).__mro__}
        text += f" {link}"
        link = link.__cause__ or link.__context__
    where = f"model {card.name!r}"
    if "GatedRepoError" in kinds:
        return f"{where} is gated; accept its licence on its page at the hub and log in with `hf auth login`."
    if "RepositoryNotFoundError" in kinds:
        return f"{where} is not on the hub as {card.source!r}; check the id, or log in if it is private."
    if not Path(card.source).exists() and kinds & {
        "LocalEntryNotFoundError",
        "OfflineModeIsEnabled",
        "ConnectionError",
        "ConnectError",
        "CachedRepoTreeNotFoundError",
    }:
        return (
            f"{where} is not on this machine and the hub cannot be reached; connect to the network once, or give a "
            "folder."
        )
    if "SafetensorError" in kinds or "SafetensorsParsingError" in kinds:
        return f"{where} could not be loaded: its file is damaged or no model; download it again."
    if Path(card.source).is_file():
        return (
            f"{where} could not be loaded from its file ({_first_line(error)}); it may be of another family, or need "
            "--config with a folder of configs."
        )
    return (
        f"{where} could not be loaded from {card.source!r} ({_first_line(error)}); "
        "check the name, the network and your access to it, or choose the embedded model."
    )


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")


def _pickled(name: str) -> str:
    return f"{name!r} has pickled weights, which can run code; use safetensors, or --allow-pickle if you trust them."


def _no_room(name: str) -> str:
    return (
        f"there is too little free memory to load model {name!r}; close programs, quantize or choose another."
    )
