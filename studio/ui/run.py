"""Render and Stop: from the page's document through the engine to reports."""

from __future__ import annotations

import html
import re
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import closing
from typing import TYPE_CHECKING, Any, cast

import gradio as gr

from pipelines.errors import Cancelled, DecollageError, FieldError, ModelError
from pipelines.events import Event, Finished
from pipelines.measure.numbers import measured
from pipelines.models import shipped
from pipelines.pictures import PictureStore
from pipelines.request import RenderRequest
from studio.canvas.exchange import Uploads, to_collage
from studio.document import Collage
from studio.edit_layer import Edit, edit_layer, read_result
from studio.pictures import Library
from studio.session import Job, Jobs
from studio.to_request import Prepared, to_request
from studio.ui.report import Keep, Report, as_sentence

if TYPE_CHECKING:
    from pipelines.engine import Engine
    from pipelines.measure.encoders import PictureFeatures

GetEngine = Callable[[], "Engine"]
Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]
Update = dict[str, Any]
PATIENCE = 1.0
"""Seconds between two reports of a render that waits for its turn."""
_STOPPED = {"state": "stopped", "text": "Stopped.", "preview": None}


class Runner:
    """Renders for all tabs. ``engine`` is asked for when the first render comes; ``gpu`` is ZeroGPU's decorator.

    ``features`` measure similarity in the numbers that go with the pictures, None the embedded CLIP.
    """

    def __init__(
        self,
        jobs: Jobs,
        uploads: Uploads,
        keep: Keep,
        models: tuple[str, ...],
        engine: GetEngine,
        gpu: Decorator | None,
        features: PictureFeatures | None = None,
    ) -> None:
        self.jobs, self.uploads, self.keep, self.models = jobs, uploads, keep, models
        self._engine, self._features = engine, features
        self._on_gpu = gpu(_render_elsewhere) if gpu else None

    def render(self, page: dict[str, Any] | None, request: gr.Request) -> Generator[Update]:
        """Reports of one run, the last with state done, stopped or failed; closing the generator stops the run."""
        job = self.jobs.begin(request.session_hash or "")
        plain: dict[str, Any] = {"id": job.number, "state": "running", "text": "Reading the collage…"}
        try:
            yield self._update(
                plain
            )  # not yet in line: what is cancelled before its first report Gradio never closes
            for ahead in self._waiting(job):
                text = "another render" if ahead == 1 else f"{ahead} other renders"
                yield from self._going_on(job, {**plain, "text": f"Waiting for {text} to end…"})
            yield from self._going_on(job, plain)
            with closing(self._reports(page, job)) as reports:  # before the next one's turn
                for plain in reports:
                    if plain["state"] == "running":
                        yield from self._going_on(job, plain)
                    else:
                        yield self._last(job, plain)
        except Cancelled:
            yield self._last(job, {**plain, **_STOPPED})
        except DecollageError as error:
            yield self._last(job, _failed(plain, as_sentence(str(error))))
        except gr.Error as error:  # raised by what lends the GPU
            yield self._last(job, _failed(plain, _said(error)))
        except Exception:
            sentence = "Something went wrong that Decollage did not expect; its log says what."
            yield self._last(job, _failed(plain, sentence))
            raise
        finally:
            self.jobs.end(job)

    def _waiting(self, job: Job) -> Iterator[int]:
        """How many renders are before this one, again and again until it is its turn; `Cancelled` after a stop.

        One run at a time, whatever its model: two would share memory that is enough for one, and take twice as long.
        """
        self.jobs.line_up(job)
        patience = 0.0
        while ahead := self.jobs.ahead(job, patience):
            _check(job)
            yield ahead  # also where it is the same, for here Gradio sees whether the tab is still there
            patience = PATIENCE
        _check(job)

    def _reports(self, page: dict[str, Any] | None, job: Job) -> Generator[dict[str, Any]]:
        collage, library = to_collage(page, self.uploads)
        collage = collage.replace(model=offered_as(collage.model, self.models))
        store = PictureStore()
        prepared = self._prepared((page or {}).get("edit"), collage, library, store)
        made_on = prepared.made_on if isinstance(prepared, Edit) else None
        report = Report(job.number, collage, library, prepared.request, self.keep, made_on)
        for warning in prepared.warnings:
            report.warn(warning.message)
        job.so_far = report.so_far
        yield report.plain
        stream = self._events(prepared.request, store, job, collage.watch)
        if isinstance(prepared, Edit):
            stream = prepared.pasted(stream, store, self._features)
        try:
            with closing(stream) as events:
                for event in events:
                    _check(job)
                    if isinstance(event, Finished) and not isinstance(prepared, Edit):
                        event = Finished(measured(event.result, store, self._features))
                    report.take(event)
                    yield report.plain
        except Exception:
            report.so_far()
            raise

    def _prepared(
        self, edit: object, collage: Collage, library: Library, store: PictureStore
    ) -> Prepared | Edit:
        """What is to be run: the whole collage, or with ``edit`` {"layer": id, "picture": file} that layer on that."""
        if edit is None:
            return to_request(collage, library, store)
        if not isinstance(edit, Mapping):
            raise FieldError("the page sent no layer to render; load the page again.")
        layer = str(edit.get("layer"))[:64]
        pixels, before = read_result(self.uploads.path(edit.get("picture"), "the result"), layer)
        return edit_layer(collage, library, store, pixels, layer, before=before)

    def _events(self, request: RenderRequest, store: PictureStore, job: Job, watch: bool) -> Generator[Event]:
        if self._on_gpu:  # another process: it cannot see the stop sign, but closing the generator ends it
            return cast("Generator[Event]", self._on_gpu(request, store, watch))
        return self._engine().render(request, store, cancel=job.cancel, watch=watch)

    def stop(self, request: gr.Request) -> Update:
        """Tell the tab's run to stop. The run's own last report may be cut off, so this says all that it does."""
        job = self.jobs.stop(request.session_hash or "")
        if job is None:
            return self._update({"id": None, **_STOPPED})
        return self._update({**job.so_far(), "id": job.number, **_STOPPED})

    def drop(self, request: gr.Request) -> None:
        """The tab was closed: nobody waits for its run."""
        self.jobs.stop(request.session_hash or "")

    def _going_on(self, job: Job, plain: dict[str, Any]) -> Iterator[Update]:
        """A report that is not the last, unless a stop came before it.

        It gets its number first: a stop that is not seen here yet says more, by a later number. The other way round a
        report could be the page's last word on a run that has ended.
        """
        update = self._update(plain)
        if not job.cancel.is_set():
            yield update

    def _last(self, job: Job, plain: dict[str, Any]) -> Update:
        """The last report of a job, which has ended by then: others need not wait until Gradio has taken it."""
        self.jobs.end(job)
        return self._update(plain)

    def _update(self, plain: dict[str, Any]) -> Update:
        return gr.update(run={**plain, "seq": self.jobs.number()})


def _check(job: Job) -> None:
    if job.cancel.is_set():
        raise Cancelled("the run was stopped.")


def offered_as(model: str, names: tuple[str, ...]) -> str:
    """What the page calls this model: its name, or that of the same model by another one (a card's hub id).

    Raises `ModelError` for a model that is not offered.
    """
    if model in names:
        return model
    meant = shipped(model)
    for name in names:
        known = shipped(name)
        if meant and known and meant.source == known.source:
            return name
    raise ModelError(f"model {model!r} is not on this machine; choose {' or '.join(names)}.")


def _said(error: gr.Error) -> str:
    """What a host's own error says, such as that no GPU is free: it comes as HTML, and is told as text."""
    return as_sentence(html.unescape(re.sub(r"<[^>]*>", " ", str(error.message))))


def _failed(plain: dict[str, Any], sentence: str) -> dict[str, Any]:
    return {**plain, "state": "failed", "text": "", "preview": None, "error": sentence}


def _render_elsewhere(request: RenderRequest, store: PictureStore, watch: bool) -> Generator[Event]:
    """What runs in ZeroGPU's process; everything in and out can be pickled."""
    from pipelines.engine import default_engine

    yield from default_engine().render(request, store, watch=watch)
