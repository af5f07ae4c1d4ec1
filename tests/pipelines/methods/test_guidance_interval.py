"""The guidance interval: where it begins and ends, what is left outside, and what then happens to avoid."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from pipelines.attention.kernel import Kernel
from pipelines.engine import Engine
from pipelines.methods import methods_for
from pipelines.methods.base import Inputs
from pipelines.methods.guidance_interval import GuidanceInterval, guided, unguided
from pipelines.pictures import PictureStore
from pipelines.request import MAX_LEVEL
from pipelines.schedulers import SIGMA_LIMIT, ratio
from tests.pipelines import tiny

NEVER, ALWAYS = (0.0, 1e-6), (0.0, MAX_LEVEL)


class TestPlaces:
    def test_bounds(self) -> None:
        one = (0.5**0.5, 0.5**0.5)  # sigma / alpha = 1
        assert guided(one, (0.5, 1.5)) and not guided(one, (1.5, 2.0)) and not guided(one, (0.0, 0.5))
        assert guided((0.5, 0.5), (0.5, 1.0)) and not guided((0.5, 0.5), (1.0, 2.0)), (
            "the upper bound belongs to it"
        )
        assert guided((0.0, 1.0), (1.0, MAX_LEVEL)) and not guided((0.0, 1.0), (1.0, 14.0))
        assert MAX_LEVEL == SIGMA_LIMIT

    def test_unguided(self) -> None:
        rows = torch.arange(6.0)[:, None]
        assert unguided(rows, [2, 3], [[0, 1], [2, 3]])[:, 0].tolist() == [2, 3, 2, 3, 4, 5], (
            "what follows stays"
        )
        assert unguided(list(rows), [0], [[0], [1]])[1].item() == 0


class TestRuns:
    def test_off_and_everywhere_are_bit_identical(
        self, engine: Engine, store: PictureStore, model: str
    ) -> None:
        off = tiny.text_request(model)
        assert methods_for(off) == []
        [plain] = tiny.pictures(engine, off, store)
        [everywhere] = tiny.pictures(engine, off.replace(guidance_interval=ALWAYS), store)
        assert np.array_equal(plain, everywhere)
        levels = [ratio(level) for level in tiny.run_of(engine, off, store).levels[:-1]]
        middle = (levels[1] + levels[2]) / 2
        for interval in ((0.0, middle), (middle, MAX_LEVEL)):
            [part] = tiny.pictures(engine, off.replace(guidance_interval=interval), store)
            assert tiny.moved(part, plain) > 0.05

    def test_outside_it_is_a_run_without_guidance(
        self, engine: Engine, store: PictureStore, model: str
    ) -> None:
        request = tiny.text_request(model)
        [never] = tiny.pictures(engine, request.replace(guidance_interval=NEVER), store)
        [unguided_run] = tiny.pictures(engine, request.replace(guidance=1.0), store)
        assert int(np.abs(never.astype(int) - unguided_run).max()) <= 1, (
            "but for the last bits of another batch"
        )
        [plain] = tiny.pictures(engine, request, store)
        assert tiny.moved(plain, unguided_run) > 0.1

    def test_where_there_is_no_guidance_features_are_pushed_as_far_as_it_would_pull_them(
        self, engine: Engine, store: PictureStore
    ) -> None:
        request = tiny.text_request(window=1.0, guidance_interval=NEVER, images=2)
        run = tiny.run_of(engine, request, store)
        method = GuidanceInterval()
        method.begin(run, Kernel())
        step = tiny.step_of(run, 0)
        assert (step.steering, step.steers) == (3, True)
        method.before_forward(step, Inputs(torch.zeros(0), {}))
        assert (step.steering, step.steers) == (3, False)

        def avoiding(alpha: float) -> dict[str, Any]:
            return {"avoids": (tiny.avoid(store, alpha=alpha),)}

        for guided_run, pushed_run in (
            ({"spread": 2.25}, {"spread": 0.75, "spread_by": "push"}),
            (avoiding(2.25), {**avoiding(0.75), "avoid_by": "push"}),
        ):
            runs = ({}, guided_run, pushed_run)
            plain, *by = (tiny.pictures(engine, request.replace(**one), store) for one in runs)
            assert all(np.array_equal(*pair) for pair in zip(*by, strict=True))
            assert tiny.moved(by[0][0], plain[0]) > 0.1
