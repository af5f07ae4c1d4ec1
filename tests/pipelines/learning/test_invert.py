"""Textual inversion on tiny models: the loss falls, inside the mask, and only the look's own vectors move."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from pipelines.engine import Loaded
from pipelines.learning import invert
from pipelines.learning.invert import Learned, _Learned, learn, masked_loss, target_of
from pipelines.schedulers import predicted_clean
from tests.pipelines.learning.conftest import CUTOUT, rows_of, same, state


def nothing(step: int, steps: int) -> None:
    """Nobody watches."""


def learned(
    loaded: Loaded,
    steps: int,
    cutout: np.ndarray = CUTOUT,
    say: Callable[[int, int], None] = nothing,
    words: str = "cat",
) -> Learned:
    begin = rows_of(loaded, words)
    phrase = "red <look-0>"
    return learn(loaded.pipe, loaded.family, loaded.card, cutout, phrase, "<look-0>", begin, steps, say)


class TestLoss:
    def test_what_is_outside_the_mask_counts_nothing(self) -> None:
        one, target = torch.randn(2, 4, 8, 8), torch.randn(2, 4, 8, 8)
        mask = torch.zeros(2, 1, 8, 8)
        mask[0, :, :4], mask[1, :, 6:] = 1, 1
        loss = masked_loss(one, target, mask)
        other = torch.where(mask > 0, one, one + 100)
        assert torch.equal(masked_loss(other, target, mask), loss)
        assert not torch.equal(masked_loss(torch.where(mask > 0, one + 1, one), target, mask), loss)
        assert loss[0].item() == pytest.approx((one[0] - target[0])[:, :4].square().mean().item(), rel=1e-5)

    def test_a_small_cutout_counts_as_much_as_a_large_one(self) -> None:
        mask = torch.zeros(2, 1, 8, 8)
        mask[0], mask[1, :, 0, 0] = 1, 1
        assert masked_loss(torch.ones(2, 4, 8, 8), torch.zeros(2, 4, 8, 8), mask).tolist() == [1, 1]

    def test_half_covered_cells_count_half(self) -> None:
        error = torch.zeros(1, 1, 1, 2)
        error[..., 0] = 2.0
        mask = torch.tensor([0.5, 1.0]).reshape(1, 1, 1, 2)
        assert masked_loss(error, torch.zeros_like(error), mask).item() == pytest.approx(4 * 0.5 / 1.5)

    @pytest.mark.parametrize("prediction", ["epsilon", "v_prediction", "flow", "sample"])
    def test_a_right_prediction_means_the_clean_latents(self, prediction: str) -> None:
        clean, noise = torch.randn(1, 4, 8, 8), torch.randn(1, 4, 8, 8)
        alpha = 0.4 if prediction == "flow" else 0.8
        sigma = 0.6
        level = torch.tensor([alpha, sigma]).reshape(2, 1, 1, 1, 1)
        output = target_of(clean, noise, level, prediction)
        noisy = alpha * clean + sigma * noise
        found = predicted_clean(noisy, output, (alpha, sigma), prediction, exploding=False)
        assert torch.allclose(found, clean, atol=1e-5)


def test_the_loss_falls(loaded: Loaded, monkeypatch: pytest.MonkeyPatch) -> None:
    """Against vectors that stay where they begin, on the same views and noise, in the second half of the steps."""
    begin, steps = rows_of(loaded, "cat"), 16
    losses = {}
    for rate in (0.0, 0.1):
        monkeypatch.setattr(invert, "RATE", rate)
        found = learned(loaded, steps)
        losses[rate] = found.losses
        assert len(found.losses) == steps
        assert [one.shape for one in found.rows] == [one.shape for one in begin]
        assert all(torch.equal(one, two) == (rate == 0) for one, two in zip(found.rows, begin, strict=True))
    assert losses[0.1][0] == losses[0.0][0]
    assert sum(losses[0.1][steps // 2 :]) < sum(losses[0.0][steps // 2 :])


def test_only_the_new_rows_have_a_gradient(velocity: Loaded) -> None:
    table = velocity.pipe.text_encoder.get_input_embeddings().weight.detach()
    part = _Learned(torch.cat([table, table[-2:]]), table[:2])
    ids = torch.tensor([[3, len(table), 5, len(table) + 1, len(table) + 1]])
    out = part(ids)
    assert torch.equal(out[0], torch.stack([table[3], table[0], table[5], table[1], table[1]]))
    out.sum().backward()
    assert [name for name, _ in part.named_parameters()] == ["rows"]
    assert part.rows.grad is not None
    assert part.rows.grad.mean(1).tolist() == pytest.approx([1.0, 2.0])


def test_nothing_of_the_model_moves(loaded: Loaded) -> None:
    before = state(loaded)
    seen: list[Any] = []

    def say(step: int, steps: int) -> None:
        seen.append((step, steps))
        asking = [part for part in loaded.family.denoiser(loaded.pipe).parameters() if part.requires_grad]
        assert asking == []

    learned(loaded, 2, say=say)
    assert seen == [(1, 2), (2, 2)]
    assert same(before, state(loaded))


def test_a_stop_leaves_no_trace(loaded: Loaded) -> None:
    before = state(loaded)

    def stop(step: int, steps: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        learned(loaded, 2, say=stop)
    assert same(before, state(loaded))


@pytest.mark.parametrize("noise", [0.0, 1.0])
def test_what_is_shown_is_as_noisy_as_its_time_says(
    velocity: Loaded, monkeypatch: pytest.MonkeyPatch, noise: float
) -> None:
    """One of the clean views where there is no noise, and nothing of any where there is only noise."""
    views: list[torch.Tensor] = []
    shown: list[torch.Tensor] = []
    made, stock = invert._views, velocity.family.predict

    def encoded(*given: Any) -> tuple[torch.Tensor, torch.Tensor]:
        clean, masks = made(*given)
        views.append(clean)
        return clean, masks

    def predicted(pipe: Any, noisy: torch.Tensor, *given: Any) -> torch.Tensor:
        shown.append(noisy.detach())
        return stock(pipe, noisy, *given)

    monkeypatch.setattr(invert, "_views", encoded)
    monkeypatch.setattr(velocity.family, "predict", predicted)
    monkeypatch.setattr(velocity.family, "moment", lambda pipe, share: (500.0, (1 - noise, noise)))
    learned(velocity, 1)
    nearest = [(views[0] - one).abs().amax((1, 2, 3)).min().item() for one in shown[0]]
    assert (max(nearest) == 0) if noise == 0 else (min(nearest) > 0.5)


def test_where_memory_is_scarce_it_is_computed_again(loaded: Loaded, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same vectors, with fewer numbers kept for the way back; afterwards the denoiser is as it was."""
    kept: list[int] = []

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        kept[-1] += tensor.numel()
        return tensor

    found = []
    for scarce in (False, True):
        monkeypatch.setattr(invert, "scarce", lambda device, scarce=scarce: scarce)
        kept.append(0)
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            found.append(learned(loaded, 1))
    for one, two in zip(found[0].rows, found[1].rows, strict=True):
        assert torch.allclose(one, two, rtol=1e-4, atol=1e-6)
    assert kept[1] < 0.8 * kept[0]
    assert not loaded.family.denoiser(loaded.pipe).is_gradient_checkpointing


