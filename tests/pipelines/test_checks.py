"""What a run asks for in vain is said, in one sentence with what to do, and nothing else is."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest

from pipelines.engine import Engine
from pipelines.pictures import PictureStore
from pipelines.request import RenderRequest
from tests.pipelines import tiny
from tests.pipelines import tiny_transformers as tt
from tests.pipelines.runs import doubled


def coarse(model: str, least: int, **changes: Any) -> Engine:
    """An engine with the tiny ``model``, whose card asks for a grid of ``least``."""
    engine = Engine(preview_seconds=1e9)
    card = dataclasses.replace(tiny.card_for(model), smallest_grid=least, **changes)
    engine.adopt(model, tiny.KINDS[model](), card)
    return engine


def said(engine: Engine, request: RenderRequest, store: PictureStore) -> list[str]:
    return tiny.warnings(tiny.events(engine, request, store))


class TestTooSmallForNegToMe:
    def test_each_word_says_so(self, store: PictureStore) -> None:
        engine = coarse("sd_velocity", 5)  # whose own attention is on 4 × 4 and 2 × 2 tokens
        request = tiny.collage_request(
            store,
            steps=2,
            cat={"vary": 1.0},
            images=2,
            spread=1.0,
            avoids=(tiny.avoid(store), tiny.avoid(store, name="off", alpha=0.0)),
        )
        where = "in no part of the denoiser at this size; make the shorter side at least 72 pixels."
        assert said(engine, request, store) == [
            f"spread acts {where}",
            f"layer 'cat': vary pushes {where}",
            f"avoid 'that' acts {where}",
        ]
        assert said(engine, doubled(request, store), store) == []

    def test_it_is_true_and_costs_no_row(self, store: PictureStore) -> None:
        """At the size that is said it acts; below it nothing does, and no reference rides along."""
        engine, rows = coarse("sd_velocity", 5), []
        unet = engine.load("sd_velocity").pipe.unet
        unet.conv_in.register_forward_hook(lambda _, args, out: rows.append(len(out)))
        for width, moves in ((64, False), (72, True)):
            picture = np.resize(tiny.picture(9), (96, width, 3))
            avoid = tiny.avoid(store, picture=store.put(picture))
            asked = tiny.text_request(width=width, height=96, steps=2, window=1.0, guidance=1.0)
            plain = tiny.pictures(engine, asked, store)[0]
            del rows[:]
            found = tiny.result(engine, asked.replace(avoids=(avoid,)), store)
            assert (not np.array_equal(found.pictures[0], plain)) == moves
            assert rows == [2 if moves else 1] * 2
            assert bool(found.report["warnings"]) != moves

    def test_other_parts_are_named(self, store: PictureStore) -> None:
        engine = coarse("sd_noise", 8)  # 8 × 8 tokens, and 4 × 4 in the middle
        request = tiny.text_request("sd_noise", steps=2, images=2, spread=1.0, spread_parts=("mid",))
        assert said(engine, request, store) == [
            "spread acts in no part of the denoiser at this size; name other parts (down, up)."
        ]
        for free in (request.replace(spread_parts=("mid", "up")), request.replace(spread_parts=())):
            assert said(engine, free, store) == []
        avoiding = request.replace(spread=0.0, avoids=(tiny.avoid(store),))
        assert said(engine, avoiding, store) == [], "the parts are spread's own"

    @pytest.mark.parametrize("kind", tt.KINDS)
    def test_joint_attention_is_never_too_small(
        self, transformers: Engine, store: PictureStore, kind: str
    ) -> None:
        request = tiny.text_request(
            kind, scheduler="flow_euler", steps=2, images=2, spread=1.0, avoids=(tiny.avoid(store),)
        )
        assert said(transformers, request, store) == []


def test_an_avoid_in_a_frozen_layer(engine: Engine, store: PictureStore) -> None:
    request = tiny.collage_request(store, cat={"harmonize": 0.0}, avoids=(tiny.avoid(store, layer=1),))
    assert said(engine, request, store) == [
        "layer 'cat' is frozen, so avoid 'that' cannot change it; raise harmonize."
    ]
    for one in (tiny.avoid(store), tiny.avoid(store, layer=0), tiny.avoid(store, layer=1, alpha=0.0)):
        assert said(engine, request.replace(avoids=(one,)), store) == []


class TestCads:
    def test_a_run_that_starts_too_late(self, engine: Engine, store: PictureStore) -> None:
        late = tiny.collage_request(store, "sd_noise", steps=10, cads=0.5)  # all of harmonize .6
        assert said(engine, late, store) == [
            "cads acts above 0.6 of the schedule, and this run starts at 0.6; lower cads_low or raise harmonize."
        ]
        off = late.replace(cads=0.0)
        pictures = [tiny.pictures(engine, request, store)[0] for request in (late, off)]
        assert np.array_equal(*pictures), "it says what is so"
        for acting in (late.replace(cads_low=0.5), late.replace(background_harmonize=0.8), off):
            assert said(engine, acting, store) == []
        assert not np.array_equal(tiny.pictures(engine, late.replace(cads_low=0.5), store)[0], pictures[0])

    def test_from_pure_noise(self, engine: Engine, store: PictureStore) -> None:
        request = tiny.text_request(cads=0.5, steps=2)
        assert said(engine, request, store) == []
        assert said(engine, request.replace(cads_low=1.0, cads_high=1.0), store) == [
            "cads acts above 1 of the schedule, and this run starts at 1; lower cads_low."
        ]


class TestGuidanceInterval:
    def test_without_guidance(self, engine: Engine, store: PictureStore) -> None:
        request = tiny.text_request(guidance=1.0, steps=2, guidance_interval=(0.3, 5.0))
        assert said(engine, request, store) == [
            "guidance_interval has no guidance to confine; raise guidance above 1, or leave it off."
        ]
        assert said(engine, request.replace(guidance=1.5), store) == []
        assert said(engine, request.replace(guidance_interval=None), store) == []

    def test_with_a_model_of_a_single_branch(self, store: PictureStore) -> None:
        engine = Engine(preview_seconds=1e9)
        engine.adopt("lcm", tiny.lcm(), dataclasses.replace(tiny.card_for("lcm"), steers_above=None))
        request = tiny.text_request(
            "lcm", scheduler="lcm", steps=2, guidance=8.5, guidance_interval=(0.3, 5.0)
        )
        assert said(engine, request, store) == ["guidance_interval has no guidance to confine; leave it off."]
