"""What a user does on the page, in words; and what the page holds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from playwright.sync_api import Download, Page, expect

PATIENCE = 120_000
"""Milliseconds until something that has not come counts as missing: many, for machines that do other work beside."""
_STUDIO = "document.querySelector('[data-ready]').decollage"


class Driver:
    """A page on the studio, opened and ready."""

    def __init__(self, page: Page, url: str) -> None:
        self.page = page
        page.goto(url)
        page.wait_for_selector("[data-ready='1']", state="attached", timeout=PATIENCE)

    def button(self, name: str) -> Any:
        return self.page.get_by_role("button", name=name, exact=True)

    def doc(self) -> dict[str, Any]:
        """The document as the page holds it."""
        return dict(self.page.evaluate(f"{_STUDIO}.store.doc"))

    def layer(self, name: str) -> dict[str, Any]:
        return next(one for one in self.doc()["layers"] if one["name"] == name)

    def names(self) -> list[str]:
        """Layers from bottom to top."""
        return [layer["name"] for layer in self.doc()["layers"]]

    def selected(self) -> str | None:
        """Name of the selected layer."""
        chosen = self.page.evaluate(f"{_STUDIO}.store.current?.name ?? null")
        return None if chosen is None else str(chosen)

    def screen(self, x: float, y: float) -> tuple[float, float]:
        """Where a canvas point lies on the screen."""
        place = self.page.evaluate(f"{_STUDIO}.view.place")
        box = self.page.locator(".dc-konva").bounding_box()
        assert box is not None
        return (
            box["x"] + place["left"] + x * place["scale"],
            box["y"] + place["top"] + y * place["scale"],
        )

    def scale(self) -> float:
        """Screen pixels a canvas pixel."""
        return float(self.page.evaluate(f"{_STUDIO}.view.place.scale"))

    def click(self, x: float, y: float) -> None:
        """A click on a canvas point."""
        self.page.mouse.click(*self.screen(x, y))

    def drag(self, start: tuple[float, float], end: tuple[float, float]) -> None:
        """A drag from canvas point to canvas point."""
        self.page.mouse.move(*self.screen(*start))
        self.page.mouse.down()
        for share in (0.3, 0.7, 1.0):
            x, y = (a + (b - a) * share for a, b in zip(start, end, strict=True))
            self.page.mouse.move(*self.screen(x, y))
        self.page.mouse.up()

    def upload(self, *files: Path) -> None:
        """Pictures through the button, waited for until they are layers."""
        before = len(self.names())
        with self.page.expect_file_chooser() as chooser:
            self.button("Upload pictures").click()
        chooser.value.set_files([str(file) for file in files])
        self.wait(f"{_STUDIO}.store.doc.layers.length === {before + len(files)}")
        self.drawn()

    def drawn(self) -> None:
        """Wait until every layer is on the stage: until then a click takes its whole rectangle."""
        self.wait(f"{_STUDIO}.pictures.painted.size === {_STUDIO}.store.doc.layers.length")

    def open(self, file: Path) -> None:
        with self.page.expect_file_chooser() as chooser:
            self.button("Open").click()
        chooser.value.set_files(str(file))

    def drop(self, file: Path, kind: str, x: float, y: float) -> None:
        """A file dropped on a canvas point."""
        left, top = self.screen(x, y)
        data = list(file.read_bytes())
        self.page.evaluate(
            """([name, kind, bytes, x, y]) => {
                const transfer = new DataTransfer();
                transfer.items.add(new File([new Uint8Array(bytes)], name, { type: kind }));
                const stage = document.querySelector('.dc-stage');
                const at = { dataTransfer: transfer, bubbles: true, cancelable: true, clientX: x, clientY: y };
                for (const type of ['dragenter', 'dragover', 'drop']) stage.dispatchEvent(new DragEvent(type, at));
            }""",
            [file.name, kind, data, left, top],
        )

    def tab(self, name: str) -> None:
        self.page.get_by_role("tab", name=name, exact=True).click()

    def fill(self, label: str, text: str) -> None:
        field = self.page.get_by_label(label, exact=True)
        field.fill(text)
        field.blur()

    def slide(self, word: str, value: str) -> None:
        """A slider's number, typed."""
        field = self.page.get_by_label(f"{word}, as a number").locator("visible=true").first
        field.fill(value)
        field.press("Enter")

    def wait(self, condition: str, timeout: float = PATIENCE) -> None:
        self.page.wait_for_function(condition, timeout=timeout)

    def render(self) -> None:
        """Press Render and wait for the end."""
        self.button("Render").click()
        self.wait(f"!{_STUDIO}.results.running", 2 * PATIENCE)
        expect(self.page.locator(".dc-error")).to_be_hidden()

    def save(self, name: str) -> Download:
        """The download that a button or link starts."""
        with self.page.expect_download() as download:
            self.page.locator(f".dc-studio :is(button, a):has-text('{name}')").locator(
                "visible=true"
            ).first.click()
        return download.value

    def error(self) -> str:
        """The sentence that the page shows."""
        shown = self.page.locator(".dc-error")
        expect(shown).to_be_visible()
        return shown.inner_text().strip()