def test_what_is_transparent_decides_nothing(velocity: Loaded) -> None:
    hidden = CUTOUT.copy()
    hidden[CUTOUT[..., 3] == 0, :3] = 99
    shown = CUTOUT.copy()
    shown[20:40, 20:30, :3] = 99
    one, two, three = (learned(velocity, 2, cutout) for cutout in (CUTOUT, hidden, shown))
    assert torch.equal(one.rows[0], two.rows[0]) and one.losses == two.losses
    assert not torch.equal(one.rows[0], three.rows[0])


def test_it_depends_on_no_outer_chance(velocity: Loaded) -> None:
    torch.manual_seed(1)
    one = learned(velocity, 2)
    torch.manual_seed(2)
    assert torch.equal(one.rows[0], learned(velocity, 2).rows[0])


def test_rates_follow_the_size_of_the_table(all_loaded: dict[str, Loaded]) -> None:
    """T5's numbers are fifty times CLIP's, and one rate for both would leave one of them where it was."""
    loaded = all_loaded["flux"]
    begin = rows_of(loaded, "cat")
    found = learned(loaded, 1)
    for one, two, (_, name) in zip(found.rows, begin, loaded.family.encoders, strict=True):
        table = getattr(loaded.pipe, name).get_input_embeddings().weight.detach()
        typical = table.square().mean().sqrt().item()
        # Adam's first step is the rate itself
        assert (one - two).abs().max().item() == pytest.approx(invert.RATE * typical, rel=0.02)
