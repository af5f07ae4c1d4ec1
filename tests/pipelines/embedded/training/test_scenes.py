from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipelines.embedded.training.cutouts import CutoutStore
from pipelines.embedded.training.places import PLACES, TINT, paint, place, plain_colour
from pipelines.embedded.training.scenes import (
    SIZES,
    Item,
    Scene,
    background,
    main,
    render,
    sample_item,
    sample_scene,
)
from pipelines.embedded.training.world import World
from pipelines.errors import FieldError


def _one(place_name: str, time: str, y: float = 200.0) -> Scene:
    return Scene(place_name, time, "flat", (Item("flat/cat", "cat", 128, y, 80),), 3)


def test_the_same_seed_gives_the_same_scenes_and_pictures(small: World, shapes: CutoutStore) -> None:
    one, same, other = (sample_scene(small, np.random.default_rng(seed), shapes) for seed in (1, 1, 2))
    assert one == same != other
    assert np.array_equal(render(one, shapes).image, render(same, shapes).image)


def test_a_scene_survives_json(small: World, shapes: CutoutStore) -> None:
    scene = sample_scene(small, np.random.default_rng(5), shapes, count=3)
    assert Scene.from_json(scene.to_json()) == scene
    assert json.loads(scene.to_json())["items"][0]["label"] == scene.items[0].label


@pytest.mark.parametrize("text", ["", "[]", '{"place": "beach"}', '{"items": [{"key": 1}]}'])
def test_text_that_is_no_scene_is_refused(text: str) -> None:
    with pytest.raises(FieldError, match="not a scene"):
        Scene.from_json(text)


def test_sizes_places_and_overlap_keep_their_bounds(small: World, shapes: CutoutStore) -> None:
    rng, visible = np.random.default_rng(0), []
    for count in (1, 2, 3, 4):
        for _ in range(40):
            scene = sample_scene(small, rng, shapes, count=count)
            ground = place(scene.place).ground
            assert len(scene.items) == count
            for item in scene.items:
                low, high = SIZES[count]
                assert 0.6 * low <= item.size <= high
                assert item.size / 2 <= item.x <= 256 - item.size / 2
                assert item.size / 2 <= item.y <= 256 - item.size / 2
                if ground is not None and item.label not in small.floating:
                    assert item.y + item.size / 2 > ground
            for item, mask in zip(scene.items, render(scene, shapes).masks, strict=True):
                visible.append(mask.sum() / shapes.scaled(item.key, item.size)[..., 3].sum())
    assert min(visible) >= 0.6
    assert min(visible) < 0.999  # some objects do lie in front of others


def test_items_on_ground_lie_back_to_front(small: World, shapes: CutoutStore) -> None:
    for seed in range(20):
        scene = sample_scene(small, np.random.default_rng(seed), shapes, count=3, place_name="beach")
        bottoms = [item.y + item.size / 2 for item in scene.items]
        assert bottoms == sorted(bottoms)


def test_training_never_shows_what_is_held_out(small: World, shapes: CutoutStore) -> None:
    rng = np.random.default_rng(0)
    hidden = {f"flat/{key}" for key in small.heldout_art}
    for _ in range(500):
        scene = sample_scene(small, rng, shapes)
        assert not small.held_out([i.label for i in scene.items])
        assert not hidden & {i.key for i in scene.items}
    pair = sorted(small.heldout_pairs)[0]
    with pytest.raises(FieldError, match="held out"):
        sample_scene(small, rng, shapes, labels=pair)
    assert {i.label for i in sample_scene(small, rng, shapes, labels=pair, split="heldout").items} == set(
        pair
    )
    label, _, colour = next(k for k in sorted(small.heldout_art) if "#" in k).partition("#")
    with pytest.raises(FieldError, match="held out"):
        sample_item(small, rng, label, style="flat", colour=colour)
    item = sample_item(small, rng, label, style="flat", colour=colour, split="heldout")
    assert item.key == f"flat/{label}#{colour}" and item.colour == colour


def test_what_is_asked_for_is_given(small: World, shapes: CutoutStore) -> None:
    rng = np.random.default_rng(0)
    scene = sample_scene(
        small,
        rng,
        shapes,
        labels=["automobile", "cat"],
        colours=["green", None],
        place_name="snow",
        time="night",
    )
    assert (scene.place, scene.time) == ("snow", "night")
    assert {(i.label, i.colour) for i in scene.items} == {("automobile", "green"), ("cat", None)}
    with pytest.raises(FieldError, match="no colours"):
        sample_scene(small, rng, shapes, labels=["cat"], colours=["red"])
    with pytest.raises(FieldError, match="1 to 4"):
        sample_scene(small, rng, shapes, count=5)
    with pytest.raises(FieldError, match="atlantis"):
        sample_scene(small, rng, shapes, place_name="atlantis")


def test_attributes_are_skewed_as_documented(small: World, shapes: CutoutStore) -> None:
    rng = np.random.default_rng(0)
    items = [sample_item(small, rng, "cook", style="flat") for _ in range(1500)]
    weights = small.choice("cook", "gender").weights()  # type: ignore[union-attr]
    for gender, weight in weights.items():
        assert sum(i.gender == gender for i in items) / 1500 == pytest.approx(weight, abs=0.05)
    assert sum(i.flip for i in items) / 1500 == pytest.approx(0.2, abs=0.04)


