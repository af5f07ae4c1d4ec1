"""A pool of a few drawer scenes in the real format, and a judge with random weights."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from pipelines.embedded.judge.judge import Judge
from pipelines.embedded.judge.model import JudgeNet, Vocabulary
from pipelines.embedded.training.latents import Batch, class_map, crop_box, named_in, save_chunk
from pipelines.embedded.training.scenes import render
from pipelines.embedded.training.world import World, world
from tests.benchmarks.common import drawer_scene, every_look


@pytest.fixture(scope="session")
def small() -> World:
    """The world the weights are for."""
    return world("small")


@pytest.fixture(scope="session")
def vocabulary(small: World) -> Vocabulary:
    """Its words."""
    return Vocabulary.of(small)


@pytest.fixture
def judge(vocabulary: Vocabulary) -> Judge:
    """A judge that has learnt nothing."""
    torch.manual_seed(0)
    return Judge(JudgeNet(vocabulary), vocabulary)


@pytest.fixture(scope="session")
def pool(small: World, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two chunks of six scenes; latents are noise, which is as good as any for shapes."""
    folder = tmp_path_factory.mktemp("pool")
    names = {name: k for k, name in enumerate(small.labels)}
    rng = np.random.default_rng(3)
    for number in range(2):
        kinds: dict[str, list] = {"whole": [], "crops": []}
        for _ in range(6):
            scene = drawer_scene(rng)
            shown, labels = render(scene, every_look()), [names[i.label] for i in scene.items]
            kinds["whole"].append((shown.image, class_map(shown.masks, labels, 32), scene, None))
            for k in range(len(scene.items)):
                box = crop_box(scene, k, rng)
                kept = named_in(shown.masks, box)
                small_masks = np.stack(
                    [np.asarray(Image.fromarray(m).resize((128, 128), box=box)) for m in shown.masks]
                )
                pixels = np.asarray(Image.fromarray(shown.image).resize((128, 128), box=box))
                if k in kept:
                    kinds["crops"].append((pixels, class_map(small_masks, labels, 16), scene, kept))
        chunk = {}
        for kind, rows in kinds.items():
            side = 32 if kind == "whole" else 16
            latents = rng.standard_normal((len(rows), 12, side, side)).astype(np.float16)
            pictures, classes, scenes, named = (list(column) for column in zip(*rows, strict=True))
            chunk[kind] = Batch(np.stack(pictures), latents, np.stack(classes), scenes, named)
        save_chunk(folder, number, chunk)
    return folder
