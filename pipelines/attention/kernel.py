"""One attention call with four anonymous slots.

Whatever processor a block has, its kernel call is answered by `Kernel`: the slots may add a bias to the logits, may map
the output, may look at what is attended, and may say how a mask that the processor has been given lies over its
queries; with all empty the call is the stock call, bit for bit. The kernel knows no method by name.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F


@dataclass(frozen=True)
class Joint:
    """How one sequence holds text and picture: which comes first, and what the first is padded to a multiple of.

    ``patch`` is the side in latent cells of an image token.
    """

    text_first: bool
    patch: int = 2
    align: int = 1

    def grid(self, latent_size: tuple[int, int]) -> tuple[int, int]:
        """(h, w) in image tokens."""
        return latent_size[0] // self.patch, latent_size[1] // self.patch

    def image(self, tokens: int, latent_size: tuple[int, int]) -> slice:
        """Where the image tokens are among ``tokens``."""
        h, w = self.grid(latent_size)
        return slice(tokens - h * w, tokens) if self.text_first else slice(0, h * w)

    def text_start(self, latent_size: tuple[int, int]) -> int:
        """Place of the first text token."""
        h, w = self.grid(latent_size)
        return 0 if self.text_first else -(-h * w // self.align) * self.align


@dataclass(frozen=True)
class Site:
    """What an attention module is, not what it is called: one value for all modules of a kind.

    ``cross``: its keys are text. ``part``: "down", "mid" or "up" of a UNet, "double" or "single" of a transformer.
    ``joint``: text and picture are one sequence of queries and of keys.
    """

    cross: bool
    part: str
    joint: Joint | None = None


LogitBias = Callable[[Site, torch.Tensor, torch.Tensor, float], torch.Tensor | None]
"""(site, queries (B, H, N, D), keys (B, H, T, D), scale) → a bias broadcastable to (B, H, N, T), or None."""
MapOutput = Callable[[Site, torch.Tensor], torch.Tensor]
"""(site, output (B, H, N, D)) → the output to go on with; the same object when there is nothing to do."""
Watch = Callable[[Site, torch.Tensor, torch.Tensor, float, torch.Tensor | None], None]
"""(site, queries, keys, scale, the mask with all biases in it, or None); looks and changes nothing."""
LayMask = Callable[[torch.Tensor, int], torch.Tensor]
"""(a mask over the canvas (1, H, W), number of queries N) → its weight at each of them, (1, N)."""


@dataclass
class Kernel:
    """The slots, in order. Biases add up; maps are applied one after another; watchers see the biased logits' parts."""

    logit_bias: list[LogitBias] = field(default_factory=list)
    map_output: list[MapOutput] = field(default_factory=list)
    watch: list[Watch] = field(default_factory=list)
    lay_mask: LayMask | None = None

    @property
    def empty(self) -> bool:
        """Whether every slot is, so that nothing need be installed."""
        return not (self.logit_bias or self.map_output or self.watch or self.lay_mask)

    def lay(
        self, stock: Callable[..., torch.Tensor], mask: torch.Tensor, rows: int, queries: int, width: int
    ) -> torch.Tensor:
        """What a masked processor multiplies an output (rows, queries, width) with; ``stock`` does it without us."""
        if self.lay_mask is None:
            return stock(mask, rows, queries, width)
        return self.lay_mask(mask, queries)[..., None]

    def attend(
        self,
        site: Site,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        attn_mask: torch.Tensor | None = None,
        **rest: Any,
    ) -> torch.Tensor:
        """Scaled dot-product attention over (B, H, N, D) with the slots of ``site`` applied.

        A joint call has as many queries as keys. A processor's other call, in which an IP-Adapter's picture prompt is
        asked by the picture alone, has no words among its keys and is the stock call.
        """
        if site.joint is not None and query.shape[2] != key.shape[2]:
            return F.scaled_dot_product_attention(query, key, value, attn_mask=attn_mask, **rest)
        scale = rest.get("scale") or query.shape[-1] ** -0.5
        for slot in self.logit_bias:
            bias = slot(site, query, key, scale)
            if bias is not None:
                attn_mask = bias if attn_mask is None else _merged(attn_mask, bias)
        for watch in self.watch:
            watch(site, query, key, scale, attn_mask)
        out = F.scaled_dot_product_attention(query, key, value, attn_mask=attn_mask, **rest)
        for map_output in self.map_output:
            out = map_output(site, out)
        return out


def _merged(mask: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
    """A padding mask is kept, never replaced: booleans become −inf where they forbid."""
    if mask.dtype == torch.bool:
        mask = torch.zeros_like(mask, dtype=bias.dtype).masked_fill_(~mask, float("-inf"))
    return mask + bias
