"""Every way to change a collage on the page."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from studio.document import VERSION
from studio.formats import open_any
from tests.e2e.conftest import Studio
from tests.e2e.driver import Driver


def test_pictures_come_upright_and_fitted(user: Driver, cutout: Path, photo: Path) -> None:
    user.upload(cutout, photo)
    assert user.names() == ["red ring", "photo"]
    photo_layer = user.layer("photo")
    assert (photo_layer["width"], photo_layer["height"]) == (300, 400)  # turned as its EXIF note says
    assert photo_layer["scale_y"] * 400 <= 256 * 0.6 + 0.01


def test_a_click_goes_through_what_is_clear(user: Driver, cutout: Path) -> None:
    user.upload(cutout, cutout)
    assert user.names() == ["red ring", "red ring 2"]
    scale = user.layer("red ring")["scale_x"]
    rim = 128 + 65 * scale
    user.click(10, 10)
    assert user.selected() is None
    user.click(rim, 128)
    assert user.selected() == "red ring 2"
    user.click(128, 128)  # the hole of both
    assert user.selected() is None
    user.click(rim, 128)
    user.button("Lock red ring 2").click()
    user.click(rim, 128)
    assert user.selected() == "red ring"


def test_drop_a_picture_where_it_shall_lie(user: Driver, cutout: Path) -> None:
    user.drop(cutout, "image/png", 50, 200)
    user.wait("document.querySelector('[data-ready]').decollage.store.doc.layers.length === 1")
    layer = user.layer("red ring")
    assert abs(layer["x"] - 50) < 1
    assert abs(layer["y"] - 200) < 1


def test_drawer_search_and_add(user: Driver) -> None:
    tiles = user.page.get_by_role("button", name="Add ").and_(user.page.locator(".dc-cutout"))
    everything = tiles.count()
    user.page.get_by_label("Search cut-outs").fill("elephant")
    expect(tiles).to_have_count(1)
    tiles.first.click()
    user.wait("document.querySelector('[data-ready]').decollage.store.doc.layers.length === 1")
    assert user.layer("elephant")["prompt"] == "elephant"
    user.page.get_by_label("Search cut-outs").fill("nothing of this kind")
    expect(tiles).to_have_count(0)
    expect(user.page.get_by_text("No cut-out is called")).to_be_visible()
    user.page.get_by_label("Search cut-outs").fill("")
    expect(tiles).to_have_count(everything)


def test_move_scale_rotate_by_handles(user: Driver, cutout: Path) -> None:
    user.upload(cutout)
    before = user.layer("red ring")
    half = 100 * before["scale_x"]
    user.drag((128 + half, 128 + half), (128 + half * 1.5, 128 + half * 1.5))  # the lower right corner
    scaled = user.layer("red ring")
    assert scaled["scale_x"] == pytest.approx(before["scale_x"] * 1.25, rel=0.05)
    assert scaled["scale_x"] == pytest.approx(scaled["scale_y"], rel=0.01)
    x, y, reach = scaled["x"], scaled["y"], 100 * scaled["scale_x"] + 26 / user.scale()
    user.drag((x, y - reach), (x + reach, y))  # the handle above, a quarter turn
    assert user.layer("red ring")["rotation"] == pytest.approx(90, abs=4)


def test_toolbar_and_history(user: Driver, cutout: Path) -> None:
    user.upload(cutout)
    user.button("Flip left to right").click()
    user.button("Flip upside down").click()
    assert (user.layer("red ring")["flip_x"], user.layer("red ring")["flip_y"]) == (True, True)
    user.button("Duplicate").click()
    assert user.names() == ["red ring", "red ring 2"]
    user.button("Move down").click()
    assert user.names() == ["red ring 2", "red ring"]
    user.button("Move up").click()
    assert user.names() == ["red ring", "red ring 2"]
    user.button("Hide red ring").click()
    assert user.layer("red ring")["visible"] is False
    user.button("Delete layer").click()
    assert user.names() == ["red ring"]
    for _ in range(6):
        user.button("Undo").click()
    assert user.names() == ["red ring"]
    assert user.layer("red ring")["flip_y"] is False
    assert user.layer("red ring")["visible"] is True
    user.button("Redo").click()
    assert user.layer("red ring")["flip_y"] is True


def test_learn_look_is_switched_for_one_layer(user: Driver, cutout: Path) -> None:
    user.upload(cutout, cutout)
    box = user.page.get_by_role("checkbox", name="Learn look")
    expect(box).not_to_be_checked()
    box.check()
    assert [user.layer(name)["look"] for name in user.names()] == [False, True]
    user.button("Undo").click()
    expect(box).not_to_be_checked()
    assert user.layer("red ring 2")["look"] is False


def test_how_a_look_is_learned_is_set_beside_it(user: Driver, cutout: Path) -> None:
    user.upload(cutout)
    vectors = user.page.get_by_label("Learned words", exact=True)
    steps = user.page.get_by_label("Steps of learning", exact=True)
    expect(vectors).to_be_hidden()
    user.page.get_by_role("checkbox", name="Learn look").check()
    for typed, kept in (("9", 4), ("", None), ("2", 2)):  # 4 is the most there may be
        vectors.fill(typed)
        vectors.press("Tab")
        assert user.layer("red ring")["look_vectors"] == kept
    steps.fill("20")
    steps.press("Tab")
    assert user.layer("red ring")["look_steps"] == 20


def test_picture_as_prompt_is_off_with_its_reason(user: Driver, cutout: Path) -> None:
    """The embedded model has no adapter: the slider is out of the way and stands still."""
    user.upload(cutout)
    expect(user.page.get_by_text("This model has no IP-Adapter.")).to_be_hidden()
    user.page.locator("summary", has_text="Not with this model").click()
    slider = user.page.get_by_role("slider", name="Picture as prompt")
    expect(slider).to_be_disabled()
    expect(user.page.get_by_label("Picture as prompt, as a number")).to_be_disabled()
    expect(user.page.get_by_text("This model has no IP-Adapter.")).to_be_visible()
    assert user.layer("red ring")["image_prompt"] is None
    expect(user.page.get_by_role("slider", name="Vary")).to_be_enabled()


def test_reorder_by_dragging_the_grip(user: Driver, cutout: Path) -> None:
    user.upload(cutout, cutout, cutout)
    rows = user.page.locator(".dc-layer")
    rows.nth(0).hover()
    grip = rows.nth(0).locator(".dc-grip").bounding_box()
    last = rows.nth(2).bounding_box()
    assert grip is not None
    assert last is not None
    user.page.mouse.move(grip["x"] + 5, grip["y"] + 20)
    user.page.mouse.down()
    user.page.mouse.move(grip["x"] + 5, last["y"] + 10)
    user.page.mouse.move(grip["x"] + 5, last["y"] + last["height"] - 2)
    user.page.mouse.up()
    assert user.names() == ["red ring 3", "red ring", "red ring 2"]


def test_scene_and_avoid(user: Driver, cutout: Path, photo: Path) -> None:
    user.upload(cutout)
    user.tab("Scene")
    user.fill("Negative prompt", "fog")
    user.page.get_by_label("Random each time").uncheck()
    user.fill("Seed", "0")
    user.fill("Images", "3")
    user.fill("Width", "513")
    user.page.locator("input[type=color]").fill("#102030")
    user.slide("Spread", "1.5")
    document = user.doc()
    assert (document["negative_prompt"], document["seed"], document["images"]) == ("fog", 0, 3)
    assert (document["canvas"]["width"], document["spread"]) == (512, 1.5)
    assert document["background"]["colour"] == "#102030"
    user.page.get_by_label("Random each time").check()
    assert user.doc()["seed"] is None
    user.page.get_by_label("Say which layers were lost").check()
    assert user.doc()["watch"] is True

    user.tab("Avoid")
    with user.page.expect_file_chooser() as chooser:
        user.button("Add a picture to avoid").click()
    chooser.value.set_files(str(photo))
    user.wait("document.querySelector('[data-ready]').decollage.store.doc.avoids.length === 1")
    user.slide("Avoid", "2")
    user.page.get_by_label("Where", exact=True).select_option(label="red ring")
    (avoid,) = user.doc()["avoids"]
    assert (avoid["name"], avoid["alpha"], avoid["threshold"]) == ("photo", 2, None)
    assert avoid["layer"] == user.layer("red ring")["id"]


def test_presets_open_and_undo(user: Driver, cutout: Path) -> None:
    user.upload(cutout)
    user.page.get_by_label("Open a preset").select_option(label="Keep the castle")
    user.wait("document.querySelector('[data-ready]').decollage.store.doc.name === 'Keep the castle'")
    assert "castle" in user.names()
    user.button("Undo").click()
    assert user.names() == ["red ring"]


def test_save_and_open_again(user: Driver, cutout: Path, tmp_path: Path) -> None:
    user.upload(cutout)
    user.fill("Name of the collage", "Ring")
    user.slide("Harmonize", "0.25")
    download = user.save("Save")
    assert download.suggested_filename == "ring.collage"
    download.save_as(tmp_path / "ring.collage")
    collage, _ = open_any(tmp_path / "ring.collage")
    assert collage.layers[0].harmonize == 0.25
    user.button("Undo").click()
    user.open(tmp_path / "ring.collage")
    user.wait("document.querySelector('[data-ready]').decollage.store.doc.layers[0]?.harmonize === 0.25")
    assert user.doc()["layers"][0]["width"] == 200
    user.button("Save").click()  # an opened document can be sent as it is
    expect(user.page.locator(".dc-error")).to_be_hidden()


def test_what_cannot_be_opened_is_refused_and_nothing_is_lost(
    user: Driver, cutout: Path, tmp_path: Path
) -> None:
    user.upload(cutout)
    before = user.doc()
    user.open(cutout)
    assert "carries no collage" in user.error()
    user.button("Dismiss").click()
    broken = tmp_path / "broken.collage"
    broken.write_bytes(b"PK\x03\x04 no zip")
    user.open(broken)
    assert "not a whole .collage file" in user.error()
    user.button("Dismiss").click()
    later = tmp_path / "later.collage"
    with zipfile.ZipFile(later, "w") as pack:
        pack.writestr("collage.json", json.dumps({"version": VERSION + 1, "holograms": []}))
    user.open(later)
    assert f"the collage has version {VERSION + 1}" in user.error()
    assert user.doc() == before
    user.button("Dismiss").click()
    damaged = tmp_path / "damaged.png"
    damaged.write_bytes(b"\x89PNG\r\n\x1a\nnothing")
    user.drop(damaged, "image/png", 100, 100)
    assert "damaged.png is damaged" in user.error()
    user.button("Dismiss").click()
    text = tmp_path / "notes.txt"
    text.write_text("hello")
    user.drop(text, "text/plain", 100, 100)
    assert "notes.txt is not a picture" in user.error()
    assert user.doc() == before


def test_warnings_and_errors_come_as_sentences(user: Driver, cutout: Path) -> None:
    user.upload(cutout)
    user.page.evaluate(
        """() => {
            const { store } = document.querySelector('[data-ready]').decollage;
            store.patchLayer(store.selected, { x: 5000 });
            store.patch({ steps: 2, seed: 0 });
        }"""
    )
    user.render()
    expect(user.page.get_by_text("What is left of each layer")).to_be_hidden()
    expect(user.page.locator(".dc-warnings")).to_contain_text("Layer 'red ring' shows nothing on the canvas")
    user.page.evaluate(
        "() => document.querySelector('[data-ready]').decollage.store.patch({ model: 'no/such-model' })"
    )
    user.button("Render").click()
    assert user.error() == "Model 'no/such-model' is not on this machine; choose embedded."
    expect(user.button("Render")).to_be_visible()


def test_user_text_is_never_markup(user: Driver, cutout: Path) -> None:
    nasty = "<img src=x onerror=alert(1)> ${1+1} {{value}} `\\"
    user.upload(cutout)
    user.fill("Name", nasty)
    user.fill("Words", nasty)
    user.fill("Scene prompt", nasty)
    expect(user.page.locator(".dc-layer-name").first).to_have_text(nasty)
    assert user.page.locator(".dc-root img[src=x]").count() == 0
    user.page.evaluate(
        "() => document.querySelector('[data-ready]').decollage.store.patch({ steps: 2, seed: 0, watch: true })"
    )
    user.render()
    user.page.get_by_text("What is left of each layer").click()
    seen = user.page.locator(".dc-news .dc-fold")
    expect(seen.locator("li").first).to_contain_text("like its cut-out")
    expect(seen.locator("li").first).to_contain_text("<img src=x")
    expect(seen).to_contain_text("Measured by the embedded CLIP.")


def test_results_collage_and_seed(user: Driver) -> None:
    user.page.evaluate(
        "() => document.querySelector('[data-ready]').decollage.store.patch({ steps: 2, images: 2 })"
    )
    user.render()
    tiles = user.page.locator(".dc-tile")
    expect(tiles).to_have_count(2)
    expect(user.page.locator(".dc-result")).to_be_visible()
    seed = user.page.evaluate("() => document.querySelector('[data-ready]').decollage.results.all[1].seed")
    tiles.nth(1).click()
    user.button("Keep seed").click()
    assert user.doc()["seed"] == seed
    user.button("Collage").click()
    expect(user.page.locator(".dc-result")).to_be_hidden()
    user.button("Result").click()
    expect(user.page.locator(".dc-result")).to_be_visible()


def test_the_seed_of_images_made_together_is_that_of_their_batch(user: Driver) -> None:
    user.page.evaluate(
        "() => document.querySelector('[data-ready]').decollage"
        ".store.patch({ steps: 2, images: 2, spread: 1, seed: 5 })"
    )
    user.render()
    expect(user.page.locator(".dc-caption")).to_contain_text("Seed 6")
    user.page.evaluate("() => document.querySelector('[data-ready]').decollage.store.patch({ seed: null })")
    user.button("Keep seed").click()
    assert user.doc()["seed"] == 5
    user.tab("Scene")
    user.page.get_by_label("Random each time").check()
    user.page.get_by_label("Random each time").uncheck()
    assert user.doc()["seed"] == 5


def test_on_a_phone(phone: Page, studio: Studio, cutout: Path) -> None:
    user = Driver(phone, studio.url)
    width = phone.evaluate("document.documentElement.scrollWidth")
    assert width <= 412, "the page is wider than the phone"
    user.upload(cutout)
    before = user.layer("red ring")
    box = phone.locator(".dc-stage").bounding_box()
    assert box is not None
    assert box["width"] > 380
    start, end = user.screen(128, 90), user.screen(100, 70)
    finger = phone.context.new_cdp_session(phone)
    for kind, points in (
        ("touchStart", [start]),
        ("touchMove", [((start[0] + end[0]) / 2, (start[1] + end[1]) / 2)]),
        ("touchMove", [end]),
        ("touchEnd", []),
    ):
        at = [{"x": x, "y": y} for x, y in points]
        finger.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": at})
    moved = user.layer("red ring")
    assert moved["x"] - before["x"] == pytest.approx(-28, abs=3)
    assert moved["y"] - before["y"] == pytest.approx(-20, abs=3)
    small = phone.evaluate(
        """() => [...document.querySelectorAll('.dc-tools button, .dc-run button, .dc-header-actions button')]
            .filter((one) => one.offsetParent && Math.min(one.offsetWidth, one.offsetHeight) < 40)
            .map((one) => one.title)"""
    )
    assert small == []


def test_how_layers_are_held(user: Driver) -> None:
    user.tab("Scene")
    user.page.get_by_text("How layers are held").click()
    user.page.get_by_label("Harmonize by", exact=True).select_option(label="the model's time")
    user.page.get_by_label("Grow, as a number").fill("-6")
    user.page.get_by_label("Grow, as a number").press("Enter")
    assert (user.doc()["harmonize_by"], user.doc()["grow"]) == ("timestep", -6)
    expect(
        user.page.get_by_label("Words look at", exact=True)
    ).to_be_hidden()  # not in this model's attention
