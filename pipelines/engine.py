"""The engine: loads models, renders requests, stops when told.

`Engine.render` is a generator of events (`pipelines.events`). The work runs in a thread of its own; closing the
generator, or setting ``cancel``, stops it at the next step, and nothing is decoded after that. One run at a time uses a
model. The engine knows no method by name: it asks `pipelines.methods` for what a request needs.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipelines.errors import RoomError
from pipelines.events import Event, Finished
from pipelines.job import PATIENCE, Job
from pipelines.loading import LoadOptions, load_pipeline, load_tiny
from pipelines.loading.weights import give_back
from pipelines.models import ModelCard, card
from pipelines.pictures import PictureStore
from pipelines.refusals import by_card, by_model
from pipelines.request import RenderRequest

if TYPE_CHECKING:
    import torch

PREVIEW_SECONDS = 0.5
"""Least time between two previews."""


@dataclass
class Loaded:
    """A model in memory. ``pipe`` is the stock pipeline as loaded; it is never changed by a run."""

    card: ModelCard
    family: Any
    pipe: Any
    lock: threading.Lock = field(default_factory=threading.Lock)
    preview_matrix: torch.Tensor | None = None
    tiny: Any = None
    """The small autoencoder that shows previews, where there is one."""
    arguments: dict[str, Any] = field(default_factory=dict)
    """Arguments of every stock call that the pipeline needs as its owner has set it up."""
    adapter: Any = None
    """The IP-Adapter that was loaded for it, outside of it (`pipelines.image_prompts`)."""
    controlnets: dict[str, Any] = field(default_factory=dict)
    """What keeps shapes on it, by folder or hub id, from when a layer first asked for it."""


class Engine:
    """Loads each model once, until another one needs its room, and renders requests on it.

    ``preview_seconds`` 0 previews every step; ``options`` say how models are loaded; ``looks`` is the folder that keeps
    what was learned, by default the user's own (`pipelines.learning.folder`).
    """

    def __init__(
        self,
        preview_seconds: float = PREVIEW_SECONDS,
        options: LoadOptions | None = None,
        looks: Path | None = None,
    ) -> None:
        self._options = options or LoadOptions()
        self._looks = looks
        self._loaded: dict[str, Loaded] = {}
        self._adopted: set[str] = set()
        self._lock = threading.Lock()
        self._preview_seconds = preview_seconds

    def card(self, model: str) -> ModelCard:
        """The card of ``model``, which need not be loaded; of a hub id the small files that tell it are fetched."""
        there = self._loaded.get(model)
        return card(model) if there is None else there.card

    def load(self, model: str, say: Callable[[int, int], None] = lambda done, total: None) -> Loaded:
        """The model called ``model``, loaded on first use; ``say`` is told a download's bytes, done and in all, and
        none of none while another model is being loaded.

        Raises `ModelError`, and what ``say`` raises, which ends the download or the waiting.
        """
        if (there := self._loaded.get(model)) is not None:  # not waiting for another model's download
            return there
        while not self._lock.acquire(timeout=PATIENCE):
            say(0, 0)
        try:
            if model not in self._loaded:
                from pipelines.families import family

                known = card(model)
                kind = family(known.family)
                loaded = Loaded(known, kind, self._read(known, say))
                loaded.tiny = load_tiny(known, loaded.pipe, self._options, say)
                self._loaded[model] = loaded
            return self._loaded[model]
        finally:
            self._lock.release()

    def _read(self, known: ModelCard, say: Callable[[int, int], None]) -> Any:
        """Its pipeline; for its room other models are let go, if need be."""
        try:
            return load_pipeline(known, self._options, say, self._let_go)
        except RoomError:
            if not self._let_go():
                raise
        # no longer in the handler, which holds weights
        return load_pipeline(known, self._options, say, self._let_go)

    def _let_go(self) -> bool:
        """Forget the models that were loaded here and that no run uses; whether there were any. The next run that asks
        for one loads it again.
        """
        idle = [
            name
            for name, one in self._loaded.items()
            if name not in self._adopted and one.lock.acquire(blocking=False)
        ]
        for name in idle:
            self._loaded.pop(name).lock.release()
        give_back()
        return bool(idle)

    def check(self, request: RenderRequest) -> None:
        """Raises what `render` would, as far as it is known by now that it must: by the model's card, and by the model
        where it is loaded. Nothing is loaded for it, and some of what cannot be done shows in the run alone.
        """
        by_card(request, self.card(request.model), self._options)
        if (loaded := self._loaded.get(request.model)) is not None:
            with loaded.lock:
                by_model(request, loaded)

    def adopt(self, model: str, pipe: Any, model_card: ModelCard, **arguments: Any) -> Loaded:
        """Use a pipeline that is already in memory under the name ``model`` (LoRA, offload and dtype stay as set).

        ``arguments`` go to each of its calls: ``ip_adapter_image_embeds`` for one with an IP-Adapter.
        """
        from pipelines.families import family

        with self._lock:
            kind = family(model_card.family)
            self._adopted.add(model)
            self._loaded[model] = Loaded(model_card, kind, pipe, arguments=arguments)
            return self._loaded[model]

    def render(
        self,
        request: RenderRequest,
        pictures: PictureStore,
        *,
        cancel: threading.Event | None = None,
        watch: bool = False,
    ) -> Generator[Event, None, None]:
        """Run a request; the last event is `Finished`.

        With ``watch`` the report tells under ``attention`` for each image and layer which share of the attention to
        the layer's words is inside its mask (`methods.watch`); the pictures stay the same.

        Raises `Cancelled` after a stop by ``cancel`` and any `DecollageError` the run meets; closing the generator
        stops the run silently.
        """
        events: queue.Queue[Event | BaseException] = queue.Queue()
        closed = threading.Event()
        job = Job(self, request, pictures, events.put, (closed, cancel) if cancel else (closed,), watch)
        worker = threading.Thread(target=job, name="render", daemon=True)
        worker.start()
        try:
            while True:
                event = events.get()
                if isinstance(event, BaseException):
                    try:
                        raise event
                    finally:
                        del event  # else it, this frame and all that the failed run computed hold one another
                yield event
                if isinstance(event, Finished):
                    return
        finally:
            closed.set()
            worker.join()

    @property
    def looks(self) -> Path | None:
        """The folder that keeps learned looks, None for the user's own."""
        return self._looks

    @property
    def options(self) -> LoadOptions:
        """How this engine loads models."""
        return self._options

    @property
    def preview_seconds(self) -> float:
        """Least time between two previews."""
        return self._preview_seconds


_default: Engine | None = None
_default_lock = threading.Lock()


def default_engine(options: LoadOptions | None = None) -> Engine:
    """The engine that the page and the command line share; other ``options`` than
    those it was made with make a new one, which then is the shared one.
    """
    global _default
    with _default_lock:
        if _default is None or (options is not None and options != _default.options):
            _default = Engine(options=options)
        return _default


__all__ = ["Engine", "Loaded", "default_engine"]
