"""Harmonize on flow matching: pins, levels, timestep mode, growth, previews."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch

from pipelines import previews, schedulers
from pipelines.attention.kernel import Kernel
from pipelines.engine import Engine
from pipelines.methods.base import Method, Run
from pipelines.methods.harmonize import Harmonize
from pipelines.pictures import PictureStore
from pipelines.sampling import sample
from tests.pipelines import tiny
from tests.pipelines.runs import sampled, widened
from tests.pipelines.transformers.runs import TO_THE_END, collage, text


class TestHarmonize:
    @pytest.mark.parametrize(("background", "width"), [(0.75, 64), (1.0, 64), (1.0, 96)])
    def test_pins_are_exact(
        self, engine: Engine, store: PictureStore, model: str, background: float, width: int
    ) -> None:
        """After each step a held cell has the collage at the level after the step; clean at the last."""
        seen: list[tuple[int, torch.Tensor]] = []
        kept: list[Run] = []

        class Look(Method):
            order = 99

            def begin(self, run: Run, kernel: Kernel) -> None:
                kept.append(run)

            def after_step(self, index: int, latents: torch.Tensor) -> torch.Tensor:
                seen.append((index, latents.clone()))
                return latents

        request = collage(
            store, model, cat={"harmonize": 0.0}, car={"harmonize": 0.5}, background_harmonize=background
        )
        # on the grid of every family, 16 pixels the coarsest
        left, right = store.put(tiny.box(16, 0, 48, 32)), store.put(tiny.box(16, 32, 48, 64))
        layers = [
            dataclasses.replace(one, mask=mask)
            for one, mask in zip(request.layers, (left, right), strict=True)
        ]
        request = widened(request.replace(layers=tuple(layers)), store, width)
        held = Harmonize()
        sampled(engine.load(model), request, store, [held, Look()])
        run = kept[0]
        assert run.clean is not None and run.noise is not None
        assert len(seen) == (4 if background == 1 else 3)
        frozen = held.release == run.steps
        assert frozen.any() and not frozen.all()
        for index, latents in seen:
            level = run.levels[index + 1]
            expected = schedulers.noised(run.clean, run.noise, level, False)
            still = held.release >= index + 1
            assert torch.equal(latents[..., still], expected[..., still])
            assert not torch.equal(latents[..., ~still], expected[..., ~still])
        assert torch.equal(seen[-1][1][..., frozen], run.clean[..., frozen])
        assert run.levels[0] == (0.0, 1.0) and all(a + s == pytest.approx(1) for a, s in run.levels)

    @pytest.mark.parametrize("grow", [0.0, 32.0])
    def test_timestep_mode_and_growth(
        self, engine: Engine, store: PictureStore, model: str, grow: float
    ) -> None:
        """A place is held while the model's time is above its strength, whatever shift the pipeline sets."""
        seen: list[tuple[int, torch.Tensor]] = []

        class Look(Method):
            order = 99

            def after_step(self, index: int, latents: torch.Tensor) -> torch.Tensor:
                seen.append((index, latents.clone()))
                return latents

        left = store.put(tiny.box(0, 0, 64, 32))
        request = collage(store, model, background_harmonize=1.0, harmonize_by="timestep", grow=grow)
        layer = dataclasses.replace(request.layers[0], mask=left, harmonize=0.5)
        request = request.replace(layers=(layer,))
        held = Harmonize()
        sampled(engine.load(model), request, store, [held, Look()])
        run = held._run
        assert run.clean is not None and run.noise is not None
        assert run.times == pytest.approx([sigma for _, sigma in run.levels], abs=1e-6)
        release = next(k for k, time in enumerate(run.times) if time <= 0.5)
        half = run.latent_size[1] // 2
        assert held.release[:, :half].eq(release).all() and held.release[:, half:].eq(0).all()
        for index, latents in seen:
            expected = schedulers.noised(run.clean, run.noise, run.levels[index + 1], False)
            wide = half + int(grow * run.times[index + 1] / run.card.factor)
            kept = (latents == expected).all(1).all(1)[0]
            assert kept.tolist() == [index + 1 <= release and x < wide for x in range(run.latent_size[1])]

    def test_levels_are_what_the_scheduler_uses(
        self, engine: Engine, store: PictureStore, model: str
    ) -> None:
        """A frozen place's start, the collage noised by the scheduler itself, is what `noised` says."""
        run_of: list[Run] = []

        class Keep(Method):
            def begin(self, run: Run, kernel: Kernel) -> None:
                run_of.append(run)

        starts: list[torch.Tensor] = []
        loaded = engine.load(model)

        def note(module: Any, args: Any, kwargs: Any) -> None:
            inputs = loaded.family.read(module, args, kwargs)
            starts.append(inputs.sample)

        handle = loaded.pipe.transformer.register_forward_pre_hook(note, with_kwargs=True)
        try:
            sampled(loaded, collage(store, model), store, [Keep()])
        finally:
            handle.remove()
        run = run_of[0]
        assert run.clean is not None and run.noise is not None
        expected = loaded.family.pack(schedulers.noised(run.clean, run.noise, run.levels[run.first], False))
        assert torch.allclose(starts[0][:1], expected, atol=1e-5)

    def test_frozen_pixels_and_any_shape(self, engine: Engine, store: PictureStore, model: str) -> None:
        request = collage(store, model, cat={"harmonize": 0.0}, **TO_THE_END)
        ours = tiny.pictures(engine, request, store)[0]
        flat = tiny.picture(1)
        assert np.array_equal(ours[tiny.CAT == 255], flat[tiny.CAT == 255])
        assert tiny.moved(ours[tiny.CAT == 0], flat[tiny.CAT == 0]) > 1
        wide = np.zeros((64, 96, 3), np.uint8)
        layers = (
            tiny.layer(store, "cat", np.pad(tiny.CAT, ((0, 0), (32, 0))), attend_outside=1.0, harmonize=0.25),
        )
        request = request.replace(width=96, collage=store.put(wide), frozen=None, layers=layers)
        assert tiny.pictures(engine, request, store)[0].shape == (64, 96, 3)

    def test_previews_show_what_is_coming(self, engine: Engine, store: PictureStore, model: str) -> None:
        found = tiny.previews(tiny.events(engine, text(model), store))
        assert len(found) == 3 and found[0].shape == (64, 64, 3) and not np.array_equal(found[0], found[2])
        loaded = engine.load(model)
        latents = [loaded.family.encode_picture(loaded.pipe, tiny.picture(k))[0] for k in range(4)]
        shown = [previews.preview(one, previews.fit(loaded.family, loaded.pipe), (64, 64)) for one in latents]
        assert not np.array_equal(shown[0], shown[1])

    def test_the_last_prediction_is_where_the_steps_end(
        self, engine: Engine, store: PictureStore, model: str
    ) -> None:
        """What previews show of a flow is what its last step comes to."""
        ends: list[torch.Tensor] = []
        shown: list[torch.Tensor] = []

        class End(Method):
            def after_step(self, index: int, latents: torch.Tensor) -> torch.Tensor:
                ends.append(latents)
                return latents

        loaded, request = engine.load(model), text(model)
        keep = lambda step, steps, clean: shown.append(clean())  # noqa: E731
        sample(loaded.pipe, loaded.family, loaded.card, request, store, [End()], [7], keep)
        assert len(shown) == len(ends) == request.steps
        assert torch.allclose(shown[-1], ends[-1], atol=1e-4)
        assert not torch.allclose(shown[0], ends[-1], atol=0.1)
