"""Features of a stock CLIP or DINOv2 out of a folder: preprocessed by its own numbers, refused by name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import BertConfig, BertModel, CLIPConfig, CLIPModel, Dinov2Config, Dinov2Model

from pipelines.errors import ModelError
from pipelines.measure.encoders import Encoder, features_of
from pipelines.measure.features import Features
from pipelines.measure.numbers import numbers, told
from pipelines.pictures import PictureStore
from tests.pipelines import tiny

SMALL: dict[str, Any] = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
MEAN, DEVIATION = [0.4, 0.5, 0.6], [0.2, 0.25, 0.3]


def saved(folder: Path, kind: str, **preprocessing: Any) -> str:
    torch.manual_seed(0)
    if kind == "clip":
        vision = {**SMALL, "intermediate_size": 16, "image_size": 32, "patch_size": 8}
        text = {**SMALL, "intermediate_size": 16, "vocab_size": 8}
        model: Any = CLIPModel(CLIPConfig(vision_config=vision, text_config=text, projection_dim=12))
    elif kind == "dinov2":
        model = Dinov2Model(Dinov2Config(**SMALL, mlp_ratio=1, image_size=32, patch_size=8))
    else:
        model = BertModel(BertConfig(**SMALL, intermediate_size=16, vocab_size=8))
    model.save_pretrained(folder)
    if preprocessing:
        (folder / "preprocessor_config.json").write_text(json.dumps(preprocessing))
    return str(folder)


@pytest.mark.parametrize("kind", ["clip", "dinov2"])
def test_pictures_are_seen_with_the_models_own_numbers(tmp_path: Path, kind: str) -> None:
    side = 32 if kind == "clip" else 24  # CLIP has places for its own side alone
    sizes = {"size": {"shortest_edge": 48}, "crop_size": {"height": side, "width": side}}
    encoder = features_of(saved(tmp_path, kind, image_mean=MEAN, image_std=DEVIATION, **sizes))
    assert isinstance(encoder, Encoder) and encoder.side == side
    encoder.side = 32
    shown = [tiny.picture(seed)[16:48, 16:48] for seed in range(3)]
    vectors = encoder.pictures(shown, size=2)
    assert vectors.shape == (3, 12 if kind == "clip" else 16)
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    x = (torch.from_numpy(np.stack(shown)).permute(0, 3, 1, 2) / 255 - torch.tensor(MEAN).view(3, 1, 1)) / (
        torch.tensor(DEVIATION).view(3, 1, 1)
    )
    with torch.no_grad():
        if kind == "clip":
            own = encoder.model.get_image_features(pixel_values=x)
            own = own if isinstance(own, torch.Tensor) else own.pooler_output
        else:
            own = encoder.model(pixel_values=x).last_hidden_state[:, 0]
    assert np.allclose(vectors, torch.nn.functional.normalize(own, dim=1).numpy(), atol=1e-5)


def test_without_a_preprocessor_file_the_models_own_side(tmp_path: Path) -> None:
    assert Encoder(saved(tmp_path, "dinov2")).side == 32


def test_the_numbers_of_a_run_use_them(tmp_path: Path, store: PictureStore) -> None:
    encoder = Encoder(saved(tmp_path, "dinov2"))
    request = tiny.text_request(images=2)
    images = (tiny.picture(1), tiny.picture(2))
    found, embedded = (numbers(request, images, store, own) for own in (encoder, Features()))
    assert found["spread"]["distance"] != embedded["spread"]["distance"]
    assert (found["features"], embedded["features"]) == (str(tmp_path), "embedded"), "whose they are"
    assert told(found, 0)[1] == f"by features of {str(tmp_path)!r}"


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("model.safetensors", "no weights"),
        ("preprocessor_config.json", "{"),
        ("preprocessor_config.json", "[]"),
        ("preprocessor_config.json", '{"image_mean": [0.5]}'),
        ("preprocessor_config.json", '{"image_mean": "grey"}'),
        ("preprocessor_config.json", '{"size": 99}'),
        ("config.json", '{"model_type": "dinov2", "hidden_size": "wide"}'),
    ],
)
def test_damaged_files_are_told_at_once(tmp_path: Path, file: str, text: str) -> None:
    name = saved(tmp_path, "clip" if "99" in text else "dinov2")
    (tmp_path / file).write_text(text)
    with pytest.raises(ModelError, match=r"features .* cannot be loaded"):
        features_of(name)


@pytest.mark.parametrize("kind", ["clip", "dinov2"])
def test_weights_under_other_names_are_none(tmp_path: Path, kind: str) -> None:
    """Transformers would make them up, and every similarity with them."""
    name = saved(tmp_path, kind)
    weights = load_file(tmp_path / "model.safetensors")
    save_file({f"x.{key}": one for key, one in weights.items()}, tmp_path / "model.safetensors")
    with pytest.raises(ModelError, match=r"the model of features .* lacks \d+ of its weights"):
        features_of(name)


def test_no_code_of_a_model_is_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Nor is anybody asked whether it may."""
    name = saved(tmp_path, "dinov2")
    config = json.loads((tmp_path / "config.json").read_text())
    own = {"AutoConfig": "own.Config", "AutoModel": "own.Model"}
    (tmp_path / "config.json").write_text(json.dumps({**config, "model_type": "own", "auto_map": own}))
    (tmp_path / "own.py").write_text("raise SystemExit('it ran')")
    with pytest.raises(ModelError, match="cannot be loaded"):
        features_of(name)
    assert capsys.readouterr().out == ""


def test_pickled_weights_are_not_read(tmp_path: Path) -> None:
    """They can run code."""
    name = saved(tmp_path, "dinov2")
    torch.save(Encoder(name).model.state_dict(), tmp_path / "pytorch_model.bin")
    (tmp_path / "model.safetensors").unlink()
    with pytest.raises(ModelError, match=r"cannot be loaded .*safetensors"):
        features_of(name)


def test_other_models_and_missing_ones_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="bert model; give one of clip, dinov2"):
        features_of(saved(tmp_path / "bert", "bert"))
    with pytest.raises(ModelError, match="cannot be loaded"):
        features_of(str(tmp_path / "nothing"))
    assert isinstance(features_of("embedded"), Features)