@pytest.mark.parametrize("time", sorted(TINT))
def test_time_tints_objects_only_with_the_light_on(shapes: CutoutStore, time: str) -> None:
    scene = _one("meadow", time)
    lit, flat = (render(scene, shapes, light=light) for light in (True, False))
    assert flat.image[200, 128] == pytest.approx([255, 255, 255], abs=1)
    assert lit.image[200, 128] == pytest.approx(255 * np.array(TINT[time]), abs=1)
    assert np.array_equal(lit.masks, flat.masks)


def test_shadows_fall_on_ground_only_and_can_be_left_out(shapes: CutoutStore) -> None:
    standing, flying = _one("beach", "day"), _one("beach", "day", y=60)
    empty = background(standing).astype(int)
    with_, without = (render(standing, shapes, shadows=s).image.astype(int) for s in (True, False))
    outside = render(standing, shapes).masks[0] == 0
    assert np.array_equal(without[outside], empty[outside])
    assert (with_ - empty)[outside].min() < -30 and (with_ - empty)[outside].max() <= 0
    clear = render(flying, shapes).masks[0] == 0
    assert np.array_equal(render(flying, shapes).image[clear], background(flying)[clear])
    collage = render(standing, shapes, light=False).image
    assert np.array_equal(collage[outside], background(standing)[outside])


def test_masks_are_what_remains_visible(shapes: CutoutStore) -> None:
    back = Item("flat/cat", "cat", 120, 128, 80)
    scene = Scene("plain", "day", "flat", (back, replace(back, key="flat/dog", label="dog", x=150)), 1)
    out = render(scene, shapes)
    assert out.labels == ("cat", "dog") and out.masks.dtype == np.float32
    assert out.masks.sum(0).max() <= 1 + 1e-6
    assert out.masks[1, 128, 150] == 1 and out.masks[0, 128, 150] == 0 and out.masks[0, 128, 85] == 1


def test_objects_that_leave_the_canvas_are_cut_off(shapes: CutoutStore) -> None:
    scene = Scene(
        "plain", "day", "flat", (Item("flat/cat", "cat", 0, 128, 80), Item("flat/dog", "dog", 900, 0, 80)), 1
    )
    masks = render(scene, shapes).masks
    assert masks[0, 128, 0] == 1 and masks[0].sum() == pytest.approx(np.pi * 40**2 / 2, rel=0.05)
    assert masks[1].sum() == 0


@pytest.mark.parametrize("name", sorted(PLACES))
def test_places_are_painted_in_their_times_and_vary_with_the_seed(name: str) -> None:
    pictures = {time: paint(name, time, 4) for time in place(name).times}
    for time, picture in pictures.items():
        assert picture.shape == (256, 256, 3) and picture.dtype == np.float32
        assert picture.min() >= 0 and picture.max() <= 255
        assert np.array_equal(picture, paint(name, time, 4))
    assert any(not np.array_equal(paint(name, "day", 4), paint(name, "day", s)) for s in (5, 6, 7))
    if len(pictures) == 3:
        day, sunset, night = (pictures[t].mean((0, 1)) for t in ("day", "sunset", "night"))
        assert night.sum() < 0.6 * day.sum()
        assert sunset[0] / sunset[2] > 1.2 * day[0] / day[2]


def test_city_windows_glow_at_night() -> None:
    assert paint("city", "night", 2)[60:160].max() > 240 > paint("desert", "night", 2)[150:].max()


def test_a_plain_background_has_the_colour_that_captions_name() -> None:
    seed = next(s for s in range(50) if plain_colour(s) == "red")
    red, green, blue = paint("plain", "day", seed).mean((0, 1))
    assert red > 2 * max(green, blue)


def test_the_contact_sheet_is_written(tiny_store: Path, tmp_path: Path) -> None:
    main(["--sheet", str(tmp_path / "sheet.png"), "--store", str(tiny_store)])
    with Image.open(tmp_path / "sheet.png") as picture:
        assert picture.size == (8 * 260, 6 * 300)
        assert len(picture.getcolors(1 << 22) or []) > 500


@pytest.fixture
def tiny_store(small: World, shapes: CutoutStore, tmp_path: Path) -> Path:
    """The store of shapes as a file, in the format that the cut-outs command writes."""
    keys, one = shapes.keys(), shapes["flat/cat"]
    header = json.dumps({"world": "small", "index": {k: [0, *one.shape[:2]] for k in keys}}).encode()
    np.savez(tmp_path / "cutouts.npz", pixels=one.reshape(-1), header=np.frombuffer(header, np.uint8))
    return tmp_path


def test_a_time_that_is_asked_for_is_had_only_where_there_is_one(small: World, shapes: CutoutStore) -> None:
    drawn = [
        sample_scene(small, np.random.default_rng(k), shapes, count=1, time="night").place for k in range(120)
    ]
    assert "space" not in drawn
    assert set(drawn) == set(small.places) - {"space"}
