"""A real browser on the real page, with the embedded model or a tiny one in its place."""

from __future__ import annotations

import os
import shutil
import socket
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import gradio as gr
import numpy as np
import pytest
from PIL import Image, ImageDraw
from playwright.sync_api import Browser, Error, Page, Route, expect, sync_playwright

from pipelines.engine import Engine
from pipelines.models import card
from studio.ui import build, launch_options
from tests.e2e.driver import PATIENCE, Driver
from tests.needs import missing
from tests.pipelines.tiny import sd_velocity

CHROMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
expect.set_options(timeout=PATIENCE)
TINY = os.environ.get("DECOLLAGE_E2E_TINY") == "1"
"""Whether the end-to-end test uses the tiny model too, which takes seconds off a run while the page is worked on."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Gradio's statistics of its queue use what pandas 3 calls deprecated, in a thread of their own."""
    messages = ("'future.no_silent_downcasting' is deprecated", "The copy keyword is deprecated")
    for item in items:
        if item.path.is_relative_to(Path(__file__).parent):
            for message in messages:
                item.add_marker(pytest.mark.filterwarnings(f"ignore:{message}"))


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    path = os.environ.get("CHROME") or next(filter(None, map(shutil.which, CHROMES)), None)
    with sync_playwright() as playwright:
        try:
            started = playwright.chromium.launch(
                executable_path=path, args=["--no-sandbox", "--disable-gpu"], timeout=PATIENCE
            )
        except Error as error:
            reason = f"no Chromium or Chrome to drive ({str(error).splitlines()[0]}); install chromium or set CHROME"
            missing(reason)
        yield started
        started.close()


@dataclass
class Studio:
    """The page as it runs in this process, its engine, and the denoiser calls that were counted."""

    url: str
    engine: Engine
    demo: gr.Blocks
    calls: list[int] = field(default_factory=list)


@pytest.fixture(scope="session")
def studio(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Studio]:
    """The page on a tiny model with random weights: everything but the look of the pictures is real."""
    engine = Engine(preview_seconds=0)
    engine.adopt("embedded", sd_velocity(), card("embedded"))
    yield from serve(engine, tmp_path_factory)


@pytest.fixture(scope="session")
def studio_embedded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Studio]:
    """The page on the embedded model."""
    engine = Engine(preview_seconds=0)
    if TINY:
        engine.adopt("embedded", sd_velocity(), card("embedded"))
    yield from serve(engine, tmp_path_factory)


def serve(engine: Engine, folders: pytest.TempPathFactory) -> Iterator[Studio]:
    """Launch, count denoiser calls, close."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GRADIO_TEMP_DIR", str(folders.mktemp("uploads")))
        demo = build(engine=lambda: engine)
        demo.launch(
            prevent_thread_lock=True, quiet=True, show_error=True, server_port=free_port(), **launch_options()
        )
        running = Studio(str(demo.local_url), engine, demo)
        denoiser = engine.load("embedded").pipe.unet
        hook = denoiser.register_forward_pre_hook(lambda *_: running.calls.append(1))
        try:
            yield running
        finally:
            hook.remove()
            demo.close()


def free_port() -> int:
    """A port that nobody has; Gradio's own search leaves the sockets of taken ones open."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    """A desktop tab, cut off from every other machine; the test fails where the page asks one, or throws."""
    yield from tab(browser, viewport={"width": 1280, "height": 860}, accept_downloads=True)


@pytest.fixture
def second_tab(browser: Browser) -> Iterator[Page]:
    """A tab of another visitor, guarded in the same way; a test may close its context."""
    yield from tab(browser, viewport={"width": 1280, "height": 860})


@pytest.fixture
def phone(browser: Browser) -> Iterator[Page]:
    """A tab 412 pixels wide with a finger for a pointer."""
    size = {"width": 412, "height": 860}
    yield from tab(browser, viewport=size, has_touch=True, is_mobile=True, accept_downloads=True)


@pytest.fixture
def user(page: Page, studio: Studio) -> Driver:
    """The page with an empty collage."""
    driver = Driver(page, studio.url)
    page.evaluate(
        """() => {
            const { store, settings } = document.querySelector('[data-ready]').decollage;
            store.replace(settings.empty, { first: true });
        }"""
    )
    return driver


def tab(browser: Browser, **options: Any) -> Iterator[Page]:
    context = browser.new_context(**options)
    outside: list[str] = []
    thrown: list[str] = []

    def only_here(route: Route) -> None:
        if route.request.url.startswith(("http://127.0.0.1", "http://localhost", "data:", "blob:")):
            route.continue_()
        else:
            outside.append(route.request.url)
            route.abort()

    context.route("**/*", only_here)
    opened = context.new_page()
    opened.on("pageerror", lambda error: thrown.append(str(error)))
    opened.set_default_timeout(PATIENCE)
    yield opened
    context.close()
    assert outside == []
    assert thrown == []


@pytest.fixture(scope="session")
def cutout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A red ring on nothing: its middle and its corners are clear."""
    picture = Image.new("RGBA", (200, 200))
    ImageDraw.Draw(picture).ellipse((20, 20, 179, 179), fill="#d02020")
    ImageDraw.Draw(picture).ellipse((70, 70, 129, 129), fill=(0, 0, 0, 0))
    path = tmp_path_factory.mktemp("pictures") / "red_ring.png"
    picture.save(path)
    return path


@pytest.fixture(scope="session")
def photo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A photo as phones make them: JPEG, lying on its side, with a note that says so."""
    noise = np.random.default_rng(0).integers(0, 256, (30, 40, 3), dtype=np.uint8)
    picture = Image.fromarray(noise).resize((400, 300), Image.Resampling.BICUBIC)
    exif = picture.getexif()
    exif[0x0112] = 6
    path = tmp_path_factory.mktemp("pictures") / "photo.jpg"
    picture.save(path, exif=exif)
    return path
