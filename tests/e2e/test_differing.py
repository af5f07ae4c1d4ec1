"""The page's words for pictures that differ, and references that are made: each sets its field, and all is accepted."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from playwright.sync_api import expect

from studio.compositing import place_reference
from studio.document import Canvas
from studio.formats import open_any
from studio.opening import opened
from studio.rivals import INTERVAL
from tests.e2e.driver import Driver


def test_ways_to_differ(user: Driver, cutout: Path) -> None:
    user.upload(cutout)
    user.slide("Vary", "1.5")
    assert user.layer("red ring")["vary"] == 1.5
    user.tab("Avoid")
    expect(user.page.locator("summary", has_text="When and how it acts")).to_be_visible()  # vary's push, too
    user.tab("Scene")
    user.slide("Spread", "1")
    user.page.get_by_label("From which", exact=True).select_option(label="the first, as in the paper")
    user.page.get_by_label("In which part", exact=True).select_option(label="down, mid, up")
    user.fill("Every n-th part", "2")
    user.page.get_by_label("Compare every part", exact=True).check()
    user.page.locator("summary", has_text="Other ways to differ").click()
    user.page.get_by_label("Variants", exact=True).check()
    user.slide("Noise on the words", "0.25")
    user.slide("Brought back", "0.5")
    user.page.get_by_label("Guidance in an interval", exact=True).check()
    assert user.doc()["guidance_interval"] == list(INTERVAL)
    user.fill("Up to noise", "3")
    user.fill("Above noise", "9")  # above the upper bound: the box goes back
    assert user.page.get_by_label("Above noise", exact=True).input_value() == str(INTERVAL[0])
    document = user.doc()
    assert (document["spread_match"], document["spread_parts"]) == ("first", ["down", "mid", "up"])
    assert (document["spread_every"], document["cads"], document["variants"]) == (2, 0.25, True)
    assert (document["exact_match"], document["cads_mix"]) == (True, 0.5)
    assert document["guidance_interval"] == [INTERVAL[0], 3]
    user.page.get_by_label("Guidance in an interval", exact=True).uncheck()
    assert user.doc()["guidance_interval"] is None
    user.slide("Spread", "0")
    expect(user.page.get_by_label("From which", exact=True)).to_be_visible()  # a layer varies still
    user.button("Brought back: back to the default").click()
    user.page.get_by_label("Compare every part", exact=True).uncheck()
    assert (user.doc()["exact_match"], user.doc()["cads_mix"]) == (False, None)


def test_references_that_are_made(user: Driver, cutout: Path, tmp_path: Path) -> None:
    user.upload(cutout)
    user.tab("Avoid")
    user.page.locator("summary", has_text="Quality and style").click()
    user.button("Away from a blurred copy").click()
    user.page.locator("summary", has_text="More").click()
    user.slide("First part of the run", "0.5")
    user.button("Avoid the selected layer's picture").click()
    user.slide("Avoid", "-0.5")
    blurred, of_layer = user.doc()["avoids"]
    assert (blurred["made"], blurred["picture"], blurred["window"]) == ("blurred", None, 0.5)
    assert (blurred["name"], blurred["alpha"]) == ("blurred copy", -0.5)
    assert of_layer["picture"]["path"] == user.layer("red ring")["picture"]["path"]
    expect(user.page.get_by_text("Below 0 the result is pulled").locator("visible=true")).to_have_count(1)
    saved = user.save("Save")
    path = tmp_path / saved.suggested_filename
    saved.save_as(path)
    assert [one.made for one in open_any(path)[0].avoids] == ["blurred", "given"]


def test_a_layer_counts_only_inside_its_polygon(user: Driver, cutout: Path, tmp_path: Path) -> None:
    """The left half of the ring, as its polygon has it; the mask is drawn in the browser."""
    user.upload(cutout)
    clip = [[0, 0], [100, 0], [100, 200], [0, 200]]
    user.page.evaluate(
        "(clip) => { const { store } = document.querySelector('[data-ready]').decollage;"
        " store.patchLayer(store.selected, { clip }); }",
        clip,
    )
    user.tab("Avoid")
    user.button("Avoid the selected layer's picture").click()
    user.wait("document.querySelector('[data-ready]').decollage.store.doc.avoids.length === 1")
    saved = user.save("Save")
    path = tmp_path / saved.suggested_filename
    saved.save_as(path)
    collage, library = open_any(path)
    (avoid,) = collage.avoids
    assert avoid.mask is not None and avoid.picture == collage.layers[0].picture
    canvas = Canvas(width=200, height=200)
    _, counts = place_reference(avoid, library, canvas, np.zeros((200, 200, 3), np.uint8))
    alpha = np.asarray(library.open(avoid.picture).getchannel("A"))
    assert counts is not None and not counts[:, 101:].any()
    assert np.array_equal(counts[:, :99], alpha[:, :99]) and alpha[:, :99].any()


def test_what_is_open_is_filled_in(user: Driver, cutout: Path) -> None:
    user.upload(cutout)
    user.fill("Words", "car")
    user.page.evaluate(
        "() => document.querySelector('[data-ready]').decollage.store.patch({ prompt: 'a car at night' })"
    )
    user.tab("Scene")
    user.page.locator("summary", has_text="Other ways to differ").click()
    user.button("Fill in what is open").click()
    user.wait("document.querySelector('[data-ready]').decollage.store.doc.variants")
    document = user.doc()
    assert document["prompt"] == opened("a car at night")
    assert document["layers"][0]["prompt"] == opened("a car")
    user.button("Fill in what is open").click()
    expect(user.page.get_by_text("Nothing is left open")).to_be_visible()
    user.button("Undo").click()
    assert (user.doc()["prompt"], user.doc()["variants"]) == ("a car at night", False)
    expect(user.page.get_by_text("Nothing is left open")).to_be_hidden()


def test_away_from_a_result_where_a_mask_says(user: Driver, cutout: Path, tmp_path: Path) -> None:
    """A result is avoided in the next render, and a picture of its shape says what of it counts."""
    user.upload(cutout)
    user.render()
    user.button("Avoid").click()
    user.tab("Avoid")
    (avoid,) = user.doc()["avoids"]
    assert avoid["name"].startswith("seed ") and avoid["mask"] is None
    user.page.locator("summary", has_text="More").click()
    with user.page.expect_file_chooser() as chosen:
        user.button("Mask").click()
    chosen.value.set_files(cutout)
    user.wait("document.querySelector('[data-ready]').decollage.store.doc.avoids[0].mask !== null")
    user.render()
    saved = user.save("Save")
    path = tmp_path / saved.suggested_filename
    saved.save_as(path)
    collage, library = open_any(path)
    (avoided,) = collage.avoids
    assert avoided.mask in library and avoided.picture in library
    user.button("Take the mask away").click()
    assert user.doc()["avoids"][0]["mask"] is None
