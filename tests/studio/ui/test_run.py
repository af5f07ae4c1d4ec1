"""Render on the page, without a browser: what the numbers in its PNGs are measured with."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import gradio as gr
import pytest
from PIL import Image

from pipelines.engine import Engine
from pipelines.errors import EngineError, ModelError
from pipelines.measure.encoders import features_of
from pipelines.models import card
from studio.canvas.exchange import Uploads, to_page
from studio.document import Avoid, Collage, Layer
from studio.formats import png
from studio.pictures import Library
from studio.session import Jobs
from studio.ui.run import Runner, offered_as
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
        return [one["download"] for one in last["results"]]


@pytest.fixture
def page(tmp_path: Path) -> Page:
    return Page(tmp_path)


def test_a_card_is_offered_by_its_hub_id_too() -> None:
    hub = card("sd15").source
    assert offered_as("sd15", ("embedded", "sd15")) == "sd15"
    assert offered_as(hub, ("embedded", "sd15")) == "sd15"
    assert offered_as("sd15", ("embedded", hub)) == hub
    with pytest.raises(ModelError, match=r"^model 'stable-.*' is not on this machine; choose embedded\.$"):
        offered_as(hub, ("embedded",))
    with pytest.raises(ModelError, match="choose embedded or sd15"):
        offered_as("sdxl", ("embedded", "sd15"))


def test_what_the_host_says_is_told(page: Page) -> None:
    """ZeroGPU says in an error of Gradio's, in HTML, that a visitor's time is used up."""

    def lends(_: object) -> Any:
        def refuse(*_: object) -> Any:
            raise gr.Error(
                "You have exceeded your GPU quota (60s left vs. 12s).<br><a href='x'>Log in &amp; wait</a>"
            )
            yield

        return refuse

    jobs = Jobs()
    runner = Runner(jobs, Uploads(page.folder), page.keep, ("embedded",), lambda: page.engine, lends)
    *_, last = runner.render(page.document, gr.Request(session_hash="tab"))
    assert last["run"]["state"] == "failed"
    assert last["run"]["error"] == "You have exceeded your GPU quota (60s left vs. 12s). Log in & wait."
    assert len(jobs) == 0


class Tab:
    """A render of one tab, read report by report, and the tab's Stop."""

    def __init__(self, runner: Runner, page: Page, name: str) -> None:
        self.runner, self.request = runner, gr.Request(session_hash=name)
        self.reports = runner.render(page.document, self.request)

    def next(self) -> dict[str, Any]:
        return dict(next(self.reports)["run"])

    def texts(self, count: int) -> list[str]:
        return [self.next()["text"] for _ in range(count)]

    def last(self) -> dict[str, Any]:
        end = time.monotonic() + 120
        for update in self.reports:
            assert time.monotonic() < end, f"it never ended: {update['run']['text']}"
        return dict(update["run"])


@pytest.fixture
def runner(page: Page, monkeypatch: pytest.MonkeyPatch) -> Runner:
    """The page's runner, for several tabs; a render that waits says so again at once."""
    monkeypatch.setattr("studio.ui.run.PATIENCE", 0.01)
    return Runner(Jobs(), Uploads(page.folder), page.keep, ("embedded",), lambda: page.engine, None)


def test_a_render_says_that_it_waits_for_another(page: Page, runner: Runner) -> None:
    first, second, third = (Tab(runner, page, name) for name in "abc")
    assert first.texts(3) == ["Reading the collage…", "Reading the collage…", "Loading the model…"]
    waiting = "Waiting for another render to end…"
    assert second.texts(4) == ["Reading the collage…", *3 * [waiting]]
    assert third.texts(2) == ["Reading the collage…", "Waiting for 2 other renders to end…"]
    assert first.last()["state"] == "done"
    assert third.texts(1) == [waiting], "the second has not taken its turn yet, and it stands before"
    assert second.last()["state"] == "done"
    assert third.last()["state"] == "done"
    assert len(runner.jobs) == 0


