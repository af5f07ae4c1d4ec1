"""The engine on tiny real pipelines: what is off is not there, what is stopped stops, nothing is left behind."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import diffusers
import numpy as np
import pytest
import torch
from PIL import Image

from pipelines.engine import Engine, default_engine
from pipelines.errors import (
    Cancelled,
    FieldError,
    ModelError,
    PhraseError,
    PictureError,
    UnsupportedError,
)
from pipelines.events import Finished, ImageDone, Preview, Progress, Started, Warned
from pipelines.models.card import SCHEDULERS
from pipelines.pictures import PictureStore, Pixels
from pipelines.request import RenderRequest
from tests.pipelines import tiny

STOCK: dict[str, tuple[str, dict[str, Any]]] = {
    "dpm++2m": ("DPMSolverMultistepScheduler", {}),
    "euler": ("EulerDiscreteScheduler", {}),
    "euler_a": ("EulerAncestralDiscreteScheduler", {}),
    "ddim": ("DDIMScheduler", {"clip_sample": False}),
    "lcm": ("LCMScheduler", {"clip_sample": False}),
    "unipc": ("UniPCMultistepScheduler", {}),
}


def stock(pipe: Any, request: RenderRequest, picture: Pixels | None = None, strength: float = 1.0) -> Pixels:
    """What diffusers itself makes of a request, image 0, with nothing of ours in the way."""
    name, options = STOCK[request.scheduler]
    scheduler = getattr(diffusers, name).from_config(pipe.scheduler.config, **options)
    xl = "XL" if "XL" in type(pipe).__name__ else ""
    kind = f"StableDiffusion{xl}Pipeline" if picture is None else f"StableDiffusion{xl}Img2ImgPipeline"
    own = {"add_watermarker": False} if xl else {"requires_safety_checker": False}
    made = getattr(diffusers, kind)(**{**pipe.components, "scheduler": scheduler}, **own)
    made.set_progress_bar_config(disable=True)
    where: dict[str, Any] = (
        {"height": request.height, "width": request.width}
        if picture is None
        else {"image": Image.fromarray(picture), "strength": strength}
    )
    out = made(
        prompt=request.prompt,
        negative_prompt=request.negative_prompt or None,
        num_inference_steps=request.steps,
        guidance_scale=request.guidance,
        generator=torch.Generator().manual_seed(request.seed),
        output_type="np",
        **where,
    )
    return np.rint(np.asarray(out.images[0]).clip(0, 1) * 255).astype(np.uint8)


def fingerprint(pipe: Any) -> tuple[Any, ...]:
    """Everything about a pipeline that a run could leave changed: objects by identity, numbers by value."""
    modules = list(pipe.unet.modules())
    return (
        {name: id(part) for name, part in pipe.components.items()},
        [id(module.processor) for module in modules if hasattr(module, "processor")],
        [len(module._forward_hooks) + len(module._forward_pre_hooks) for module in modules],
        dict(pipe.scheduler.config),
        {name: id(value) for name, value in vars(pipe.scheduler).items()},
        dict(pipe.config),
        [(name, p.dtype, p.detach().sum().item()) for name, p in pipe.vae.named_parameters()],
    )


@contextmanager
def counted(pipe: Any) -> Iterator[dict[str, int]]:
    """Counts denoiser calls and decodings through hooks of its own."""
    seen = {"denoiser": 0, "decoder": 0}

    def note(what: str) -> Callable[..., None]:
        def hook(*_: Any) -> None:
            seen[what] += 1

        return hook

    handles = [
        pipe.unet.register_forward_hook(note("denoiser")),
        pipe.vae.decoder.register_forward_hook(note("decoder")),
    ]
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()


def every_method(store: PictureStore, model: str = "sd_velocity") -> RenderRequest:
    """A request that needs all methods in one run."""
    return tiny.collage_request(
        store,
        model,
        car={"attend_inside": 0.8, "attend_outside": 0.5},
        cat={"harmonize": 0.0},
        images=2,
        spread=1.0,
        spread_threshold=0.0,
        avoids=(tiny.avoid(store),),
    )


class TestEvents:
    def test_order_and_counts(self, engine: Engine, store: PictureStore) -> None:
        request = tiny.collage_request(store, images=2)
        found = tiny.events(engine, request, store)
        assert found[0] == Started(tiny.PROMPT, 3, 2)
        kinds = [type(event) for event in found]
        image = [Progress, Preview, Progress, Preview, Progress, ImageDone]
        assert kinds == [Started, *image, *image, Finished]
        steps = [(e.step, e.steps, e.image, e.images) for e in found if isinstance(e, Progress)]
        assert steps == [(1, 3, 0, 2), (2, 3, 0, 2), (3, 3, 0, 2), (1, 3, 1, 2), (2, 3, 1, 2), (3, 3, 1, 2)]
        done = [event for event in found if isinstance(event, ImageDone)]
        assert [(event.image, event.seed) for event in done] == [(0, 7), (1, 8)]
        last = found[-1]
        assert isinstance(last, Finished)
        assert last.result.request == request
        assert all(np.array_equal(a, b.picture) for a, b in zip(last.result.pictures, done, strict=True))
        assert last.result.report["denoiser_calls"] == 6

    def test_previews_come_at_most_twice_a_second(self, pipe: Any, store: PictureStore) -> None:
        calm = Engine()
        calm.adopt("sd_velocity", pipe, tiny.card_for("sd_velocity"))
        found = tiny.events(calm, tiny.text_request(steps=8), store)
        assert calm.preview_seconds == 0.5
        assert len(tiny.previews(found)) < 4

    def test_spread_over_one_image_warns(self, engine: Engine, store: PictureStore) -> None:
        request = tiny.text_request(spread=1.0)
        found = tiny.events(engine, request, store)
        assert [type(event) for event in found[:2]] == [Started, Warned]
        assert "spread" in tiny.warnings(found)[0] and "images" in tiny.warnings(found)[0]
        last = found[-1]
        assert isinstance(last, Finished) and last.result.report["warnings"] == tiny.warnings(found)
        plain = tiny.pictures(engine, tiny.text_request(), store)
        assert np.array_equal(last.result.pictures[0], plain[0])

    def test_the_report_is_json(self, engine: Engine, store: PictureStore) -> None:
        import json

        report = tiny.result(engine, tiny.text_request(), store).report
        assert json.loads(json.dumps(report)) == report
        assert report["model"] == "sd_velocity" and report["device"] == "cpu" and report["dtype"] == "float32"


class TestOffMeansOff:
    @pytest.mark.parametrize("scheduler", SCHEDULERS)
    def test_text_to_image_is_the_stock_pipeline(
        self, engine: Engine, store: PictureStore, model: str, scheduler: str
    ) -> None:
        request = tiny.text_request(model, scheduler=scheduler)
        ours = tiny.pictures(engine, request, store)[0]
        assert np.array_equal(ours, stock(engine.load(model).pipe, request))
        assert ours.std() > 5, "a flat picture would be equal to anything"

    @pytest.mark.parametrize("scheduler", SCHEDULERS)
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


class TestNothingIsLeftBehind:
    def test_after_a_run(self, engine: Engine, store: PictureStore, model: str) -> None:
        pipe = engine.load(model).pipe
        before = fingerprint(pipe)
        tiny.result(engine, every_method(store, model), store)
        assert fingerprint(pipe) == before

    def test_after_an_exception(self, engine: Engine, store: PictureStore, model: str) -> None:
        pipe = engine.load(model).pipe
        before = fingerprint(pipe)
        request = every_method(store, model)
        plain = tiny.pictures(engine, tiny.text_request(model), store)[0]

        def fail(*_: Any) -> None:
            raise RuntimeError("a part breaks")

        handle = pipe.unet.mid_block.register_forward_hook(fail)
        try:
            with pytest.raises(RuntimeError, match="a part breaks"):
                tiny.result(engine, request, store)
        finally:
            handle.remove()
        assert fingerprint(pipe) == before
        assert np.array_equal(plain, tiny.pictures(engine, tiny.text_request(model), store)[0])

    def test_after_a_stop(self, engine: Engine, store: PictureStore, model: str) -> None:
        pipe = engine.load(model).pipe
        before = fingerprint(pipe)
        cancel = threading.Event()
        with pytest.raises(Cancelled):
            for event in engine.render(every_method(store, model), store, cancel=cancel):
                if isinstance(event, Progress):
                    cancel.set()
        assert fingerprint(pipe) == before

    def test_the_fingerprint_would_notice(self, engine: Engine) -> None:
        pipe = engine.load("sd_noise").pipe
        before = fingerprint(pipe)
        handle = pipe.unet.register_forward_hook(lambda *_: None)
        assert fingerprint(pipe) != before
        handle.remove()
        assert fingerprint(pipe) == before

    def test_offload_hooks_are_freed_even_after_an_exception(self, pipe: Any, store: PictureStore) -> None:
        freed: list[int] = []

        class Offloaded(diffusers.StableDiffusionPipeline):
            def maybe_free_model_hooks(self) -> None:
                freed.append(1)
                super().maybe_free_model_hooks()

        own = Engine()
        own.adopt("own", Offloaded(**pipe.components, requires_safety_checker=False), tiny.card_for("own"))
        tiny.result(own, tiny.text_request("own"), store)
        assert freed == [1]
        with pytest.raises(UnsupportedError):
            tiny.result(own, tiny.text_request("own", scheduler="heun"), store)
        assert freed == [1, 1]
        assert not own.load("own").lock.locked()


class TestDeterminism:
    @pytest.mark.parametrize("scheduler", ["dpm++2m", "euler_a", "lcm"])
    def test_image_k_of_a_batch_is_image_k_alone(
        self, engine: Engine, store: PictureStore, model: str, scheduler: str
    ) -> None:
        request = tiny.collage_request(
            store, model, cat={"harmonize": 0.2}, car={"attend_inside": 0.7}, images=3, scheduler=scheduler
        )
        batch = tiny.pictures(engine, request, store)
        for k in range(3):
            alone = tiny.pictures(engine, request.replace(images=1, seed=request.seed + k), store)
            assert np.array_equal(batch[k], alone[0])
        assert tiny.moved(batch[0], batch[1]) > 0.2

    def test_equal_requests_give_equal_pictures(self, engine: Engine, store: PictureStore) -> None:
        request = every_method(store)
        again = RenderRequest.from_json(request.to_json())
        for one, other in zip(
            tiny.pictures(engine, request, store), tiny.pictures(engine, again, store), strict=True
        ):
            assert np.array_equal(one, other)

    def test_seed_zero_is_a_seed(self, engine: Engine, store: PictureStore) -> None:
        zero = tiny.pictures(engine, tiny.text_request(seed=0), store)[0]
        assert np.array_equal(zero, tiny.pictures(engine, tiny.text_request(seed=0), store)[0])
        assert tiny.moved(zero, tiny.pictures(engine, tiny.text_request(seed=1), store)[0]) > 0.2

    def test_no_method_moves_the_samplers_generator(
        self, engine: Engine, store: PictureStore, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The next number after a run is the same with all methods as with none (Euler a draws at each step)."""
        made: list[torch.Generator] = []
        real = torch.Generator

        class Kept(real):  # type: ignore[misc, valid-type]
            def __init__(self) -> None:
                made.append(self)

        def after(request: RenderRequest) -> list[float]:
            made.clear()
            with monkeypatch.context() as patch:
                patch.setattr("pipelines.sampling.torch.Generator", Kept)
                tiny.result(engine, request, store)
            # those seeded with the request's seeds are the sampler's
            return [float(torch.rand(1, generator=g)) for g in made if g.initial_seed() in (7, 8)]

        on = every_method(store).replace(scheduler="euler_a")
        off = tiny.collage_request(store, scheduler="euler_a", images=2)
        assert after(on) == after(off)
        assert len(after(on)) == 2
        longer = off.replace(steps=10)
        assert after(longer) != after(off)

    def test_the_global_random_stream_is_left_alone(self, engine: Engine, store: PictureStore) -> None:
        torch.manual_seed(3)
        expected = float(torch.rand(1))
        torch.manual_seed(3)
        tiny.result(engine, every_method(store), store)
        assert float(torch.rand(1)) == expected


