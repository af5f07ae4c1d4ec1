"""A library that one model needs is named before its weights are fetched or read."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import pytest
import torch
import transformers
from safetensors.torch import save_file
from transformers.utils import DummyObject

from pipelines.errors import ModelError
from pipelines.loading import LoadOptions, fetch, load_pipeline
from pipelines.loading.failures import sentence
from pipelines.loading.libraries import absent, check_libraries, missing, not_installed
from pipelines.models import CARDS, card
from tests.pipelines import tiny
from tests.pipelines import tiny_transformers as tt

WANTED = r"needs the library torchvision, which is not installed; install with `pip install torchvision`\."


@pytest.fixture
def bare(monkeypatch: pytest.MonkeyPatch) -> None:
    """transformers as it is without torchvision, also where that is installed."""
    placeholder = DummyObject("PixtralProcessor", (), {"_backends": ["torchvision"]})
    monkeypatch.setattr(transformers, "PixtralProcessor", placeholder, raising=False)
    stock = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *more: None if name == "torchvision" else stock(name, *more)
    )


def index(folder: Path, **parts: list[str]) -> Path:
    """A ``model_index.json`` with those parts, beside what it has."""
    file = folder / "model_index.json"
    kept = json.loads(file.read_text()) if file.exists() else {"_class_name": "Flux2Pipeline"}
    file.write_text(json.dumps(kept | parts))
    return file


@pytest.mark.usefixtures("bare")
def test_flux_2_dev_as_it_is_published_asks_for_torchvision(tmp_path: Path) -> None:
    """Its tokenizer is a processor that also takes pictures."""
    tt.flux2().save_pretrained(tmp_path)
    index(tmp_path, tokenizer=["transformers", "PixtralProcessor"])
    with pytest.raises(ModelError, match=WANTED):
        load_pipeline(card(str(tmp_path)), LoadOptions(device="cpu"))


@pytest.mark.usefixtures("bare")
def test_nothing_is_fetched_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = index(tmp_path, tokenizer=["transformers", "PixtralProcessor"])
    monkeypatch.setattr(fetch, "fetch_file", lambda *_: file)
    monkeypatch.setattr(fetch, "fetch", lambda *_, **__: pytest.fail("weights are fetched"))
    with pytest.raises(ModelError, match=WANTED):
        fetch.fetch_model(CARDS["flux2"], lambda *_: None, pickles=False)


@pytest.mark.usefixtures("bare")
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


@pytest.mark.skipif(importlib.util.find_spec("torchvision") is not None, reason="torchvision is installed")
def test_the_placeholder_is_what_transformers_has() -> None:
    assert isinstance(transformers.PixtralProcessor, DummyObject)
    assert absent(transformers.PixtralProcessor._backends) == ["torchvision"]


def raised(name: str | None) -> ImportError:
    return ModuleNotFoundError(f"No module named {name!r}", name=name)


@pytest.mark.parametrize(
    ("module", "package"),
    [("tiktoken_x.load", "tiktoken_x"), ("cv2", "opencv-python"), ("google.x", "protobuf")],
)
def test_a_module_that_is_missing_is_named_by_its_package(
    monkeypatch: pytest.MonkeyPatch, module: str, package: str
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda *_: None)
    wrapped = ValueError("something else")
    wrapped.__cause__ = raised(module)
    for error in (raised(module), wrapped):
        assert f"needs the library {package}, which is not" in sentence("m", "a/b", error)


def test_what_is_there_or_was_done_without_is_not_blamed() -> None:
    assert missing(raised("transformers.models.no_such")) is None, "another version of what is installed"
    assert missing(ImportError("cannot import name 'x'")) is None
    later = OSError("the disk does not answer")
    later.__context__ = raised("tiktoken_x")  # raised while that was handled
    assert missing(later) is None


def test_several_are_named_together() -> None:
    told = not_installed("model 'm'", "no_such_a", "cv2")
    assert told.endswith(
        "needs no_such_a, opencv-python, which are not installed; install with `pip install no_such_a "
        "opencv-python`."
    )
    assert absent(["json", "no_such_a"]) == ["no_such_a"] and absent(["json"]) == ["json"]
