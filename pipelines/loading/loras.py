"""LoRAs into a pipeline: the one file of each found, fetched with progress, and read by diffusers' own loader."""

from __future__ import annotations

import importlib.util
import re
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pipelines.errors import DecollageError, ModelError
from pipelines.loading.failures import PICKLES, first_line, is_out_of_memory, pickled, sentence
from pipelines.loading.fetch import Say, fetch, names
from pipelines.loading.options import LoadOptions, Lora

USUAL = "pytorch_lora_weights.safetensors"
"""What diffusers calls the file; where there are several, that is the one."""
_ON_HUB = re.compile(r"([A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*)(?:/(.+))?")


def add_loras(pipe: Any, options: LoadOptions, say: Say) -> None:
    """Load every LoRA that ``options`` name, each with its weight; together they add up. Raises `ModelError`.

    ``say`` is told of downloads in bytes, and what it raises ends them.
    """
    if not options.loras:
        return
    if importlib.util.find_spec("peft") is None:
        raise ModelError("LoRAs need the package peft; install it, or leave --lora out.")
    named = {f"lora{number}": lora for number, lora in enumerate(options.loras)}
    for name, lora in named.items():
        _add(pipe, lora, name, options, say)
    pipe.set_adapters(list(named), [lora.weight for lora in named.values()])


def _add(pipe: Any, lora: Lora, name: str, options: LoadOptions, say: Say) -> None:
    file = _file(lora, options.allow_pickle, say)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Already found a `peft_config`")  # several are meant
            # told the folder and the file apart, as the libraries want them when they may not ask the hub
            pipe.load_lora_weights(
                str(file.parent),
                weight_name=file.name,
                adapter_name=name,
                use_safetensors=None if options.allow_pickle else True,
            )
    except Exception as error:  # the libraries raise what they like
        if is_out_of_memory(error):  # loading says so
            raise
        raise ModelError(
            f"LoRA {lora.source!r} could not be loaded ({first_line(error)}); check its name and that it was made "
            "for this model."
        ) from error
    if name not in {one for names in pipe.get_list_adapters().values() for one in names}:
        raise ModelError(f"LoRA {lora.source!r} has no weights for this model; choose one made for it.")


def _file(lora: Lora, pickles: bool, say: Say) -> Path:
    """The file itself, the one in a folder, or the one of a hub id, which is fetched."""
    path, source = Path(lora.source), lora.source
    if path.is_file():
        if path.suffix in PICKLES and not pickles:
            raise ModelError(pickled(source))
        return path
    if path.is_dir():
        return path / _chosen(source, [file.name for file in path.iterdir()], pickles)
    found = _ON_HUB.fullmatch(source)
    if found is None or (found[2] is None and path.suffix in (".safetensors", *PICKLES)):
        raise ModelError(f"LoRA {source!r} is no file, folder or hub id; check its name.")
    repo, inner = found[1], found[2]
    try:
        chosen = _chosen(source, [inner] if inner else names(repo), pickles)
        file = fetch(repo, [chosen], say, without=()) / chosen
    except DecollageError:
        raise
    except Exception as error:  # each cause gets its sentence
        raise ModelError(sentence(source, repo, error, "LoRA")) from error
    if not file.is_file():
        raise ModelError(f"LoRA {source!r} has no such file; check its name.")
    return file


def _chosen(source: str, files: Sequence[str], pickles: bool) -> str:
    """The file that is meant among ``files``: `USUAL`, or the only one."""
    safe = sorted(name for name in files if name.endswith(".safetensors"))
    unsafe = sorted(name for name in files if name.endswith(PICKLES))
    usable = safe or (unsafe if pickles else [])
    if USUAL in usable:
        return USUAL
    if len(usable) == 1:
        return usable[0]
    if usable:
        some = ", ".join(usable[:3])
        raise ModelError(f"LoRA {source!r} has {len(usable)} files ({some}, …); give one as {source}/FILE.")
    raise ModelError(
        pickled(source) if unsafe else f"LoRA {source!r} has no .safetensors file; choose another."
    )
