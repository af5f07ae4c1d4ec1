"""One layer rendered alone from the page, and values suggested for what is not set."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image
from playwright.sync_api import Page, expect

from studio.formats import png
from tests.e2e.conftest import Studio
from tests.e2e.driver import Driver

_ALONE = "Render only this layer"


def _choose(user: Driver, name: str) -> None:
    user.page.locator(".dc-layer-pick", has_text=name).first.click()


def _download(user: Driver, path: Path) -> np.ndarray:
    user.save("Download").save_as(path)
    with Image.open(path) as picture:
        return np.asarray(picture.convert("RGB")).astype(int)


def test_one_layer_alone_on_the_last_result(page: Page, studio: Studio, tmp_path: Path) -> None:
    user = Driver(page, studio.url)
    name = user.names()[-1]
    _choose(user, name)
    expect(user.button(_ALONE)).to_be_disabled()  # there is no result yet
    page.evaluate("document.querySelector('[data-ready]').decollage.store.patch({ steps: 4, seed: 3 })")
    user.render()
    before = _download(user, tmp_path / "before.png")

    _choose(user, name)
    user.button(f"Lock {name}").click()
    expect(user.button(_ALONE)).to_be_disabled()
    user.button(f"Unlock {name}").click()
    page.evaluate("document.querySelector('[data-ready]').decollage.store.patch({ seed: 4 })")
    user.button(_ALONE).click()
    user.wait("document.querySelectorAll('.dc-strip li').length === 2")
    user.wait("!document.querySelector('[data-ready]').decollage.results.running")
    expect(page.locator(".dc-error")).to_be_hidden()
    expect(page.locator(".dc-caption")).to_have_text(
        f"Seed 4 · 256 × 256 · {name} alone, largest change outside it: 0 of 255"
    )
    assert user.selected() == name  # to be rendered once more

    after = _download(user, tmp_path / "after.png")
    report = png.read_report((tmp_path / "after.png").read_bytes())
    left, top, right, bottom = report["edit"]["box"]
    assert report["edit"]["layer"] == name and (right - left) * (bottom - top) < 256 * 256
    moved = np.abs(before - after).max(2)
    assert moved[top:bottom, left:right].any()
    moved[top:bottom, left:right] = 0
    assert not moved.any()


def test_suggested_values_leave_alone_what_is_set(page: Page, studio: Studio) -> None:
    user = Driver(page, studio.url)
    name = user.names()[-1]
    _choose(user, name)
    page.evaluate(
        """() => {
            const { store } = document.querySelector('[data-ready]').decollage;
            store.patchLayer(store.selected, { harmonize: 0.15, attend_inside: null, feather: null });
        }"""
    )
    user.button("Suggest values").click()
    reasons = page.get_by_label("Why these values")
    expect(reasons).to_contain_text("Insist 0.")
    expect(reasons).not_to_contain_text("Harmonize")
    layer = user.layer(name)
    assert layer["harmonize"] == 0.15
    assert 0.05 <= layer["attend_inside"] <= 0.2 and layer["feather"] >= 1
    user.button("Undo").click()
    assert user.layer(name)["attend_inside"] is None and user.layer(name)["harmonize"] == 0.15
