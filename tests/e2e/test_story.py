"""The story of a first visit, on the embedded model: upload, arrange, render, save."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image
from playwright.sync_api import Page, expect

from studio.compositing import compose
from studio.formats import open_any, png
from tests.e2e.conftest import Studio
from tests.e2e.driver import Driver


def test_upload_arrange_render_save(
    page: Page, studio_embedded: Studio, cutout: Path, tmp_path: Path
) -> None:
    user = Driver(page, studio_embedded.url)
    expect(page.get_by_label("Name of the collage")).not_to_have_value("")  # a preset is on the canvas

    user.upload(cutout)
    assert user.selected() == "red ring"
    user.drag((128, 90), (60, 70))  # by its rim; it lies in the middle, 60 % of the canvas at most
    moved = user.layer("red ring")
    assert abs(moved["x"] - 60) < 1.5
    assert abs(moved["y"] - (128 - 20)) < 1.5
    user.fill("Words", "red ring")
    user.slide("Harmonize", "0.7")
    page.keyboard.press("Escape")
    user.fill("Scene prompt", "a dog on the beach at sunset")
    expect(page.locator(".dc-full")).to_contain_text("red ring")
    user.tab("Scene")
    user.fill("Seed", "7")
    page.get_by_text("Sampler", exact=True).click()
    user.fill("Steps", "4")
    document = user.doc()
    before = len(studio_embedded.calls)
    user.render()
    assert 0 < len(studio_embedded.calls) - before <= 8
    expect(page.locator(".dc-status", has_text="Made 1 picture")).to_be_visible()

    rendered = tmp_path / "rendered.png"
    user.save("Download").save_as(rendered)
    collage, library = open_any(rendered)
    saved = tmp_path / "saved.collage"
    user.save("Save").save_as(saved)
    kept, _ = open_any(saved)
    assert collage == kept, "the picture carries another collage than the page saved"

    page.evaluate(
        """() => {
            const { store, settings } = document.querySelector('[data-ready]').decollage;
            store.replace(settings.empty);
        }"""
    )
    assert user.names() == []
    user.open(rendered)
    user.wait(
        f"document.querySelector('[data-ready]').decollage.store.doc.layers.length === {len(kept.layers)}"
    )
    again = tmp_path / "again.collage"
    user.save("Save").save_as(again)
    reopened, pictures = open_any(again)
    assert reopened == collage and set(pictures) == set(library), "opened, the picture is that collage"

    ring = collage.layers[-1]
    assert (ring.name, ring.prompt, ring.harmonize) == ("red ring", "red ring", 0.7)
    assert (collage.prompt, collage.seed, collage.steps) == ("a dog on the beach at sunset", 7, 4)
    plain = collage.to_dict()
    for field in (
        "name",
        "canvas",
        "prompt",
        "negative_prompt",
        "seed",
        "steps",
        "guidance",
        "images",
        "spread",
    ):
        assert plain[field] == document[field], field
    assert len(plain["layers"]) == len(document["layers"])
    for ours, theirs in zip(plain["layers"], document["layers"], strict=True):
        for field in ours.keys() - {"picture", "mask"}:
            assert ours[field] == theirs[field], field
    with Image.open(cutout) as uploaded:
        assert np.array_equal(np.asarray(library.open(ring.picture)), np.asarray(uploaded))

    with Image.open(rendered) as picture:
        pixels = np.asarray(picture.convert("RGB")).astype(int)
    flat = compose(collage, library).flat
    assert pixels.shape == flat.shape
    assert np.abs(pixels - flat).mean() > 1
    report = png.read_report(rendered.read_bytes())
    assert report["seed"] == 7
    assert report["seconds"] > 0


def test_what_the_page_shows_is_what_is_rendered(page: Page, studio_embedded: Studio) -> None:
    """With everything frozen the result is the flat collage, and the stage shows the same."""
    user = Driver(page, studio_embedded.url)
    page.evaluate(
        """() => {
            const { store } = document.querySelector('[data-ready]').decollage;
            for (const { id } of store.doc.layers) store.patchLayer(id, { harmonize: 0, rotation: 20, flip_x: true });
            store.patchBackground({ harmonize: 0 });
        }"""
    )
    page.wait_for_timeout(300)
    shown = page.evaluate(
        """() => {
            const { view, store } = document.querySelector('[data-ready]').decollage;
            const { left, top, width, height } = view.place;
            const all = view.stage.toCanvas({ x: left, y: top, width, height, pixelRatio: 1 });
            const out = document.createElement('canvas');
            out.width = store.doc.canvas.width; out.height = store.doc.canvas.height;
            const pen = out.getContext('2d');
            pen.imageSmoothingQuality = 'high';
            pen.drawImage(all, 0, 0, out.width, out.height);
            return [...pen.getImageData(0, 0, out.width, out.height).data];
        }"""
    )
    user.render()
    expect(page.locator(".dc-status", has_text="Made 1 picture")).to_be_visible()
    with page.expect_download() as download:
        page.get_by_text("Download", exact=True).click()
    with Image.open(download.value.path()) as picture:
        result = np.asarray(picture.convert("RGB")).astype(int)
    collage, library = open_any(download.value.path())
    assert np.array_equal(result, compose(collage, library).flat)
    drawn = np.array(shown).reshape(*result.shape[:2], 4)[..., :3]
    assert np.abs(drawn - result).mean() < 3
    assert (np.abs(drawn - result).max(-1) > 64).mean() < 0.01
