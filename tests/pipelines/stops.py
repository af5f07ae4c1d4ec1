"""Runs that are told to stop at a known place, however late their reader is: events wait in a queue without end."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

import pytest
import torch

from pipelines import engine as engine_module
from pipelines.engine import Engine
from pipelines.errors import Cancelled
from pipelines.events import Event, Progress
from pipelines.job import Job
from pipelines.pictures import PictureStore
from pipelines.request import RenderRequest


def stopped(
    engine: Engine,
    request: RenderRequest,
    store: PictureStore,
    at: Callable[[Event], bool] = lambda event: isinstance(event, Progress),
) -> list[Event]:
    """The events of a run that is told to stop while it says the first that ``at`` takes; by default its first step."""
    stop, said = threading.Event(), []

    def say(event: Event) -> None:
        said.append(event)
        if at(event):
            stop.set()

    with pytest.raises(Cancelled):
        Job(engine, request, store, say, (stop,), False).run()
    return said


@contextmanager
def held(denoiser: torch.nn.Module, call: int) -> Iterator[None]:
    """In an engine's run the denoiser's call of that number, 1 the first, waits until the run's reader closes it."""
    jobs: list[Job] = []
    calls = 0

    class Known(Job):
        def __init__(self, *given: Any) -> None:
            super().__init__(*given)
            jobs.append(self)

    def wait(*_: Any) -> None:
        nonlocal calls
        calls += 1
        if calls == call:
            jobs[-1].stops[0].wait(60)  # then it goes on, and is counted

    handle = denoiser.register_forward_pre_hook(wait)
    try:
        with mock.patch.object(engine_module, "Job", Known):
            yield
    finally:
        handle.remove()
