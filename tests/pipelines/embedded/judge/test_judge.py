"""The judge answers in its words, abstains, finds what its cells show, and survives export and training."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from pipelines.embedded.judge import train
from pipelines.embedded.judge.decoded import as_tensor, load_examples, save_examples
from pipelines.embedded.judge.evaluate import figures, held_out_art, held_out_pair
from pipelines.embedded.judge.judge import Judge, box_of, square_view
from pipelines.embedded.judge.model import JudgeNet, Vocabulary
from pipelines.embedded.training.scenes import render
from pipelines.embedded.training.world import World
from pipelines.errors import FieldError, ModelError, PictureError
from tests.benchmarks.common import drawer_scene, every_look


def _picture(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (256, 256, 3), dtype=np.uint8)


def _favour(judge: Judge, head: str, index: int) -> None:
    layer = judge.model.heads[head]
    with torch.no_grad():
        layer.weight.zero_()
        layer.bias.zero_()
        layer.bias[index] = 5


def test_answers_are_words_or_none(judge: Judge, vocabulary: Vocabulary) -> None:
    _favour(judge, "object", vocabulary.labels.index("cat"))
    _favour(judge, "colour", len(vocabulary.colours))
    verdict = judge.region(_picture(), (40, 40, 120, 120))
    assert verdict.label == "cat" and verdict.colour is None
    assert verdict.probability == pytest.approx(verdict.probabilities.max())
    _favour(judge, "object", len(vocabulary.labels))
    assert judge.region(_picture(), (40, 40, 120, 120)).label is None, "abstaining is an answer"
    _favour(judge, "place", len(vocabulary.places))
    _favour(judge, "time", 1)
    whole = judge.whole([_picture()])[0]
    assert whole.place is None and whole.time == vocabulary.times[1]
    assert whole.present.shape == (len(vocabulary.labels),)


def test_presence_follows_the_surest_cell(vocabulary: Vocabulary) -> None:
    torch.manual_seed(0)
    model = JudgeNet(vocabulary).eval()
    x = as_tensor(np.stack([_picture()[:128, :128]]))
    with torch.no_grad():
        before = model(x)["presence"][0, 4]
        model.cells.bias[5] += 3
        after = model(x)["presence"][0]
    assert after[4] > before + 1
    assert after.argmax() == 4


def test_find_locates_by_cells_and_asks_the_region(judge: Judge, vocabulary: Vocabulary) -> None:
    cat = vocabulary.labels.index("cat")
    with torch.no_grad():
        judge.model.cells.weight.zero_()
        judge.model.cells.bias.zero_()
        judge.model.cells.bias[cat + 1] = 9
    _favour(judge, "object", cat)
    cat_found, dog_found = judge.find([_picture()], [["cat", "dog"]])[0]
    assert cat_found.right and cat_found.box == (0, 0, 256, 256)
    assert not dog_found.right and dog_found.box is None
    _favour(judge, "object", len(vocabulary.labels))
    assert not judge.find([_picture()], [["cat"]])[0][0].right, "cells alone are not enough"
    with pytest.raises(FieldError, match="does not know 'unicorn'"):
        judge.find([_picture()], [["unicorn"]])


def test_located_box_is_where_the_cells_are(judge: Judge, vocabulary: Vocabulary) -> None:
    cells = np.zeros((len(vocabulary.labels) + 1, 16, 16), np.float32)
    cells[1, 2:5, 3:6] = 0.9
    cells[1, 10:16, 10:16] = 0.6
    assert judge._locate(cells, vocabulary.labels[0], (256, 256, 3)) == (48, 32, 96, 80)


def test_regions_take_boxes_or_masks_and_refuse_empty_ones(judge: Judge) -> None:
    mask = np.zeros((256, 256), np.float32)
    mask[40:120, 60:100] = 1
    assert box_of(mask) == (60, 40, 100, 120)
    by_mask, by_box = judge.region(_picture(), mask), judge.region(_picture(), (60, 40, 100, 120))
    assert np.array_equal(by_mask.probabilities, by_box.probabilities)
    with pytest.raises(PictureError, match="empty"):
        judge.region(_picture(), np.zeros((256, 256), np.float32))
    with pytest.raises(FieldError, match="as many regions"):
        judge.regions([_picture()], [])
    with pytest.raises(PictureError, match="uint8"):
        judge.whole([_picture().astype(np.float32)])


def test_square_view_stays_inside_and_shows_the_box() -> None:
    picture = np.zeros((256, 256, 3), np.uint8)
    picture[:60, :60] = 255
    view = square_view(picture, (0, 0, 60, 60))
    assert view.shape == (128, 128, 3)
    assert 0.38 < (view > 127).mean() < 0.55  # 60² of the least square of 88²


def test_export_and_load_give_the_same_answers(judge: Judge, vocabulary: Vocabulary, tmp_path: Path) -> None:
    train.export(judge.model, vocabulary, tmp_path, {"steps": 1})
    assert (tmp_path / "judge.safetensors").stat().st_size < 1_500_000
    again = Judge.load(tmp_path)
    assert again.vocabulary == vocabulary and again.card["training"] == {"steps": 1}
    first, second = judge.whole([_picture()])[0], again.whole([_picture()])[0]
    assert np.allclose(first.present, second.present, atol=5e-3)
    with pytest.raises(ModelError, match="train it"):
        Judge.load(tmp_path / "nowhere")


def test_training_learns_a_few_pictures_by_heart(pool: Path, vocabulary: Vocabulary) -> None:
    from pipelines.embedded.judge.data import from_chunk

    examples = from_chunk(sorted(pool.glob("*.npz"))[0], vocabulary, "crops")[0].take(slice(0, 8))
    torch.manual_seed(0)
    model = JudgeNet(vocabulary)
    optimizer = torch.optim.AdamW(model.parameters(), 2e-3)
    targets = {name: torch.from_numpy(t) for name, t in examples.targets.items()}
    targets |= {"presence": torch.from_numpy(examples.presence), "cells": torch.from_numpy(examples.cells)}
    history = []
    for _ in range(40):
        each = train.losses(model(as_tensor(examples.pictures)), targets)
        history.append(sum(train.LOSS[head] * value for head, value in each.items()))
        optimizer.zero_grad()
        history[-1].backward()
        optimizer.step()
    assert history[-1] < history[0] / 3
    assert train.accuracy(model, examples)["object"] > 0.8


def test_losses_ignore_what_is_unknown(vocabulary: Vocabulary) -> None:
    model = JudgeNet(vocabulary)
    out = model(as_tensor(np.stack([_picture()[:128, :128]])))
    unknown = {name: torch.tensor([train.IGNORE]) for name in vocabulary.heads() if name != "presence"}
    unknown |= {"presence": torch.full((1, len(vocabulary.labels)), -1), "cells": torch.full((1, 16, 16), -1)}
    assert all(float(value.detach()) == 0 for value in train.losses(out, unknown).values())
    known = unknown | {"object": torch.tensor([3])}
    assert float(train.losses(out, known)["object"].detach()) > 1


def test_train_command_resumes_and_exports(
    pool: Path, vocabulary: Vocabulary, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pipelines.embedded.judge.data import from_chunk

    run = tmp_path / "run"
    run.mkdir()
    save_examples(run / "examples.npz", from_chunk(sorted(pool.glob("*.npz"))[1], vocabulary, "whole")[0])
    assert len(load_examples(run / "examples.npz")) == 6
    monkeypatch.setattr(train, "HELD_OUT", 4)
    monkeypatch.setattr(train, "BATCH", 8)
    command = ["train", "--pool", str(pool), "--autoencoder", "none", "--out", str(run)]
    command += ["--export", str(tmp_path / "weights"), "--minutes"]
    steps = []
    for minutes in ("0.02", "0.02", "0.04"):
        monkeypatch.setattr(sys, "argv", [*command, minutes])
        train.main()
        steps.append(json.loads((tmp_path / "weights" / "judge.json").read_text())["training"]["steps"])
    assert 0 < steps[0] == steps[1] < steps[2], "spent minutes are not spent again, added ones are"


def test_evaluation_counts_true_scenes(judge: Judge, small: World, vocabulary: Vocabulary) -> None:
    scenes = [drawer_scene(np.random.default_rng(k), labels=["automobile", "bus"]) for k in range(3)]
    shown = [render(scene, every_look()) for scene in scenes]
    _favour(judge, "object", vocabulary.labels.index("bus"))
    _favour(judge, "time", vocabulary.times.index("night"))
    found = figures(judge, small, scenes, shown, [r.image for r in shown])
    assert found["object in its region"]["value"] == pytest.approx(0.5)
    assert found["time"]["value"] == pytest.approx(sum(s.time == "night" for s in scenes) / 3)
    assert found["all right"]["value"] == 0
    assert found["colour"]["n"] == 6


def test_held_out_scenes_are_held_out(small: World) -> None:
    for k in range(20):
        rng = np.random.default_rng(k)
        (item,) = held_out_art(small, every_look(), rng).items
        assert item.key.partition("/")[2] in small.heldout_art
        assert small.held_out([i.label for i in held_out_pair(small, every_look(), rng).items])
