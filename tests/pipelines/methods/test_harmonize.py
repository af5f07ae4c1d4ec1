"""Harmonize: who may change when, and pins at the level the latents have."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st

from pipelines import schedulers
from pipelines.attention.kernel import Kernel
from pipelines.engine import Engine
from pipelines.errors import EngineError
from pipelines.methods.base import Run
from pipelines.methods.harmonize import (
    Harmonize,
    gaussian,
    grown,
    release_by_times,
    release_map,
    steps_run,
    strength_map,
)
from pipelines.pictures import PictureStore
from pipelines.sampling import plan
from tests.pipelines import tiny


@contextmanager
def recorded(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, Any]]:
    """What the method saw and gave in a run: ``run``, ``release``, and (step, latents before, latents after)."""
    kept: dict[str, Any] = {"steps": []}
    begin, after = Harmonize.begin, Harmonize.after_step

    def spy_begin(self: Harmonize, run: Run, kernel: Kernel) -> None:
        begin(self, run, kernel)
        kept["run"], kept["release"] = run, self.release

    def spy_after(self: Harmonize, index: int, latents: torch.Tensor) -> torch.Tensor:
        out = after(self, index, latents)
        kept["steps"].append((index, latents.clone(), out.clone()))
        return out

    with monkeypatch.context() as patch:
        patch.setattr(Harmonize, "begin", spy_begin)
        patch.setattr(Harmonize, "after_step", spy_after)
        yield kept


class TestSteps:
    @given(st.integers(0, 100), st.integers(1, 200))
    @example(92, 200)
    @example(29, 100)
    def test_decimal_strengths_count_as_written(self, percent: int, steps: int) -> None:
        expected = percent * steps // 100
        assert steps_run(percent / 100, steps) == expected
        strengths = torch.full((16, 16), percent / 100)
        assert (release_map(strengths, (2, 2), steps) == steps - expected).all()

    def test_the_run_starts_at_the_largest_strength(self, store: PictureStore) -> None:
        request = tiny.collage_request(
            store, car={"harmonize": 0.8}, cat={"harmonize": 0.2}, background_harmonize=0.4, steps=10
        )
        assert (plan(request).first, plan(request).count, plan(request).from_picture) == (2, 8, True)
        assert plan(request.replace(background_harmonize=0.9)).count == 9
        assert plan(request.replace(background_harmonize=1.0)) == type(plan(request))(10, 0, False)
        assert plan(tiny.text_request(steps=10)).count == 10


class TestMaps:
    def masks(self) -> torch.Tensor:
        return torch.from_numpy(np.stack([tiny.CAR, tiny.CAT])).float() / 255

    def test_strengths_arrive_whole(self) -> None:
        found = strength_map(self.masks(), [0.2, 0.9], 0.5, [0.0, 0.0])
        assert found[20, 10] == pytest.approx(0.2)
        assert found[20, 45] == pytest.approx(0.9)
        assert found[0, 0] == pytest.approx(0.5)

    def test_half_transparent_places_mix(self) -> None:
        masks = torch.stack([torch.full((4, 4), 0.5), torch.full((4, 4), 0.25)])
        assert torch.allclose(
            strength_map(masks, [0.0, 1.0], 0.8, [0.0, 0.0]), torch.full((4, 4), 0.25 + 0.25 * 0.8)
        )

    def test_feather_softens_only_its_own_border(self) -> None:
        hard = strength_map(self.masks(), [0.2, 0.9], 0.5, [0.0, 0.0])
        soft = strength_map(self.masks(), [0.2, 0.9], 0.5, [4.0, 0.0])
        row = soft[30, 16:32]
        assert (row.diff() > 0).all() and row.diff().max() < 0.04, "no jump is left at the border"
        assert float(soft[30, 27:29].mean()) == pytest.approx(0.35, abs=0.02)
        assert torch.allclose(soft[20:40, 45:60], hard[20:40, 45:60], atol=1e-3)
        assert float(soft.min()) >= 0.2 and float(soft.max()) <= 0.9 + 1e-6

    def test_one_feather_for_all_is_a_blur_of_the_map(self) -> None:
        hard = strength_map(self.masks(), [0.2, 0.9], 0.5, [0.0, 0.0])
        soft = strength_map(self.masks(), [0.2, 0.9], 0.5, [3.0, 3.0])
        assert torch.allclose(soft, gaussian(hard, 3.0), atol=1e-5)

    def test_no_layers_is_the_background(self) -> None:
        found = strength_map(torch.zeros(0, 8, 8), [], 0.4, [])
        assert float(found) == pytest.approx(0.4)
        assert (release_map(found, (2, 3), 10) == 6).all() and release_map(found, (2, 3), 10).shape == (2, 3)

    def test_release(self) -> None:
        strengths = torch.zeros(8, 16)
        strengths[:, 8:] = 0.9
        assert release_map(strengths, (1, 2), 10).tolist() == [[10, 1]]
        strengths[:, 4:8] = 0.9
        assert release_map(strengths, (1, 2), 10).tolist() == [[6, 1]]

    @given(st.floats(0.3, 8.0))
    def test_gaussian(self, radius: float) -> None:
        spot = torch.zeros(65, 65)
        spot[32, 32] = 1
        blurred = gaussian(spot, radius)
        axis = torch.arange(65.0) - 32
        assert float(blurred.sum()) == pytest.approx(1, abs=1e-3)
        if radius >= 1:
            assert float((blurred.sum(0) * axis**2).sum()) ** 0.5 == pytest.approx(radius, rel=0.05)
        assert torch.allclose(blurred, blurred.T, atol=1e-6)
        flat = torch.full((9, 20), 0.3)
        assert torch.allclose(gaussian(flat, radius), flat, atol=1e-5)

    @pytest.mark.parametrize("radius", [0.5, 5.0, 256.0])
    def test_gaussian_is_the_sum_over_all_taps(self, radius: float) -> None:
        mask = (torch.rand(24, 41, generator=torch.Generator().manual_seed(1)) > 0.5).float()
        reach = int(np.ceil(3 * radius))
        taps = np.exp(-0.5 * (np.arange(-reach, reach + 1) / radius) ** 2)
        taps /= taps.sum()
        wide = np.pad(mask.numpy().astype(float), reach, mode="edge")
        expected = sum(
            tap * np.stack([np.convolve(row, taps, "valid") for row in wide[at : at + 24]])
            for at, tap in enumerate(taps)
        )
        assert np.abs(gaussian(mask, radius).numpy() - expected).max() < 1e-6

    def test_no_radius_no_blur(self) -> None:
        mask = self.masks()[0]
        assert gaussian(mask, 0.0) is mask


class TestTimes:
    """Strength as a share of the timesteps."""

    @given(st.floats(0, 1), st.lists(st.floats(0.001, 1), min_size=1, max_size=20, unique=True))
    def test_held_while_the_time_is_above(self, strength: float, found: list[float]) -> None:
        times = [*sorted(found, reverse=True), 0.0]
        release = int(release_by_times(torch.tensor(strength), (1, 1), times))
        if strength == 1:
            assert release == 0
        else:
            shown = float(torch.tensor(strength))
            assert all(times[k] > shown for k in range(release))
            assert times[release] <= shown + 2e-6

    def test_frozen_is_never_released_and_full_at_once(self) -> None:
        strengths = torch.tensor([[0.0, 0.5, 1.0]])
        assert release_by_times(strengths, (1, 3), [1.0, 0.75, 0.5, 0.25, 0.0]).tolist() == [[4, 2, 0]]

    @pytest.mark.parametrize("scheduler", ["dpm++2m", "ddim", "euler"])
    def test_on_a_unet_it_is_nearly_the_share_of_steps(
        self, engine: Engine, store: PictureStore, scheduler: str
    ) -> None:
        request = tiny.collage_request(
            store, "sd_noise", car={"harmonize": 0.4}, cat={"harmonize": 0.0}, steps=20, scheduler=scheduler
        ).replace(background_harmonize=0.8)
        by_steps, by_times = Harmonize(), Harmonize()
        by_steps.begin(tiny.run_of(engine, request, store), Kernel())
        by_times.begin(tiny.run_of(engine, request.replace(harmonize_by="timestep"), store), Kernel())
        assert int((by_steps.release - by_times.release).abs().max()) <= 1
        pictures = [
            tiny.pictures(engine, request.replace(harmonize_by=mode, steps=6), store)[0]
            for mode in ("steps", "timestep")
        ]
        assert np.array_equal(pictures[0][tiny.CAT == 255], pictures[1][tiny.CAT == 255])


class TestGrowth:
    def test_direction(self) -> None:
        """Above 0 what is held grows, below 0 what is free: opposite maps, and 0 is no change."""
        held = torch.zeros(7, 9, dtype=torch.bool)
        held[2:5, 3:6] = True
        wide, narrow = grown(held, 1), grown(held, -1)
        assert wide.sum() == 25 and wide[1:6, 2:7].all() and narrow.sum() == 1 and narrow[3, 4]
        assert torch.equal(grown(held, 0), held) and torch.equal(grown(~held, -1), ~wide)
        assert grown(torch.ones(3, 3, dtype=torch.bool), -2).all(), "the picture's edge is no border"
        assert not grown(torch.zeros(3, 3, dtype=torch.bool), 2).any()

    def test_it_falls_with_the_time_and_ends_exact(
        self, engine: Engine, store: PictureStore, model: str
    ) -> None:
        whole = {"harmonize": 1.0}
        request = tiny.collage_request(store, model, whole, {"harmonize": 0.0}, background_harmonize=1.0)
        run = tiny.run_of(engine, request.replace(grow=24.0), store)
        plain, wide = Harmonize(), Harmonize()
        plain.begin(tiny.run_of(engine, request, store), Kernel())
        wide.begin(run, Kernel())
        sizes = [int(wide.held(k, k).sum() - plain.held(k, k).sum()) for k in range(1, run.steps + 1)]
        assert sizes == sorted(sizes, reverse=True) and sizes[0] > 0 and sizes[-1] == 0
        off, on, free = (
            tiny.pictures(engine, request.replace(grow=grow), store)[0] for grow in (0.0, 24.0, -24.0)
        )
        assert tiny.moved(off, on) > 0.1 and tiny.moved(off, free) > 0.1
        for picture in (off, on, free):
            assert np.array_equal(picture[tiny.CAT == 255], tiny.picture(1)[tiny.CAT == 255])


class TestPins:
    @pytest.mark.parametrize(("model", "scheduler"), tiny.RUNS)
    @pytest.mark.parametrize("background", [0.8, 1.0])
    def test_pins_at_every_step(
        self,
        engine: Engine,
        store: PictureStore,
        model: str,
        scheduler: str,
        background: float,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        """A whole run: held cells are what the scheduler's own add_noise gives at the next timestep, others free."""
        request = tiny.collage_request(
            store,
            model,
            car={"harmonize": 0.4},
            cat={"harmonize": 0.0},
            background_harmonize=background,
            scheduler=scheduler,
            steps=5,
        )
        with recorded(monkeypatch) as kept:
            tiny.result(engine, request, store)
        run, release = kept["run"], kept["release"]
        loaded = engine.load(model)
        own = schedulers.build(scheduler, loaded.pipe.scheduler, loaded.card, pinned=True, steps=5)
        own.set_timesteps(5)
        assert [index for index, _, _ in kept["steps"]] == list(range(run.first, 5))
        assert {3, 5} <= set(release.unique().tolist())
        for index, before, after in kept["steps"]:
            expected = run.clean
            if index < 4:
                expected = own.add_noise(run.clean, run.noise, own.timesteps[index + 1][None])
            held = (release >= index + 1)[None, None].expand_as(after)
            assert torch.allclose(after[held], expected[held], atol=2e-5, rtol=1e-5)
            assert torch.equal(after[~held], before[~held])
            assert int(held.sum()) > 0
        last = kept["steps"][-1][2]
        frozen = (release == 5)[None, None].expand_as(last)
        assert torch.equal(last[frozen], run.clean[frozen])
        assert (last - run.clean)[~frozen].abs().mean() > 1e-3

    def test_noise_is_drawn_once_and_is_the_start_noise(
        self, engine: Engine, store: PictureStore, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        request = tiny.collage_request(store, cat={"harmonize": 0.0}, scheduler="euler_a", steps=5)
        with recorded(monkeypatch) as kept:
            tiny.result(engine, request, store)
        run, held = kept["run"], (kept["release"] == 5)[None, None]
        start = torch.randn(run.clean.shape, generator=torch.Generator().manual_seed(request.seed))
        assert torch.equal(run.noise, start)
        for index, _, after in kept["steps"][:-1]:
            alpha, sigma = run.levels[index + 1]
            noise = (after - run.clean) / (sigma / alpha)
            assert torch.allclose(noise[held.expand_as(noise)], start[held.expand_as(start)], atol=1e-4)

    @pytest.mark.parametrize(("model", "scheduler"), tiny.RUNS)
    def test_full_strength_starts_from_noise_alone(
        self, engine: Engine, store: PictureStore, model: str, scheduler: str
    ) -> None:
        request = tiny.collage_request(
            store, model, cat={"harmonize": 0.0}, background_harmonize=1.0, scheduler=scheduler, guidance=1.0
        )
        first: list[torch.Tensor] = []
        unet = engine.load(model).pipe.unet
        handle = unet.register_forward_pre_hook(lambda _, args: first.append(args[0]))
        try:
            tiny.result(engine, request, store)
            tiny.result(engine, tiny.text_request(model, scheduler=scheduler, guidance=1.0), store)
        finally:
            handle.remove()
        ours, plain = first[0], first[5]
        cells = torch.from_numpy(tiny.CAT).float().reshape(8, 8, 8, 8).mean((1, 3))
        free = (cells == 0)[None, None].expand_as(ours)
        cars = torch.zeros(8, 8, dtype=torch.bool)
        cars[1:7, :4] = True  # the car's strength is .6
        free = free & ~cars
        assert torch.allclose(ours[free], plain[free], atol=1e-6)
        if model != "sd_velocity":  # with a zero terminal signal-to-noise ratio all starts are noise
            assert (ours - plain)[(cells == 255)[None, None].expand_as(ours)].abs().max() > 1e-3

    def test_a_pipeline_that_hides_its_noise_is_refused(self, engine: Engine, store: PictureStore) -> None:
        run = tiny.run_of(engine, tiny.collage_request(store, cat={"harmonize": 0.0}), store)
        run.noise = None
        method = Harmonize()
        method.begin(run, Kernel())
        with pytest.raises(EngineError, match="noise"):
            method.after_step(run.first, torch.zeros(1, 4, 8, 8))

    def test_nothing_changes_at_zero_and_much_at_a_quarter(self, engine: Engine, store: PictureStore) -> None:
        changed = []
        for strength in (0.0, 0.25):
            request = tiny.collage_request(
                store, cat={"harmonize": strength}, background_harmonize=1.0, steps=8, scheduler="ddim"
            )
            picture = tiny.pictures(engine, request, store)[0]
            changed.append(tiny.moved(picture[tiny.CAT == 255], tiny.picture(1)[tiny.CAT == 255]))
        assert changed[0] == 0 and changed[1] > 1


class TestUniPC:
    @pytest.mark.parametrize("pinned", [True, False])
    def test_the_corrector_would_undo_pins(self, engine: Engine, pinned: bool) -> None:
        """Each step is given pinned cells; with the corrector on the scheduler goes on from something else."""
        loaded = engine.load("sd_noise")
        scheduler = schedulers.build("unipc", loaded.pipe.scheduler, loaded.card, pinned=pinned, steps=8)
        scheduler.set_timesteps(8)
        generator = torch.Generator().manual_seed(0)
        clean, noise = torch.randn(2, 1, 4, 8, 8, generator=generator)
        levels = schedulers.levels(scheduler)
        latents = schedulers.noised(clean, noise, levels[0], False)
        leaks = []
        for index, time in enumerate(scheduler.timesteps):
            given_to_step = latents
            latents = scheduler.step(torch.randn(clean.shape, generator=generator), time, latents).prev_sample
            leaks.append(float((scheduler.last_sample - given_to_step).abs().max()))
            latents[..., :4] = schedulers.noised(clean, noise, levels[index + 1], False)[..., :4]
        if pinned:
            assert max(leaks) == 0
        else:
            assert max(leaks) > 0.5

    def test_a_run_with_pins_has_no_corrector(
        self, engine: Engine, store: PictureStore, model: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Its twin, a run without pins that is the stock scheduler's bit for bit, is among the engine's tests."""
        request = tiny.collage_request(store, model, cat={"harmonize": 0.2}, scheduler="unipc", steps=5)
        with recorded(monkeypatch) as kept:
            tiny.result(engine, request, store)
        scheduler = kept["run"].pipe.scheduler
        assert type(scheduler).__name__ == "UniPCMultistepScheduler"
        assert scheduler.disable_corrector == [0, 1, 2, 3, 4]
