"""The collage benchmark: layouts that are what they are called, measures that see what they should, and verdicts that
follow the numbers.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import numpy as np
import pytest
from PIL import Image

from pipelines.embedded.training.scenes import render
from pipelines.embedded.training.world import COLOURS, world
from pipelines.measure.features import Features
from pipelines.measure.intervals import bootstrap
from presets.recipes.build import WORLD, drawer_store, item
from tests.benchmarks import collage, collage_report, collage_shape, common, effects_report
from tests.benchmarks.collage import SHOWN, key_of, sheet, shot
from tests.benchmarks.collage_measures import (
    borders,
    edge_agreement,
    feature_distance,
    kept,
    seam_gradient,
)
from tests.benchmarks.collage_report import SEAMS, WAYS, grouped, page, section, verdicts_of
from tests.benchmarks.collage_scenes import (
    OVERLAPS,
    box,
    every_art,
    frozen,
    in_its_colours,
    largest_overlap,
    layout,
    pool,
    recoloured,
)

SETTINGS = common.protocol("collage")
HOLDS, FAILS = "**holds**", "**does not hold**"


@pytest.fixture(autouse=True)
def few_rounds(monkeypatch: pytest.MonkeyPatch) -> None:
    """A tenth of the rounds tells as much of rows this few."""
    for module in (collage_report, effects_report):
        monkeypatch.setattr(module, "bootstrap", partial(bootstrap, rounds=400))


def test_layouts_are_the_frozen_ones() -> None:
    common.hold_to("collage", frozen(SETTINGS), freeze=False)


def test_what_is_asked_for_can_be_drawn_in_its_colours() -> None:
    one = layout("place", 0, SETTINGS, SETTINGS["tuning_seed"])
    scene, art = in_its_colours(one)
    assert [thing.colour for thing in scene.items] == list(one.colours)
    assert [(a.x, a.y, a.size) for a in scene.items] == [(b.x, b.y, b.size) for b in one.scene.items]
    told, plain = render(scene, art), render(one.scene, drawer_store())
    assert np.array_equal(told.masks, plain.masks) and not np.array_equal(told.image, plain.image)


def test_layouts_overlap_as_they_are_called_and_come_back_equal() -> None:
    for k in range(6):
        one = layout("place", k, SETTINGS, SETTINGS["tuning_seed"])
        low, high = OVERLAPS[one.overlap]
        assert low <= largest_overlap([box(thing) for thing in one.scene.items]) <= high
        assert len(one.scene.items) == 2 + k % 2 == len(set(one.colours))
        assert one == layout("place", k, SETTINGS, SETTINGS["tuning_seed"])
    assert {layout("place", k, SETTINGS, 1).overlap for k in range(6)} == set(OVERLAPS)


@pytest.mark.parametrize("claim", ["look", "ladder"])
def test_worn_cutouts_have_a_colour_that_words_do_not_say(claim: str) -> None:
    art = every_art(SETTINGS["cutouts"], SETTINGS["seed"])
    own = world(WORLD).recolourable
    for k in range(3):
        one = layout(claim, k, SETTINGS, SETTINGS["tuning_seed"])
        assert one.scene.time == "day" and set(one.colours) == {None}
        for thing in one.scene.items:
            assert thing.colour != own[thing.label] and thing.key in art
            assert not set(COLOURS) & set(one.frozen.partition(" {")[0].split())


def test_recoloured_art_keeps_its_shape_and_what_is_of_other_hues() -> None:
    chosen = pool(SETTINGS["cutouts"], SETTINGS["seed"])
    assert len({label for label, _ in chosen}) == SETTINGS["cutouts"]
    for label, colour in chosen[:3]:
        before, after = drawer_store()[item(label, 0, 0, 1).key], recoloured(label, colour)
        assert np.array_equal(before[..., 3], after[..., 3])
        solid = before[..., 3] > 128
        changed = np.abs(before[..., :3].astype(int) - after[..., :3]).max(2)[solid] > 20
        assert 0.1 < changed.mean() <= 1
        distance = np.abs(after[..., :3][solid].astype(int) - np.array(COLOURS[colour])).max(1)
        assert (distance < 40).mean() > 0.05, "some of it has the new colour itself"


@pytest.fixture(scope="module")
def drawn() -> Any:
    one = layout("ladder", 0, SETTINGS, SETTINGS["tuning_seed"])
    return render(one.scene, every_art(SETTINGS["cutouts"], SETTINGS["seed"]))


def shifted(picture: Any, by: int) -> Any:
    return np.roll(picture, by, axis=1)


def test_seams_count_at_the_borders_alone(drawn: Any) -> None:
    plain = np.full((256, 256, 3), 90, np.uint8)
    assert seam_gradient(plain, drawn.masks) == 0 < seam_gradient(drawn.image, drawn.masks)
    where = borders(drawn.masks)
    noisy = np.where(
        where[..., None], plain, np.random.default_rng(0).integers(0, 255, plain.shape, np.uint8)
    )
    inner = (
        where & np.roll(where, 1, 0) & np.roll(where, -1, 0) & np.roll(where, 1, 1) & np.roll(where, -1, 1)
    )
    assert 0 < inner.sum() < where.sum() < 0.1 * where.size
    assert seam_gradient(noisy.astype(np.uint8), drawn.masks) > 0, "a border's neighbours touch it"
    soft = np.asarray(Image.fromarray(drawn.image).resize((32, 32)).resize((256, 256)))
    assert seam_gradient(soft, drawn.masks) < seam_gradient(drawn.image, drawn.masks)


def test_edges_agree_within_two_pixels(drawn: Any) -> None:
    mask = drawn.masks[0]
    agree = [edge_agreement(shifted(drawn.image, by), drawn.image, mask) for by in (0, 1, 9)]
    assert agree[0] == 1 and agree[1] > 0.9 > agree[2]
    plain = np.full_like(drawn.image, 90)
    assert edge_agreement(plain, drawn.image, mask) == 0 and edge_agreement(plain, plain, mask) == 1


def test_what_is_kept_is_measured_inside_the_mask(drawn: Any) -> None:
    features, mask = Features(), drawn.masks[0]
    outside = np.where(mask[..., None] >= 0.5, drawn.image, 0).astype(np.uint8)
    assert feature_distance(features, outside, drawn.image, mask) == pytest.approx(0, abs=1e-6)
    grey = np.full_like(drawn.image, 128)
    near, far = (kept(features, one, drawn.image, mask) for one in (shifted(drawn.image, 1), grey))
    assert 0 < near["distance"] < far["distance"] < 4
    assert near["psnr"] > far["psnr"] and near["ssim"] > far["ssim"]


def way(good: bool, count: int = 2) -> dict[str, Any]:
    hits = [good] * count
    numbers = {"distance": 0.2 if good else 0.8, "ssim": 0.5 + good / 4, "psnr": 12.0 + good, "seam": 0.1}
    return {**numbers, "object": hits, "colour": hits, "swapped": [not good] * count}


def rows(claim: str, good: bool) -> list[dict[str, Any]]:
    if claim == "look":
        one = {name: {**way(good == ("look" in name)), "object": good, "colour": good} for name in WAYS}
        spent = 40.0 if good else 130.0
        learned = [{"learned": [spent], "seconds": spent}, {"learned": [], "seconds": 4.0}]
        return [{**one, "cutout": str(k % 2), **learned[k // 2]} for k in range(4)]
    if claim == "place":
        seen = {"truth": [True, True], "truth colour": [True, False]}
        found = {"without": way(not good), "with": way(good), **seen}
        return [{**found, "overlap": "apart"}] * 4
    if claim == "seam":
        values = (0.07, 0.12, 0.10, *[0.08 if good else 0.2] * 2)
        return [dict(zip(SEAMS, values, strict=True))] * 4
    if claim == "lost":
        one = {"said": [good, False], "judge": [True, False], "flat": [False, False], "harmonize": 0.5}
        return [one] * 4
    if claim == "ladder":
        rungs = {"img2img": way(not good), "+ attention": way(good), "+ look": way(good)}
        rungs["+ look"]["distance"] += -0.1 if good else 0.1
        return [{**rungs, "seam": 0.1}] * 4
    strengths = SETTINGS["shape"]["strengths"]
    edges = [0.2 + strength / 2 for strength in (strengths if good else reversed(strengths))]
    return [{"edges": edges, "object": [[good]] * len(edges), "truth": 0.9}] * 4


VERDICTS = {
    "look": [
        "keeps more of the look than words alone: {}",
        "at equal strength, it keeps more than they alone: {}",
        "s; at most 120 s: {}",
    ],
    "place": ["in their own colours ("],
    "seam": [
        "nearer to the true scene's than flat collage's: {}, than img2img's: {};",
        "with a freer background than flat collage's: {}, than img2img's: {}.",
    ],
    "lost": ["| all | 8 | 50.0 %"],
    "ladder": [
        "+ attention after img2img: ",
        "+ look after + attention: ",
        "surely better in one and surely worse in none: {}",
    ],
    "shape": ["rises with every step: {}"],
}
COUNTS = {"look": 3, "place": 1, "seam": 4, "lost": 0, "ladder": 2, "shape": 1}


@pytest.mark.parametrize("claim", VERDICTS)
def test_verdicts_follow_the_numbers(claim: str) -> None:
    for good, word, other in ((True, HOLDS, FAILS), (False, FAILS, HOLDS)):
        text, labels = section(claim, rows(claim, good), SETTINGS)
        assert all(verdict.format(word, word) in text for verdict in VERDICTS[claim]) and len(labels) >= 2
        assert (text.count(word), text.count(other)) == (COUNTS[claim], 0)
        assert f"collage-{claim}.jpg" in text


def but(claim: str, changes: dict[str, Any]) -> str:
    """The section of a claim's good rows with numbers changed in the last of them: "name", or "way, name"."""
    found = [copy.deepcopy(row) for row in rows(claim, True)]
    for place, value in changes.items():
        name, _, word = place.rpartition(", ")
        (found[-1][name] if name else found[-1])[word] = value
    return section(claim, found, SETTINGS)[0]


