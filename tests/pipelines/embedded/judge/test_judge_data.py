"""What the judge learns from says the truth, and wrecks are wrecks."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from pipelines.embedded.judge.data import (
    IGNORE,
    augment,
    empty_places,
    from_chunk,
    join,
    rarity,
    ruined_latents,
    subject_of,
    wreck,
)
from pipelines.embedded.judge.model import Vocabulary
from pipelines.embedded.training.latents import Pool
from tests.benchmarks.common import drawer_scene


def _pool(folder: Path, kind: str) -> Pool:
    pool = Pool(folder, kind, pixels=True)
    pool.refresh()
    return pool


def test_whole_pictures_show_all_their_objects_and_nothing_else(pool: Path, vocabulary: Vocabulary) -> None:
    found = join([from_chunk(path, vocabulary, "whole")[0] for path in sorted(pool.glob("*.npz"))])
    scenes = _pool(pool, "whole").scenes
    assert len(found) == len(scenes) == 12
    for n, scene in enumerate(scenes):
        present = {vocabulary.labels[k] for k in np.flatnonzero(found.presence[n] == 1)}
        assert present == {item.label for item in scene.items}
        assert vocabulary.places[found.targets["place"][n]] == scene.place
        assert vocabulary.times[found.targets["time"][n]] == scene.time
        single = len(scene.items) == 1
        subject = found.targets["object"][n]
        assert subject == (vocabulary.labels.index(scene.items[0].label) if single else IGNORE)


def test_crops_name_their_subject_and_its_attributes(pool: Path, vocabulary: Vocabulary) -> None:
    found = join([from_chunk(path, vocabulary, "crops")[0] for path in sorted(pool.glob("*.npz"))])
    crops = _pool(pool, "crops")
    known = np.flatnonzero(found.targets["object"] >= 0)
    assert len(known) >= len(found) // 2
    for n in known:
        label = vocabulary.labels[found.targets["object"][n]]
        named = {crops.scenes[n].items[k].label: crops.scenes[n].items[k] for k in crops.named[n] or []}
        assert label in named
        assert found.presence[n][vocabulary.labels.index(label)] == 1
        colour = found.targets["colour"][n]
        expected = named[label].colour
        assert colour == (len(vocabulary.colours) if expected is None else vocabulary.colours.index(expected))
    partly = [n for n, named in enumerate(crops.named) if len(named or []) < len(crops.scenes[n].items)]
    assert partly
    assert all((found.presence[n] == -1).any() for n in partly)


def test_a_crop_of_two_equal_halves_has_no_subject(vocabulary: Vocabulary) -> None:
    scene = drawer_scene(np.random.default_rng(0), labels=["cat", "dog"])
    order = [vocabulary.labels.index(item.label) + 1 for item in scene.items]
    cells = np.zeros((16, 16), np.int16)
    cells[:, :8], cells[:, 8:] = order
    assert subject_of(cells, scene, vocabulary.labels) == -1
    cells[:, 2:] = order[1]
    assert subject_of(cells, scene, vocabulary.labels) == 1


def test_empty_places_are_nothing_but_have_a_place(vocabulary: Vocabulary) -> None:
    scenes = [drawer_scene(np.random.default_rng(k)) for k in range(4)]
    found = empty_places(scenes, vocabulary, np.random.default_rng(0))
    assert (found.targets["object"] == len(vocabulary.labels)).all()
    assert (found.presence == 0).all()
    assert [vocabulary.places[k] for k in found.targets["place"]] == [scene.place for scene in scenes]
    assert found.pictures.std(axis=(1, 2, 3)).min() > 0


def test_rare_looks_are_drawn_more_often(pool: Path, vocabulary: Vocabulary) -> None:
    found = from_chunk(sorted(pool.glob("*.npz"))[0], vocabulary, "crops")[0]
    common = np.flatnonzero(found.targets["object"] >= 0)[0]
    many = join([found] + [found.take(np.array([common]))] * 8)
    weights = rarity(many)
    others = np.flatnonzero(
        (many.targets["object"] >= 0) & (many.targets["object"] != found.targets["object"][common])
    )
    assert weights[common] < weights[others].min()


def test_augment_moves_picture_and_cells_together() -> None:
    x = torch.full((32, 3, 128, 128), -0.5)
    cells = torch.zeros(32, 16, 16, dtype=torch.long)
    x[:, :, 16:64, 16:48] = 0.9
    cells[:, 2:8, 2:6] = 7
    moved, marked = augment(x, cells, torch.Generator().manual_seed(0))
    assert moved.shape == x.shape and marked.shape == cells.shape
    assert not torch.equal(moved[0], x[0])
    bright = torch.nn.functional.avg_pool2d(moved.mean(1, keepdim=True), 8)[:, 0]
    for n in range(32):
        inside, outside = bright[n][marked[n] == 7], bright[n][marked[n] == 0]
        assert inside.mean() > outside.mean() + 0.8
    assert marked.min() >= -1
    left = sum(bool((m[:, :8] == 7).sum() > (m[:, 8:] == 7).sum()) for m in marked)
    assert 6 < left < 26, "about half are flipped"


def test_wrecks_differ_and_name_the_shuffled(pool: Path, vocabulary: Vocabulary) -> None:
    pictures = from_chunk(sorted(pool.glob("*.npz"))[0], vocabulary, "crops")[0].pictures
    x = torch.from_numpy(pictures[np.arange(24) % len(pictures)]).permute(0, 3, 1, 2).float() / 127.5 - 1
    ruined, gone = wreck(x, torch.Generator().manual_seed(1))
    assert ((ruined - x).abs().mean((1, 2, 3)) > 0.01).all()
    assert 0 < int(gone.sum()) < 24
    for n in torch.nonzero(gone).flatten().tolist():
        assert torch.allclose(ruined[n].flatten().sort().values, x[n].flatten().sort().values)


def test_ruined_latents_keep_little_of_the_picture() -> None:
    latents = torch.randn(60, 12, 16, 16, generator=torch.Generator().manual_seed(0))
    ruined, gone = ruined_latents(latents, np.random.default_rng(0))
    cosine = torch.nn.functional.cosine_similarity(ruined.flatten(1), latents.flatten(1))
    assert cosine.max() < 0.65
    assert 0.4 < gone.float().mean() < 0.9
    assert ruined.shape == latents.shape