class TestStop:
    def test_stop_counts(self, engine: Engine, store: PictureStore, pipe: Any) -> None:
        cancel = threading.Event()
        with counted(pipe) as seen, pytest.raises(Cancelled):
            for event in engine.render(tiny.text_request(steps=20, images=4), store, cancel=cancel):
                if isinstance(event, Progress) and event.step == 3:
                    cancel.set()
                assert not isinstance(event, ImageDone)
        # the worker may be one step ahead of its reader when the stop arrives
        assert 3 <= seen["denoiser"] <= 6
        assert seen["decoder"] == 0

    def test_stopping_after_the_last_step_decodes_nothing(self, store: PictureStore, pipe: Any) -> None:
        from pipelines.engine import _Job

        own = Engine()
        own.adopt("own", pipe, tiny.card_for("own"))
        stop = threading.Event()

        def say(event: Any) -> None:
            if isinstance(event, Progress) and event.step == event.steps - 1:
                stop.set()

        with counted(pipe) as seen, pytest.raises(Cancelled):
            _Job(own, tiny.text_request("own", images=2), store, say, (stop,)).run()
        assert seen == {"denoiser": 5, "decoder": 0}

    def test_stopping_between_two_images_begins_no_other(self, store: PictureStore, pipe: Any) -> None:
        from pipelines.engine import _Job

        own = Engine()
        own.adopt("own", pipe, tiny.card_for("own"))
        stop = threading.Event()

        def say(event: Any) -> None:
            if isinstance(event, ImageDone):
                stop.set()

        with counted(pipe) as seen, pytest.raises(Cancelled):
            _Job(own, tiny.text_request("own", images=2), store, say, (stop,)).run()
        assert seen == {"denoiser": 5, "decoder": 1}

    def test_without_a_stop_everything_is_decoded(
        self, engine: Engine, store: PictureStore, pipe: Any
    ) -> None:
        with counted(pipe) as seen:
            tiny.result(engine, tiny.text_request(images=2), store)
        assert seen == {"denoiser": 10, "decoder": 2}

    def test_stopped_before_it_starts(self, engine: Engine, store: PictureStore, pipe: Any) -> None:
        cancel = threading.Event()
        cancel.set()
        with counted(pipe) as seen, pytest.raises(Cancelled):
            list(engine.render(tiny.text_request(), store, cancel=cancel))
        assert seen == {"denoiser": 0, "decoder": 0}

    def test_closing_the_generator_stops(self, engine: Engine, store: PictureStore, pipe: Any) -> None:
        threads = threading.active_count()
        with counted(pipe) as seen:
            running = engine.render(tiny.text_request(steps=50), store)
            for event in running:
                if isinstance(event, Progress):
                    break
            running.close()
            assert threading.active_count() == threads
            assert seen["denoiser"] < 10 and seen["decoder"] == 0
        assert not engine.load("sd_velocity").lock.locked()

    def test_two_jobs_on_one_model_take_turns(self, engine: Engine, store: PictureStore, pipe: Any) -> None:
        inside, most = 0, 0
        lock = threading.Lock()

        def enter(*_: Any) -> None:
            nonlocal inside, most
            with lock:
                inside += 1
                most = max(most, inside)

        def leave(*_: Any) -> None:
            nonlocal inside
            with lock:
                inside -= 1

        handles = [pipe.unet.register_forward_pre_hook(enter), pipe.unet.register_forward_hook(leave)]
        request = tiny.collage_request(store, car={"attend_inside": 1.0})
        alone = tiny.pictures(engine, request, store)[0]
        found: list[Pixels] = []
        jobs = [
            threading.Thread(target=lambda: found.append(tiny.pictures(engine, request, store)[0]))
            for _ in range(2)
        ]
        try:
            for job in jobs:
                job.start()
            for job in jobs:
                job.join()
        finally:
            for handle in handles:
                handle.remove()
        assert most == 1
        assert len(found) == 2 and all(np.array_equal(alone, picture) for picture in found)

    def test_a_waiting_job_can_be_stopped(self, engine: Engine, store: PictureStore) -> None:
        cancel = threading.Event()
        with engine.load("sd_velocity").lock:
            threading.Timer(0.05, cancel.set).start()
            with pytest.raises(Cancelled):
                list(engine.render(tiny.text_request(), store, cancel=cancel))


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

    @pytest.mark.parametrize("scheduler", SCHEDULERS)
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