@pytest.mark.parametrize(
    ("claim", "changes", "said"),
    [
        ("look", {"look alone, distance": 2.0}, "than words alone: {1}"),
        ("look", {"look alone, distance": 2.0}, "it keeps more than they alone: {0}"),
        ("look", {"pixels and look, distance": 2.0}, "than words alone: {0}"),
        ("look", {"pixels and look, distance": 2.0}, "it keeps more than they alone: {1}"),
        (
            "place",
            {"without, object": [True] * 2, "with, object": [False] * 2},
            "(+50.0 points) and in their own colours (+100.0): {1}",
        ),
        (
            "place",
            {"without, colour": [True] * 2, "with, colour": [False] * 2},
            "(+100.0 points) and in their own colours (+50.0): {1}",
        ),
        ("seam", {"collage": 0.13}, "than flat collage's: {0}, than img2img's: {1}; with a freer"),
        ("seam", {"collage": 0.16, "img2img": 0.2}, "than flat collage's: {1}, than img2img's: {0}; with"),
        ("seam", {"background freer": 0.13}, "background than flat collage's: {0}, than img2img's: {1}."),
        (
            "seam",
            {"background freer": 0.16, "img2img": 0.2},
            "background than flat collage's: {1}, than img2img's: {0}.",
        ),
        ("shape", {"edges": [0.2, 0.325, 0.1, 0.575, 0.7]}, "Edge agreement rises with every step: {1}"),
    ],
)
def test_what_an_interval_leaves_open_does_not_hold(claim: str, changes: dict[str, Any], said: str) -> None:
    """In the mean all of these are on the good side."""
    assert said.format(HOLDS, FAILS) in but(claim, changes)


