"""Vary: where images share their noise and where not, how far tokens are pushed, what agrees."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from pipelines import schedulers
from pipelines.attention.kernel import Kernel, Site
from pipelines.engine import Engine
from pipelines.listening import composed_step
from pipelines.methods import methods_for
from pipelines.methods.base import Inputs, Method, Run, Step
from pipelines.methods.negtome import Spread, push
from pipelines.methods.vary import Vary, composed, inside_cells, token_alpha
from pipelines.pictures import PictureStore
from pipelines.request import LayerRequest, RenderRequest
from tests.pipelines import tiny
from tests.pipelines.runs import sampled

CAT_CELLS = torch.from_numpy(tiny.CAT).reshape(8, 8, 8, 8).float().mean((1, 3)) > 127.5


def masks(*pixels: Any) -> torch.Tensor:
    return torch.from_numpy(np.stack(pixels)).float() / 255


def varying(
    store: PictureStore, model: str = "sd_velocity", vary: float = 1.0, **words: Any
) -> RenderRequest:
    cat = {"vary": vary, **words.pop("cat", {})}
    return tiny.collage_request(
        store, model, cat=cat, **{"images": 2, "spread_threshold": 0.0, "steps": 3, **words}
    )


class Watch(Method):
    """Keeps what goes into the first denoiser call and what the last step leaves."""

    order = 99
    joint = True

    def begin(self, run: Run, kernel: Kernel) -> None:
        self.run, self.start, self.end = run, torch.zeros(0), torch.zeros(0)

    def before_forward(self, step: Step, inputs: Inputs) -> None:
        if not len(self.start):
            self.start = inputs.sample[step.branches[0]].clone()

    def after_step(self, index: int, latents: torch.Tensor) -> torch.Tensor:
        self.end = latents.clone()
        return latents


def watched(engine: Engine, request: RenderRequest, store: PictureStore, first: int = 0) -> Watch:
    """One pipeline call over the images from ``first`` on."""
    watch, loaded = Watch(), engine.load(request.model)
    sampled(loaded, request, store, [*methods_for(request), watch], range(first, request.images))
    return watch


class TestCells:
    def test_half_covered_cells_are_outside_and_the_most_covered_of_a_small_layer_inside(self) -> None:
        cat = inside_cells(masks(tiny.CAT), (8, 8))
        assert torch.equal(cat, CAT_CELLS) and 0 < int(cat.sum()) < 64
        half = inside_cells(masks(tiny.box(0, 0, 16, 20)), (8, 8))
        assert half[:2, :2].all() and int(half.sum()) == 4, "a cell covered by half is outside"
        more = inside_cells(masks(tiny.box(0, 0, 16, 21)), (8, 8))
        assert more[:2, :3].all() and int(more.sum()) == 6, "by five eighths it is inside"
        assert int(inside_cells(masks(tiny.box(0, 0, 3, 3)), (8, 8)).sum()) == 1
        assert int(inside_cells(masks(tiny.box(0, 0, 0, 0)), (8, 8)).sum()) == 0
        assert inside_cells(masks(tiny.box(0, 0, 64, 64)), (8, 8)).all()

    def test_several_layers(self) -> None:
        both = inside_cells(masks(tiny.CAT, tiny.CAR), (8, 8))
        assert torch.equal(both, CAT_CELLS | inside_cells(masks(tiny.CAR), (8, 8)))

    def test_composed(self) -> None:
        drawn = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(0))
        out = composed(drawn, CAT_CELLS)
        assert torch.equal(out[:, :, CAT_CELLS], drawn[:, :, CAT_CELLS])
        assert torch.equal(out[:, :, ~CAT_CELLS], drawn[:1, :, ~CAT_CELLS].expand(2, -1, -1))
        film = composed(drawn[:, None], CAT_CELLS)
        assert torch.equal(film[:, 0], out), "a frame axis changes nothing"


class TestAlpha:
    def layers(self, *vary: float) -> list[LayerRequest]:
        return [LayerRequest(name="x", mask="m", harmonize=1.0, vary=one) for one in vary]

    def test_the_larger_of_spread_and_vary_times_mask(self) -> None:
        half = masks(tiny.box(0, 0, 64, 64, 128))
        cat = CAT_CELLS.flatten()
        plain = token_alpha(0.0, self.layers(2.0), masks(tiny.CAT), (8, 8))
        assert (
            plain[cat].max() == 2
            and (
                plain[(torch.from_numpy(tiny.CAT).reshape(8, 8, 8, 8) == 0).all(3).all(1).flatten()] == 0
            ).all()
        )
        assert torch.allclose(token_alpha(0.0, self.layers(2.0), half, (8, 8)), torch.tensor(2 * 128 / 255))
        assert (token_alpha(1.5, self.layers(2.0), half, (8, 8)) == 1.5).all(), "spread is the larger"
        pulled = token_alpha(-0.5, self.layers(2.0), masks(tiny.CAT), (8, 8))
        assert pulled.min() == -0.5 and pulled.max() == 2, "outside the layer spread stays what it is"

    def test_layers_do_not_add_up(self) -> None:
        same = masks(tiny.CAT, tiny.CAT)
        assert token_alpha(0.0, self.layers(1.0, 2.0), same, (8, 8)).max() == 2

    @pytest.mark.parametrize("axis", ["source", "released"])
    def test_only_the_layers_tokens_are_pushed(self, engine: Engine, store: PictureStore, axis: str) -> None:
        request = varying(store, vary=0.8, images=2, axis=axis, spread_by="push")
        run = tiny.run_of(engine, request, store, images=2)
        method = Spread()
        method.begin(run, Kernel())
        method.before_forward(tiny.step_of(run, run.first), Inputs(torch.zeros(0), {}))
        features = torch.randn(4, 64, 16, generator=torch.Generator().manual_seed(3))
        out = method.map_output(Site(cross=False, part="up"), features[:, None])[:, 0]
        cover = torch.from_numpy(tiny.CAT).reshape(8, 8, 8, 8).float().mean((1, 3)).flatten() / 255
        full = push(features[2], features[3], 0.8, 0.0, axis=axis)
        assert torch.allclose(out[2] - features[2], full * cover[:, None], atol=1e-6)
        assert torch.equal(out[:, cover == 0], features[:, cover == 0])
        assert full[cover == 1].abs().max() > 0.1


class TestRuns:
    @pytest.mark.parametrize("background", [0.6, 1.0])
    def test_one_noise_outside_and_each_its_own_inside(
        self, engine: Engine, store: PictureStore, model: str, background: float
    ) -> None:
        request = varying(store, model, background_harmonize=background)
        start = watched(engine, request, store).start
        assert torch.equal(start[:, :, ~CAT_CELLS], start[:1, :, ~CAT_CELLS].expand(2, -1, -1))
        # what each image starts from without vary
        off = watched(engine, varying(store, model, vary=0.0, background_harmonize=background), store).start
        assert torch.equal(start[0], off[0]), "image 0 is what it was"
        assert torch.equal(start[:, :, CAT_CELLS], off[:, :, CAT_CELLS])
        assert not torch.equal(off[0, :, ~CAT_CELLS], off[1, :, ~CAT_CELLS])
        assert not torch.equal(start[0, :, CAT_CELLS], start[1, :, CAT_CELLS])

    @pytest.mark.parametrize("scheduler", ["dpm++2m", "euler_a"])
    @pytest.mark.parametrize("largest", [0.6, 1.0])
    def test_what_is_pinned_outside_agrees_exactly(
        self, engine: Engine, store: PictureStore, model: str, scheduler: str, largest: float
    ) -> None:
        words = {"background_harmonize": 0.0, "car": {"harmonize": 0.0}, "scheduler": scheduler}
        watch = watched(engine, varying(store, model, cat={"harmonize": largest}, **words), store)
        end, clean = watch.end, watch.run.clean
        assert clean is not None
        outside = (
            torch.from_numpy(tiny.CAT).reshape(8, 8, 8, 8).sum((1, 3)) == 0
        )  # all of it pinned to the end
        assert torch.equal(end[:, :, outside], end[:1, :, outside].expand(2, -1, -1))
        assert torch.equal(end[:, :, outside], clean[:, :, outside])
        assert (end[0, :, CAT_CELLS] - end[1, :, CAT_CELLS]).abs().mean() > 0.1

    def test_pictures_agree_exactly_where_frozen(self, engine: Engine, store: PictureStore) -> None:
        pictures = tiny.pictures(engine, varying(store, car={"harmonize": 0.0}), store)
        frozen = tiny.CAR == 255
        assert all(np.array_equal(one[frozen], pictures[0][frozen]) for one in pictures)
        assert tiny.moved(pictures[0], pictures[1]) > 0.05

    def test_images_differ_less_outside_than_with_noise_of_their_own(
        self, engine: Engine, store: PictureStore, model: str
    ) -> None:
        def apart(vary: float) -> tuple[float, float]:
            """Mean difference of the final latents of images 0 and 1, outside and inside."""
            end = watched(engine, varying(store, model, vary=vary, images=2), store).end
            difference = (end[0] - end[1]).abs()
            return float(difference[:, ~CAT_CELLS].mean()), float(difference[:, CAT_CELLS].mean())

        outside, inside = apart(1.0)
        assert outside < 0.7 * inside
        assert outside < 0.7 * apart(0.0)[0]

    @pytest.mark.parametrize("name", ["euler_a", "lcm"])
    def test_the_noise_of_ancestral_steps_is_composed(
        self, engine: Engine, store: PictureStore, name: str
    ) -> None:
        loaded = engine.load("sd_noise")

        def stepped(compose: Any) -> torch.Tensor:
            scheduler = schedulers.build(name, loaded.pipe.scheduler, loaded.card, pinned=False, steps=4)
            scheduler.set_timesteps(4)
            step = scheduler.step if compose is None else composed_step(scheduler.step, compose)
            generators = [torch.Generator().manual_seed(seed) for seed in (1, 2)]
            same = torch.ones(2, 4, 8, 8)
            time = scheduler.timesteps[0]
            if hasattr(scheduler, "scale_model_input"):
                scheduler.scale_model_input(same, time)
            return step(same, time, same, generator=generators, return_dict=False)[0]

        stock, ours = stepped(None), stepped(lambda drawn: composed(drawn, CAT_CELLS))
        assert torch.equal(ours[:, :, CAT_CELLS], stock[:, :, CAT_CELLS])
        assert torch.equal(ours[0], stock[0])
        assert torch.equal(ours[1, :, ~CAT_CELLS], stock[0, :, ~CAT_CELLS])
        assert not torch.equal(stock[1, :, ~CAT_CELLS], stock[0, :, ~CAT_CELLS])

    def test_off_is_bit_identical(self, engine: Engine, store: PictureStore) -> None:
        off = varying(store, vary=0.0)
        assert methods_for(off) == []
        plain = tiny.pictures(engine, off, store)
        alone = tiny.pictures(engine, varying(store, vary=2.0, images=1), store)
        assert np.array_equal(alone[0], plain[0]), "one image has nothing to vary from"
        on = tiny.pictures(engine, varying(store), store)
        assert min(tiny.moved(a, b) for a, b in zip(on[1:], plain[1:], strict=True)) > 0.05
        assert [type(method) for method in methods_for(varying(store))] == [Vary, Spread]

    def test_what_has_no_effect_is_said(self, engine: Engine, store: PictureStore) -> None:
        found = tiny.warnings(tiny.events(engine, varying(store, images=1), store))
        assert len(found) == 1 and "'cat'" in found[0] and "images" in found[0]
        frozen = varying(store, cat={"harmonize": 0.0}, images=2)
        found = tiny.warnings(tiny.events(engine, frozen, store))
        assert len(found) == 1 and "'cat'" in found[0] and "harmonize" in found[0]
        assert tiny.warnings(tiny.events(engine, varying(store, images=2), store)) == []