class TestRefusals:
    @pytest.mark.parametrize(
        ("word", "value", "says"),
        [("keep_shape", 0.5, "keep")],
    )
    def test_words_of_later_are_refused_by_name(
        self, engine: Engine, store: PictureStore, word: str, value: Any, says: str
    ) -> None:
        request = tiny.collage_request(store, cat={word: value})
        with pytest.raises(UnsupportedError, match=f"layer 'cat'.*{says}"):
            tiny.result(engine, request, store)

    @pytest.mark.parametrize("name", ["heun", "pndm", ""])
    def test_unknown_schedulers_are_refused_by_name(
        self, engine: Engine, store: PictureStore, name: str
    ) -> None:
        with pytest.raises(UnsupportedError, match=rf"'{name}'.*dpm\+\+2m"):
            tiny.result(engine, tiny.text_request(scheduler=name), store)
        nothing = {"harmonize": 0.0}
        frozen = tiny.collage_request(
            store, car=nothing, cat=nothing, background_harmonize=0.0, scheduler=name
        )
        with pytest.raises(UnsupportedError, match=f"'{name}'"):
            tiny.result(engine, frozen, store)

    def test_too_many_steps_for_lcm(self, engine: Engine, store: PictureStore) -> None:
        with pytest.raises(UnsupportedError, match="50 steps"):
            tiny.result(engine, tiny.text_request(scheduler="lcm", steps=51), store)

    def test_a_phrase_cut_off_names_the_layer(self, engine: Engine, store: PictureStore) -> None:
        prompt = "a red car " * 30 + "and a cat"
        at = prompt.find("cat")
        cut = tiny.layer(store, "cat", tiny.CAT, span=(at, at + 3), attend_inside=1.0)
        request = tiny.collage_request(store).replace(prompt=prompt, layers=(cut,))
        with pytest.raises(PhraseError, match=r"layer 'cat'.*'cat'.*75 tokens"):
            tiny.result(engine, request, store)

    def test_a_prompt_cut_off_warns(self, engine: Engine, store: PictureStore) -> None:
        for words, warned in (
            ({"prompt": "a red car " * 30}, ["prompt"]),
            ({"prompt": "a cat", "negative_prompt": "a red car " * 30}, ["negative prompt"]),
            ({"prompt": "a red car " * 20}, []),
        ):
            done = tiny.result(engine, tiny.text_request(steps=1, **words), store)
            assert done.report["warnings"] == [
                f"the {what} is longer than the model reads; its end has no effect." for what in warned
            ]

    def test_an_unknown_model(self, store: PictureStore) -> None:
        with pytest.raises(ModelError, match=r"'nonesuch'.*embedded"):
            tiny.result(Engine(), tiny.text_request("nonesuch"), store)

    def test_a_missing_picture(self, engine: Engine, store: PictureStore) -> None:
        request = tiny.collage_request(store)
        with pytest.raises(PictureError, match="not in the store"):
            tiny.result(engine, request, PictureStore())

    @pytest.mark.parametrize("what", ["collage", "frozen", "mask", "avoid"])
    def test_a_picture_of_another_size(self, engine: Engine, store: PictureStore, what: str) -> None:
        request = tiny.collage_request(store)
        small = np.zeros((32, 32, 3), np.uint8)
        if what == "mask":
            request = request.replace(layers=(tiny.layer(store, "cat", small[..., 0]),))
        elif what == "avoid":
            request = request.replace(avoids=(tiny.avoid(store, picture=store.put(small)),))
        else:
            request = request.replace(**{what: store.put(small)})
        with pytest.raises(PictureError, match="shape"):
            tiny.result(engine, request, store)

    def test_a_model_that_gives_no_numbers(self, store: PictureStore) -> None:
        from pipelines.errors import EngineError

        broken = tiny.sd_velocity()
        broken.unet.conv_out.weight.data.fill_(float("nan"))
        own = Engine()
        own.adopt("own", broken, tiny.card_for("own"))
        with pytest.raises(EngineError, match="no picture"):
            tiny.result(own, tiny.text_request("own"), store)

    @pytest.mark.parametrize("error", [MemoryError, torch.OutOfMemoryError])
    def test_too_little_memory(self, store: PictureStore, pipe: Any, error: type[Exception]) -> None:
        def full(*_: Any) -> None:
            raise error("out of memory")

        own = Engine()
        own.adopt("own", pipe, tiny.card_for("own"))
        handle = pipe.unet.mid_block.register_forward_hook(full)
        try:
            with pytest.raises(ModelError, match="too little memory for 1 pictures of 64×64 with own; lower"):
                tiny.result(own, tiny.text_request("own"), store)
        finally:
            handle.remove()

    def test_layers_need_a_collage(self, store: PictureStore) -> None:
        with pytest.raises(FieldError, match="collage"):
            tiny.text_request(layers=(tiny.layer(store, "cat", tiny.CAT),))

    def test_a_refused_request_leaves_the_engine_usable(self, engine: Engine, store: PictureStore) -> None:
        with pytest.raises(UnsupportedError):
            tiny.result(engine, tiny.text_request(scheduler="heun"), store)
        assert len(tiny.pictures(engine, tiny.text_request(), store)) == 1