WORSE: dict[str, Any] = {"distance": 1.0, "object": [False] * 2, "colour": [False] * 2}
PLAIN: dict[str, Any] = {"distance": 0.8, "object": [True, False], "colour": [True, False]}
BETTER: dict[str, Any] = {"distance": 0.7, "object": [True] * 2, "colour": [True] * 2}


def rung(**each: Sequence[dict[str, Any]]) -> str:
    """The verdict on a rung that has of these numbers what each row says, and else what the rung below has."""
    found = [
        {"seam": 0.1, "img2img": way(True) | PLAIN, "+ attention": way(True) | PLAIN | one}
        for one in ({name: some[k][name] for name, some in each.items()} for k in range(4))
    ]
    return section("ladder", found, SETTINGS)[0].partition("worse in none: ")[2].partition(".")[0]


@pytest.mark.parametrize(
    ("name", "other"), [("distance", "object"), ("object", "colour"), ("colour", "distance")]
)
def test_a_rung_is_surely_better_in_one_and_surely_worse_in_none(name: str, other: str) -> None:
    sure = {other: [BETTER] * 4}
    assert rung(**{name: [PLAIN] * 4}) == FAILS
    assert rung(**{name: [BETTER] * 4}) == HOLDS
    assert rung(**{name: [*[BETTER] * 3, WORSE]}) == FAILS, "better in the mean alone"
    assert rung(**sure, **{name: [*[WORSE] * 3, BETTER]}) == HOLDS, "worse in the mean alone"
    assert rung(**sure, **{name: [WORSE] * 4}) == FAILS