def test_no_report_overtakes_a_stop(page: Page, runner: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    """The stop comes just when a report is about to be numbered; what the run itself says last Gradio may cut off."""
    tab, said = Tab(runner, page, "a"), list[dict[str, Any]]()
    tab.texts(3)
    number = runner.jobs.number

    def late() -> int:
        if not said:
            said.append({})
            said[0].update(runner.stop(tab.request)["run"])
        return number()

    monkeypatch.setattr(runner.jobs, "number", late)
    rest = [update["run"] for update in tab.reports]
    assert said[0]["state"] == "stopped"
    assert [one["state"] for one in rest if one["seq"] > said[0]["seq"]] == ["stopped"]


def test_stop_works_while_a_render_waits(page: Page, runner: Runner) -> None:
    first, second = Tab(runner, page, "a"), Tab(runner, page, "b")
    first.texts(3)
    second.texts(2)
    assert runner.stop(second.request)["run"]["state"] == "stopped"
    last = second.last()
    assert (last["state"], last["text"]) == ("stopped", "Stopped.")
    assert first.last()["state"] == "done", "nobody stopped that one"


def test_a_tab_that_is_closed_makes_room_for_the_next(page: Page, runner: Runner) -> None:
    first, second = Tab(runner, page, "a"), Tab(runner, page, "b")
    first.texts(3)
    assert second.texts(2)[1].startswith("Waiting")
    first.reports.close()
    assert second.last()["state"] == "done"


def test_what_gradio_forgets_to_close_holds_up_nobody(page: Page, runner: Runner) -> None:
    """It keeps the reports of a run that was cancelled while the first, or for a minute another, was awaited."""
    begun, stopped, failed, done, last = (Tab(runner, page, name) for name in "abcde")
    begun.texts(1)
    stopped.texts(3)
    runner.stop(stopped.request)
    assert stopped.next()["state"] == "stopped"
    failed.reports = runner.render(None, failed.request)
    *_, told = (failed.next() for _ in range(3))
    assert told["state"] == "failed"
    while done.next()["state"] == "running":
        pass
    assert last.last()["state"] == "done"


def first_result(tab: Tab) -> dict[str, Any]:
    while not (told := tab.next()).get("results"):
        assert told["state"] == "running"
    return dict(told["results"][0])


def seed_inside(result: dict[str, Any]) -> int | None:
    return png.read_bytes(Path(result["download"]["path"]).read_bytes())[0].seed


def test_stop_gives_what_is_finished_to_download(page: Page, runner: Runner) -> None:
    """Stop says it itself, as the last report of the run may be cut off."""
    page.document["images"] = 4
    tab = Tab(runner, page, "a")
    assert first_result(tab)["download"] is None
    told = runner.stop(tab.request)["run"]
    assert told["state"] == "stopped"
    assert [seed_inside(one) for one in told["results"]] == [3]
    last = tab.last()
    assert last["state"] == "stopped" and last["results"] == told["results"]


def test_a_run_that_fails_gives_what_was_finished_to_download(
    page: Page, runner: Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    page.document["images"] = 4
    tab = Tab(runner, page, "a")
    first_result(tab)

    def breaks(*_: object) -> None:
        raise ModelError("there is too little memory for 4 pictures; lower the number of images.")

    monkeypatch.setattr("pipelines.job.Job._on_step", breaks)
    last = tab.last()
    assert last["state"] == "failed" and last["error"].startswith("There is too little memory")
    assert [seed_inside(one) for one in last["results"]][:1] == [3]


@pytest.mark.parametrize("room", [0, 1, 2])
def test_a_full_disk_is_said_and_what_fits_on_it_is_shown(page: Page, runner: Runner, room: int) -> None:
    """Of 2 pictures as many as there is room for; their downloads come last."""
    page.document["images"] = 2
    kept: list[str] = []

    def keep(name: str, data: bytes) -> str:
        if len(kept) == room:
            raise EngineError("the server's disk takes no more files; make room on it.")
        kept.append(name)
        return page.keep(name, data)

    runner.keep = keep
    last = Tab(runner, page, "a").last()
    assert last["state"] == "failed"
    assert last["error"] == "The server's disk takes no more files; make room on it."
    assert [one["name"] for one in last.get("results", ())] == ["collage-3.png", "collage-4.png"][:room]


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
