"""What weights consist of, what they take, where they are, and giving back what is free."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


def inner(weight: torch.Tensor) -> Iterator[torch.Tensor]:
    """The tensors that a weight consists of: a quantized one (torchao's) looks like those it stands for, and is not."""
    if not hasattr(weight, "__tensor_flatten__"):
        yield weight
        return
    for name in weight.__tensor_flatten__()[0]:
        yield from inner(getattr(weight, name))


def taken(part: torch.nn.Module, kind: str | None = None) -> int:
    """Bytes of a part's parameters, on a ``kind`` of device ("cuda") alone where one is given."""
    return sum(
        held.numel() * held.element_size()
        for weight in part.parameters()
        for held in inner(weight)
        if kind is None or held.device.type == kind
    )


def give_back() -> None:
    """Let go of what nobody uses but what torch keeps, in pieces that what comes next may not fit into."""
    import torch

    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    elif torch.backends.mps.is_available():
        torch.mps.empty_cache()
