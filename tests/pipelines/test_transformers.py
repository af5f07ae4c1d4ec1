"""The transformer families, end to end through their stock pipelines: each of `tiny_transformers.KINDS` in turn."""

from __future__ import annotations

import copy
import dataclasses
import inspect
import threading
from typing import Any, ClassVar

import diffusers
import numpy as np
import pytest
import torch
from PIL import Image

from pipelines import previews, sampling, schedulers
from pipelines.attention.kernel import Kernel, Site
from pipelines.attention.tap import installed
from pipelines.engine import Engine, Loaded
from pipelines.errors import Cancelled, PhraseError, UnsupportedError
from pipelines.events import Progress
from pipelines.families.spans import moved_by_padding
from pipelines.families.table import refusal
from pipelines.methods import methods_for
from pipelines.methods.base import Inputs, Method, Run, Step, area_resized
from pipelines.methods.harmonize import Harmonize
from pipelines.methods.layer_attention import LayerAttention
from pipelines.methods.negtome import Avoid, Spread
from pipelines.methods.reference_rows import ReferenceRows
from pipelines.methods.vary import inside_cells
from pipelines.models import CARDS
from pipelines.pictures import PictureStore, Pixels
from pipelines.request import MAX_LEVEL, LookRequest, RenderRequest
from tests.pipelines import tiny
from tests.pipelines import tiny_transformers as tt


@pytest.fixture(scope="module")
def engine() -> Engine:
    """All tiny transformer pipelines, a preview at each step."""
    made = Engine(preview_seconds=0)
    for name, build in tt.KINDS.items():
        made.adopt(name, build(), tt.card_for(name))
    return made