class TestEdges:
    @pytest.mark.parametrize("scheduler", SCHEDULERS)
    def test_one_step(self, engine: Engine, store: PictureStore, scheduler: str) -> None:
        request = tiny.collage_request(
            store, scheduler=scheduler, steps=1, background_harmonize=1.0, cat={"harmonize": 0.0}
        )
        result = tiny.result(engine, request, store)
        assert result.report["denoiser_calls"] == 1
        assert np.array_equal(result.pictures[0][tiny.CAT == 255], tiny.picture(1)[tiny.CAT == 255])

    def test_an_empty_prompt(self, engine: Engine, store: PictureStore) -> None:
        request = tiny.collage_request(store)
        bare = tuple(tiny.layer(store, one.name, tiny.CAT, span=None) for one in request.layers)
        assert len(tiny.pictures(engine, request.replace(prompt="", layers=bare), store)) == 1

    def test_forty_layers(self, engine: Engine, store: PictureStore, model: str) -> None:
        """Without words they render; with words the first whose words do not fit is named."""
        places = [(top, left) for top in range(0, 40, 8) for left in range(0, 64, 8)]
        layers = tuple(
            tiny.layer(store, f"l{k}", tiny.box(top, left, top + 8, left + 8), harmonize=k / 40)
            for k, (top, left) in enumerate(places)
        )
        request = tiny.collage_request(store, model).replace(layers=layers)
        ours = tiny.pictures(engine, request, store)[0]
        assert tiny.moved(ours, tiny.picture(1)) > 3
        worded = tuple(
            dataclasses.replace(one, span=(8 * k, 8 * k + 7), attend_inside=0.5, attend_outside=0.5)
            for k, one in enumerate(layers)
        )
        with pytest.raises(PhraseError, match=r"layer 'l37': its words 'red car' are cut off"):
            tiny.result(engine, request.replace(prompt="red car " * 40, layers=worded), store)
        fitting = request.replace(prompt="red car " * 37, layers=(*worded[:37], *layers[37:]))
        assert tiny.moved(tiny.pictures(engine, fitting, store)[0], ours) > 0.5

    @pytest.mark.parametrize(("width", "height"), [(64, 128), (136, 72)])
    def test_other_shapes(
        self, engine: Engine, store: PictureStore, model: str, width: int, height: int
    ) -> None:
        mask = np.zeros((height, width), np.uint8)
        mask[: height // 2] = 255
        flat = np.full((height, width, 3), 90, np.uint8)
        one = tiny.layer(store, "cat", mask, attend_inside=1.0, attend_outside=1.0, harmonize=0.4)
        request = tiny.text_request(
            model,
            width=width,
            height=height,
            collage=store.put(flat),
            layers=(one,),
            images=2,
            spread=1.0,
            spread_threshold=0.0,
            avoids=(tiny.avoid(store, picture=store.put(flat)),),
        )
        made = tiny.pictures(engine, request, store)
        assert [picture.shape for picture in made] == [(height, width, 3)] * 2

    def test_the_shared_engine_is_one(self) -> None:
        assert default_engine() is default_engine()
