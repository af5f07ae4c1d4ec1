"""What a user may choose about loading a model."""

from __future__ import annotations

import math
from dataclasses import dataclass

from pipelines.errors import FieldError
from pipelines.models.ip_adapter import IPAdapter

DTYPES = ("float32", "float16", "bfloat16")
OFFLOADS = ("none", "model", "group")
QUANTIZERS = {"bnb4": "bitsandbytes", "bnb8": "bitsandbytes", "int8": "torchao"}
"""Name: the package it needs."""


@dataclass(frozen=True)
class Lora:
    """A LoRA: a .safetensors file, a folder, a hub id or ``ID/FILE`` of one, and its weight (1 is as trained)."""

    source: str
    weight: float = 1.0

    @classmethod
    def parse(cls, text: str) -> Lora:
        """``NAME`` or ``NAME:WEIGHT``; what stands after the last colon counts as a weight if it is a number.

        Raises `FieldError` for a number that is none: infinity, or "nan".
        """
        name, colon, weight = text.rpartition(":")
        try:
            one = cls(name, float(weight)) if colon and name else cls(text)
        except ValueError:
            return cls(text)
        if not math.isfinite(one.weight):
            raise FieldError(f"LoRA {name!r}: its weight is {weight}; give a number.")
        return one


@dataclass(frozen=True, kw_only=True)
class LoadOptions:
    """How models are loaded; None leaves a choice to the machine. Raises `FieldError` for unknown words.

    ``dtype`` one of `DTYPES`, ``device`` as torch names it, ``device_map`` as diffusers names it ("balanced",
    "cuda"), ``offload`` one of `OFFLOADS`, ``quantize`` one of `QUANTIZERS`, None for not at all. ``config`` is a
    folder or hub id with what a single file lacks: configs, or all but the transformer. ``controlnet`` keeps shapes
    and ``ip_adapter`` makes pictures prompts, in place of the model's usual ones. ``allow_pickle`` lets weights be
    read that can run code.
    """

    dtype: str | None = None
    device: str | None = None
    device_map: str | None = None
    offload: str | None = None
    quantize: str | None = None
    loras: tuple[Lora, ...] = ()
    config: str | None = None
    ip_adapter: IPAdapter | None = None
    controlnet: str | None = None
    allow_pickle: bool = False

    def __post_init__(self) -> None:
        for word, known in (("dtype", DTYPES), ("offload", OFFLOADS), ("quantize", tuple(QUANTIZERS))):
            value = getattr(self, word)
            if value is not None and value not in known:
                raise FieldError(f"{word} is {value!r}; give one of {', '.join(known)}.")
        if self.offload == "group" and not self.in_groups:
            raise FieldError(
                f"quantize {self.quantize!r} does not go with offload 'group'; give offload 'model'."
            )
        if self.device_map and (self.device or self.offload):
            raise FieldError("device_map goes with neither device nor offload; give one of them.")

    @property
    def in_groups(self) -> bool:
        """Whether layers can come one by one: of bitsandbytes' weights what their numbers mean would stay behind."""
        return self.quantize is None or QUANTIZERS[self.quantize] != "bitsandbytes"
