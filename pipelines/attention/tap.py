"""Installing the kernel under the attention processors of a model, and taking it out without trace.

A tapped processor is a copy of the one a block already has: the same code object with one global replaced, the
function its kernel call goes to (and, where it knows masks of image prompts, what lays them over the queries). No
attention code is copied, the processor's class stays a subclass of the stock one (IP-Adapter asks for that), and a
processor whose kernel is not known is refused by name. Weights are not touched, so LoRA, offload and compile go on
working. A model's tapped classes are kept while the model lives (not on it): a compiler looks at a processor's class,
and would compile the model again in each run. Evidence: trials on ten model families, see docs/architecture.md §3.
"""

from __future__ import annotations

import copy
import inspect
import types
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch

from pipelines.attention.kernel import Kernel, Site
from pipelines.errors import UnsupportedError

SiteOf = Callable[[str, torch.nn.Module], Site | None]
"""(module name, module) → what it is, or None to leave it alone."""
_MASKS = "IPAdapterMaskProcessor"


class _Functional:
    """`torch.nn.functional` with one function replaced."""

    def __init__(self, attend: Callable[..., torch.Tensor]) -> None:
        self.scaled_dot_product_attention = attend

    def __getattr__(self, name: str) -> Any:
        return getattr(torch.nn.functional, name)


class _Masks:
    """diffusers' `IPAdapterMaskProcessor` as far as attention processors use it."""

    def __init__(self, downsample: Callable[..., torch.Tensor]) -> None:
        self.downsample = downsample


def tapped(processor: Any, attend: Callable[..., torch.Tensor]) -> Any:
    """A copy of ``processor`` whose kernel call goes to ``attend(query, key, value, attn_mask=…)``.

    ``attend`` gets (B, heads, N, D). Raises `UnsupportedError` for a processor without a known kernel call.
    """
    return _as(processor, tapped_class(type(processor), attend))


def _as(processor: Any, kind: type) -> Any:
    new = copy.copy(processor)  # a copy: some models share one processor between modules
    new.__class__ = kind
    return new


def tapped_class(
    kind: type, attend: Callable[..., torch.Tensor], lay: Callable[..., torch.Tensor] | None = None
) -> type:
    """The subclass of a processor's class ``kind`` that `tapped` makes instances of.

    ``lay`` is `Kernel.lay`; without it, masks of image prompts are laid as stock does.
    """
    stock: Any = kind.__call__
    scope = dict(stock.__globals__)
    # a compiler looks globals up in the module of this name, where they are the stock ones
    scope.pop("__name__", None)
    names = stock.__code__.co_names
    if "dispatch_attention_fn" in names:
        scope["dispatch_attention_fn"] = partial(_dispatch, attend)
    elif "scaled_dot_product_attention" in names:
        scope["F"] = _Functional(attend)
    else:
        raise UnsupportedError(
            f"attention processor {kind.__name__} has no known kernel call; "
            "switch off attention slicing, xformers or custom processors."
        )
    if lay is not None and _MASKS in names:
        scope[_MASKS] = _Masks(partial(lay, scope[_MASKS].downsample))
    call = types.FunctionType(stock.__code__, scope, stock.__name__, stock.__defaults__, stock.__closure__)
    call.__kwdefaults__ = stock.__kwdefaults__
    # diffusers reads the signature in every call of a module, which is quicker where it is written down
    call.__signature__ = inspect.signature(stock)  # type: ignore[attr-defined]
    return type(f"Tapped{kind.__name__}", (kind,), {"__call__": call})


class _Relay:
    """Where a model's tapped processors go: to the kernel of the run, by classes that outlive it."""

    def __init__(self) -> None:
        self.kernel: Kernel | None = None
        # one class a kind of site, not one a module: a compiled model then compiles each kind once
        self._classes: dict[tuple[type, Site], type] = {}

    def attend(self, site: Site, *args: Any, **kwargs: Any) -> torch.Tensor:
        """The kernel's answer at ``site``."""
        assert self.kernel is not None, "installed"
        return self.kernel.attend(site, *args, **kwargs)

    def lay(self, *args: Any) -> torch.Tensor:
        """How the kernel lays a mask over queries."""
        assert self.kernel is not None, "installed"
        return self.kernel.lay(*args)

    def kind(self, processor: Any, site: Site) -> type:
        """The tapped class of a processor at ``site``."""
        key = type(processor), site
        if key not in self._classes:
            self._classes[key] = tapped_class(type(processor), partial(self.attend, site), self.lay)
        return self._classes[key]


_relays: weakref.WeakKeyDictionary[torch.nn.Module, _Relay] = weakref.WeakKeyDictionary()


def _dispatch(
    attend: Callable[..., torch.Tensor],
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attn_mask: torch.Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
    **_: Any,
) -> torch.Tensor:
    """diffusers' dispatcher has (B, N, heads, D); a bias rules out its faster backends, so ours is always SDPA."""
    out = attend(
        query.transpose(1, 2),
        key.transpose(1, 2),
        value.transpose(1, 2),
        attn_mask=attn_mask,
        dropout_p=dropout_p,
        is_causal=is_causal,
        scale=scale,
        enable_gqa=enable_gqa,
    )
    return out.transpose(1, 2)


def sites(model: torch.nn.Module, site_of: SiteOf) -> Iterator[tuple[str, torch.nn.Module, Site]]:
    """The attention modules that ``site_of`` names, by their names inside the model, with what they are."""
    # torch.compile(model) wraps: the modules keep their names inside
    for name, module in getattr(model, "_orig_mod", model).named_modules():
        site = site_of(name, module) if hasattr(module, "set_processor") else None
        if site is not None:
            yield name, module, site


@contextmanager
def installed(model: torch.nn.Module, kernel: Kernel, site_of: SiteOf) -> Iterator[int]:
    """Tap every attention module that ``site_of`` names; yields how many. On exit each has its old processor back."""
    model = getattr(
        model, "_orig_mod", model
    )  # torch.compile(model) wraps: the modules keep their names inside
    relay = _relays.setdefault(model, _Relay())
    before, relay.kernel = relay.kernel, kernel
    stock: list[tuple[torch.nn.Module, Any]] = []
    try:
        for _, module, site in sites(model, site_of):
            processor: Any = module.processor
            module.processor = _as(processor, relay.kind(processor, site))
            stock.append((module, processor))
        yield len(stock)
    finally:
        for module, processor in stock:
            module.processor = processor
        relay.kernel = before
