"""Keys split and merged by log-sum-exp are the masked call: for every layout, and in whole runs."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from pipelines.attention.kernel import Joint, Kernel, Site
from pipelines.engine import Engine
from pipelines.families import families
from pipelines.pictures import PictureStore
from tests.benchmarks import split
from tests.pipelines import tiny
from tests.pipelines import tiny_transformers as tt
from tests.pipelines.runs import sampled

LATENT, TEXT, SCALE = (8, 12), 11, 16**-0.5
JOINTS = {kind().joint for kind in families().values() if hasattr(kind, "joint")}


def qkv(places: int, keys: int | None = None) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    lengths = places, keys or places, keys or places
    return tuple(torch.randn(2, 3, n, 16, generator=generator) for n in lengths)  # type: ignore[return-value]


def bias_of(places: int, keys: int) -> torch.Tensor:
    """A strong bias on every third key, none in the first row, which stands for one without guidance."""
    bias = 4 * torch.randn(2, 1, places, keys, generator=torch.Generator().manual_seed(1))
    bias[..., 1::3] = 0
    bias[0] = 0
    return bias


def masked(bias: torch.Tensor, queries: slice, keys: slice, size: tuple[int, int]) -> torch.Tensor:
    """The mask that a bias is in."""
    mask = torch.zeros(2, 1, *size)
    mask[:, :, queries, keys] = bias
    return mask


def test_the_layouts_are_all_there() -> None:
    """Text first or last, cells of one or two, padded or not: what the families have."""
    assert {(one.text_first, one.patch, one.align) for one in JOINTS} == {
        (True, 2, 1),
        (True, 1, 1),
        (False, 2, 1),
        (False, 2, 32),
    }


@pytest.mark.parametrize("joint", sorted(JOINTS, key=repr), ids=repr)
def test_a_split_is_the_masked_call(joint: Joint) -> None:
    """The kernel itself, with a slot that answers as layer attention does."""
    h, w = joint.grid(LATENT)
    tokens = TEXT + (h * w if joint.text_first else joint.text_start(LATENT))
    image, start = joint.image(tokens, LATENT), joint.text_start(LATENT)
    text = slice(start, start + TEXT)
    query, key, value = qkv(tokens)
    bias = bias_of(h * w, TEXT)
    mask = masked(bias, image, text, (tokens, tokens))

    def slot(site: Site, query: torch.Tensor, key: torch.Tensor, scale: float) -> torch.Tensor:
        return bias if site.cross else mask

    site = Site(cross=False, part="double", joint=joint)
    native = Kernel([slot]).attend(site, query, key, value)
    kernel = split.SplitKernel([slot], [lambda site, out: out + 1], latent_size=LATENT)
    assert torch.allclose(kernel.attend(site, query, key, value) - 1, native, atol=1e-5)
    plain = F.scaled_dot_product_attention(query, key, value)
    assert not torch.allclose(native, plain, atol=0.1), "the bias acts"
    assert torch.allclose(native[0], plain[0], atol=1e-5), "but not in a row without one"


@pytest.mark.parametrize("keys", [slice(0, 11), slice(0, 4), slice(3, 6), slice(7, 11)], ids=repr)
def test_cross_attention_too(keys: slice) -> None:
    """Some words of cross-attention, wherever they stand, seen by all places or by some."""
    query, key, value = qkv(20, TEXT)
    for queries in (slice(0, 20), slice(5, 14)):
        bias = bias_of(queries.stop - queries.start, keys.stop - keys.start)
        exact = F.scaled_dot_product_attention(
            query, key, value, attn_mask=masked(bias, queries, keys, (20, TEXT))
        )
        found = split.attend(query, key, value, bias, queries, keys, SCALE)
        assert torch.allclose(found, exact, atol=1e-5)
        assert not torch.allclose(found, F.scaled_dot_product_attention(query, key, value), atol=0.1)


def test_the_sums_are_log_sum_exp() -> None:
    query, key, value = qkv(20, TEXT)
    bias = bias_of(20, TEXT)
    logits = query @ key.transpose(-1, -2) * SCALE
    for given in (None, bias):
        out, sums = split.part(query, key, value, SCALE, given)
        expected = logits if given is None else logits + given
        assert torch.allclose(sums, expected.logsumexp(-1), atol=1e-5)
        assert torch.allclose(out, expected.softmax(-1) @ value, atol=1e-5)


def test_a_hard_bias_gives_exactly_no_attention() -> None:
    query, key, value = qkv(20, TEXT)
    bias = torch.zeros(2, 1, 20, 4)
    bias[..., 1:] = -1e4
    other = value.clone()
    other[:, :, 4:7] += 100
    one, two = (
        split.attend(query, key, held, bias, slice(0, 20), slice(3, 7), SCALE) for held in (value, other)
    )
    assert torch.equal(one, two)
    other[:, :, 3] += 100
    assert not torch.allclose(
        one, split.attend(query, key, other, bias, slice(0, 20), slice(3, 7), SCALE), atol=1
    )


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_cuda_kernels_are_called_as_torch_has_them(dtype: torch.dtype) -> None:
    """Off the CPU other operations answer; on the meta device their arguments and shapes hold."""
    query, key, value = (torch.empty(2, 3, n, 64, device="meta", dtype=dtype) for n in (44, 33, 33))
    for bias in (None, torch.empty(2, 1, 44, 33, device="meta", dtype=dtype)):
        out, sums = split.part(query, key, value, 0.125, bias)
        assert out.shape == (2, 3, 44, 64) and out.dtype == dtype
        assert sums.shape == (2, 3, 44) and sums.dtype == torch.float32


def test_differences_are_those_of_the_number_type() -> None:
    found, native = split.differences(torch.device("cpu"), torch.float32, (7, 24), 16)
    assert found < 1e-5 and native == 0
    found, native = split.differences(torch.device("cpu"), torch.bfloat16, (7, 24), 16)
    assert 0 < found < 4 * native < 0.2


@pytest.mark.parametrize("model", ["flux", "sd3", "flux2"])
def test_whole_runs_are_the_same(model: str, monkeypatch: pytest.MonkeyPatch) -> None:
    store = PictureStore()
    loaded = Engine().adopt(model, tt.KINDS[model](), tt.card_for(model))
    both = {"harmonize": 1.0, "attend_inside": 1.0, "attend_outside": 1.0}
    words: dict[str, Any] = {"scheduler": "flow_euler", "steps": 2, "guidance": loaded.card.guidance}
    request = tiny.collage_request(store, model, car=both, cat=both, background_harmonize=1.0, **words)
    native = sampled(loaded, request, store)[0]
    calls: list[slice] = []

    def counted(*args: Any) -> torch.Tensor:
        calls.append(args[4])
        return attend(*args)

    attend = split.attend
    monkeypatch.setattr(split, "attend", counted)
    with split.splitting((tiny.SIDE // loaded.card.factor, tiny.SIDE // loaded.card.factor)):
        found = sampled(loaded, request, store)[0]
    assert len(calls) == 2 * 2, "two steps of two blocks"
    assert np.abs(found.astype(int) - native).max() <= 1
    quiet = {"attend_inside": 0.0, "attend_outside": 0.0, "harmonize": 1.0}
    off = tiny.collage_request(store, model, car=quiet, cat=quiet, background_harmonize=1.0, **words)
    assert tiny.moved(native, sampled(loaded, off, store)[0]) > 20 * tiny.moved(native, found)
    sampled(loaded, request, store)
    assert len(calls) == 4, "outside, the native mask is back"
