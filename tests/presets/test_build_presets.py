"""The committed presets are what their recipe makes, and their true scenes lie where their layers lie."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from pipelines.embedded.training.captions import all_words
from pipelines.embedded.training.scenes import render
from pipelines.embedded.training.world import world
from pipelines.measure.similarity import masked_error
from presets.recipes import build
from presets.recipes.published import SCENES, Cutout
from studio.compositing import compose
from studio.formats import archive, open_any


@pytest.mark.parametrize("name", sorted(build.PRESETS))
def test_committed_file_is_what_the_recipe_makes(name: str, tmp_path: Path) -> None:
    made = build.PRESETS[name]()
    collage, library = open_any(build.HERE / f"{name}.collage")
    assert collage == made.collage
    assert set(made.collage.pictures()) <= set(library)
    assert made.truth is None or build.read_truth(name) == made.truth
    archive.write(tmp_path / "again.collage", made.collage, made.library)
    assert (tmp_path / "again.collage").read_bytes() == (build.HERE / f"{name}.collage").read_bytes()


@pytest.mark.parametrize("name", sorted(set(build.PRESETS) - set(SCENES)))
def test_layers_lie_where_the_true_scene_has_them(name: str) -> None:
    made = build.PRESETS[name]()
    composition = compose(made.collage, made.library)
    assert made.truth is not None
    flat = render(made.truth, build.drawer_store(), light=False)
    assert masked_error(composition.flat, flat.image) < 8, "two resamplings of the same picture"
    for visible, mask in zip(composition.visible, flat.masks, strict=True):
        both = np.minimum(visible, mask).sum() / np.maximum(visible, mask).sum()
        assert both > 0.92, "a shift of half a pixel at most"
    for layer, item in zip(made.collage.layers, made.truth.items, strict=True):
        assert layer.prompt == build.words(item.label) and layer.prompt in made.collage.prompt


def test_evening_leaves_something_to_harmonize() -> None:
    scene = build.evening().truth
    assert scene is not None
    lit, flat = (render(scene, build.drawer_store(), light=light) for light in (True, False))
    assert masked_error(lit.image, flat.image, flat.masks.sum(0)) > 25


def test_each_preset_uses_what_it_shows() -> None:
    made = {name: recipe().collage for name, recipe in build.PRESETS.items()}
    assert len(made["parade"].layers) == 3
    assert [layer.harmonize for layer in made["keep"].layers].count(0.0) == 1
    assert made["spread"].spread > 0 and made["spread"].images > 1
    assert made["avoid"].avoids
    assert all(collage.name and collage.seed is not None for collage in made.values())


@pytest.mark.parametrize("name", SCENES)
def test_published_scenes_keep_order_and_strengths(name: str) -> None:
    made, scene = build.PRESETS[name]().collage, SCENES[name]
    assert len(made.layers) == len(scene.layers) and made.seed == scene.seed
    for layer, shown in zip(made.layers, scene.layers, strict=True):
        assert shown.was in layer.name and layer.prompt in made.prompt
        inside, outside, noise, canny = shown.strengths
        assert layer.harmonize == pytest.approx(0.75 * noise, abs=0.01)
        assert layer.attend_inside == pytest.approx(inside * 0.2 / 0.6, abs=0.01), (
            "0.2 is the model's default"
        )
        assert layer.attend_outside == pytest.approx(outside * 0.4 / 0.6, abs=0.01)
        assert layer.keep_shape == canny and made.edges == "canny"


def test_published_scenes_use_the_models_words_and_the_nearest_art() -> None:
    known = set(all_words(world(build.WORLD)))
    for scene in SCENES.values():
        assert set(re.findall("[a-z]+", scene.prompt)) <= known
        for shown in scene.layers:
            assert not isinstance(shown.art, Cutout) or shown.art.label in build.drawer_index()
    assert [len(scene.layers) for scene in SCENES.values()] == [9, 5, 5, 6]


@pytest.mark.parametrize("name", SCENES)
def test_published_scenes_show_every_layer_in_a_small_file(name: str) -> None:
    made = build.PRESETS[name]()
    composition = compose(made.collage, made.library)
    assert len(composition.visible) == len(made.collage.layers)
    assert min(float(visible.mean()) for visible in composition.visible) > 0.01
    assert (build.HERE / f"{name}.collage").stat().st_size < 150_000
