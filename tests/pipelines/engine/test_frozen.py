"""What is frozen stays as it is, to the last pixel."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from pipelines.engine import Engine
from pipelines.events import Finished, Started
from pipelines.pictures import PictureStore
from tests.pipelines import tiny
from tests.pipelines.engine.runs import counted


class TestFrozen:
    def test_all_strengths_zero_is_the_flat_collage(
        self, engine: Engine, store: PictureStore, pipe: Any
    ) -> None:
        nothing = {"harmonize": 0.0}
        request = tiny.collage_request(store, car=nothing, cat=nothing, background_harmonize=0.0, images=2)
        with counted(pipe) as seen:
            found = tiny.events(engine, request, store)
        assert seen == {"denoiser": 0, "decoder": 0}
        last = found[-1]
        assert isinstance(last, Finished) and last.result.report["denoiser_calls"] == 0
        assert all(np.array_equal(picture, tiny.picture(1)) for picture in last.result.pictures)
        assert tiny.warnings(found) == []
        assert found[0] == Started(tiny.PROMPT, 0, 2)

    def test_half_clear_frozen_layers_are_not_laid_over_twice(
        self, engine: Engine, store: PictureStore
    ) -> None:
        flat, kept = tiny.picture(1), tiny.picture(2, 4)
        layers = (tiny.layer(store, "cat", tiny.box(0, 0, 64, 64, 128), harmonize=0.0),)
        request = tiny.text_request(
            collage=store.put(flat), frozen=store.put(kept), layers=layers, background_harmonize=0.0
        )
        assert np.array_equal(tiny.pictures(engine, request, store)[0], flat)

    def test_strength_below_one_step_warns(self, engine: Engine, store: PictureStore) -> None:
        little = {"harmonize": 0.1}
        request = tiny.collage_request(store, car=little, cat=little, background_harmonize=0.1)
        found = tiny.events(engine, request, store)
        assert "harmonize" in tiny.warnings(found)[0]
        last = found[-1]
        assert isinstance(last, Finished) and np.array_equal(last.result.pictures[0], tiny.picture(1))

    @pytest.mark.parametrize(("model", "scheduler"), tiny.RUNS)
    @pytest.mark.parametrize("background", [0.6, 1.0])
    def test_frozen_pixels_are_exact_in_result_and_previews(
        self, engine: Engine, store: PictureStore, model: str, scheduler: str, background: float
    ) -> None:
        request = tiny.collage_request(
            store, model, cat={"harmonize": 0.0}, background_harmonize=background, scheduler=scheduler
        )
        found = tiny.events(engine, request, store)
        flat, held = tiny.picture(1), tiny.CAT == 255
        last = found[-1]
        assert isinstance(last, Finished)
        shown = [*last.result.pictures, *tiny.previews(found)]
        assert len(shown) > 2
        for picture in shown:
            assert np.abs(picture.astype(int) - flat)[held].max() == 0
            assert np.abs(picture.astype(int) - flat)[~held].mean() > 3

    def test_feather_does_not_soften_what_is_kept(self, engine: Engine, store: PictureStore) -> None:
        request = tiny.collage_request(store, cat={"harmonize": 0.0, "feather": 8.0})
        picture = tiny.pictures(engine, request, store)[0]
        assert np.array_equal(picture[tiny.CAT == 255], tiny.picture(1)[tiny.CAT == 255])
        hard = tiny.pictures(engine, tiny.collage_request(store, cat={"harmonize": 0.0}), store)[0]
        assert tiny.moved(picture, hard) > 0.05
