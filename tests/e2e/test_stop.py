"""Stop stops: no denoiser call and no picture after it. So does closing the tab, once the server notices."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from studio.formats import open_any
from tests.e2e.conftest import Studio
from tests.e2e.driver import PATIENCE, Driver

STEPS = 200  # of each of the 16 images of the long run


def _long_run(user: Driver) -> None:
    user.page.evaluate(
        """steps => {
            const { store } = document.querySelector('[data-ready]').decollage;
            store.patch({ steps, images: 16, seed: 0 });
            store.patchBackground({ harmonize: 1 });
        }""",
        STEPS,
    )
    user.button("Render").click()


def _settled(studio: Studio, page: Page) -> int:
    """Denoiser calls once none has come for a second. ``page``: any open one."""
    seen = -1
    while seen != len(studio.calls):
        seen = len(studio.calls)
        page.wait_for_timeout(1000)  # not time.sleep: requests of a routed page wait for this thread
    return seen


def _until_called(studio: Studio, page: Page, calls: int) -> None:
    end = time.monotonic() + PATIENCE / 1000
    while len(studio.calls) < calls:
        assert time.monotonic() < end, "the denoiser was never called"
        page.wait_for_timeout(20)


def test_stop_ends_the_run(page: Page, studio: Studio) -> None:
    user = Driver(page, studio.url)
    before = len(studio.calls)
    _long_run(user)
    _until_called(studio, page, before + 5)
    page.wait_for_selector(".dc-result.dc-is-preview:not([hidden])")  # a preview is shown meanwhile
    user.button("Stop").click()
    expect(page.locator(".dc-status")).to_have_text("Stopped.")
    told = len(studio.calls)
    expect(user.button("Render")).to_be_visible()
    after = _settled(studio, page)
    assert after - told <= 1, "only the step that was under way ends"
    assert page.locator(".dc-strip li").count() <= 1
    # a report that was on its way when Stop was pressed does not start the run again
    late = """() => {
        const { results } = document.querySelector('[data-ready]').decollage;
        results.take({ id: results.ended, seq: results.seq + 1, state: "running", results: [], warnings: [] });
        return results.running;
    }"""
    assert page.evaluate(late) is False
    # and the next run works
    page.evaluate(
        "() => document.querySelector('[data-ready]').decollage.store.patch({ steps: 3, images: 1 })"
    )
    user.render()
    assert len(studio.calls) > after
    expect(page.locator(".dc-status", has_text="Made 1 picture")).to_be_visible()


def test_what_a_stopped_run_has_finished_can_be_downloaded(
    page: Page, studio: Studio, tmp_path: Path
) -> None:
    """Shown is the picture alone; the file with the collage is written at the end, and fetched for Download alone."""
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    user = Driver(page, studio.url)
    page.evaluate(
        "() => document.querySelector('[data-ready]').decollage.store.patch({ steps: 10, images: 16, seed: 5 })"
    )
    user.button("Render").click()
    page.wait_for_selector(".dc-strip li")
    first = page.locator(".dc-tile").last
    shown = first.locator("img").get_attribute("src")
    assert shown is not None and shown.endswith("-5-bare.png")
    download = page.get_by_role("link", name="Download")
    expect(download).to_be_hidden()
    user.button("Stop").click()
    expect(page.locator(".dc-status")).to_have_text("Stopped.")
    first.click()  # another may have been finished meanwhile
    expect(page.locator(".dc-result-picture")).to_have_attribute("src", shown)
    expect(download).to_be_visible()
    assert shown in asked and not any(url.endswith("-5.png") for url in asked)
    user.save("Download").save_as(tmp_path / "stopped.png")
    collage, _ = open_any(tmp_path / "stopped.png")
    assert (collage.seed, collage.images, len(collage.layers)) == (5, 1, len(user.names()))


def test_closing_the_tab_ends_its_run(page: Page, second_tab: Page, studio: Studio) -> None:
    user = Driver(second_tab, studio.url)
    before = len(studio.calls)
    _long_run(user)
    _until_called(studio, second_tab, before + 5)
    second_tab.context.close()
    told = len(studio.calls)
    assert _settled(studio, page) - told <= STEPS, "at most one image's worth until the server notices"


@pytest.fixture
def widths(studio: Studio) -> Iterator[list[int]]:
    """Of each denoiser call the width of what it is given, in cells of 8 pixels: canvases tell whose call it is."""
    seen: list[int] = []

    def note(_: Any, given: tuple[Any, ...]) -> None:
        seen.append(given[0].shape[-1])

    handle = studio.engine.load("embedded").pipe.unet.conv_in.register_forward_pre_hook(note)
    yield seen
    handle.remove()


@pytest.mark.parametrize("way", ["Stop", "tab"])
def test_a_run_that_waits_its_turn_never_begins(
    page: Page, second_tab: Page, studio: Studio, widths: list[int], way: str
) -> None:
    """Another tab's run is under way: it has begun, and is held where it takes the model."""
    first = Driver(page, studio.url)
    second = Driver(second_tab, studio.url)
    for user, side in ((first, 256), (second, 192)):
        user.page.evaluate(
            """side => document.querySelector('[data-ready]').decollage.store.patch(
                { canvas: { width: side, height: side }, steps: 3, images: 1 })""",
            side,
        )
    with studio.engine.load("embedded").lock:
        first.button("Render").click()
        expect(page.locator(".dc-status")).to_have_text("Loading the model…")
        second.button("Render").click()
        expect(second_tab.locator(".dc-status")).to_have_text("Waiting for another render to end…")
        if way == "Stop":
            second.button("Stop").click()
            expect(second_tab.locator(".dc-status")).to_have_text("Stopped.")
        else:
            second_tab.context.close()
        page.wait_for_timeout(1000)
        assert widths == [], "the first run was held"
    first.wait("!document.querySelector('[data-ready]').decollage.results.running")
    _settled(studio, page)
    assert set(widths) == {256 // 8}, "the second run never called the denoiser"
    if way == "Stop":
        second.render()
        assert widths[-1] == 192 // 8


def test_two_tabs_have_their_own_documents_and_runs(page: Page, second_tab: Page, studio: Studio) -> None:
    first = Driver(page, studio.url)
    first.fill("Scene prompt", "a car")
    second = Driver(second_tab, studio.url)
    second.fill("Scene prompt", "a dog")
    for user in (first, second):
        user.page.evaluate(
            "() => document.querySelector('[data-ready]').decollage.store.patch({ steps: 3, images: 1 })"
        )
    second.button("Render").click()
    first.render()
    second.wait("!document.querySelector('[data-ready]').decollage.results.running")
    assert [user.doc()["prompt"] for user in (first, second)] == ["a car", "a dog"]
    assert [user.page.locator(".dc-strip li").count() for user in (first, second)] == [1, 1]
