"""What is off is not there: bit-identical to the stock pipeline; and on is on."""

from __future__ import annotations

import numpy as np
import pytest

from pipelines.engine import Engine
from pipelines.methods.negtome import Spread
from pipelines.pictures import PictureStore
from tests.pipelines import tiny
from tests.pipelines.engine.runs import stock
from tests.pipelines.runs import sampled


class TestOffMeansOff:
    @pytest.mark.parametrize(("model", "scheduler"), tiny.RUNS)
    def test_text_to_image_is_the_stock_pipeline(
        self, engine: Engine, store: PictureStore, model: str, scheduler: str
    ) -> None:
        request = tiny.text_request(model, scheduler=scheduler)
        ours = tiny.pictures(engine, request, store)[0]
        assert np.array_equal(ours, stock(engine.load(model).pipe, request))
        assert ours.std() > 5, "a flat picture would be equal to anything"

    @pytest.mark.parametrize(("model", "scheduler"), tiny.RUNS)
    def test_one_strength_is_stock_image_to_image(
        self, engine: Engine, store: PictureStore, model: str, scheduler: str
    ) -> None:
        request = tiny.collage_request(store, model, scheduler=scheduler)
        ours = tiny.pictures(engine, request, store)[0]
        assert np.array_equal(ours, stock(engine.load(model).pipe, request, tiny.picture(1), 0.6))

    def test_strengths_of_their_own_change_the_picture(
        self, engine: Engine, store: PictureStore, model: str
    ) -> None:
        request = tiny.collage_request(store, model, cat={"harmonize": 0.2})
        ours = tiny.pictures(engine, request, store)[0]
        plain = stock(engine.load(model).pipe, request, tiny.picture(1), 0.6)
        assert tiny.moved(ours[tiny.CAT == 255], plain[tiny.CAT == 255]) > 0.5

    def test_no_guidance(self, engine: Engine, store: PictureStore, model: str) -> None:
        request = tiny.text_request(model, guidance=1.0)
        ours = tiny.pictures(engine, request, store)[0]
        assert np.array_equal(ours, stock(engine.load(model).pipe, request))
        assert tiny.moved(ours, tiny.pictures(engine, tiny.text_request(model), store)[0]) > 0.5

    def test_a_negative_prompt(self, engine: Engine, store: PictureStore, model: str) -> None:
        for words in ({}, {"collage": store.put(tiny.picture(1)), "background_harmonize": 0.6}):
            request = tiny.text_request(model, negative_prompt="a cat", **words)
            ours = tiny.pictures(engine, request, store)[0]
            given = (tiny.picture(1), 0.6) if words else ()
            assert np.array_equal(ours, stock(engine.load(model).pipe, request, *given))
            without = tiny.pictures(engine, request.replace(negative_prompt=""), store)[0]
            assert tiny.moved(ours, without) > 0.1

    def test_installed_and_inactive(self, engine: Engine, store: PictureStore, model: str) -> None:
        """Processors tapped and asked at each call, answering "nothing to do": an unreachable threshold."""
        plain = tiny.pictures(engine, tiny.text_request(model, images=2), store)
        two = tiny.text_request(model, images=2, spread=2.0, spread_threshold=1.0)
        together = tiny.pictures(engine, two, store)
        # two rows in one call differ from one row in the last bits
        assert max(tiny.moved(a, b) for a, b in zip(plain, together, strict=True)) < 0.5
        alone = tiny.text_request(model, avoids=(tiny.avoid(store, threshold=1.0),))
        assert tiny.moved(plain[0], tiny.pictures(engine, alone, store)[0]) < 0.5
        on = tiny.text_request(model, images=2, spread=2.0, spread_threshold=0.0)
        assert tiny.moved(plain[0], tiny.pictures(engine, on, store)[0]) > 1

    @pytest.mark.parametrize("images", [1, 2])
    def test_unreachable_threshold(
        self, engine: Engine, store: PictureStore, model: str, images: int
    ) -> None:
        """Installed and asked in each call: beside as many rows without it the same arithmetic to the last bit."""
        loaded = engine.load(model)
        request = tiny.text_request(model, spread=2.0, spread_threshold=1.0, window=1.0)
        plain = sampled(loaded, request, store, [], range(images))
        off = sampled(loaded, request, store, [Spread()], range(images))
        assert all(np.array_equal(a, b) for a, b in zip(plain, off, strict=True))
        on = sampled(loaded, request.replace(spread_threshold=0.0), store, [Spread()], range(images))
        if images == 1:
            assert np.array_equal(plain[0], on[0]), "alone it has nothing to move away from"
        else:
            assert min(tiny.moved(a, b) for a, b in zip(plain, on, strict=True)) > 0.1

    def test_tapped_with_empty_slots_is_bit_identical(
        self, engine: Engine, store: PictureStore, model: str
    ) -> None:
        from pipelines.attention.kernel import Kernel
        from pipelines.attention.tap import installed

        loaded = engine.load(model)
        kernel = Kernel()
        asked: list[bool] = []
        kernel.logit_bias.append(lambda site, query, key, scale: asked.append(site.cross))  # type: ignore[func-returns-value]
        kernel.map_output.append(lambda site, out: out)
        request = tiny.text_request(model)
        plain = stock(loaded.pipe, request)
        with installed(loaded.pipe.unet, kernel, loaded.family.site) as count:
            tapped = stock(loaded.pipe, request)
        assert np.array_equal(plain, tapped)
        assert len(asked) == 5 * count and True in asked and False in asked

    def test_words_without_strength_change_nothing(self, engine: Engine, store: PictureStore) -> None:
        off = tiny.pictures(engine, tiny.collage_request(store), store)[0]
        zero = {"attend_inside": 0.0, "attend_outside": 0.0}
        assert np.array_equal(off, tiny.pictures(engine, tiny.collage_request(store, car=zero), store)[0])
        on = {"attend_inside": 1.0, "attend_outside": 1.0}
        assert tiny.moved(off, tiny.pictures(engine, tiny.collage_request(store, car=on), store)[0]) > 0.5
