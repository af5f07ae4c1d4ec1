"""What is compared with what: off is off, each way alone, sums of them, and one wording for all but variants."""

from __future__ import annotations

from typing import Any

import pytest

from pipelines.errors import FieldError
from pipelines.models import card
from studio.defaults import DEFAULTS
from studio.document import Avoid, Collage, Layer
from studio.opening import opened_collage
from studio.rivals import DEFAULT, INTERVAL, has_alternatives, lacking, rivals

DIGEST = "a" * 64
BETWEEN = tuple(name for name in DEFAULT if name not in ("avoid", "vary"))
"""What acts between the images of a batch alone."""
ASKED: dict[str, Any] = {"prompt": "a {red|blue} car", "seed": 3, "images": 2}


def words(collage: Collage) -> tuple[Any, ...]:
    return collage.spread, collage.cads, collage.guidance_interval, collage.variants


def test_each_way_alone_and_in_sums() -> None:
    usual, noise = DEFAULTS["spread_alpha"], card("embedded").own["cads_alpha"]
    found = rivals(Collage(**ASKED))
    assert tuple(found) == BETWEEN
    assert words(found["off"]) == (0, 0, None, False)
    assert words(found["negtome"]) == (usual, 0, None, False)
    assert words(found["cads"]) == (0, noise, None, False)
    assert words(found["interval"]) == (0, 0, INTERVAL, False)
    assert words(found["variants"]) == (0, 0, None, True)
    assert words(found["negtome+cads+interval+variants"]) == (usual, noise, INTERVAL, True)


def test_a_model_without_its_own_strength_has_every_models() -> None:
    found = rivals(Collage(**ASKED, model="sdxl"))
    assert found["negtome"].spread == DEFAULTS["spread_alpha"]
    assert found["cads"].cads == DEFAULTS["cads_alpha"]


@pytest.mark.parametrize("changes", [{"spread_by": "push"}, {"guidance": 1.0}, {"model": "flux"}])
def test_what_pushes_has_a_pushs_strength(changes: dict[str, Any]) -> None:
    assert rivals(Collage(**ASKED, **changes))["negtome"].spread == DEFAULTS["spread_push"]


def test_off_neither_avoids_nor_varies() -> None:
    layers = (
        Layer(id="one", picture=DIGEST, x=1.0, y=1.0, vary=1.5),
        Layer(id="two", picture=DIGEST, x=1.0, y=1.0),
    )
    asked = Collage(prompt="a car", seed=3, images=2, layers=layers, avoids=(Avoid(id="a", picture=DIGEST),))
    found = rivals(asked)
    assert [*found][-2:] == ["avoid", "vary"] and not any("variants" in name for name in found)
    told = {name: (len(one.avoids), one.layers[0].vary) for name, one in found.items()}
    assert told.pop("avoid") == (1, None) and told.pop("vary") == (0, 1.5)
    assert set(told.values()) == {(0, None)}
    both = rivals(asked, ("avoid+vary",))["avoid+vary"]
    assert both == asked


@pytest.mark.parametrize(
    "part",
    [
        {"avoids": (Avoid(id="a", picture=DIGEST, visible=False),)},
        {"avoids": (Avoid(id="a", picture=DIGEST, alpha=0.0),)},
        {"layers": (Layer(id="one", picture=DIGEST, x=1.0, y=1.0, vary=1.0, visible=False),)},
    ],
)
def test_what_does_not_act_is_not_compared(part: dict[str, Any]) -> None:
    found = rivals(Collage(prompt="a car", seed=3, images=2, **part))
    assert "avoid" not in found and "vary" not in found


def test_where_nothing_is_left_one_sentence_says_why() -> None:
    with pytest.raises(FieldError, match="nothing is left to compare of variants, vary: variants need"):
        rivals(Collage(prompt="a car", seed=3, images=2), ("variants", "vary"))


def test_what_a_setting_lacks_is_said_of_it() -> None:
    collage = Collage(prompt="a car", seed=3, images=2)
    told = {name: lacking(collage, name) for name in DEFAULT}
    assert {name for name, why in told.items() if why is None} == {*rivals(collage)}
    assert str(told["negtome+variants"]).startswith("there are no alternatives such as {red|blue}")
    assert str(told["avoid"]).startswith("no reference acts")
    assert lacking(Collage(**ASKED), "variants") is None


def test_the_collages_own_strengths_are_kept_and_taken_out_of_off() -> None:
    own = Collage(**ASKED, spread=2.0, cads=0.1, guidance_interval=(0.5, 3.0))
    found = rivals(own)
    assert words(found["off"]) == (0, 0, None, False)
    assert found["negtome"].spread == 2 and found["cads"].cads == 0.1
    assert found["interval"].guidance_interval == (0.5, 3)


def test_without_variants_all_images_say_what_the_first_says() -> None:
    layer = Layer(id="one", picture=DIGEST, x=1.0, y=1.0, prompt="{red|blue} car")
    hidden = Layer(id="two", picture=DIGEST, x=1.0, y=1.0, prompt="{odd", visible=False)
    found = rivals(Collage(**ASKED, layers=(layer, hidden)))
    assert found["off"].prompt == found["negtome"].prompt == "a blue car"
    assert [one.prompt for one in found["off"].layers] == ["blue car", "{odd"]
    assert found["variants"].prompt == "a {red|blue} car"
    assert [one.prompt for one in found["variants"].layers] == ["{red|blue} car", "{odd"]


def test_without_alternatives_there_are_no_variants() -> None:
    plain = Collage(prompt="a car", seed=3, images=2)
    assert not has_alternatives(plain) and has_alternatives(Collage(**ASKED))
    assert [name for name in BETWEEN if "variants" not in name] == list(rivals(plain))
    assert rivals(plain)["off"] == plain
    stressed = Collage(prompt="a {{shiny}} car", seed=3, images=2)
    assert rivals(stressed)["off"] == stressed, "braces without a choice are text"


@pytest.mark.parametrize("change", [{"images": 1}, {"seed": None}])
def test_a_seed_and_a_batch_are_needed(change: dict[str, Any]) -> None:
    with pytest.raises(FieldError, match="seed and at least 2 images"):
        rivals(Collage(**{**ASKED, **change}))


def test_unknown_ways_are_refused_by_name() -> None:
    with pytest.raises(FieldError, match="no way is called 'magic'"):
        rivals(Collage(**ASKED), ("negtome+magic",))


def test_what_was_filled_in_is_said_with_variants_alone() -> None:
    layer = Layer(id="one", picture=DIGEST, x=1.0, y=1.0, prompt="car")
    written = Collage(prompt="a car at night", seed=3, images=2, layers=(layer,))
    filled = opened_collage(written)
    found = rivals(filled, written=written)
    assert tuple(found) == BETWEEN
    assert found["off"] == written
    assert found["negtome"] == written.replace(spread=found["negtome"].spread)
    assert (found["variants"].prompt, found["variants"].layers) == (filled.prompt, filled.layers)
    said = rivals(filled)["off"]
    assert said.prompt != "a car at night" and "{" not in said.prompt, (
        "else all say what the first image says"
    )
