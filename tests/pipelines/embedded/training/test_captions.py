from __future__ import annotations

import re

import numpy as np
import pytest

from pipelines.embedded.training import captions
from pipelines.embedded.training.captions import (
    all_words,
    caption,
    crop_caption,
    prompt_for,
    single_caption,
)
from pipelines.embedded.training.cutouts import CutoutStore
from pipelines.embedded.training.scenes import Item, Scene, sample_scene
from pipelines.embedded.training.world import KEPT, WORLDS, World

CAR = Item("flat/automobile#blue", "automobile", 60, 200, 80, colour="blue")
CAT = Item("flat/cat", "cat", 190, 200, 80)
SCENE = Scene("beach", "sunset", "flat", (CAR, CAT), 1)


def _many(small: World, scene: Scene, n: int = 400) -> list[str]:
    rng = np.random.default_rng(0)
    return [caption(small, scene, rng) for _ in range(n)]


def test_a_caption_names_every_object_in_any_order(small: World) -> None:
    texts = _many(small, SCENE)
    assert all(re.search(r"\b(car|automobile)\b", t) and re.search(r"\b(cat|kitten)\b", t) for t in texts)
    first = sum(re.search("car|automobile", t).start() < re.search("cat|kitten", t).start() for t in texts)  # type: ignore[union-attr]
    assert 0.3 < first / len(texts) < 0.7
    assert len(set(texts)) > 100


def test_every_caption_is_plain_words(small: World, shapes: CutoutStore) -> None:
    rng, words = np.random.default_rng(1), set(all_words(small))
    for _ in range(500):
        scene = sample_scene(small, rng, shapes)
        for text in (
            caption(small, scene, rng),
            caption(small, scene, rng, heldout=True),
            crop_caption(small, scene, [0], rng),
            single_caption(small, scene.items[0], rng),
        ):
            assert text == " ".join(text.split()) and "{" not in text
            assert set(re.findall("[a-z]+", text.lower())) <= words
            assert not re.search(r"\ba [aeio]|\ban [^aeiou]", text)


def test_place_and_time_are_said_often_but_not_always_and_truly(small: World) -> None:
    texts = _many(small, SCENE)
    said = [any(p in t for p in (*captions.PLACES["beach"], *captions.NOUNS["beach"])) for t in texts]
    timed = [any(p in t for p in captions.TIMES["sunset"]) for t in texts]
    assert 0.7 < np.mean(said) < 0.9 and 0.65 < np.mean(timed) < 0.85
    wrong = [p for n, ps in captions.PLACES.items() if n != "beach" for p in ps if "{" not in p]
    wrong += [p for n, ps in captions.TIMES.items() if n != "sunset" for p in ps]
    assert not any(re.search(rf"\b{p}\b", t) for t in texts for p in wrong)


def test_position_words_are_true(small: World) -> None:
    texts = [t for t in _many(small, SCENE) if re.search(r"left|right|above|below|next", t)]
    assert 0.2 < len(texts) / 400 < 0.5
    for text in texts:
        car_first = re.search("car|automobile", text).start() < re.search("cat|kitten", text).start()  # type: ignore[union-attr]
        match = re.search(r"(left|right) of|on the (left|right) and", text)
        if match:
            assert (match[1] or match[2]) == ("left" if car_first else "right")
        assert "above" not in text and "below" not in text
    high = Scene("plain", "day", "flat", (CAR, Item("flat/cat", "cat", 70, 60, 80)), 1)
    stacked = [t for t in _many(small, high) if "above" in t or "below" in t]
    assert stacked
    for text in stacked:
        car_first = re.search("car|automobile", text).start() < re.search("cat|kitten", text).start()  # type: ignore[union-attr]
        assert ("below" in text) == car_first


@pytest.mark.parametrize(("x", "side"), [(60, "on the left"), (128, "in the middle"), (200, "on the right")])
def test_one_object_is_placed_by_its_third(small: World, x: float, side: str) -> None:
    texts = _many(small, Scene("plain", "day", "flat", (Item("flat/cat", "cat", x, 128, 80),), 1))
    found = {s for t in texts for s in ("on the left", "in the middle", "on the right") if s in t}
    assert found == {side}


def test_unusual_colours_are_said_and_dominant_ones_mostly_left_open(small: World) -> None:
    rng = np.random.default_rng(0)
    red = Item("flat/automobile#red", "automobile", 60, 200, 80, colour="red")
    blue_said = np.mean(["blue" in single_caption(small, CAR, rng) for _ in range(1000)])
    red_said = np.mean(["red" in single_caption(small, red, rng) for _ in range(1000)])
    assert blue_said == pytest.approx(0.84, abs=0.04) and red_said == pytest.approx(0.18, abs=0.04)


def test_over_the_whole_world_open_captions_meet_the_dominant_value(
    small: World, shapes: CutoutStore
) -> None:
    rng, hits = np.random.default_rng(3), []
    for _ in range(4000):
        item = sample_scene(small, rng, shapes, labels=["cook"], split="heldout").items[0]
        if not re.search(r"\b(wo)?man\b|male", single_caption(small, item, rng)):
            hits.append(item.gender == small.roles["cook"][0])
    assert np.mean(hits) == pytest.approx(KEPT, abs=0.03)


def test_a_crop_is_described_without_positions_and_without_what_it_hides(small: World) -> None:
    rng = np.random.default_rng(0)
    texts = [crop_caption(small, SCENE, [1], rng) for _ in range(300)]
    assert all(re.search("cat|kitten", t) and "car" not in t and "left" not in t for t in texts)
    bare = [crop_caption(small, SCENE, [0, 1], rng, where=False) for _ in range(100)]
    assert not any("beach" in t or "sunset" in t for t in bare)
    empty = {crop_caption(small, SCENE, [], rng) for _ in range(100)}
    assert all("beach" in t and "cat" not in t for t in empty)
    assert crop_caption(small, SCENE, [], rng, where=False) == ""


def test_the_held_out_form_never_appears_in_training(small: World) -> None:
    assert not any("there is" in t for t in _many(small, SCENE))
    assert "there is" in caption(small, SCENE, np.random.default_rng(0), heldout=True)


def test_prompts_are_canonical(small: World) -> None:
    assert (
        prompt_for(small, ["automobile", "cat"], ["red", None], "beach", "sunset")
        == "a red car and a cat on the beach at sunset"
    )
    assert prompt_for(small, ["owl", "astronaut", "key"]) == "an owl, an astronaut and a key"
    assert prompt_for(small, ["umbrella"], ["orange"], "plain") == "an orange umbrella on a plain background"


def test_styles_are_named_only_where_there_are_several(small: World) -> None:
    assert not any("drawing" in t for t in _many(small, SCENE))
    large = WORLDS["large"]
    texts = _many(large, Scene("meadow", "day", "noto", (Item("noto/cat", "cat", 128, 200, 80),), 1))
    assert any("drawing" in t for t in texts) and any("drawing" not in t for t in texts)
    assert not any(w in t for t in texts for w in ("glossy", "bold", "flat"))


def test_places_outside_time_say_none() -> None:
    scene = Scene("space", "day", "flat", (CAT,), 1)
    assert not any(p in t for t in _many(WORLDS["large"], scene) for p in captions.TIMES["day"])


def test_the_vocabulary_is_small_sorted_and_complete(small: World) -> None:
    words = all_words(small)
    assert words == sorted(set(words)) and 150 < len(words) < 300
    assert {"car", "bunny", "purple", "sunset", "skinned", "left"} <= set(words)
