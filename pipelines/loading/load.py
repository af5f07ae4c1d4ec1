"""From a model card to a stock pipeline in memory: hub id, folder or one file, LoRAs, and how it is held there.

What `LoadOptions` leave open is chosen from the machine, and said in the log. Torch is imported inside the functions.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pipelines.errors import DecollageError, ModelError, RoomError
from pipelines.loading.failures import first_line, is_out_of_memory, no_room, pickled, sentence
from pipelines.loading.fetch import Say, fetch, fetch_model, only_pickled
from pipelines.loading.libraries import check_libraries
from pipelines.loading.loras import add_loras
from pipelines.loading.options import LoadOptions
from pipelines.loading.placing import check_offload, choose_device, place, quantization
from pipelines.loading.room import check_room, free_memory, weights_of
from pipelines.loading.single_file import read_file
from pipelines.loading.whole import text_parts
from pipelines.models import ModelCard

log = logging.getLogger(__name__)


def _silent(done: int, total: int) -> None:
    """Nobody watches."""


def load_pipeline(
    card: ModelCard,
    options: LoadOptions,
    say: Say = _silent,
    let_go: Callable[[], bool] = lambda: False,
) -> Any:
    """The stock pipeline of ``card``, placed as ``options`` say; ``say`` is told of a download in bytes.

    ``let_go`` gives back memory that is held for later, before weights are placed where they would be slow, and says
    whether there was some. Raises `ModelError`, one sentence each cause, and what ``say`` raises.
    """
    import torch

    if card.name == "embedded" and card.folder is None:
        raise ModelError(
            "the embedded model's weights are not installed; install the package again, or choose a model."
        )
    device = choose_device(options)
    check_offload(device, options)
    name = options.dtype or ("float32" if torch.device(device).type == "cpu" else card.half)
    try:
        with quiet():
            pipe = _read(card, options, device, name, say)
            if card.spacing is not None:
                pipe.scheduler = type(pipe.scheduler).from_config(
                    pipe.scheduler.config, timestep_spacing=card.spacing
                )
            add_loras(pipe, options, say)
            offload = "device map" if options.device_map else place(pipe, device, options, let_go)
    except DecollageError:
        raise
    except Exception as error:  # the libraries raise what they like; each cause gets its sentence
        if is_out_of_memory(error):
            raise RoomError(no_room(card.name)) from error
        raise ModelError(sentence(card.name, card.source, error)) from error
    log.log(*told(card.name, device, name, offload, options))
    return pipe


def told(model: str, device: str, dtype: str, offload: str, options: LoadOptions) -> tuple[int, str]:
    """The log's level and line about a loaded model: a plain run on a CPU, where nothing was chosen, says nothing."""
    import torch

    plain = options == LoadOptions() and torch.device(device).type == "cpu"
    line = (
        f"model {model}: device {device}, {dtype}, offload {offload}, quantize {options.quantize or 'none'}, "
        f"{len(options.loras)} LoRA"
    )
    if offload == "group" and options.offload is None and options.quantize is None:
        line += "; layer by layer is slow, and --quantize makes the weights smaller"
    return logging.DEBUG if plain else logging.INFO, line


def load_tiny(card: ModelCard, pipe: Any, options: LoadOptions, say: Say = _silent) -> Any:
    """The small autoencoder that shows previews of ``pipe``, or None: the card names none, or it cannot be had.

    A model from the hub brings it along; for a folder or file it is used where this machine has it already.
    """
    from diffusers import AutoencoderTiny

    if card.tiny is None:
        return None
    local = Path(card.source).exists()
    try:
        folder = Path(card.tiny)
        if not folder.is_dir():
            wanted = ["config.json", "diffusion_pytorch_model.safetensors"]
            folder = fetch(card.tiny, wanted, say, local=local)
        with quiet():
            tiny = AutoencoderTiny.from_pretrained(str(folder), dtype=pipe.dtype, use_safetensors=True)
    except DecollageError:
        raise
    except Exception as error:  # noqa: BLE001 - whatever is wrong with it, previews work without
        level = logging.DEBUG if local else logging.INFO
        log.log(level, "model %s: previews without %s (%s)", card.name, card.tiny, first_line(error))
        return None
    channels = pipe.vae.config.get("latent_channels")
    if channels is not None and tiny.config.latent_channels != channels:
        log.info("model %s: previews without %s (made for other latents)", card.name, card.tiny)
        return None
    return tiny.to(pipe._execution_device)


def _read(card: ModelCard, options: LoadOptions, device: str, name: str, say: Say) -> Any:
    import diffusers
    import torch

    path = Path(card.source)
    if path.is_dir() and not options.allow_pickle:
        _refuse_pickles(card, path)
    if not path.exists():
        # a bad choice is said before gigabytes are fetched
        quantization(options, set())
        path = fetch_model(card, say, pickles=options.allow_pickle)
    dtype = getattr(torch, name)
    if path.is_file():
        return read_file(card, path, options, device, name, say)
    check_libraries(card.name, path / "model_index.json")
    check_room(card.name, weights_of(path), options, device, name, free_memory())
    more: dict[str, Any] = {"device_map": options.device_map} if options.device_map else {}
    parts = set(json.loads((path / "model_index.json").read_text(encoding="utf-8")))
    safe = None if options.allow_pickle else True
    if quantize := quantization(options, parts, dtype):
        more["quantization_config"] = quantize
    if not more:  # quantized and mapped parts are placed while they are read, which diffusers does
        more = text_parts(card.name, path, dtype=dtype, use_safetensors=safe)
    return diffusers.DiffusionPipeline.from_pretrained(str(path), dtype=dtype, use_safetensors=safe, **more)


def _refuse_pickles(card: ModelCard, folder: Path) -> None:
    if only_pickled(f"{file.parent.name}/{file.name}" for file in folder.glob("*/*")):
        raise ModelError(pickled(card.name))


@contextmanager
def quiet() -> Iterator[None]:
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
