"""CADS: how much of the condition is kept, what is added, whose rows it is, and that nothing else is touched."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from pipelines import sampling
from pipelines.attention.kernel import Kernel
from pipelines.engine import Engine
from pipelines.methods import methods_for
from pipelines.methods.base import Inputs, Method, Run, Step
from pipelines.methods.cads import Cads, disturbed, drawn, kept
from pipelines.pictures import PictureStore
from pipelines.request import RenderRequest
from tests.pipelines import tiny


def states(seed: int = 0) -> torch.Tensor:
    return 3 + 0.5 * torch.randn(20, 32, generator=torch.Generator().manual_seed(seed))


class Watch(Method):
    """Keeps the text and the sample of each denoiser call."""

    order = 9

    def begin(self, run: Run, kernel: Kernel) -> None:
        self.texts: list[torch.Tensor] = []
        self.samples: list[torch.Tensor] = []

    def before_forward(self, step: Step, inputs: Inputs) -> None:
        self.texts.append(inputs.kwargs["encoder_hidden_states"].clone())
        self.samples.append(inputs.sample.clone())


def watched(engine: Engine, request: RenderRequest, store: PictureStore, seeds: list[int]) -> Watch:
    watch, loaded = Watch(), engine.load(request.model)
    methods = [*methods_for(request), watch]
    sampling.sample(loaded.pipe, loaded.family, loaded.card, request, store, methods, seeds, lambda *_: None)
    return watch


class TestFormula:
    def test_kept(self) -> None:
        assert [kept(t, 0.6, 0.9) for t in (0, 0.6, 0.9, 1)] == [1, 1, 0, 0]
        assert kept(0.7, 0.6, 0.9) == pytest.approx(2 / 3)
        assert (kept(0.5, 0.5, 0.5), kept(0.51, 0.5, 0.5)) == (1, 0), "a step where both are one"

    def test_mean_and_deviation_come_back(self) -> None:
        y, noise = states(), torch.randn(20, 32, generator=torch.Generator().manual_seed(1))
        out = disturbed(y, noise, 0.5, 0.8, 1.0)
        assert torch.allclose(out.mean(), y.mean(), atol=1e-5) and torch.allclose(
            out.std(), y.std(), atol=1e-5
        )
        raw = disturbed(y, noise, 0.5, 0.8, 0.0)
        assert torch.allclose(raw, 0.5**0.5 * y + 0.8 * 0.5**0.5 * y.std() * noise, atol=1e-5)
        half = disturbed(y, noise, 0.5, 0.8, 0.5)
        assert torch.allclose(half, (out + raw) / 2, atol=1e-5)
        assert torch.allclose(disturbed(y, noise, 1.0, 0.8, 1.0), y, atol=1e-5)

    def test_more_is_farther(self) -> None:
        y, noise = states(), drawn(torch.Size((20, 32)), 1, 0)
        apart = [float((disturbed(y, noise, 0.5, s, 1.0) - y).norm()) for s in (0.1, 0.5, 2.0)]
        assert apart == sorted(apart) and apart[0] > 0.1

    def test_the_scale_of_the_condition_does_not_count(self) -> None:
        y, noise = states(), drawn(torch.Size((20, 32)), 1, 0)
        assert torch.allclose(
            disturbed(100 * y, noise, 0.3, 0.7, 1.0), 100 * disturbed(y, noise, 0.3, 0.7, 1.0)
        )
        assert disturbed(y.half(), noise, 0.3, 0.7, 1.0).dtype == torch.float16

    def test_noise_is_of_seed_and_step(self) -> None:
        size = torch.Size((4, 5))
        assert torch.equal(drawn(size, 3, 1), drawn(size, 3, 1))
        others = [drawn(size, 3, 2), drawn(size, 4, 1), drawn(size, 2**63 - 20, 1)]
        assert not any(torch.equal(drawn(size, 3, 1), other) for other in others)


class TestRuns:
    def request(self, model: str, **words: Any) -> RenderRequest:
        return tiny.text_request(model, **{"cads": 0.5, "steps": 5, **words})

    def test_only_the_prompts_rows_in_the_early_steps(
        self, engine: Engine, store: PictureStore, model: str
    ) -> None:
        on = watched(engine, self.request(model, images=2), store, [7, 8])
        off = watched(engine, self.request(model, images=2, cads=0.0), store, [7, 8])
        changed = [not torch.equal(a, b) for a, b in zip(on.texts, off.texts, strict=True)]
        assert changed == [True, True, False, False, False], "times 1, .8, .6, .4, .2"
        for a, b in zip(on.texts, off.texts, strict=True):
            assert torch.equal(a[:2], b[:2]), "the negative prompt"
        assert not torch.equal(on.texts[0][2], on.texts[0][3]), "each image has noise of its own"
        assert (on.texts[0][2:] - off.texts[0][2:]).abs().mean() > 0.1
        assert torch.equal(on.samples[0], off.samples[0]), "nothing is drawn from the sampler's generator"

    def test_an_image_alone_has_the_noise_it_has_in_a_batch(
        self, engine: Engine, store: PictureStore
    ) -> None:
        request = self.request("sd_noise", images=2)
        batch = watched(engine, request, store, [7, 8])
        alone = watched(engine, request, store, [8])
        assert torch.allclose(batch.texts[0][3], alone.texts[0][1], atol=1e-5)

    def test_off_is_bit_identical(self, engine: Engine, store: PictureStore) -> None:
        off = self.request("sd_noise", cads=0.0)
        assert methods_for(off) == []
        [plain] = tiny.pictures(engine, off, store)
        [late] = tiny.pictures(engine, self.request("sd_noise", cads_low=1.0, cads_high=1.0), store)
        assert np.array_equal(late, plain), "kept whole at all times"
        [on] = tiny.pictures(engine, self.request("sd_noise"), store)
        assert tiny.moved(on, plain) > 0.1
        assert [type(one) for one in methods_for(self.request("sd_noise"))] == [Cads]

    def test_a_late_start_has_less_of_it(self, engine: Engine, store: PictureStore) -> None:
        """A run from a picture begins at its place in the schedule, where the condition is nearly whole."""
        collage = tiny.collage_request(store, "sd_noise", steps=10, cads=0.5)
        on, off = (watched(engine, collage.replace(cads=s), store, [7]) for s in (0.5, 0.0))
        assert len(on.texts) == 6 and all(torch.equal(a, b) for a, b in zip(on.texts, off.texts, strict=True))
