"""What the engine says while it runs, and its report."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from pipelines.engine import Engine
from pipelines.events import Finished, ImageDone, Preview, Progress, Started, Warned
from pipelines.pictures import PictureStore
from tests.pipelines import tiny


@contextmanager
def each_call_takes(seconds: float, pipe: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A denoiser call takes so many seconds of the job's clock, however busy the machine is."""
    calls: list[int] = []
    monkeypatch.setattr("pipelines.job.time", SimpleNamespace(monotonic=lambda: seconds * len(calls)))
    handle = pipe.unet.register_forward_pre_hook(lambda *_: calls.append(1))
    try:
        yield
    finally:
        handle.remove()


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

    def test_previews_come_at_most_twice_a_second(
        self, pipe: Any, store: PictureStore, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        own = Engine()
        own.adopt("own", pipe, tiny.card_for("own"))
        assert own.preview_seconds == 0.5
        with each_call_takes(0.15, pipe, monkeypatch):
            found = tiny.events(own, tiny.text_request("own", steps=11), store)
        assert [event.step for event in found if isinstance(event, Preview)] == [1, 5, 9]

    @pytest.mark.parametrize("spread", [0.0, 1.0])
    def test_previews_of_four_images_come_no_faster(
        self, pipe: Any, store: PictureStore, monkeypatch: pytest.MonkeyPatch, spread: float
    ) -> None:
        """Every third step has a preview, of one image."""
        own = Engine()
        own.adopt("own", pipe, tiny.card_for("own"))
        with each_call_takes(0.2, pipe, monkeypatch):
            found = tiny.events(own, tiny.text_request("own", steps=11, images=4, spread=spread), store)
        shown = [(event.image, event.step) for event in found if isinstance(event, Preview)]
        together = [(0, 1), (0, 4), (0, 7), (0, 10)]
        if spread:
            assert shown == together
        else:
            assert shown[:4] == together and {image for image, _ in shown} == {0, 1, 2, 3}
            after = [11 * image + step for image, step in shown]
            assert min(np.diff(after)) == 3 and len(shown) < 44 / 3

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
