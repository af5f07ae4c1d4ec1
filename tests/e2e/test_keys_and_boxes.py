"""Keys act where nothing is being typed, and sliders and their boxes say what the document has."""

from __future__ import annotations

from pathlib import Path

from playwright.sync_api import expect

from tests.e2e.driver import Driver


def test_keyboard(user: Driver, cutout: Path) -> None:
    user.upload(cutout)
    user.click(128 + 65 * user.layer("red ring")["scale_x"], 128)
    press = user.page.keyboard.press
    press("ArrowRight")
    press("Shift+ArrowDown")
    layer = user.layer("red ring")
    assert (layer["x"], layer["y"]) == (129, 138)
    press("Control+z")
    assert user.layer("red ring")["x"] == 128  # quick presses are one step
    press("Control+Shift+Z")
    assert user.layer("red ring")["x"] == 129
    press("Control+d")
    assert user.names() == ["red ring", "red ring 2"]
    press("Delete")
    assert user.names() == ["red ring"]
    press("Alt+]")
    assert user.selected() == "red ring"
    press("Escape")
    assert user.selected() is None
    expect(user.page.locator(".dc-studio > .dc-sr")).not_to_be_empty()  # read out


def test_keys_are_dead_while_typing(user: Driver, cutout: Path) -> None:
    user.upload(cutout)
    field = user.page.get_by_label("Scene prompt")
    field.fill("cat")
    field.press("Backspace")
    field.press("ArrowLeft")
    assert user.doc()["prompt"] == "ca"
    assert user.names() == ["red ring"]
    assert user.layer("red ring")["x"] == 128


def test_sliders_and_their_defaults(user: Driver, cutout: Path) -> None:
    user.upload(cutout)
    assert user.layer("red ring")["harmonize"] is None
    assert _typed(user, "Feather") == "5"
    user.slide("Harmonize", "0")
    user.slide("Insist", "5")
    user.slide("Feather", "12")
    layer = user.layer("red ring")
    assert (layer["harmonize"], layer["attend_inside"], layer["feather"]) == (0, 1, 12)
    user.slide("Insist", "7")  # the box says what the document has, while it is still in use
    assert _typed(user, "Insist") == "1.00"
    user.fill("Without", "rust")
    assert user.layer("red ring")["negative"] == "rust"
    user.button("Harmonize: back to the default").locator("visible=true").click()
    assert user.layer("red ring")["harmonize"] is None
    slider = user.page.get_by_role("slider", name="Stay inside")
    slider.press("End")
    assert user.layer("red ring")["attend_outside"] == 1
    user.button("What is Harmonize?").locator("visible=true").first.click()
    expect(user.page.get_by_role("note").filter(has_text="0 keeps its pixels exactly").first).to_be_visible()


def _typed(user: Driver, word: str) -> str:
    return str(user.page.get_by_label(f"{word}, as a number").locator("visible=true").first.input_value())


def test_boxes_say_what_the_document_has(user: Driver, cutout: Path) -> None:
    user.upload(cutout)
    user.page.evaluate(
        "() => { const { store } = document.querySelector('[data-ready]').decollage;"
        " store.patchLayer(store.selected, { scale_x: 0.5, scale_y: 2 }); }"
    )
    user.page.locator("summary", has_text="Place").click()
    size = user.page.get_by_label("Size %", exact=True)
    size.fill("6400")
    size.press("Enter")
    layer = user.layer("red ring")
    assert (layer["scale_x"], layer["scale_y"]) == (16, 64)  # in proportion, as large as a layer may be
    assert size.input_value() == "1600"
    user.tab("Scene")
    width = user.page.get_by_label("Width", exact=True)
    before = user.doc()["rev"]
    width.fill("257")
    width.press("Enter")
    assert (width.input_value(), user.doc()["rev"]) == ("256", before)  # no step to undo
    width.fill("9999")
    width.press("Enter")
    assert (width.input_value(), user.doc()["canvas"]["width"]) == ("2048", 2048)


def test_keys_act_after_a_slider_was_moved(user: Driver, cutout: Path) -> None:
    user.upload(cutout)
    slider = user.page.get_by_role("slider", name="Stay inside")
    slider.press("End")
    slider.press("ArrowLeft")
    assert user.layer("red ring")["attend_outside"] < 1 and user.layer("red ring")["x"] == 128
    user.page.keyboard.press("Control+z")
    assert user.layer("red ring")["attend_outside"] is None
    user.page.keyboard.press("Control+d")
    assert user.names() == ["red ring", "red ring 2"]


def test_a_typed_number_goes_where_it_was_typed(user: Driver, cutout: Path) -> None:
    user.upload(cutout, cutout)
    user.page.evaluate(
        "() => { const { store } = document.querySelector('[data-ready]').decollage;"
        " store.patchLayer(store.doc.layers[0].id, { x: 60 }); store.patchLayer(store.doc.layers[1].id, { x: 196 }); }"
    )
    box = user.page.get_by_label("Harmonize, as a number").locator("visible=true").first
    box.click()
    box.press("Control+a")
    user.page.keyboard.type("0")
    user.click(60 + 65 * user.layer("red ring")["scale_x"], 128)
    assert user.selected() == "red ring"
    values = [user.layer(name)["harmonize"] for name in ("red ring 2", "red ring")]
    assert values == [0, None]
    assert box.input_value() != "0.00"
    box.click()
    box.press("Control+a")
    user.page.keyboard.type("0.3")
    with user.page.expect_download():
        user.page.keyboard.press("Control+s")
    assert user.layer("red ring")["harmonize"] == 0.3
    box.press("Control+a")
    user.page.keyboard.type("0.2")
    user.click(250, 5)  # nothing is there
    assert (user.selected(), user.layer("red ring")["harmonize"]) == (None, 0.2)


def test_keys_act_while_nothing_has_the_focus(user: Driver, cutout: Path) -> None:
    user.upload(cutout)
    user.button("Undo").click()
    assert user.names() == []
    assert user.page.evaluate("document.activeElement === document.body")  # the button is switched off
    user.page.keyboard.press("Control+y")
    assert user.names() == ["red ring"]
    presets = user.page.get_by_label("Open a preset")
    presets.focus()
    for key in ("ArrowDown", "p", "End"):
        user.page.keyboard.press(key)
        user.page.wait_for_timeout(300)
        user.page.keyboard.press("Escape")
    assert user.names() == ["red ring"]
    expect(presets).to_have_value("")


def test_a_locked_layer_is_not_deleted(user: Driver, cutout: Path) -> None:
    user.upload(cutout)
    user.button("Lock red ring").click()
    user.page.keyboard.press("Delete")
    assert user.error() == "red ring is locked; unlock it first."
    assert user.names() == ["red ring"]
