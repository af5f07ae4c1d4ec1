"""Keys and values of the text, computed once a call of the pipeline.

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


class Memory:
    """What the key and value maps of a model gave; ``count`` of them remember."""

    def __init__(self) -> None:
        self._maps: list[_Remembered] = []

    @property
    def count(self) -> int:
        """How many maps remember."""
        return len(self._maps)

    def forget(self) -> None:
        """Let go of it, as after the last step, when the decoder wants the room."""
        for one in self._maps:
            one.forget()

    def patch(self, linear: Any) -> None:
        """Have ``linear`` remember; its old forward is its class's."""
        self._maps.append(_Remembered(linear))
        linear.forward = self._maps[-1]


class _Remembered:
    """A linear map's forward that computes anew only what it has not just been asked."""

    def __init__(self, linear: Any) -> None:
        self._compute = linear.forward
        self.forget()

    def forget(self) -> None:
        """Hold nothing."""
        self._kept: tuple[torch.Tensor, int, Any] | None = None

    def __call__(self, states: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
        """The map of ``states`` (B, T, D); written to in place (as autograd counts it) they are others."""
        # a LoRA chosen for the call; a tensor that does not count what is written to it
        if args or kwargs or states.is_inference():
            return self._compute(states, *args, **kwargs)
        kept = self._kept
        if kept is None or kept[0] is not states or kept[1] != states._version:
            self._kept = kept = states, states._version, self._compute(states)
        return kept[2]


@contextmanager
def remembered(model: torch.nn.Module, site_of: SiteOf) -> Iterator[Memory]:
    """Remember what the key and value maps of each cross-attention that ``site_of`` names give.

    On exit nothing is left on the model, nor held. A model that is compiled, or has a part that is, computes as it was
    compiled, and a map that others hooked (offload moves weights and prefetches the next by such hooks) is asked every
    time.
    """
    memory, patched = Memory(), []
    try:
        for name, module in [] if _compiled(model) else model.named_modules():
            site = site_of(name, module) if hasattr(module, "set_processor") else None
            if site is None or not site.cross:
                continue
            for linear in (module.to_k, module.to_v):
                if isinstance(linear, torch.nn.Module) and not any(
                    _hooked(part) for part in linear.modules()
                ):
                    memory.patch(linear)
                    patched.append(linear)
        yield memory
    finally:
        for linear in patched:
            del linear.forward
        memory.forget()


def _compiled(model: torch.nn.Module) -> bool:
    """Whether the model or a part of it is compiled in any of the ways there are: it would be compiled anew."""
    return any(
        part._compiled_call_impl is not None  # part.compile()
        or hasattr(part, "_orig_mod")  # torch.compile(part)
        or hasattr(vars(part).get("forward"), "_torchdynamo_orig_callable")  # torch.compile(part.forward)
        for part in model.modules()
    )


def _hooked(module: torch.nn.Module) -> bool:
    """Whether somebody else acts when the module is called."""
    return (
        "forward" in vars(module)  # as accelerate does
        or hasattr(module, "_diffusers_hook")
        or bool(module._forward_hooks)
        or bool(module._forward_pre_hooks)
    )
