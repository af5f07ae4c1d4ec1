"""The kernel: two empty slots are the stock call; filled, they do what they say."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from pipelines.attention.kernel import Joint, Kernel, Site

CROSS, OWN = Site(cross=True, part="up"), Site(cross=False, part="up")


@pytest.fixture
def qkv() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return tuple(torch.randn(2, 3, n, 8, generator=generator) for n in (16, 11, 11))  # type: ignore[return-value]


def test_empty_slots_are_the_stock_call(qkv: Any) -> None:
    stock = torch.nn.functional.scaled_dot_product_attention(*qkv)
    assert torch.equal(Kernel().attend(CROSS, *qkv), stock)
    silent = Kernel([lambda *_: None], [lambda site, out: out])
    assert torch.equal(silent.attend(CROSS, *qkv), stock)


def test_biases_add_up_and_maps_follow_one_another(qkv: Any) -> None:
    query, key, value = qkv
    bias = torch.randn(2, 1, 16, 11, generator=torch.Generator().manual_seed(1))
    twice = Kernel([lambda *_: bias, lambda *_: bias], [lambda site, out: out + 1, lambda site, out: out * 2])
    logits = query @ key.transpose(-1, -2) * 8**-0.5 + 2 * bias
    expected = (logits.softmax(-1) @ value + 1) * 2
    assert torch.allclose(twice.attend(CROSS, *qkv), expected, atol=1e-5)
    assert not torch.allclose(Kernel().attend(CROSS, *qkv), expected, atol=1e-2)


def test_slots_learn_site_and_scale(qkv: Any) -> None:
    seen: list[tuple[Site, float]] = []

    def note(site: Site, query: torch.Tensor, key: torch.Tensor, scale: float) -> None:
        seen.append((site, scale))

    kernel = Kernel([note])
    kernel.attend(OWN, *qkv)
    kernel.attend(CROSS, *qkv, scale=0.25)
    assert seen == [(OWN, 8**-0.5), (CROSS, 0.25)]


@pytest.mark.parametrize("dtype", [torch.bool, torch.float32])
def test_padding_masks_are_kept(qkv: Any, dtype: torch.dtype) -> None:
    """A slot that pulls towards forbidden keys does not reach them."""
    allowed = torch.ones(2, 1, 1, 11, dtype=torch.bool)
    allowed[..., 7:] = False
    mask = allowed if dtype == torch.bool else torch.zeros(allowed.shape).masked_fill(~allowed, float("-inf"))
    bias = torch.zeros(2, 1, 16, 11)
    bias[..., 9] = 50.0
    query, key, value = qkv
    out = Kernel([lambda *_: bias]).attend(CROSS, query, key, value, attn_mask=mask)
    short = torch.nn.functional.scaled_dot_product_attention(query, key[:, :, :7], value[:, :, :7])
    assert torch.allclose(out, short, atol=1e-6)
    free = Kernel([lambda *_: bias]).attend(CROSS, query, key, value)
    assert torch.allclose(free, value[:, :, 9:10].expand_as(free), atol=1e-4)


def test_a_hard_bias_gives_exactly_no_attention(qkv: Any) -> None:
    """−10⁴ on three keys over half the places: what those keys carry does not arrive there at all."""
    query, key, value = qkv
    bias = torch.zeros(2, 1, 16, 11)
    bias[1, :, :8, 3:6] = -1e4
    kernel = Kernel([lambda *_: bias])
    other = value.clone()
    other[:, :, 3:6] += 100.0
    one, two = kernel.attend(CROSS, query, key, value), kernel.attend(CROSS, query, key, other)
    assert torch.equal(one[1, :, :8], two[1, :, :8])
    assert (one[1, :, 8:] - two[1, :, 8:]).abs().min() > 0
    assert torch.equal(one[0], Kernel().attend(CROSS, query, key, value)[0])


def test_a_joint_site_leaves_a_call_over_other_keys_alone(qkv: Any) -> None:
    """As an IP-Adapter's: 16 places of the picture look at 11 keys of another."""
    site = Site(cross=False, part="double", joint=Joint(text_first=True))
    looked: list[int] = []
    bias = torch.randn(11, 11, generator=torch.Generator().manual_seed(1))
    loud = Kernel([lambda *_: bias], [lambda site, out: out * 2], [lambda *_: looked.append(1)])
    query, key, value = qkv
    stock = torch.nn.functional.scaled_dot_product_attention
    assert torch.equal(loud.attend(site, query, key, value), stock(query, key, value)) and not looked
    short = query[:, :, :11]
    assert torch.equal(loud.attend(site, short, key, value), 2 * stock(short, key, value, bias))
    assert looked == [1]
