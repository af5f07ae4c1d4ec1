"""Learn look on the page: a box to tick where the model can, and the reason beside it where it cannot."""

from __future__ import annotations

from playwright.sync_api import Page, expect

from pipelines.models import card
from studio.ui.settings import settings
from tests.e2e.conftest import Studio
from tests.e2e.driver import Driver

STUDIO = "document.querySelector('[data-ready]').decollage"


def test_the_box_says_why_it_cannot_be_ticked(page: Page, studio: Studio) -> None:
    """The second model is told to the page as the server tells it; nothing of it is loaded."""
    user = Driver(page, studio.url)
    name = user.names()[-1]
    page.locator(".dc-layer-pick", has_text=name).first.click()
    box = page.get_by_label("Learn look", exact=True)
    told = settings([card("sd3")])
    why = page.get_by_text(told["words"]["no_look"]["hint"])
    expect(box).to_be_enabled()
    expect(why).to_be_hidden()
    page.evaluate(f"(one) => {STUDIO}.settings.models.push(one)", told["models"][0])
    page.evaluate(f"() => {STUDIO}.store.patch({{ model: 'sd3' }})")
    expect(box).to_be_disabled()
    expect(why).to_be_visible()
    page.evaluate(f"() => {STUDIO}.store.patch({{ model: 'embedded' }})")
    box.check()
    page.evaluate(f"() => {STUDIO}.store.patch({{ model: 'sd3' }})")
    expect(box).to_be_enabled()
    box.uncheck()
    assert user.layer(name)["look"] is False
    expect(box).to_be_disabled()
