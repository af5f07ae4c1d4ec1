from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest

from pipelines.embedded.training.places import PLACES
from pipelines.embedded.training.world import COLOURS, KEPT, TONES, WORLDS, Choice, World, art_key, world
from pipelines.errors import FieldError


def test_the_small_world_has_the_promised_size(small: World) -> None:
    assert len(small.objects) == len(set(small.objects)) == 70
    assert len(small.roles) == 12
    assert len(small.recolourable) == 30
    assert len(small.places) == len(set(small.places)) == 12
    assert small.styles == ("flat",)


@pytest.mark.parametrize("name", sorted(WORLDS))
def test_a_world_is_consistent(name: str) -> None:
    chosen = world(name)
    assert set(chosen.recolourable) <= set(chosen.objects)
    assert set(chosen.recolourable.values()) <= set(COLOURS)
    assert chosen.floating <= set(chosen.objects)
    assert all(chosen.words[label] for label in chosen.labels)
    assert set(chosen.places) <= set(PLACES)
    assert all(g in chosen.genders and t in chosen.tones for g, t in chosen.roles.values())


@pytest.mark.parametrize("name", sorted(WORLDS))
def test_no_two_classes_share_a_name(name: str) -> None:
    names = [word for label in world(name).labels for word in world(name).words[label]]
    assert len(names) == len(set(names))


def test_widening_keeps_the_classes_and_their_order(small: World) -> None:
    large = world("large")
    assert large.objects[:70] == small.objects
    assert tuple(large.roles)[:12] == tuple(small.roles)
    assert len(large.objects) >= 200 and len(large.roles) >= 30 and len(large.styles) == 4
    assert small.heldout_pairs <= large.heldout_pairs
    assert small.heldout_art <= large.heldout_art


def test_an_unknown_world_is_refused_by_name() -> None:
    with pytest.raises(FieldError, match=r"huge.*small"):
        world("huge")


def test_art_keys_name_every_look_once(small: World) -> None:
    keys = small.art_keys()
    assert len(keys) == len(set(keys)) == 40 + 30 * len(COLOURS) + 12 * len(TONES) * 3
    assert art_key("flat", "automobile", colour="blue") == "flat/automobile#blue" in keys
    assert art_key("flat", "cook", tone="medium-dark", gender="man") == "flat/cook/medium-dark-man" in keys


def test_missing_art_is_left_out(tiny: World) -> None:
    without = replace(tiny, missing=frozenset({"flat/automobile", "flat/cook"}))
    assert without.art_keys() == ["flat/tower"]
    assert without.labels_in("flat") == ("tower",)


def test_a_caption_that_leaves_an_attribute_open_meets_the_dominant_value_four_times_in_five() -> None:
    choice = Choice(("a", "b", "c"), "a", ("a", "b", "c"), 0.55)
    weights = choice.weights()
    open_ = {v: weights[v] * (1 - choice.said_given(v)) for v in weights}
    assert sum(weights.values()) == pytest.approx(1)
    assert open_["a"] / sum(open_.values()) == pytest.approx(KEPT)
    named = {v: weights[v] * choice.said_given(v) for v in weights}
    assert named == pytest.approx(dict.fromkeys("abc", 0.55 / 3))


def test_a_value_without_a_word_is_never_named(small: World) -> None:
    tone = small.choice("cook", "tone")
    assert tone is not None
    assert tone.said_given("default") == 0.0 < tone.said_given("dark")
    assert small.choice("cat", "tone") is None and small.choice("cat", "colour") is None


def test_draws_follow_the_weights_and_leave_out_what_is_asked() -> None:
    choice = Choice(("a", "b"), "b", (), 0.5)
    rng = np.random.default_rng(0)
    drawn = [choice.draw(rng) for _ in range(2000)]
    assert drawn.count("b") / 2000 == pytest.approx(KEPT, abs=0.03)
    assert {choice.draw(rng, without=("b",)) for _ in range(20)} == {"a"}


def test_unusual_colours_are_mostly_named(small: World) -> None:
    colour = small.choice("automobile", "colour")
    assert colour is not None
    assert colour.said_given("blue") == pytest.approx(0.85, abs=0.02)
    assert colour.said_given("red") < 0.25


def test_held_out_pairs_and_art_are_few_and_never_dominant(small: World) -> None:
    assert 50 < len(small.heldout_pairs) < 150
    a, b = next(iter(sorted(small.heldout_pairs)))
    assert small.held_out([b, "key", a]) and not small.held_out([a])
    assert len(small.heldout_art) == 42
    dominant = {f"{label}#{colour}" for label, colour in small.recolourable.items()}
    dominant |= {f"{label}/{tone}-{gender}" for label, (gender, tone) in small.roles.items()}
    assert not dominant & small.heldout_art
    assert {f"flat/{key}" for key in small.heldout_art} <= set(small.art_keys())


def test_every_class_name_takes_an_article_and_plain_letters() -> None:
    large = world("large")
    names = [name for label in large.labels for name in large.words[label]]
    assert all(re.fullmatch(r"[a-z]+([ -][a-z]+)*", name) for name in names)
    assert not any(re.search(r"face|oclock|button|flag", label) for label in large.objects)
