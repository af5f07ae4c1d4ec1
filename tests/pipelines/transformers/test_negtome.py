"""NegToMe in joint attention: image tokens alone, windows, reference rows."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from pipelines.engine import Engine
from pipelines.errors import UnsupportedError
from pipelines.methods import methods_for
from pipelines.methods.base import Inputs, Step
from pipelines.methods.negtome import Spread
from pipelines.methods.reference_rows import ReferenceRows
from pipelines.pictures import PictureStore
from tests.pipelines import tiny
from tests.pipelines import tiny_transformers as tt
from tests.pipelines.runs import sampled
from tests.pipelines.spies import WatchedAvoid, WatchedSpread, first_distance
from tests.pipelines.transformers.runs import GUIDED, collage, text

WAYS = pytest.mark.parametrize(
    ("model", "by"), [*((model, "push") for model in tt.KINDS), *((model, "guidance") for model in GUIDED)]
)
"""Every family by push, and by guidance those that have a negative branch."""


class TestNegToMe:
    @pytest.mark.parametrize("width", [64, 96])
    def test_only_image_tokens_move(
        self, engine: Engine, store: PictureStore, model: str, width: int
    ) -> None:
        """In every kind of block that the family has."""
        loaded, method = engine.load(model), WatchedSpread()
        given = {"width": width, "images": 2, "window": 1.0}
        request = text(model, spread=1.0, spread_by="push", spread_threshold=0.0, **given)
        sampled(loaded, request, store, [method], range(2))
        assert len(method.checked) >= 8 and set(method.checked) == set(loaded.family.parts)

    def test_spread_by_guidance_moves_the_negative_rows_alone(
        self, engine: Engine, store: PictureStore, model: str
    ) -> None:
        """Also where guidance asks the denoiser twice a step; without a negative branch it is the push."""
        method = WatchedSpread()
        request = text(model, images=2, spread=1.0, spread_threshold=0.0, window=1.0)
        sampled(engine.load(model), request, store, [method], range(2))
        assert method.moved_rows[True] == 0
        assert (method.moved_rows[False] > 0) == (model in GUIDED)

    @pytest.mark.parametrize(("steps", "expected"), [(1, 1), (2, 1), (4, 1), (8, 2)])
    def test_the_window_is_never_empty(
        self, engine: Engine, store: PictureStore, model: str, steps: int, expected: int
    ) -> None:
        active: list[int] = []

        class Watched(Spread):
            def before_forward(self, step: Step, inputs: Inputs) -> None:
                super().before_forward(step, inputs)
                if self._step is not None:
                    active.append(step.index)

        if model == "qwen" and steps == 1:
            with pytest.raises(UnsupportedError, match="steps is 1"):
                tiny.pictures(engine, text(model, steps=1), store)
            return
        request = text(model, images=2, spread=1.0, steps=steps, window=0.25)
        sampled(engine.load(model), request, store, [Watched()], range(2))
        assert sorted(set(active)) == list(range(expected))

    def test_reference_rows_leave_no_trace_but_the_push(
        self, engine: Engine, store: PictureStore, model: str
    ) -> None:
        """With a threshold that nothing reaches, rows that ride along change no other row (but its last bits)."""
        loaded = engine.load(model)
        plain = tiny.pictures(engine, text(model), store)[0]
        off = text(model, avoids=(tiny.avoid(store, threshold=1.0), tiny.avoid(store, 8, threshold=1.0)))
        trace = tiny.moved(plain, tiny.pictures(engine, off, store)[0])
        on = text(model, avoids=(tiny.avoid(store),))
        by = {way: tiny.pictures(engine, on.replace(avoid_by=way), store)[0] for way in ("push", "guidance")}
        assert trace < 0.05 and tiny.moved(plain, by["push"]) > max(0.1, 4 * trace)
        assert tiny.moved(plain, by["guidance"]) > 0.05
        # a model whose guidance is distilled has no negative branch to pull
        assert np.array_equal(by["push"], by["guidance"]) == (model not in GUIDED)
        rows: list[int] = []

        def note(module: Any, args: Any, kwargs: Any) -> None:
            rows.append(loaded.family.read(module, args, kwargs).sample.shape[0])

        request = text(model, avoids=(tiny.avoid(store),), window=0.5)
        two_calls = loaded.family.two_calls
        handle = loaded.pipe.transformer.register_forward_hook(
            lambda m, a, k, o: note(m, a, k), with_kwargs=True
        )
        try:
            sampled(loaded, request, store, methods_for(request))
        finally:
            handle.remove()
        a_step = len(rows) // 4
        assert a_step == (2 if two_calls else 1)
        # the prompt's own call has no row that moves
        added = [row - later for row, later in zip(rows[: 2 * a_step], rows[2 * a_step :], strict=True)]
        assert added == ([0, 1, 0, 1] if two_calls else [1, 1]), "and the rows leave after the window"

    @WAYS
    def test_an_avoid_in_a_layer_moves_features_there_alone(
        self, engine: Engine, store: PictureStore, model: str, by: str
    ) -> None:
        method = WatchedAvoid()
        request = collage(store, model, avoids=(tiny.avoid(store, layer=0),), avoid_by=by)
        sampled(engine.load(model), request, store, [ReferenceRows(), method])
        assert method.inside and all(method.inside)

    @WAYS
    @pytest.mark.parametrize("word", ["spread", "avoid"])
    def test_spread_and_avoid_lead_away(
        self, engine: Engine, store: PictureStore, model: str, by: str, word: str
    ) -> None:
        """Image tokens are further from what they are led from, and nearer with alpha < 0; by guidance it is the
        negative rows, and the other way round.
        """

        def distance(alpha: float) -> float:
            asked: dict[str, Any] = (
                {"images": 2, "spread": alpha, "spread_by": by, "spread_threshold": 0.0}
                if word == "spread"
                else {"avoids": (tiny.avoid(store, alpha=alpha),), "avoid_by": by}
            )
            request = text(model, steps=2, **{**asked, "guidance": 2.0})
            return first_distance(engine.load(model), request, store)

        away, off, near = distance(0.8), distance(1e-9), distance(-0.8)
        if by == "guidance":
            away, near = near, away
        assert near < 0.9 * off and 1.2 * off < away
