"""NegToMe's rule: who is matched with whom, and which way the push goes."""

from __future__ import annotations

import pytest
import torch

from pipelines.methods.negtome import CHUNK, match, push
from tests.pipelines.methods.merging import tokens


class TestMatch:
    @pytest.mark.parametrize("axis", ["source", "released"])
    def test_shuffled_copy(self, axis: str) -> None:
        """A shuffled copy is matched right along the reference; the released axis finds the inverse shuffle."""
        reference = tokens()
        order = torch.randperm(64, generator=torch.Generator().manual_seed(1))
        _, index = match(reference[order], reference, axis=axis)
        if axis == "source":
            assert torch.equal(index, order)
        else:
            assert torch.equal(index, order.argsort())
            assert (index == order).float().mean() < 0.1

    def test_cosine_ignores_length(self) -> None:
        reference = tokens()
        similarity, index = match(reference * 5, reference * torch.linspace(0.1, 9, 64)[:, None])
        assert torch.equal(index, torch.arange(64)) and torch.allclose(similarity, torch.ones(64), atol=1e-5)

    def test_chunks_change_nothing(self) -> None:
        source, reference = tokens(CHUNK + 200, 8), tokens(90, 8, 1)
        whole = (
            torch.nn.functional.normalize(source, dim=-1) @ torch.nn.functional.normalize(reference, dim=-1).T
        )
        similarity, index = match(source, reference)
        assert torch.equal(index, whole.max(-1).indices)
        assert torch.allclose(similarity, whole.max(-1).values, atol=1e-6)

    def test_only_allowed_tokens_are_found(self) -> None:
        reference, allowed = tokens(), torch.arange(64) < 10
        _, index = match(tokens(seed=2), reference, allowed)
        assert index.max() < 10
        assert match(tokens(seed=2), reference)[1].max() >= 10
        none = push(tokens(seed=2), reference, 1.0, 0.0, torch.zeros(64, dtype=torch.bool))
        assert none.abs().max() == 0


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
class TestHalfPrecision:
    def test_it_is_matched_in_float32(self, dtype: torch.dtype) -> None:
        source, reference = tokens(CHUNK + 200).to(dtype), tokens(300, seed=1).to(dtype)
        for found, wide in zip(
            match(source, reference), match(source.float(), reference.float()), strict=True
        ):
            assert torch.equal(found, wide)
        for found, wide in zip(
            match(source[:300], reference, axis="released"),
            match(source[:300].float(), reference.float(), axis="released"),
            strict=True,
        ):
            assert torch.equal(found, wide)
        assert push(source, reference, 1.0, 0.0).dtype == dtype

    @pytest.mark.parametrize("axis", ["source", "released"])
    def test_a_token_of_zeros_is_nobodys_match(self, dtype: torch.dtype, axis: str) -> None:
        source, reference = tokens().to(dtype), tokens(seed=1).to(dtype)
        reference[5], source[7] = 0, 0
        similarity, index = match(source, reference, axis=axis)
        assert similarity.isfinite().all()
        moved = push(source, reference, 1.0, 0.1, axis=axis).abs().sum(1) > 0
        assert int(moved.sum()) > 50, "one token blinds no other"
        if axis == "source":
            assert not (index == 5).any() and not moved[7]

    def test_large_features_are_matched(self, dtype: torch.dtype) -> None:
        """Each number is within float16, the length of a token is not."""
        features = (20_000 * tokens().sign()).to(dtype)
        assert (match(features, features)[0] > 0.999).all()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
@pytest.mark.parametrize("axis", ["source", "released"])
def test_a_threshold_of_1_is_off(dtype: torch.dtype, axis: str) -> None:
    """Also for features that are parallel, whose cosine rounding leaves a little above 1."""
    source = tokens(256, 640).to(dtype)
    for scale in (0.5, 1.0, 2.0, 3.0):
        assert match(source, source * scale, axis=axis)[0].max() <= 1
        assert push(source, source * scale, 1.0, 1.0, axis=axis).abs().max() == 0


class TestPush:
    def test_formula_and_sign(self) -> None:
        source, reference = tokens(), tokens(seed=1)
        index = match(source, reference)[1]
        moved = source + push(source, reference, 0.5, -1.0)
        assert torch.allclose(moved, 1.5 * source - 0.5 * reference[index], atol=1e-6)

        def cosine(x: torch.Tensor) -> torch.Tensor:
            return torch.nn.functional.cosine_similarity(x, reference[index], dim=-1)

        assert (cosine(moved) < cosine(source)).all(), "a positive alpha pushes away"
        assert (cosine(source + push(source, reference, -0.5, -1.0)) > cosine(source)).all()

    def test_threshold(self) -> None:
        source, reference = tokens(), tokens(seed=1)
        similarity, _ = match(source, reference)
        middle = float(similarity.median())
        moved = push(source, reference, 1.0, middle).abs().sum(1) > 0
        assert torch.equal(moved, similarity > middle) and 0 < int(moved.sum()) < 64
        assert push(source, reference, 1.0, 1.01).abs().max() == 0
        assert push(source, reference, 0.0, -1.0).abs().max() == 0
