"""The page: one canvas component, and the handlers of its events."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

os.environ.setdefault(
    "GRADIO_ANALYTICS_ENABLED", "False"
)  # read when Gradio is imported: nothing leaves this machine
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")

import gradio as gr

from pipelines.errors import EngineError
from pipelines.loading import LoadOptions
from studio.canvas.component import STATIC, CollageCanvas
from studio.canvas.exchange import Uploads
from studio.formats import png
from studio.session import Jobs
from studio.ui.files import Files
from studio.ui.keeping import keep, own_folder, swept
from studio.ui.run import Decorator, GetEngine, Runner
from studio.ui.settings import DRAWER, offered_models, settings
from studio.ui.start import first_page

if TYPE_CHECKING:
    from pipelines.measure.encoders import PictureFeatures

_TOLD = 32
"""Renders that are taken out of Gradio's queue, where the page is told nothing. One of them runs, the others say that
they wait (`Runner.render`). Each holds one of Gradio's 40 threads, and Stop, Save and Open need some, too."""
TABS = 200
"""Tabs of which Gradio keeps what they were told, closed ones as well: some kB and the last report each, and never the
document (`CollageCanvas.get_config`). A tab that is left out loses nothing: no handler reads back what is kept."""


def build(
    *,
    models: Sequence[str] = ("embedded",),
    engine: GetEngine | None = None,
    gpu: Decorator | None = None,
    options: LoadOptions | None = None,
    features: PictureFeatures | None = None,
) -> gr.Blocks:
    """The studio as a Gradio app, not yet launched (`launch_options` has what `launch` needs).

    ``models`` are offered whether or not they are on this machine; ``engine`` gives the engine (default: the one
    shared with the command line); ``gpu`` decorates the render function on ZeroGPU; ``options`` are those it loads
    models with, which tell what the models can do; ``features`` measure similarity in place of the embedded CLIP.
    """
    folder = own_folder()
    gr.set_static_paths([STATIC, DRAWER])

    cards = offered_models(models)
    jobs, uploads, store = Jobs(), Uploads(folder), partial(keep, folder)
    files = Files(jobs, uploads, store)
    names = tuple(card.name for card in cards)
    runner = Runner(jobs, uploads, store, names, engine or _default_engine, gpu, features)

    demo = gr.Blocks(title="Décollage", analytics_enabled=False, fill_width=True)
    with demo:
        canvas = CollageCanvas(settings=settings(cards, options), elem_id="studio")
        quiet: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
        render = canvas.dc_render(
            runner.render, canvas, canvas, concurrency_limit=_TOLD, concurrency_id="engine", **quiet
        )
        # Only the render is queued: the queue drops what a tab asks for while the stream of that tab's last queued
        # event closes, so a Render pressed right after opening a file would be lost.
        quick: dict[str, Any] = {**quiet, "queue": False}
        canvas.dc_stop(runner.stop, None, canvas, cancels=[render], **quick)
        canvas.dc_open(files.open, canvas, canvas, **quick)
        canvas.dc_save(files.save, canvas, canvas, **quick)
        canvas.dc_preset(files.preset, None, canvas, **quick)
        demo.load(lambda: first_page(files, cards[0].name), None, canvas, **quick)
        demo.unload(runner.drop)
    demo.queue(default_concurrency_limit=4, max_size=64)
    return demo


def launch_options() -> dict[str, Any]:
    """Arguments of ``launch`` that belong to the page, wherever it is launched."""
    return {
        "theme": gr.themes.Base(font=["system-ui", "sans-serif"], font_mono=["ui-monospace", "monospace"]),
        "css": (STATIC / "page.css").read_text(encoding="utf-8"),
        "footer_links": [],
        "run_history": False,
        "max_file_size": png.MAX_PNG,
        "state_session_capacity": TABS,
        "app_kwargs": {"lifespan": swept},
    }


def launch(
    *,
    host: str = "127.0.0.1",
    port: int = 7860,
    share: bool = False,
    browser: bool = True,
    models: Sequence[str] = (),
    options: LoadOptions | None = None,
    features: PictureFeatures | None = None,
) -> None:
    """Open the studio and serve it until interrupted, which raises `KeyboardInterrupt`.

    ``models`` are offered beside the embedded one, ``options`` say how models are loaded, ``features`` measure
    similarity in place of the embedded CLIP. Raises `ModelError` for an
    unknown model, `EngineError` when the port is taken.
    """

    def engine() -> Any:
        from pipelines.engine import default_engine

        return default_engine(options)

    offered = tuple(dict.fromkeys(("embedded", *models)))
    demo = build(models=offered, engine=engine, options=options, features=features)
    try:
        demo.launch(
            server_name=host,
            server_port=port,
            share=share,
            inbrowser=browser,
            prevent_thread_lock=True,  # Gradio's own wait would swallow the interrupt
            **launch_options(),
        )
    except OSError as error:
        raise EngineError(
            f"the page cannot be served on {host}:{port} ({' '.join(str(error).split())}); choose another port."
        ) from None
    try:
        while demo.is_running:
            time.sleep(0.1)
    finally:
        demo.close(verbose=False)


def _default_engine() -> Any:
    from pipelines.engine import default_engine

    return default_engine()
