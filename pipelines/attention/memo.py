"""Keys and values of the text, computed once a run.

In a UNet's cross-attention they are linear maps of the prompt's states, the same tensor in every step, so that what a
map gave is handed out again while it is asked about that very tensor: the same bits, for less. How much less is
measured in docs/results/text_memo.md. Transformers have no such maps: their text changes with time.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from pipelines.attention.tap import SiteOf


class _Remembered:
    """A linear map's forward that computes anew only what it has not just been asked."""

    def __init__(self, linear: Any) -> None:
        self._compute = linear.forward
        self._asked: tuple[torch.Tensor, int] | None = None
        self._given: Any = None

    def __call__(self, states: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
        """The map of ``states`` (B, T, D); written to in place they count as others."""
        if (
            args or kwargs or states.is_inference()
        ):  # a LoRA chosen for the call; no count of what was written
            return self._compute(states, *args, **kwargs)
        if self._asked is None or self._asked[0] is not states or self._asked[1] != states._version:
            self._asked, self._given = (states, states._version), self._compute(states)
        return self._given


@contextmanager
def remembered(model: torch.nn.Module, site_of: SiteOf) -> Iterator[int]:
    """Remember what the key and value maps of each cross-attention that ``site_of`` names give; yields how many do.

    On exit nothing is left on the model, nor held. A compiled model computes as it was compiled, and a map that others
    hooked (offload moves weights and prefetches the next by such hooks) is asked every time: yields 0 where that is
    all.
    """
    patched: list[Any] = []
    compiled = hasattr(model, "_orig_mod") or any(part._compiled_call_impl for part in model.modules())
    try:
        for name, module in [] if compiled else model.named_modules():
            site = site_of(name, module) if hasattr(module, "set_processor") else None
            if site is None or not site.cross:
                continue
            for linear in (module.to_k, module.to_v):
                if isinstance(linear, torch.nn.Module) and not any(
                    _hooked(part) for part in linear.modules()
                ):
                    linear.forward = _Remembered(linear)
                    patched.append(linear)
        yield len(patched)
    finally:
        for linear in patched:
            del linear.forward


def _hooked(module: torch.nn.Module) -> bool:
    """Whether somebody else acts when the module is called."""
    return (
        "forward" in vars(module)  # as accelerate does
        or hasattr(module, "_diffusers_hook")
        or bool(module._forward_hooks)
        or bool(module._forward_pre_hooks)
    )
