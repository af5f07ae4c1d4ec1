"""Render on the page, without a browser: what the numbers in its PNGs are measured with."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from pipelines.engine import Engine
from pipelines.measure.encoders import features_of
from pipelines.models import card
from studio.canvas.exchange import Uploads, to_page
from studio.document import Avoid, Collage, Layer
from studio.formats import png
from studio.pictures import Library
from studio.session import Jobs
from studio.ui.run import Runner
from tests.pipelines.tiny import sd_velocity
from tests.studio.conftest import noise


class Page:
    """A page's document, and what comes of it with some features."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.library = folder, Library()
        self.engine = Engine(preview_seconds=0)
        self.engine.adopt("embedded", sd_velocity(), card("embedded"))
        picture = self.library.add(Image.new("RGB", (20, 20), "red"))
        layer = Layer(id="a", name="cat", prompt="cat", picture=picture, x=20.0, y=20.0)
        collage = Collage(
            canvas={"width": 64, "height": 64},
            prompt="a beach",
            steps=2,
            seed=3,
            layers=(layer,),
            avoids=(Avoid(id="b", picture=self.library.add(noise(64, 64))),),
        )
        self.document = to_page(collage, self.library, self.keep)

    def keep(self, name: str, data: bytes) -> str:
        path = self.folder / f"{len(list(self.folder.iterdir()))}-{name}"
        path.write_bytes(data)
        return str(path)

    def rendered(self, features: Path | None, **more: Any) -> list[dict[str, Any]]:
        """The files of the last report's results."""
        jobs, seen = Jobs(), None if features is None else features_of(str(features))
        runner = Runner(jobs, Uploads(self.folder), self.keep, ("embedded",), lambda: self.engine, None, seen)
        *_, last = runner._reports({**self.document, **more}, jobs.begin("tab"))
        assert last["state"] == "done"
        return [one["file"] for one in last["results"]]


@pytest.fixture
def page(tmp_path: Path) -> Page:
    return Page(tmp_path)


def near(files: list[dict[str, Any]]) -> float:
    """How like the reference the one picture is, wherever it acts."""
    (file,) = files
    (avoid,) = png.read_report(Path(file["path"]).read_bytes())["numbers"]["avoids"]
    return float(avoid["inside"][0])


def test_numbers_of_the_page_are_of_the_features_it_is_served_with(page: Page, blind: Path) -> None:
    usual = page.rendered(None)
    assert near(usual) < 0.99
    assert near(page.rendered(blind)) == 1
    alone = {"edit": {"layer": "a", "picture": usual[0]}}
    assert near(page.rendered(None, **alone)) < 0.99
    assert near(page.rendered(blind, **alone)) == 1