@pytest.fixture(params=list(tt.KINDS))
def model(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def words(model: str, **more: Any) -> dict[str, Any]:
    return {"scheduler": "flow_euler", "steps": 4, "guidance": tt.card_for(model).guidance, **more}


def text(model: str, **more: Any) -> RenderRequest:
    return tiny.text_request(model, **words(model, **more))


def collage(store: PictureStore, model: str, **more: Any) -> RenderRequest:
    return tiny.collage_request(store, model, **words(model, **more))


def made(loaded: Loaded, kind: str) -> Any:
    """A stock pipeline over the parts of ``loaded``, with a scheduler of its own."""
    scheduler = diffusers.FlowMatchEulerDiscreteScheduler.from_config(loaded.pipe.scheduler.config)
    pipe = getattr(diffusers, kind)(
        **{**loaded.pipe.components, "scheduler": scheduler}, **loaded.family.options(loaded.pipe)
    )
    pipe.set_progress_bar_config(disable=True)
    return pipe


def stock(loaded: Loaded, request: RenderRequest, picture: Pixels | None = None) -> Pixels:
    """What diffusers itself makes of a request; with a picture, image-to-image at strength .75."""
    pipe = made(loaded, loaded.family.image_to_image if picture is not None else loaded.family.text_to_image)
    given: dict[str, Any] = {"height": request.height, "width": request.width}
    if picture is not None:
        given |= {"image": Image.fromarray(picture), "strength": 0.75}
    scale = "true_cfg_scale" if loaded.card.family == "qwen" else "guidance_scale"
    if "negative_prompt" in inspect.signature(pipe.__call__).parameters and loaded.card.family != "flux":
        given["negative_prompt"] = request.negative_prompt or (" " if loaded.card.family == "qwen" else None)
    out = pipe(
        prompt=request.prompt,
        num_inference_steps=request.steps,
        **{scale: request.guidance},
        generator=torch.Generator().manual_seed(request.seed),
        output_type="np",
        **given,
    )
    return np.rint(np.asarray(out.images[0]).clip(0, 1) * 255).astype(np.uint8)


def fingerprint(pipe: Any) -> tuple[Any, ...]:
    """Everything that a run could leave changed."""
    modules = list(pipe.transformer.modules())
    return (
        {name: id(part) for name, part in pipe.components.items()},
        [id(module.processor) for module in modules if hasattr(module, "processor")],
        [len(module._forward_hooks) + len(module._forward_pre_hooks) for module in modules],
        {name: id(value) for name, value in vars(pipe.scheduler).items()},
        dict(pipe.config),
    )


def every_method(store: PictureStore, model: str) -> RenderRequest:
    return collage(
        store,
        model,
        car={"attend_inside": 0.8, "attend_outside": 0.5},
        cat={"harmonize": 0.0},
        images=2,
        spread=1.0,
        spread_threshold=0.0,
        avoids=(tiny.avoid(store),),
    )


def sampled(
    loaded: Loaded, request: RenderRequest, store: PictureStore, methods: list[Method], seeds: int = 1
) -> list[Pixels]:
    """One pipeline call with these methods."""
    return sampling.sample(
        loaded.pipe,
        loaded.family,
        loaded.card,
        request,
        store,
        methods,
        [request.seed + k for k in range(seeds)],
        lambda *_: None,
    )


GUIDED = ("sd3", "qwen", "zimage", "chroma", "klein")
"""Those with a negative branch."""


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
        loaded = engine.load(model)
        assert tiny.moved(ours, tiny.pictures(engine, text(model), store)[0]) > 1
        if loaded.family.image_to_image:
            assert np.array_equal(ours, stock(loaded, request, tiny.picture(1)))
        strengths["cat"] = {"harmonize": 0.25}
        on = tiny.pictures(engine, collage(store, model, **strengths), store)[0]
        assert tiny.moved(ours[tiny.CAT == 255], on[tiny.CAT == 255]) > 1

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
        two = sampled(loaded, request, store, [], 2)
        off = sampled(loaded, request, store, [Spread()], 2)
        on = sampled(loaded, request.replace(spread_threshold=0.0), store, [Spread()], 2)
        assert all(np.array_equal(a, b) for a, b in zip(two, off, strict=True))
        assert min(tiny.moved(a, b) for a, b in zip(two, on, strict=True)) > 0.02

    def test_attention_moves_the_picture(self, engine: Engine, store: PictureStore, model: str) -> None:
        off = tiny.pictures(engine, collage(store, model), store)[0]
        strong = {"attend_inside": 1.0, "attend_outside": 1.0}
        on = tiny.pictures(engine, collage(store, model, car=strong), store)[0]
        both = tiny.pictures(engine, collage(store, model, car=strong, attend_both_ways=True), store)[0]
        assert tiny.moved(off, on) > 0.01 and not np.array_equal(on, both)


class Hard(LayerAttention):
    """Layer attention of overwhelming weight that looks at what the softmax makes of it."""

    def begin(self, run: Run, kernel: Kernel) -> None:
        super().begin(run, kernel)
        self.outside: list[float] = []
        self.stock_outside: list[float] = []
        self.untouched: list[bool] = []
        self.calls = 0

    def before_forward(self, step: Step, inputs: Inputs) -> None:
        super().before_forward(step, inputs)
        self._weight.fill_(1e6)

    def logit_bias(
        self, site: Site, query: torch.Tensor, key: torch.Tensor, scale: float
    ) -> torch.Tensor | None:
        bias = super().logit_bias(site, query, key, scale)
        step, joint, run = self._step, site.joint, self._run
        assert step is not None and joint is not None
        self.calls += 1
        if bias is None:
            self.untouched.append(not len(step.conditional))
            return None
        others = [row for row in range(step.rows) if row not in list(step.conditional)]
        self.untouched.append(not bias[others].any())
        rows = step.conditional
        places = joint.image(query.shape[2], step.latent_size)
        grid = joint.grid(step.latent_size)
        mask = torch.from_numpy(run.pictures.get(run.request.layers[0].mask).copy())[None] / 255
        away = (area_resized(mask, grid).flatten() == 0).nonzero().flatten() + places.start
        own = torch.tensor(run.tokens[0]) + joint.text_start(step.latent_size)
        logits = query[rows] @ key[rows].transpose(-1, -2) * scale
        for into, added in ((self.outside, bias[rows]), (self.stock_outside, 0 * bias[rows])):
            chances = (logits + added).softmax(-1)
            into.append(float(chances[:, :, away][..., own].max()))
        return bias


class TestLayerAttention:
    def test_hard_bias(self, engine: Engine, store: PictureStore, model: str) -> None:
        """Exactly no attention to the words outside their mask, in every block; unconditional rows without bias."""
        method = Hard()
        request = collage(store, model, car={"attend_outside": 1.0, "attend_inside": 0.0})
        sampled(engine.load(model), request, store, [method])
        assert len(method.outside) >= 4 and max(method.outside) == 0
        assert min(method.stock_outside) > 0
        assert method.untouched and all(method.untouched)

    def test_only_the_prompts_rows_move(self, engine: Engine, store: PictureStore, model: str) -> None:
        """The first step's predictions: negative rows bit-equal, prompt rows not."""
        loaded = engine.load(model)
        outputs: list[list[torch.Tensor]] = []
        roles: list[list[int]] = []

        class Roles(LayerAttention):
            def before_forward(self, step: Step, inputs: Inputs) -> None:
                super().before_forward(step, inputs)
                roles.append(list(step.conditional))

        def note(module: Any, args: Any, kwargs: Any, out: Any) -> None:
            outputs[-1].extend(out[0])

        handle = loaded.pipe.transformer.register_forward_hook(note, with_kwargs=True)
        try:
            for strength in (0.0, 1.0):
                outputs.append([])
                car = {"attend_inside": strength, "attend_outside": strength}
                sampled(loaded, collage(store, model, car=car, steps=2, **TO_THE_END), store, [Roles()])
        finally:
            handle.remove()
        first = len(roles) // 4  # calls of the first of two steps of two runs
        each = len(outputs[0]) // (2 * first)
        conditional = [bool(k in rows) for rows in roles[:first] for k in range(each)]
        same = [torch.equal(a, b) for a, b in zip(*outputs, strict=True)]
        assert same[: len(conditional)] == [not one for one in conditional]
        assert sum(conditional) == 1 and len(conditional) == (2 if model in GUIDED else 1)

    @pytest.mark.parametrize("name", ["chroma", "zimage", "qwen"])
    def test_padding_masks_are_kept(
        self, engine: Engine, store: PictureStore, monkeypatch: pytest.MonkeyPatch, name: str
    ) -> None:
        """What a family's own mask says stays said under a bias: forbidden keys −inf, numbers added up."""
        from pipelines.attention import kernel

        stock_merged, met = kernel._merged, []

        def merged(mask: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
            both = stock_merged(mask, bias)
            if mask.dtype == torch.bool:
                forbidden = ~mask.expand_as(both)
                assert both[forbidden].eq(float("-inf")).all()
                assert torch.equal(both[~forbidden], bias[~forbidden])
                met.append((bool(forbidden.any()), bool(bias.any())))
            else:
                assert torch.equal(both, mask + bias)
                met.append((bool(mask.min() < mask.max()), bool(bias.any())))
            return both

        monkeypatch.setattr(kernel, "_merged", merged)
        # rows of unequal length: the prompt's, and the negative one or the reference's
        prompt = "red car " + "on the beach " * 20
        request = collage(store, name, car={"attend_inside": 1.0, "attend_outside": 1.0}).replace(
            prompt=prompt
        )
        layer = dataclasses.replace(request.layers[0], span=(0, 7))
        request = request.replace(layers=(layer,), avoids=(tiny.avoid(store),), window=1.0, avoid_by="push")
        tiny.pictures(engine, request, store)
        assert (True, True) in met

    def test_hard_bias_both_ways(self, engine: Engine, store: PictureStore, model: str) -> None:
        """The words look at nothing outside their mask either."""
        outside: list[tuple[float, float]] = []

        class Both(Hard):
            def logit_bias(
                self, site: Site, query: torch.Tensor, key: torch.Tensor, scale: float
            ) -> torch.Tensor | None:
                bias = super().logit_bias(site, query, key, scale)
                step, joint = self._step, site.joint
                assert step is not None and joint is not None
                if bias is None:
                    return None
                rows, places = step.conditional, joint.image(query.shape[2], step.latent_size)
                mask = torch.from_numpy(store.get(request.layers[0].mask).copy())[None] / 255
                away = (area_resized(mask, joint.grid(step.latent_size)).flatten() == 0).nonzero().flatten()
                own = torch.tensor(self._run.tokens[0]) + joint.text_start(step.latent_size)
                logits = query[rows][:, :, own] @ key[rows].transpose(-1, -2) * scale
                chances = [(logits + bias[rows][:, :, own] * on).softmax(-1) for on in (1, 0)]
                hard, off = (float(one[..., away + places.start].max()) for one in chances)
                outside.append((hard, off))
                return bias

        car = {"attend_outside": 1.0, "attend_inside": 0.0}
        request = collage(store, model, car=car, steps=2, attend_both_ways=True)
        sampled(engine.load(model), request, store, [Both()])
        assert outside and all(hard == 0 < off for hard, off in outside)


TO_THE_END: dict[str, Any] = {"background_harmonize": 1.0}


class TestHarmonize:
    @pytest.mark.parametrize("background", [0.75, 1.0])
    def test_pins_are_exact(self, engine: Engine, store: PictureStore, model: str, background: float) -> None:
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
        request = request.replace(layers=tuple(layers))
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


class TestNegToMe:
    def test_only_image_tokens_move(self, engine: Engine, store: PictureStore, model: str) -> None:
        loaded = engine.load(model)
        checked: list[str] = []

        class Watched(Spread):
            def map_output(self, site: Site, out: torch.Tensor) -> torch.Tensor:
                new = super().map_output(site, out)
                step = self._step
                if step is not None and site.joint:
                    places = site.joint.image(out.shape[2], step.latent_size)
                    words = torch.ones(out.shape[2], dtype=torch.bool)
                    words[places] = False
                    assert words.any() and torch.equal(new[:, :, words], out[:, :, words])
                    assert not torch.equal(new[:, :, places], out[:, :, places])
                    checked.append(site.part)
                return new

        request = text(model, images=2, spread=1.0, spread_threshold=0.0, window=1.0)
        sampled(loaded, request, store, [Watched()], 2)
        assert len(checked) >= 8

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
        sampled(engine.load(model), request, store, [Watched()], 2)
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

    def test_an_avoid_in_a_layer_moves_features_there_alone(
        self, engine: Engine, store: PictureStore, model: str
    ) -> None:
        moved: list[bool] = []

        class Watched(Avoid):
            def moved(self, features: torch.Tensor, step: Step, grid: tuple[int, int]) -> torch.Tensor:
                new = super().moved(features, step, grid)
                if step.references:
                    mask = torch.from_numpy(store.get(self._run.request.layers[0].mask).copy())[None] / 255
                    inside = area_resized(mask, grid).flatten() > 0
                    assert torch.equal(new[:, ~inside], features[:, ~inside])
                    assert torch.equal(new[step.rows :], features[step.rows :]), "nor does the reference"
                    moved.append(not torch.equal(new[:, inside], features[:, inside]))
                return new

        request = collage(store, model, avoids=(tiny.avoid(store, layer=0),), avoid_by="push")
        sampled(engine.load(model), request, store, [ReferenceRows(), Watched()])
        assert moved and all(moved)


class TestBatchAndCleanUp:
    def test_image_k_of_a_batch_is_image_k_alone(
        self, engine: Engine, store: PictureStore, model: str
    ) -> None:
        request = collage(store, model, cat={"harmonize": 0.25}, car={"attend_inside": 0.7}, images=3)
        batch = tiny.pictures(engine, request, store)
        for k in range(3):
            alone = tiny.pictures(engine, request.replace(images=1, seed=request.seed + k), store)
            assert np.array_equal(batch[k], alone[0])
        assert tiny.moved(batch[0], batch[1]) > 0.2

    def test_nothing_is_left_behind(self, engine: Engine, store: PictureStore, model: str) -> None:
        pipe = engine.load(model).pipe
        before = fingerprint(pipe)
        tiny.result(engine, every_method(store, model), store)
        assert fingerprint(pipe) == before
        cancel = threading.Event()
        with pytest.raises(Cancelled):
            for event in engine.render(every_method(store, model), store, cancel=cancel):
                if isinstance(event, Progress):
                    cancel.set()
        assert fingerprint(pipe) == before

        def fail(*_: Any) -> None:
            raise RuntimeError("a part breaks")

        block = next(iter(first_line(pipe.transformer)))
        handle = block.register_forward_hook(fail)
        try:
            assert fingerprint(pipe) != before
            with pytest.raises(RuntimeError, match="a part breaks"):
                tiny.result(engine, every_method(store, model), store)
        finally:
            handle.remove()
        assert fingerprint(pipe) == before


def first_line(transformer: Any) -> Any:
    """The blocks of the main line."""
    return transformer.layers if hasattr(transformer, "layers") else transformer.transformer_blocks


class TestRefusals:
    def test_sides(self, engine: Engine, store: PictureStore, model: str) -> None:
        with pytest.raises(UnsupportedError, match=r"width is 72.*multiple of 16"):
            tiny.pictures(engine, text(model, width=72), store)

    def test_schedulers_of_other_families(self, engine: Engine, store: PictureStore, model: str) -> None:
        with pytest.raises(UnsupportedError, match=r"dpm\+\+2m"):
            tiny.pictures(engine, text(model, scheduler="dpm++2m"), store)

    def test_every_word_is_done_or_refused_by_name(
        self, engine: Engine, store: PictureStore, model: str
    ) -> None:
        """A request for each word of the table either runs or raises an error with the word in it."""
        asked: dict[str, RenderRequest] = {
            "keep_shape": collage(store, model, car={"keep_shape": 0.5}),
            "look": collage(
                store, model, car={"look": LookRequest(cutout=store.put(tiny.picture(3, 4)), steps=1)}
            ),
            "vary": collage(store, model, car={"vary": 0.5}, images=2),
            "negative_prompt": text(model, negative_prompt="rain"),
            "cads": text(model, cads=0.8),
            "guidance_interval": text(model, guidance_interval=(0.0, 0.5)),
        }
        for word, request in asked.items():
            if refusal(engine.load(model).family.name, word) is None:
                plain = tiny.pictures(engine, text(model), store)[0]
                assert not np.array_equal(plain, tiny.pictures(engine, request, store)[0]), word
            else:
                with pytest.raises(UnsupportedError, match=word.replace("_", " ")):
                    tiny.pictures(engine, request, store)


class TestVary:
    @pytest.mark.parametrize("background", [0.5, 1.0])
    def test_one_noise_outside_and_each_its_own_inside(
        self, engine: Engine, store: PictureStore, model: str, background: float
    ) -> None:
        """What the denoiser is first given: by image-to-image's own noise, by ours, and from pure noise."""
        loaded, kept = engine.load(model), []
        cells = inside_cells(torch.from_numpy(tiny.CAT)[None] / 255, (64 // loaded.card.factor,) * 2)

        class Watch(Method):
            order = 99

            def before_forward(self, step: Step, inputs: Inputs) -> None:
                size = step.latent_size
                kept.append(loaded.family.unpack(inputs.sample[step.branches[0]].clone(), size))

        def start(vary: float) -> torch.Tensor:
            kept.clear()
            wanted = {"harmonize": 0.5, "vary": vary}
            request = collage(
                store,
                model,
                car={"harmonize": 0.5},
                cat=wanted,
                background_harmonize=background,
                images=2,
                steps=2,
            )
            sampled(loaded, request, store, [*methods_for(request), Watch()], seeds=2)
            return kept[0]

        on, off = start(1.0), start(0.0)
        assert torch.equal(on[0], off[0]) and torch.equal(on[:, :, cells], off[:, :, cells])
        assert torch.equal(on[1, :, ~cells], on[0, :, ~cells])
        assert not torch.equal(off[1, :, ~cells], off[0, :, ~cells])
        assert not torch.equal(on[1, :, cells], on[0, :, cells])


class TestRivals:
    def test_noise_on_the_condition(self, engine: Engine, store: PictureStore, model: str) -> None:
        """Only the rows of the prompt, only in the early steps; and the picture changes."""
        family = engine.load(model).family
        seen: list[tuple[list[int], list[torch.Tensor]]] = []

        class Watch(Method):
            order = 9

            def before_forward(self, step: Step, inputs: Inputs) -> None:
                seen.append((step.conditional, [row.clone() for row in family.texts(inputs.kwargs)]))

        def run(cads: float) -> tuple[list[Pixels], list[tuple[list[int], list[torch.Tensor]]]]:
            seen.clear()
            request = text(model, cads=cads, images=2)
            made = sampled(engine.load(model), request, store, [*methods_for(request), Watch()], seeds=2)
            return made, list(seen)

        (on, texts), (off, plain) = run(0.8), run(0.0)
        turns = len(texts) // 4
        for call, ((rows, ours), (_, stock_rows)) in enumerate(zip(texts, plain, strict=True)):
            early = call // turns < 2  # times 1 and .75 of four steps
            for row, (one, other) in enumerate(zip(ours, stock_rows, strict=True)):
                assert torch.equal(one, other) == (not early or row not in rows)
        assert min(tiny.moved(a, b) for a, b in zip(on, off, strict=True)) > 0.01

    def test_guidance_interval(self, engine: Engine, store: PictureStore, model: str) -> None:
        if model not in GUIDED:
            with pytest.raises(UnsupportedError, match="guidance interval"):
                tiny.pictures(engine, text(model, guidance_interval=(0.0, 1.0)), store)
            return
        plain, everywhere, never = (
            tiny.pictures(engine, text(model, guidance_interval=one), store)[0]
            for one in (None, (0.0, MAX_LEVEL), (0.0, 1e-6))
        )
        assert np.array_equal(plain, everywhere)
        least = 0.0 if model == "zimage" else 1.0
        [unguided] = tiny.pictures(engine, text(model, guidance=least), store)
        assert int(np.abs(never.astype(int) - unguided).max()) <= 1
        assert tiny.moved(plain, unguided) > 0.01
        with_avoid = text(model, guidance_interval=(0.0, 1e-6), avoids=(tiny.avoid(store),), window=1.0)
        assert tiny.moved(tiny.pictures(engine, with_avoid, store)[0], never) > 0.01, "avoid then pushes"


def test_from_a_collage_file_to_a_png(
    engine: Engine, model: str, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The studio's own way: archive → request → engine → PNG with the collage inside."""
    from studio.document import Canvas, Collage, Layer
    from studio.formats import archive, png
    from studio.pictures import Library
    from studio.to_request import to_request

    monkeypatch.setitem(CARDS, model, tt.card_for(model))
    library = Library()
    cutout = np.dstack([tiny.picture(3), tiny.CAT])
    digest = library.add(Image.fromarray(cutout))
    document = Collage(
        canvas=Canvas(width=64, height=64),
        model=model,
        prompt="a red car on the beach",
        layers=[Layer(id="one", name="car", picture=digest, prompt="red car", x=32, y=32, attend_inside=1.0)],
        seed=3,
    )
    archive.write(tmp_path / "one.collage", document, library)
    collage_read, pictures = archive.read(tmp_path / "one.collage")
    store = PictureStore()
    prepared = to_request(collage_read, pictures, store)
    assert prepared.request.scheduler == "flow_euler" and prepared.request.layers[0].attend_inside == 1
    outcome = tiny.result(engine, prepared.request, store)
    (tmp_path / "one.png").write_bytes(png.embed_result(outcome, 0, collage_read, pictures))
    again, _ = png.read(tmp_path / "one.png")
    assert again.prompt == document.prompt and again.model == model
    with Image.open(tmp_path / "one.png") as shown:
        assert np.array_equal(np.asarray(shown.convert("RGB")), outcome.pictures[0])


class TestWords:
    """Phrases on the string that the pipeline tokenizes: the ids at their places spell them."""

    PLACES: ClassVar[dict[str, tuple[str, list[int]]]] = {
        "sd3": ("tokenizer_3", [78, 79, 80, 81]),
        "flux": ("tokenizer_2", [1, 2, 3, 4]),
        "schnell": ("tokenizer_2", [1, 2, 3, 4]),
        "chroma": ("tokenizer", [1, 2, 3, 4]),
        "zimage": ("tokenizer", [4, 5]),
        "flux2": ("tokenizer", [503, 504]),
        "klein": ("tokenizer", [4, 5]),
        "qwen": ("tokenizer", [1, 2]),
    }

    def test_places(self, engine: Engine, store: PictureStore, model: str) -> None:
        loaded = engine.load(model)
        found = loaded.family.tokens(loaded.pipe, collage(store, model))[0]
        assert found == ([2, 3] if model == "sd3" else []) + self.PLACES[model][1]

    def test_the_encoder_reads_the_phrase_there(
        self, engine: Engine, store: PictureStore, model: str
    ) -> None:
        """Ids caught at the text encoder itself, with the pipeline's padding, template and dropped tokens."""
        loaded = engine.load(model)
        name, places = self.PLACES[model]
        encoder = getattr(loaded.pipe, name.replace("tokenizer", "text_encoder"))
        read: list[torch.Tensor] = []

        def note(module: Any, args: Any, kwargs: Any) -> None:
            read.append(args[0] if args else kwargs["input_ids"])

        handle = encoder.register_forward_pre_hook(note, with_kwargs=True)
        try:
            sampled(loaded, text(model, steps=2), store, [])
        finally:
            handle.remove()
        before = {"sd3": -77, "qwen": 34}.get(model, 0)
        spelt = [int(read[0][0, place + before]) for place in places]
        tokenizer = getattr(loaded.pipe, name)
        words = getattr(tokenizer, "tokenizer", tokenizer).decode(spelt)
        assert words.replace(" ", "") == "redcar"

    def test_cut_off(self, engine: Engine, store: PictureStore, model: str) -> None:
        loaded = engine.load(model)
        prompt = "at night " * 400 + "red car"
        request = collage(store, model).replace(
            prompt=prompt,
            layers=(
                dataclasses.replace(collage(store, model).layers[0], span=(len(prompt) - 7, len(prompt))),
            ),
        )
        with pytest.raises(PhraseError, match="red car"):
            loaded.family.tokens(loaded.pipe, request)

    def test_padding_on_the_left_moves_the_places(self) -> None:
        words = copy.copy(tt.qwen_words())
        assert moved_by_padding(words, "a red car", [[1, 2]], 8) == [[1, 2]]
        words.padding_side = "left"
        ids = words("a red car", padding="max_length", max_length=8)["input_ids"]
        places = moved_by_padding(words, "a red car", [[1, 2]], 8)[0]
        assert words.decode([ids[place] for place in places]).strip() == "red car"

    def test_what_clip_cuts_off_t5_still_reads(self, engine: Engine, store: PictureStore) -> None:
        loaded = engine.load("sd3")
        prompt = "a " * 80 + "red car"
        layer = dataclasses.replace(collage(store, "sd3").layers[0], span=(160, 167))
        found = loaded.family.tokens(
            loaded.pipe, collage(store, "sd3").replace(prompt=prompt, layers=(layer,))
        )
        assert found[0] and min(found[0]) >= 77
