"""Defaults lie in their ranges, and alpha has one for each way."""

from __future__ import annotations

from typing import Any

import pytest

from pipelines.models import CARDS, card
from studio.defaults import DEFAULTS, RANGES, defaults, defaults_of, feather_of, usual_alpha
from studio.document import Canvas, Collage

OF = {
    "spread_alpha": "spread",
    "spread_push": "spread",
    "avoid_push": "avoid_alpha",
    "cads_alpha": "cads",
}
"""The word whose range a default has, where it is called otherwise."""


def test_defaults_lie_in_their_ranges() -> None:
    for own in (DEFAULTS, *(one.own for one in CARDS.values())):
        for word, value in own.items():
            low, high = RANGES[OF.get(word, word)]
            assert low <= value <= high
    assert RANGES["harmonize"] == (0, 1)
    assert RANGES["avoid_threshold"] == (0.5, 1)
    assert RANGES["steps"] == (1, 200)


def test_feather_grows_with_the_canvas() -> None:
    assert feather_of(Canvas()) == DEFAULTS["feather"] == 5
    large = Canvas(width=768, height=1024)
    assert feather_of(large) == defaults(card("sdxl"), large)["feather"] == 20
    for model in ("sdxl", "nobody/knows"):
        assert defaults_of(Collage(model=model, canvas=large))["feather"] == 20


@pytest.mark.parametrize(
    ("model", "changes", "alpha"),
    [
        ("embedded", {}, 1.5),
        ("sdxl", {}, 1.5),
        ("sdxl", {"avoid_by": "push"}, 0.9),
        ("sdxl", {"guidance": 1.0}, 0.9),
        ("sdxl-turbo", {}, 0.9),
        ("sdxl-turbo", {"guidance": 2.0}, 1.5),
        ("lcm", {}, 0.9),
        ("flux", {}, 0.9),
        ("flux", {"guidance": 8.0}, 0.9),
        ("flux2-klein", {}, 0.9),
        ("flux2-klein", {"guidance": 4.0}, 0.9),
        ("flux2-klein-base", {}, 1.5),
        ("qwen-image", {}, 1.5),
        ("z-image", {"guidance": 0.5}, 1.5),
        ("z-image", {"guidance": 0.0}, 0.9),
        ("z-image-turbo", {}, 0.9),
    ],
)
def test_the_usual_alpha_follows_the_way_and_the_guidance(
    model: str, changes: dict[str, Any], alpha: float
) -> None:
    """What guidance does with 1.5 a push does with .9 (docs/results/negtome.md)."""
    assert usual_alpha("avoid", Collage(model=model, **changes), card(model)) == alpha
    spread = {"spread_by": changes.get("avoid_by", "guidance")}
    asked = Collage(model=model, **{**changes, **spread})
    assert usual_alpha("spread", asked, card(model)) == {1.5: 3.0, 0.9: 0.9}[alpha]


@pytest.mark.parametrize(("guidance", "alpha"), [(None, 1.5), (1.0, 0.9), (1.5, 1.5)])
def test_a_model_whose_card_does_not_ship_here_is_taken_for_most(
    guidance: float | None, alpha: float
) -> None:
    assert usual_alpha("avoid", Collage(model="some/model", guidance=guidance), None) == alpha
