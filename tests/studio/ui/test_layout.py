"""Limits of the page's server: what may come in, and what it keeps of its visitors."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from threading import Event
from typing import Any

import gradio as gr
import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from PIL import Image

from pipelines.engine import Engine
from pipelines.models import card
from studio import pictures
from studio.canvas.exchange import Uploads, file_data, to_page
from studio.document import Collage, Layer
from studio.formats import archive, png
from studio.pictures import Library
from studio.session import Jobs
from studio.ui import build, launch_options
from studio.ui.files import Files
from studio.ui.settings import limits
from tests.pipelines.tiny import sd_velocity


def test_what_the_page_saves_it_takes_back() -> None:
    """A picture alone may be smaller than a file of several."""
    assert launch_options()["max_file_size"] == limits()["result"] == png.MAX_PNG
    assert limits()["archive"] == archive.MAX_ARCHIVE >= pictures.MAX_TOTAL
    assert limits()["bytes"] == pictures.MAX_FILE < archive.MAX_ARCHIVE <= png.MAX_PNG


def test_a_file_larger_than_any_picture_is_opened(
    library: Library, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def keep(name: str, data: bytes) -> str:
        (tmp_path / name).write_bytes(data)
        return str(tmp_path / name)

    layers = tuple(
        Layer(id=f"a{side}", picture=library.add(Image.effect_noise((side, side), 99)), x=0.0, y=0.0)
        for side in (20, 21, 22)
    )
    page = {**to_page(Collage(layers=layers), library, keep), "rev": 7}
    files = Files(Jobs(), Uploads(tmp_path), keep)
    monkeypatch.setattr(pictures, "MAX_FILE", 2500)
    saved = files.save(page)["saved"]["file"]
    assert Path(saved["path"]).stat().st_size > pictures.MAX_FILE
    opened = files.open({"incoming": file_data(saved["path"], "application/zip")})
    assert [layer["id"] for layer in opened["value"]["layers"]] == ["a20", "a21", "a22"]


def test_a_save_says_which_document_it_was_of(tmp_path: Path) -> None:
    """So that the page counts that one as saved, and no later one; nothing but a number comes back."""
    files = Files(Jobs(), Uploads(tmp_path), lambda name, data: str(tmp_path / name))
    page = to_page(Collage(), Library(), lambda name, data: "")
    assert files.save({**page, "rev": 7})["saved"]["rev"] == 7
    assert files.save({**page, "rev": {"path": "/etc/hosts"}})["saved"]["rev"] is None
    refused = files.save({**page, "rev": 8, "images": 0})["saved"]
    assert refused["rev"] == 8 and "error" in refused
    assert "rev" not in files.open({})["saved"]


class Server:
    """The page's server on a tiny model, as a page speaks to it; a render waits until ``go`` is set."""

    def __init__(self) -> None:
        self.engine = Engine(preview_seconds=0)
        self.engine.adopt("embedded", sd_velocity(), card("embedded"))
        self.began, self.go = Event(), Event()
        self.http = asyncio.run(self.made())

    async def made(self) -> TestClient:
        """Where no event loop runs, Gradio makes some and leaves them open."""
        demo = build(engine=lambda: self)  # type: ignore[arg-type, return-value]
        demo.state_session_capacity = launch_options()["state_session_capacity"]
        app = gr.mount_gradio_app(FastAPI(), demo, path="/")
        self.tabs = demo.state_holder.session_data
        self.events = {name: fn._id for fn in demo.fns.values() for _, name in fn.targets}
        return TestClient(app)

    def render(self, *given: Any, **named: Any) -> Iterator[Any]:
        """The engine's."""
        self.began.set()
        assert self.go.wait(120)
        yield from self.engine.render(*given, **named)

    def asked(self, name: str, tab: str, *data: Any, where: str = "run/predict") -> Any:
        """The answer to an event."""
        body = {"fn_index": self.events[name], "data": data, "session_hash": tab}
        return self.http.post(f"gradio_api/{where}", json=body).raise_for_status().json()

    def told(self, name: str, tab: str, *data: Any) -> Any:
        """What an event brings the page."""
        (update,) = self.asked(name, tab, *data)["data"]
        return update

    def rendered(self, tab: str) -> dict[str, Any]:
        """The last report of the tab's render, which has been asked for."""
        said = {}
        with self.http.stream("GET", "gradio_api/queue/data", params={"session_hash": tab}) as stream:
            for line in filter(None, stream.iter_lines()):
                said = json.loads(line.removeprefix("data: "))
                if said["msg"] == "process_completed":
                    break
        return dict(said["output"]["data"][0]["props"]["run"])


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path))
    monkeypatch.setattr("studio.ui.layout.TABS", 3)
    server = Server()
    with server.http:
        yield server


@pytest.mark.filterwarnings("ignore:'future.no_silent_downcasting' is deprecated")  # in Gradio's statistics
@pytest.mark.filterwarnings("ignore:The copy keyword is deprecated")
def test_tabs_are_forgotten_and_work_still(server: Server) -> None:
    """Gradio keeps the last document of 10,000 tabs, closed or not, if it is let."""
    page = {**server.told("load", "first")["value"], "seed": 3, "steps": 2}
    page["layers"][0]["negative"] = "a cat"
    server.asked("dc_render", "first", page, where="queue/join")
    assert server.began.wait(120)
    saved = server.told("dc_save", "first", page)["props"]["saved"]["file"]
    others = [f"tab {number}" for number in range(6)]
    for tab in others:
        opened = server.told("dc_open", tab, {"incoming": saved})["value"]
        assert opened["layers"][0]["negative"] == "a cat"
    assert list(server.tabs) == others[-3:], "the first is forgotten while it renders"
    server.go.set()
    assert server.rendered("first")["state"] == "done"
    assert server.told("dc_save", others[0], opened)["props"]["saved"]["name"] == "evening-light.collage"
    assert server.told("dc_open", others[1], {"incoming": saved})["value"]["name"] == page["name"]
    assert len(server.tabs) == 3
    for kept in server.tabs.values():
        assert "a cat" not in str(list(kept.components)), "nor is a document kept"
