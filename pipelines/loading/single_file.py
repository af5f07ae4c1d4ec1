"""A model from one file, by diffusers' own converters.

A Stable Diffusion file holds the whole model; its configs come from the hub or from ``--config``. Of the files of
transformers the transformer is read, and ``--config`` is a model, a folder or hub id, that has the rest.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pipelines.errors import ModelError
from pipelines.loading.failures import PICKLES, pickled
from pipelines.loading.fetch import Say, fetch_model
from pipelines.loading.libraries import check_libraries
from pipelines.loading.options import LoadOptions
from pipelines.loading.room import check_room, free_memory, weights_of
from pipelines.models import ModelCard
from pipelines.models import card as card_of
from pipelines.models.single_file import example_of
from pipelines.models.stable_diffusion import SD21

WHOLE = {"sd": "StableDiffusionPipeline", "sdxl": "StableDiffusionXLPipeline"}
"""Families whose files are whole models, and their pipelines."""
PART = "transformer"


def read_file(card: ModelCard, path: Path, options: LoadOptions, device: str, dtype: str, say: Say) -> Any:
    """The stock pipeline of a card whose source is the file ``path``. Raises `ModelError` and what diffusers raises."""
    import diffusers
    import torch

    if path.suffix in PICKLES and not options.allow_pickle:
        raise ModelError(pickled(card.name))
    # diffusers takes a quantization of a transformer's file for one that is already done (0.42: its `from_single_file`
    # makes the quantizer "pre-quantized"): int8 does nothing then, silently, and four bits find no numbers of theirs
    for word in ("quantize", "device_map"):
        if getattr(options, word):
            raise ModelError(
                f"{word} does not work on model {card.name!r}, which is a single file; leave it out, or give the "
                f"model as a folder or hub id, such as {example_of(card)}."
            )
    number = getattr(torch, dtype)
    if card.family in WHOLE:
        check_room(card.name, {"": [path]}, options, device, dtype, free_memory())
        given = options.config
        if given is None and example_of(card) == SD21.source:
            given = SD21.source  # diffusers (0.42) asks for the one that is no longer there
        config = {"config": given} if given else {}
        kind = getattr(diffusers, WHOLE[card.family])
        return kind.from_single_file(str(path), torch_dtype=number, **config)
    rest = _rest(card, options, say)
    check_libraries(card.name, rest / "model_index.json")
    check_room(card.name, {**weights_of(rest), PART: [path]}, options, device, dtype, free_memory())
    index = json.loads((rest / "model_index.json").read_text(encoding="utf-8"))
    transformer = getattr(diffusers, index[PART][1]).from_single_file(
        str(path), config=str(rest), subfolder=PART, torch_dtype=number
    )
    return diffusers.DiffusionPipeline.from_pretrained(
        str(rest),
        dtype=number,
        use_safetensors=None if options.allow_pickle else True,
        **{PART: transformer},
    )


def _rest(card: ModelCard, options: LoadOptions, say: Say) -> Path:
    """The folder with everything but the transformer."""
    name = f"model file {card.name!r} holds the transformer of {card.family!r} alone"
    if options.config is None:
        raise ModelError(
            f"{name}; give the rest with --config and a folder or hub id, such as {example_of(card)}."
        )
    whole = card_of(options.config)
    if whole.family != card.family:
        raise ModelError(
            f"{name}, and --config {options.config!r} is a model of {whole.family!r}; give one of the same family, "
            f"such as {example_of(card)}."
        )
    folder = Path(options.config)
    return folder if folder.is_dir() else fetch_model(whole, say, pickles=options.allow_pickle, without=PART)
