"""Open, Save, presets and a fresh tab where something is wrong: a sentence each, and a page that can be used."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gradio as gr
import pytest

import presets
from pipelines.errors import EngineError
from studio.canvas.exchange import Uploads, file_data, to_collage
from studio.document import Collage
from studio.session import Jobs
from studio.ui.files import Files
from studio.ui.start import first_page

FULL = "The server's disk takes no more files; make room on it."


def chosen(data: Any) -> gr.EventData:
    """An event with what the page sent."""
    return gr.EventData(None, data)


@pytest.fixture
def uploads(tmp_path: Path) -> Uploads:
    return Uploads(tmp_path)


@pytest.fixture
def full(uploads: Uploads) -> Files:
    def keep(name: str, data: bytes) -> str:
        raise EngineError(FULL)

    return Files(Jobs(), uploads, keep)


def test_a_full_disk_is_said(full: Files, uploads: Uploads) -> None:
    saved = full.save({**Collage().to_dict(), "rev": 7})["saved"]
    assert (saved["error"], saved["rev"]) == (FULL, 7), "the page knows that its save is answered"
    assert full.preset(chosen({"name": "evening"}))["saved"]["error"] == FULL
    file = uploads.folder / "evening.collage"
    file.write_bytes(presets.path("evening").read_bytes())
    assert full.open({"incoming": file_data(str(file), "application/zip")})["saved"]["error"] == FULL


@pytest.mark.parametrize("names", [["evening"], []], ids=["presets", "drawer"])
def test_a_fresh_tab_has_a_document_whatever_happens(
    full: Files, uploads: Uploads, names: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without one nothing on the page can be touched."""
    monkeypatch.setattr("studio.ui.start.preset_names", lambda: names)
    told = first_page(full, "embedded")
    assert told["saved"]["error"] == FULL
    assert to_collage(told["value"], uploads)[0] == Collage(model="embedded")


@pytest.mark.parametrize(
    "data", [None, [1], "evening", {}, {"name": ["evening"]}, {"name": "nonesuch"}], ids=str
)
def test_a_preset_that_is_none_is_said(full: Files, data: Any) -> None:
    """Whatever a page sends."""
    assert full.preset(chosen(data))["saved"]["error"].startswith("There is no preset of this name")
