"""Keep shape on the page: a slider where the model can, and the reason beside it where it cannot."""

from __future__ import annotations

from playwright.sync_api import Page, expect

from tests.e2e.conftest import Studio
from tests.e2e.driver import Driver


def test_the_slider_says_why_it_cannot_act(page: Page, studio: Studio) -> None:
    user = Driver(page, studio.url)
    name = user.names()[-1]
    page.locator(".dc-layer-pick", has_text=name).first.click()
    page.locator("summary", has_text="Not with this model").click()
    slider = page.get_by_role("slider", name="Keep shape")
    why = page.get_by_text("embedded has no ControlNet for soft edges; give one with --controlnet")
    expect(slider).to_be_enabled()  # the embedded model has one for thin lines
    expect(why).to_have_count(0)
    _patch(page, "store.patch({ edges: 'soft' })")
    expect(slider).to_be_disabled()
    expect(why).to_be_visible()
    _patch(page, "store.patchLayer(store.selected, { keep_shape: 0.5 })")
    expect(slider).to_be_enabled()
    inside = page.locator("details", has_text="Not with this model").get_by_role("slider", name="Keep shape")
    expect(inside).to_have_count(0)
    page.get_by_role("button", name="Keep shape: back to the default").click()
    assert user.layer(name)["keep_shape"] is None
    expect(slider).to_be_disabled()
    expect(inside).to_have_count(1)


def _patch(page: Page, what: str) -> None:
    page.evaluate(
        f"() => {{ const {{ store }} = document.querySelector('[data-ready]').decollage; {what}; }}"
    )
