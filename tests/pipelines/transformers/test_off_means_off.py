"""Off means off on the transformer families, end to end through their stock pipelines; and on is on."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from pipelines.attention.kernel import Kernel, Site
from pipelines.attention.tap import installed
from pipelines.engine import Engine
from pipelines.methods.negtome import Spread
from pipelines.pictures import PictureStore
from tests.pipelines import tiny
from tests.pipelines import tiny_transformers as tt
from tests.pipelines.runs import sampled
from tests.pipelines.transformers.runs import GUIDED, collage, stock, text


class TestOffMeansOff:
    def test_text_to_image(self, engine: Engine, store: PictureStore, model: str) -> None:
        ours = tiny.pictures(engine, text(model), store)[0]
        assert np.array_equal(ours, stock(engine.load(model), text(model)))
        assert ours.std() > 5, "a flat picture would be equal to anything"

    def test_image_to_image(self, engine: Engine, store: PictureStore, model: str) -> None:
        strengths: dict[str, Any] = {
            "car": {"harmonize": 0.75},
            "cat": {"harmonize": 0.75},
            "background_harmonize": 0.75,
        }
        request = collage(store, model, **strengths)
        ours = tiny.pictures(engine, request, store)[0]
        assert tiny.moved(ours, tiny.pictures(engine, text(model), store)[0]) > 1
        assert np.array_equal(ours, stock(engine.load(model), request, tiny.picture(1)))
        strengths["cat"] = {"harmonize": 0.25}
        on = tiny.pictures(engine, collage(store, model, **strengths), store)[0]
        assert tiny.moved(ours[tiny.CAT == 255], on[tiny.CAT == 255]) > 1

    def test_no_guidance(self, engine: Engine, store: PictureStore, model: str) -> None:
        request = text(model, guidance=0.0 if model == "zimage" else 1.0)
        ours = tiny.pictures(engine, request, store)[0]
        assert np.array_equal(ours, stock(engine.load(model), request))
        guided = tiny.pictures(engine, request.replace(guidance=3.5), store)[0]
        # schnell is not told its guidance
        assert np.array_equal(ours, guided) == (model == "schnell")
        assert model not in GUIDED or tiny.moved(ours, guided) > 0.5

    @pytest.mark.parametrize("model", GUIDED)
    @pytest.mark.parametrize("from_picture", [False, True])
    def test_a_negative_prompt(
        self, engine: Engine, store: PictureStore, model: str, from_picture: bool
    ) -> None:
        flat = {"collage": store.put(tiny.picture(1)), "background_harmonize": 0.75} if from_picture else {}
        request = text(model, negative_prompt="a cat", **flat)
        ours = tiny.pictures(engine, request, store)[0]
        assert np.array_equal(
            ours, stock(engine.load(model), request, tiny.picture(1) if from_picture else None)
        )
        without = tiny.pictures(engine, request.replace(negative_prompt=""), store)[0]
        assert tiny.moved(ours, without) > 0.05

    def test_a_distilled_klein(self, engine: Engine, store: PictureStore) -> None:
        """One call a step whatever the guidance, and no negative branch: spread by guidance is the push."""
        pipe = tt.klein()
        pipe.register_to_config(is_distilled=True)
        own = Engine(preview_seconds=1e9)
        loaded, request = own.adopt("klein", pipe, tt.card_for("klein")), text("klein")
        calls: list[int] = []
        handle = pipe.transformer.register_forward_pre_hook(lambda *_: calls.append(1))
        ours = tiny.pictures(own, request, store)[0]
        handle.remove()
        assert len(calls) == request.steps
        assert np.array_equal(ours, stock(loaded, request))
        assert np.array_equal(ours, tiny.pictures(own, request.replace(guidance=1.0), store)[0])
        assert tiny.moved(ours, tiny.pictures(engine, request, store)[0]) > 0.5, "the base model's is another"
        told = request.replace(images=2, spread=1.0, spread_threshold=0.0, window=1.0)
        by = [tiny.pictures(own, told.replace(spread_by=way), store)[0] for way in ("guidance", "push")]
        assert np.array_equal(*by) and tiny.moved(by[0], ours) > 0.02

    def test_tapped_with_empty_slots(self, engine: Engine, store: PictureStore, model: str) -> None:
        loaded = engine.load(model)
        seen: list[Site] = []

        def nothing(site: Site, *_: Any) -> None:
            seen.append(site)

        kernel = Kernel([nothing], [lambda site, out: out])
        with installed(loaded.pipe.transformer, kernel, loaded.family.site) as count:
            tapped = stock(loaded, text(model))
        assert np.array_equal(tapped, stock(loaded, text(model)))
        assert count >= 2 and len(seen) >= 4 * count and all(site.joint for site in seen)

    def test_unreachable_threshold(self, engine: Engine, store: PictureStore, model: str) -> None:
        """Installed and asked in each call: with one image in the call the same arithmetic to the last bit."""
        loaded, request = engine.load(model), text(model, spread=2.0, spread_threshold=1.0, window=1.0)
        plain = sampled(loaded, request, store, [])
        assert np.array_equal(plain[0], sampled(loaded, request, store, [Spread()])[0])
        two = sampled(loaded, request, store, [], range(2))
        off = sampled(loaded, request, store, [Spread()], range(2))
        on = sampled(loaded, request.replace(spread_threshold=0.0), store, [Spread()], range(2))
        assert all(np.array_equal(a, b) for a, b in zip(two, off, strict=True))
        assert min(tiny.moved(a, b) for a, b in zip(two, on, strict=True)) > 0.02

    def test_attention_moves_the_picture(self, engine: Engine, store: PictureStore, model: str) -> None:
        off = tiny.pictures(engine, collage(store, model), store)[0]
        strong = {"attend_inside": 1.0, "attend_outside": 1.0}
        on = tiny.pictures(engine, collage(store, model, car=strong), store)[0]
        both = tiny.pictures(engine, collage(store, model, car=strong, attend_both_ways=True), store)[0]
        assert tiny.moved(off, on) > 0.01 and not np.array_equal(on, both)
