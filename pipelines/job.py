"""One run of a request, from its checks to its report, in a thread of its own."""

from __future__ import annotations

import platform
import threading
import time
import traceback
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from pipelines.checks import check_pictures, in_vain, too_little
from pipelines.errors import Cancelled, DecollageError, ModelError
from pipelines.events import (
    Downloading,
    Finished,
    ImageDone,
    Learning,
    Preview,
    Progress,
    RenderResult,
    Started,
    Warned,
)
from pipelines.loading import prepare_controlnet
from pipelines.loading.failures import is_out_of_memory
from pipelines.loading.weights import give_back
from pipelines.pictures import PictureStore, Pixels
from pipelines.refusals import apart, by_card, by_model
from pipelines.request import RenderRequest

if TYPE_CHECKING:
    import torch

    from pipelines.engine import Engine, Loaded
    from pipelines.methods.base import Method
    from pipelines.models.ip_adapter import IPAdapter

DOWNLOAD_SECONDS = 0.2
"""Least time between two events of a download."""
PATIENCE = 0.1
"""Seconds between two looks at the stop sign while waiting for a busy model."""


class Job:
    """A run of ``request``: everything it has to say goes to ``say``; with ``watch`` its report tells of attention."""

    def __init__(
        self,
        engine: Engine,
        request: RenderRequest,
        pictures: PictureStore,
        say: Any,
        stops: tuple[threading.Event, ...],
        watch: bool,
    ) -> None:
        self.engine, self.request, self.pictures = engine, request, pictures
        self.attention: list[list[float | None]] | None = [] if watch else None
        self.say, self.stops = say, stops
        self.warnings: list[str] = []
        self.looks: tuple[dict[str, object], ...] = ()
        self.adapter: IPAdapter | None = None
        self.controlnet: Any = None
        self.control: str | None = None
        self.calls = 0
        self.last_preview = float("-inf")
        self.last_bytes = float("-inf")

    def __call__(self) -> None:
        """The thread's body: errors travel to the reader as they are."""
        try:
            self.run()
        except BaseException as error:  # noqa: BLE001 - whatever ends a thread, its reader waits for it
            if not isinstance(error, DecollageError) and is_out_of_memory(error):
                self.say(_no_room(self.request, error))
            else:
                self.say(error)

    def check(self) -> None:
        """Raise `Cancelled` where somebody asked to stop."""
        if any(stop.is_set() for stop in self.stops):
            raise Cancelled("the run was stopped.")

    def warn(self, message: str, layer: str | None = None) -> None:
        self.warnings.append(message)
        self.say(Warned(message, layer))

    def run(self) -> None:
        """Load, wait for the model, sample, lay frozen pixels over, report."""
        from pipelines.methods import methods_for

        request = self.request
        start = time.monotonic()
        self.check()
        methods = methods_for(request)
        check_pictures(request, self.pictures)
        by_card(request, self.engine.card(request.model), self.engine.options)
        loaded = self.engine.load(request.model, self._on_bytes)
        self.check()
        while not loaded.lock.acquire(timeout=PATIENCE):
            self.check()
        try:
            self.check()
            pictures = self._dressed(loaded, methods)
        finally:
            try:
                loaded.pipe.maybe_free_model_hooks()
            finally:
                loaded.lock.release()
        report = _report(loaded, self.calls, time.monotonic() - start, self.warnings)
        if request.variants:
            report["prompts"] = [one.prompt for one in request.variants]
        if self.attention is not None:
            report["attention"] = self.attention
        if self.looks:
            report["looks"] = list(self.looks)
        if self.adapter is not None:
            report["ip_adapter"] = str(self.adapter)
        if self.control is not None:
            report["controlnet"] = self.control
        self.say(Finished(RenderResult(request, tuple(pictures), report)))

    def _on_bytes(self, done: int, total: int) -> None:
        self.check()
        if not done and not total:  # waiting for another model's
            return
        now = time.monotonic()
        if now - self.last_bytes >= DOWNLOAD_SECONDS or done == total:
            self.last_bytes = now
            self.say(Downloading(self.request.model, done, total))

    def _dressed(self, loaded: Loaded, methods: list[Method]) -> list[Pixels]:
        """The pictures, with learned looks in model and prompt, and image prompts, where some are asked for."""
        from pipelines import previews
        from pipelines.image_prompts import prepare, with_image_prompts
        from pipelines.learning import with_looks
        from pipelines.sampling import plan

        request = self.request
        by_model(request, loaded)
        # before the run: in it the autoencoder would, offloaded, drive the denoiser from its device and back
        if loaded.tiny is None and loaded.preview_matrix is None and plan(request).count > 1:
            loaded.preview_matrix = previews.fit(loaded.family, loaded.pipe)
        self.control = prepare_controlnet(loaded, request, self.engine.options, self._on_bytes)
        self.controlnet = loaded.controlnets[self.control] if self.control is not None else None
        self.adapter = prepare(loaded, request, self.engine.options, self._on_bytes)
        with with_looks(
            loaded, request, self.pictures, self.engine.looks, self._on_learning, self.warn
        ) as worn:  # learned on the model alone, so before the adapter is in it
            self.looks = worn.facts
            with with_image_prompts(worn.loaded, worn.request, self.pictures) as ready:
                return self._pictures(ready, worn.request, methods)

    def _on_learning(self, layer: str, step: int, steps: int) -> None:
        self.check()
        self.say(Learning(layer, step, steps))

    def _pictures(self, loaded: Loaded, request: RenderRequest, methods: list[Method]) -> list[Pixels]:
        """``request`` is what is run: the one asked for, or that with learned tokens in its prompts."""
        from diffusers.utils.torch_utils import get_module_execution_device

        from pipelines.methods.watch import Watch
        from pipelines.previews import lay_over
        from pipelines.sampling import plan, sample

        how = plan(request)
        self.say(Started(self.request.prompt, how.count, request.images))
        for warning in in_vain(request, loaded, how):
            self.warn(warning.message, warning.layer)
        frozen = self.pictures.get(request.frozen) if request.frozen else None
        seeds = [request.seed + k for k in range(request.images)]
        done: list[Pixels] = []
        if how.count == 0 and request.collage is not None:
            if idle := too_little(request, how.steps):
                self.warn(idle.message)
            done = [self.pictures.get(request.collage).copy() for _ in seeds]
            for k, picture in enumerate(done):
                self.say(ImageDone(k, seeds[k], picture))
            return done
        device = get_module_execution_device(loaded.family.denoiser(loaded.pipe))
        joint = any(method.joint for method in methods)
        together = joint or not (one_a_call(device) or apart(request, loaded.family, loaded.pipe))
        most = len(seeds) if together else 1
        watch = Watch() if self.attention is not None else None
        if watch is not None:
            methods = [*methods, watch]
        while len(done) < len(seeds):
            self.check()
            group = seeds[len(done) :][:most]
            new: list[Pixels] | None = None
            try:
                new = sample(
                    loaded.pipe,
                    loaded.family,
                    loaded.card,
                    request,
                    self.pictures,
                    methods,
                    group,
                    partial(self._on_step, loaded, frozen, len(done)),
                    loaded.arguments,
                    self.controlnet,
                    device,
                    self.warn,
                )
            except Exception as error:
                if joint or len(group) == 1 or not is_out_of_memory(error):
                    raise
                traceback.clear_frames(error.__traceback__)
            if new is None:  # no longer in the handler, which holds what was computed
                most = -(-len(group) // 2)
                self.warn(f"{len(group)} pictures do not fit into memory together; made {most} at a time.")
                give_back()
                continue
            if watch is not None and self.attention is not None:
                self.attention += watch.shares()
            for picture in new:
                final = lay_over(picture, frozen)
                self.say(ImageDone(len(done), seeds[len(done)], final))
                done.append(final)
        return done

    def _on_step(
        self, loaded: Loaded, frozen: Pixels | None, image: int, step: int, steps: int, clean: Any
    ) -> None:
        from pipelines import previews

        self.calls += 1
        self.check()
        self.say(Progress(step, steps, image, self.request.images))
        now = time.monotonic()
        if step == steps or now - self.last_preview < self.engine.preview_seconds:
            return
        self.last_preview = now
        size = (self.request.height, self.request.width)
        latents = clean()[0]  # of images that advance together the first alone: one preview a time
        if loaded.preview_matrix is None:
            rough = previews.decode(latents, loaded.tiny, size)
        else:
            rough = previews.preview(latents, loaded.preview_matrix, size)
        self.say(Preview(image, step, previews.lay_over(rough, frozen)))


def one_a_call(device: torch.device) -> bool:
    """On a CPU: the same rows in another batch differ in the last bits there, and this keeps image k exact."""
    return device.type == "cpu"


def _no_room(request: RenderRequest, error: BaseException) -> ModelError:
    """What is said of too little memory, with the way to ``error`` without what was computed on it: it is given back
    even while somebody holds the error.
    """
    traceback.clear_frames(error.__traceback__)
    return ModelError(_too_large(request)).with_traceback(error.__traceback__)


def _too_large(request: RenderRequest) -> str:
    return (
        f"there is too little memory for {request.images} pictures of {request.width}×{request.height} with "
        f"{request.model}; lower the canvas or the number of images."
    )


def _report(loaded: Loaded, calls: int, seconds: float, warnings: list[str]) -> dict[str, object]:
    """JSON-ready facts that make a picture repeatable."""
    import diffusers
    import torch
    import transformers

    return {
        "seconds": round(seconds, 3),
        "denoiser_calls": calls,
        "model": loaded.card.name,
        "device": str(loaded.pipe._execution_device),  # weights that are offloaded are elsewhere by now
        "dtype": str(loaded.pipe.dtype).removeprefix("torch."),
        "threads": torch.get_num_threads(),
        "versions": {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "diffusers": diffusers.__version__,
            "transformers": transformers.__version__,
            "numpy": np.__version__,
        },
        "warnings": list(warnings),
    }
