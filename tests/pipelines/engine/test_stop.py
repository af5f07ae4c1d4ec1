"""What is stopped stops, and decodes nothing."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import pytest

from pipelines import engine as engine_module
from pipelines.engine import Engine
from pipelines.errors import Cancelled, ModelError
from pipelines.events import ImageDone, Progress
from pipelines.pictures import PictureStore, Pixels
from tests.pipelines import tiny
from tests.pipelines.engine.runs import counted
from tests.pipelines.stops import held, stopped


class TestStop:
    def test_stop_counts(self, engine: Engine, store: PictureStore, pipe: Any) -> None:
        with counted(pipe) as seen:
            request = tiny.text_request(steps=20, images=4)
            said = stopped(engine, request, store, lambda one: isinstance(one, Progress) and one.step == 3)
        # the call after it ends, and nothing is said of it
        assert [one.step for one in said if isinstance(one, Progress)] == [1, 2, 3]
        assert not any(isinstance(one, ImageDone) for one in said)
        assert seen == {"denoiser": 4, "decoder": 0}

    def test_stopping_after_the_last_step_decodes_nothing(
        self, engine: Engine, store: PictureStore, pipe: Any
    ) -> None:
        with counted(pipe) as seen:
            request = tiny.text_request(images=2)
            stopped(engine, request, store, lambda one: isinstance(one, Progress) and one.step == 4)
        assert seen == {"denoiser": 5, "decoder": 0}

    def test_stopping_between_two_images_begins_no_other(
        self, engine: Engine, store: PictureStore, pipe: Any
    ) -> None:
        with counted(pipe) as seen:
            stopped(engine, tiny.text_request(images=2), store, lambda one: isinstance(one, ImageDone))
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
        with counted(pipe) as seen, held(pipe.unet, 2):
            running = engine.render(tiny.text_request(steps=50), store)
            for event in running:
                if isinstance(event, Progress):
                    break
            running.close()
            assert threading.active_count() == threads
            assert seen == {"denoiser": 2, "decoder": 0}, "the step that was under way ends"
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

    def test_a_job_that_waits_for_another_models_loading_can_be_stopped(
        self, store: PictureStore, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        own, begun, go = Engine(), threading.Event(), threading.Event()

        def slowly(known: Any, *_: Any) -> Any:
            begun.set()
            go.wait(30)
            raise ModelError(f"{known.name} is not here.")

        monkeypatch.setattr(engine_module, "load_pipeline", slowly)
        first: list[str] = []

        def load() -> None:
            with pytest.raises(ModelError) as told:
                list(own.render(tiny.text_request("sd15"), store))
            first.append(str(told.value))

        other = threading.Thread(target=load)
        other.start()
        try:
            assert begun.wait(30)
            cancel = threading.Event()
            threading.Timer(0.3, cancel.set).start()  # longer than one look at the stop sign
            seen: list[Any] = []
            with pytest.raises(Cancelled):
                seen.extend(own.render(tiny.text_request("sdxl"), store, cancel=cancel))
            assert seen == [] and first == [], "the other still loads"
        finally:
            go.set()
            other.join()
        assert first == ["sd15 is not here."]
        with pytest.raises(ModelError, match="sdxl is not here"):  # waiting has left the lock as it was
            list(own.render(tiny.text_request("sdxl"), store))
