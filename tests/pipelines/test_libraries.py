"""A library that one model needs is named before its weights are fetched or read."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from pipelines.errors import ModelError
from pipelines.loading import LoadOptions, fetch, load_pipeline
from pipelines.loading.libraries import check_libraries
from pipelines.models import CARDS, card
from tests.pipelines import tiny
from tests.pipelines import tiny_transformers as tt

NO_TORCHVISION = pytest.mark.skipif(
    importlib.util.find_spec("torchvision") is not None, reason="torchvision is installed"
)
WANTED = r"needs the library torchvision, which is not installed; install it with `pip install torchvision`\."


def index(folder: Path, **parts: list[str]) -> Path:
    """A ``model_index.json`` with those parts, beside what it has."""
    file = folder / "model_index.json"
    kept = json.loads(file.read_text()) if file.exists() else {"_class_name": "Flux2Pipeline"}
    file.write_text(json.dumps(kept | parts))
    return file


@NO_TORCHVISION
def test_flux_2_dev_as_it_is_published_asks_for_torchvision(tmp_path: Path) -> None:
    """Its tokenizer is a processor that also takes pictures."""
    tt.flux2().save_pretrained(tmp_path)
    index(tmp_path, tokenizer=["transformers", "PixtralProcessor"])
    with pytest.raises(ModelError, match=WANTED):
        load_pipeline(card(str(tmp_path)), LoadOptions(device="cpu"))


@NO_TORCHVISION
def test_nothing_is_fetched_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = index(tmp_path, tokenizer=["transformers", "PixtralProcessor"])
    monkeypatch.setattr(fetch, "fetch_file", lambda *_: file)
    monkeypatch.setattr(fetch, "fetch", lambda *_, **__: pytest.fail("weights are fetched"))
    with pytest.raises(ModelError, match=WANTED):
        fetch.fetch_model(CARDS["flux2"], lambda *_: None, pickles=False)


@NO_TORCHVISION
def test_the_rest_of_a_single_file_is_looked_at_too(tmp_path: Path) -> None:
    rest, file = tmp_path / "rest", tmp_path / "one.safetensors"
    pipe = tt.flux2()
    pipe.save_pretrained(rest)
    index(rest, tokenizer=["transformers", "PixtralProcessor"])
    names = ("double_stream_modulation_img.lin.weight", "guidance_in.in_layer.weight")
    save_file({name: torch.zeros(1) for name in names}, file)
    with pytest.raises(ModelError, match=WANTED):
        load_pipeline(card(str(file)), LoadOptions(device="cpu", config=str(rest)))


@pytest.mark.parametrize("kinds", [tiny.KINDS, tt.KINDS])
def test_what_is_there_is_not_asked_for(tmp_path: Path, kinds: dict[str, object]) -> None:
    for name, build in kinds.items():
        build().save_config(tmp_path / name)  # type: ignore[operator]
        check_libraries(name, tmp_path / name / "model_index.json")


def test_what_is_no_part_of_the_libraries_is_left_to_the_pipeline(tmp_path: Path) -> None:
    parts = {"_name": "x", "a": ["somewhere", "Else"], "b": [None, None], "c": ["diffusers", "NoSuchClass"]}
    check_libraries("m", index(tmp_path, **parts))  # type: ignore[arg-type]
