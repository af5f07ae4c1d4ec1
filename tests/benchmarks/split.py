"""Layer attention without a mask of text and picture by text and picture: keys split, merged by log-sum-exp.

A bias on few keys needs no mask over all of them. Softmax attention over two sets of keys is the mean of the attention
over each, weighted by how much of the softmax's sum each has, and that is what log-sum-exp tells (as in FlashAttention,
arXiv 2205.14135, section 3.1, which does the same block by block). So in joint attention the picture's tokens look at
the picture without any mask, which fast kernels on CUDA want, and at the words with a bias of N × T; what is left looks
at everything without one. Exact, not an approximation.

It is here and not in `pipelines` because nothing there calls it: the native mask stays until gpu.py has measured that
this pays. Where the stock call has a padding mask of its own, and where words look less at the picture too
(``attend_both_ways``), the masked call stays in any case.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F

from pipelines import sampling
from pipelines.attention.kernel import Kernel, Site

Part = tuple[torch.Tensor, torch.Tensor]
"""Output (B, H, N, D) of attention over some of the keys, and log-sum-exp (B, H, N) of its logits."""


def part(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    scale: float,
    bias: torch.Tensor | None = None,
) -> Part:
    """Attention over these keys (B, H, N, D) with what a merge needs; ``bias`` is broadcastable to (B, H, N, T).

    On CUDA flash attention takes no bias, the memory-efficient kernel does and rounds the rows of its sums up to 32.
    """
    own = torch.ops.aten
    rows, heads, places = query.shape[:3]
    if bias is not None:
        bias = bias.expand(rows, heads, places, key.shape[2])
    if query.device.type == "cpu":
        out, sums = own._scaled_dot_product_flash_attention_for_cpu(
            query, key, value, 0.0, False, attn_mask=bias, scale=scale
        )
        return out, sums
    if bias is None:
        out, sums, *_ = own._scaled_dot_product_flash_attention(
            query, key, value, 0.0, False, False, scale=scale
        )
        return out, sums
    out, sums, *_ = own._scaled_dot_product_efficient_attention(
        query, key, value, bias, True, 0.0, False, scale=scale
    )
    return out, sums[..., :places]


def merged(one: Part, other: Part) -> Part:
    """Attention over the keys of both, which have none in common."""
    share = torch.sigmoid(other[1] - one[1])[..., None].to(one[0].dtype)
    return torch.lerp(one[0], other[0], share), torch.logaddexp(one[1], other[1])


def attend(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    bias: torch.Tensor,
    queries: slice,
    keys: slice,
    scale: float,
) -> torch.Tensor:
    """Attention (B, H, N, D) with ``bias``, broadcastable to (B, H, queries, keys), on these logits; a finite one."""
    looking = query[:, :, queries]
    found: Part | None = None
    for place, own in ((slice(keys.start), None), (keys, bias), (slice(keys.stop, key.shape[2]), None)):
        if key[:, :, place].shape[2]:
            one = part(looking, key[:, :, place], value[:, :, place], scale, own)
            found = one if found is None else merged(found, one)
    assert found is not None, "keys"
    others = [query[:, :, : queries.start], query[:, :, queries.stop :]]
    before, after = (
        [F.scaled_dot_product_attention(rest, key, value, scale=scale)] if rest.shape[2] else []
        for rest in others
    )
    return torch.cat([*before, found[0], *after], 2) if before or after else found[0]


@dataclass
class SplitKernel(Kernel):
    """The kernel whose joint attention is split where nothing but words' logits is biased; elsewhere as ever.

    What the picture's tokens say of the words in joint attention is what they would say in cross-attention, so the
    slots are asked for that, and no mask over all tokens is built.
    """

    latent_size: tuple[int, int] = (0, 0)

    def attend(
        self,
        site: Site,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        attn_mask: torch.Tensor | None = None,
        **rest: Any,
    ) -> torch.Tensor:
        """As `Kernel.attend`."""
        joint = site.joint
        if joint is None or query.shape[2] != key.shape[2] or attn_mask is not None or self.watch:
            return super().attend(site, query, key, value, attn_mask, **rest)
        image = joint.image(query.shape[2], self.latent_size)
        text = slice(joint.text_start(self.latent_size), image.start if joint.text_first else key.shape[2])
        scale = rest.get("scale") or query.shape[-1] ** -0.5
        words, looking, read = Site(cross=True, part=site.part), query[:, :, image], key[:, :, text]
        biases = [slot(words, looking, read, scale) for slot in self.logit_bias]
        given = [bias for bias in biases if bias is not None]
        if not given:
            return super().attend(site, query, key, value, attn_mask, **rest)
        out = attend(query, key, value, sum(given[1:], given[0]), image, text, scale)
        for map_output in self.map_output:
            out = map_output(site, out)
        return out


@contextmanager
def splitting(latent_size: tuple[int, int]) -> Iterator[None]:
    """Runs of `pipelines.sampling` inside use `SplitKernel`; for layer attention that is not both ways."""
    stock = sampling.Kernel
    sampling.Kernel = partial(SplitKernel, latent_size=latent_size)  # type: ignore[misc, assignment]
    try:
        yield
    finally:
        sampling.Kernel = stock  # type: ignore[misc]


def differences(
    device: torch.device, dtype: torch.dtype, tokens: tuple[int, int], size: int
) -> tuple[float, float]:
    """Largest differences from the masked call in float32: of this in ``dtype``, and of the masked call in ``dtype``.

    ``tokens`` are those of words and picture, in FLUX's order, ``size`` a head's.
    """
    generator = torch.Generator().manual_seed(0)
    text, image = tokens
    query, key, value = (
        torch.randn(1, 2, text + image, size, generator=generator).to(device, dtype) for _ in range(3)
    )
    bias = (4 * torch.randn(1, 1, image, text, generator=generator)).to(device, dtype)
    mask = query.new_zeros(1, 1, text + image, text + image)
    mask[:, :, text:, :text] = bias
    wide = [one.float() for one in (query, key, value)]
    exact = F.scaled_dot_product_attention(*wide, attn_mask=mask.float())
    places = slice(text, text + image)
    split = attend(query, key, value, bias, places, slice(0, text), size**-0.5)
    masked = F.scaled_dot_product_attention(query, key, value, attn_mask=mask)
    found = [float((one.float() - exact).abs().max()) for one in (split, masked)]
    return found[0], found[1]