def test_the_page_says_why_a_claim_is_missing_and_links_the_edited_layer() -> None:
    text = page({"claims": {"shape": {"rows": rows("shape", True)}}, "no shape": None}, SETTINGS)
    assert "## Keep shape" in text and "was not run" not in text and "(edit_layer.md)" in text
    text = page({"claims": {}, "no shape": "layer 'cat': keep shape is not built yet."}, SETTINGS)
    assert "was not run: layer 'cat'" in text and "## Keep shape" not in text


def test_the_page_says_why_a_verdict_came_out_as_it_did() -> None:
    text = page({"claims": {"seam": {"rows": rows("seam", False)}}}, SETTINGS)
    assert SETTINGS["why"]["seam"] in text and SETTINGS["why"]["ladder"] not in text


def key(claim: str = "place", judge: str = "j", keeper: str | None = None, **changed: Any) -> str:
    return key_of(claim, {**SETTINGS, **changed}, SETTINGS["seed"], "w", judge, keeper)


def test_rows_are_kept_by_what_made_them() -> None:
    assert key() == key(why={}) == key(seam={}) != key(place={**SETTINGS["place"], "steps": 11})
    assert len({key(), key("seam"), key(judge="x"), key(keeper="c"), key(inside=0.9), key(prompts="")}) == 6


@pytest.mark.parametrize("why", [None, "there is no ControlNet."])
def test_a_page_shows_what_its_settings_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, why: str | None
) -> None:
    """Claims that are not run again stay where settings, weights and judge are those of this run."""
    keys = {claim: key(claim, keeper="w") for claim in ("look", "ladder", "shape")}
    keys |= {"look": key("look"), "seam": key("seam", judge="another")}
    raw = {"claims": {claim: {"key": own, "rows": rows(claim, True)} for claim, own in keys.items()}}
    raw["claims"]["lost"] = {"weights": "w", "rows": rows("lost", True)}
    (tmp_path / "collage.json").write_text(json.dumps(raw))
    for name in ("Judge", "Features", "Bench", "frozen"):
        monkeypatch.setattr(collage, name, Mock())
    picture = np.zeros((256, 256, 3), np.uint8)
    monkeypatch.setattr(
        collage.Bench.return_value, "place", lambda k: (rows("place", True)[k], [picture] * 3)
    )
    monkeypatch.setattr(collage_shape, "refusal", lambda bench: why)
    monkeypatch.setattr(common, "engine", Mock())
    monkeypatch.setattr(common, "hold_to", Mock())
    monkeypatch.setattr(common, "RUNS", tmp_path / "runs")
    judged = ["collage", "--claims", "place", "--n", "3", "--judge", "j", "--out", str(tmp_path)]
    monkeypatch.setattr("sys.argv", judged)
    monkeypatch.setattr(common, "weights_digest", lambda folder: "j" if folder == Path("j") else "w")
    collage.main()
    found = json.loads((tmp_path / "collage.json").read_text())["claims"]
    assert set(found) == {"look", "place"} | (set() if why else {"ladder", "shape"})
    assert found["place"]["key"] == key() and len(found["place"]["rows"]) == 3
    page = (tmp_path / "collage.md").read_text()
    assert "## Look kept" in page and "## Placement" in page and "## Seams" not in page
    assert "## Which layers were lost" not in page and ("## Keep shape" in page) is (why is None)


def test_precision_and_recall_leave_out_what_the_judge_never_sees() -> None:
    one = {"said": [True, True, False], "judge": [True, False, True], "flat": [False, False, True]}
    assert verdicts_of([one]) == [(True, True), (True, False)]


def test_rows_of_one_cutout_count_once() -> None:
    three = [{"cutout": name, "x": value} for name, value in (("a", 0.0), ("a", 1.0), ("b", 2.0))]
    found = grouped(three, lambda row: row["x"])
    assert (found.value, found.n) == (1.25, 2)


def test_pictures_of_the_first_rows_stay_beside_the_rows(tmp_path: Path) -> None:
    two = [np.full((256, 256, 3), shade, np.uint8) for shade in (0, 255)]
    row = shot(lambda k: ({"k": k}, two), tmp_path)
    assert [row(k)["k"] for k in (0, 1, SHOWN)] == [0, 1, SHOWN]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["0.png", "1.png"]
    made = sheet(tmp_path, ("first", "second"))
    assert made.size == (96 + 2 * 114, 2 * 114)
    assert made.getpixel((150, 50)) == (0, 0, 0) and made.getpixel((150, 164)) == (255, 255, 255)
