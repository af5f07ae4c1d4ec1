"""Nothing is lost without a word: leaving the page, dropping a file beside the stage, opening another collage."""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from tests.e2e.conftest import Studio
from tests.e2e.driver import Driver

_STUDIO = "document.querySelector('[data-ready]').decollage"
_LEAVES = "() => window.dispatchEvent(new Event('beforeunload', { cancelable: true }))"


def _asked_when_reloading(user: Driver) -> list[str]:
    """The dialogs that a reload brings; it goes ahead whatever they ask."""
    asked: list[str] = []

    def accept(dialog: object) -> None:
        asked.append(dialog.type)  # type: ignore[attr-defined]
        dialog.accept()  # type: ignore[attr-defined]

    user.page.on("dialog", accept)
    user.page.reload()
    user.page.remove_listener("dialog", accept)
    user.page.wait_for_selector("[data-ready='1']", state="attached")
    return asked


def test_leaving_is_asked_about_while_something_would_be_lost(user: Driver) -> None:
    user.fill("Scene prompt", "a cat")
    assert _asked_when_reloading(user) == ["beforeunload"]
    user.button("Undo").click()  # browsers ask only where something was done on the page
    assert _asked_when_reloading(user) == []
    user.fill("Scene prompt", "a cat")
    user.save("Save")
    user.wait(f"!{_STUDIO}.saving")
    assert _asked_when_reloading(user) == []


def test_leaving_is_asked_about_while_a_result_is_not_downloaded(user: Driver) -> None:
    user.page.evaluate(f"{_STUDIO}.store.patch({{ steps: 2, seed: 0 }})")
    user.page.evaluate(f"{_STUDIO}.keep({_STUDIO}.store.doc)")
    user.render()
    user.click(10, 10)
    assert user.page.evaluate(_LEAVES) is False
    user.save("Download")
    assert user.page.evaluate(_LEAVES) is True


def test_unsaved_work_is_back_after_the_page_loaded_itself_again(user: Driver, cutout: Path) -> None:
    """As Gradio has it do after a lost connection. Nobody is asked: to stay would be to stay on a dead page."""
    user.upload(cutout)
    user.fill("Scene prompt", "a cat")
    asked: list[object] = []
    user.page.on("dialog", lambda dialog: (asked.append(dialog), dialog.accept()))
    with user.page.expect_event("load"):
        user.page.evaluate("() => setTimeout(() => location.reload())")
    user.page.wait_for_selector("[data-ready='1']", state="attached")
    assert asked == []
    assert (user.doc()["prompt"], user.names()) == ("a cat", ["red ring"])
    expect(user.page.locator(".dc-status")).to_contain_text("Your collage is back")
    user.wait(f"{_STUDIO}.pictures.painted.has({_STUDIO}.store.doc.layers[0].id)")
    expect(user.page.locator(".dc-error")).to_be_hidden()
    user.button("Undo").click()
    assert user.doc()["name"] == "Evening light"
    user.button("Redo").click()
    user.save("Save")
    user.wait(f"!{_STUDIO}.saving")
    user.page.reload()
    user.page.wait_for_selector("[data-ready='1']", state="attached")
    assert user.names() != ["red ring"]  # it is in the file


def test_a_file_dropped_beside_the_stage_goes_nowhere(user: Driver) -> None:
    prevented = user.page.evaluate(
        """() => {
            const drop = (type, data) => {
                const transfer = new DataTransfer();
                transfer.items.add(data, ...(typeof data === 'string' ? ['text/plain'] : []));
                const event = new DragEvent(type, { dataTransfer: transfer, bubbles: true, cancelable: true });
                return !document.querySelector('.dc-header').dispatchEvent(event);
            };
            const file = new File(['x'], 'cat.png', { type: 'image/png' });
            return [drop('dragover', file), drop('drop', file), drop('dragover', 'a cat'), drop('drop', 'a cat')];
        }"""
    )
    assert prevented == [True, True, False, False]  # words may be dragged into a text
    assert user.names() == []


def test_a_result_of_another_collage_is_no_ground_for_a_layer(user: Driver, cutout: Path) -> None:
    user.upload(cutout)
    user.page.evaluate(f"{_STUDIO}.store.patch({{ steps: 2, seed: 0 }})")
    user.render()
    user.button("Collage").click()
    user.page.locator(".dc-layer-pick").first.click()
    expect(user.button("Render only this layer")).to_be_enabled()
    user.page.get_by_label("Open a preset").select_option(label="Keep the castle")
    user.wait(f"{_STUDIO}.store.doc.name === 'Keep the castle'")
    user.page.locator(".dc-layer-pick").first.click()
    expect(user.button("Render only this layer")).to_be_disabled()
    user.button("Undo").click()
    user.page.locator(".dc-layer-pick").first.click()
    expect(user.button("Render only this layer")).to_be_enabled()


def test_a_model_that_is_not_offered_can_be_left(user: Driver) -> None:
    user.tab("Scene")
    user.page.get_by_text("Sampler", exact=True).click()
    choice = user.page.get_by_label("Model", exact=True)
    expect(choice).to_be_hidden()
    user.page.evaluate(f"{_STUDIO}.store.patch({{ model: 'no/such-model' }})")
    expect(choice.locator("option:checked")).to_have_text("no/such-model (not on this machine)")
    choice.select_option(label="embedded")
    assert user.doc()["model"] == "embedded"
    expect(choice).to_be_hidden()


def test_a_tab_opened_while_the_servers_disk_is_full_says_so_and_can_be_used(
    page: Page, studio: Studio, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("studio.ui.keeping._renewed", lambda *_: False)  # other tabs have had its pictures
    monkeypatch.setattr("studio.ui.keeping._write", full)
    user = Driver(page, studio.url)
    alert = page.locator(".dc-error")
    expect(alert).to_contain_text("takes no more files (No space left on device)")
    assert user.names() == []
    user.fill("Scene prompt", "a cat")
    user.button("Dismiss").click()
    user.button("Save").click()
    expect(alert).to_contain_text("takes no more files")
    monkeypatch.undo()
    user.wait(f"!{_STUDIO}.saving")
    user.save("Save")
