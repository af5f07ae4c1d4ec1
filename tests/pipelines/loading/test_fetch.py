"""Models from a hub: what is fetched, how that is told, how it is stopped, and the hub's own errors."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pipelines.loading.fetch import only_pickled
from tests.pipelines import tiny
from tests.pipelines.hub import Hub, run, served

STORY = """
import json, threading
import huggingface_hub.constants
from pipelines.engine import Engine
from pipelines.errors import Cancelled, ModelError
from pipelines.events import Downloading, Finished
from pipelines.loading import LoadOptions
from pipelines.pictures import PictureStore
from tests.pipelines import tiny

def render(model, stop_at=None):
    stop, events = threading.Event(), []
    try:
        engine = Engine(0, LoadOptions(device="cpu"))
        for event in engine.render(tiny.text_request(model), PictureStore(), cancel=stop):
            events.append(event)
            if stop_at:
                stop.set()
    except (Cancelled, ModelError) as error:
        events.append(error)
    bytes_ = [[event.model, event.done, event.total] for event in events if isinstance(event, Downloading)]
    return {"bytes": bytes_, "end": type(events[-1]).__name__, "count": len(events), "said": str(events[-1])}

told = {"stopped": render("slow/model", stop_at=1), "first": render("some/model"), "again": render("some/model")}
huggingface_hub.constants.HF_HUB_OFFLINE = True
told["offline"] = render("some/model")
huggingface_hub.constants.HF_HUB_OFFLINE = False
told["sdxl"] = render("sdxl")
print(json.dumps(told))
"""
"""Five renders, each by a new engine, over one cache."""

PICKLED = """
import json, sys
import huggingface_hub.constants
from pipelines.errors import ModelError
from pipelines.loading import LoadOptions, load_pipeline
from pipelines.models import card

def load(model, allow):
    try:
        pipe = load_pipeline(card(model), LoadOptions(device="cpu", allow_pickle=allow))
        return float(pipe.unet.conv_in.weight.sum())
    except ModelError as error:
        return str(error)

told = load(sys.argv[1], "allow" in sys.argv)
huggingface_hub.constants.HF_HUB_OFFLINE = True
print(json.dumps([told, load(sys.argv[1], "allow" in sys.argv)]))
"""

CARD = """
import sys
from pipelines.errors import ModelError
from pipelines.models import card
try:
    card(sys.argv[1])
except ModelError as error:
    print(error)
"""


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hub]:
    folder = tmp_path_factory.mktemp("model")
    pipe = tiny.KINDS["sd_noise"]()
    pipe.save_pretrained(folder)
    pipe.save_pretrained(folder, variant="fp16")
    (folder / "whole.safetensors").write_bytes(b"the same weights once more")
    (folder / "unet" / "diffusion_pytorch_model.bin").write_bytes(b"the same weights pickled")
    with served({"some/model": folder, "slow/model": folder}) as server:
        yield server


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="module")
def told(hub: Hub, home: Path) -> dict[str, Any]:
    """What the five renders said."""
    return dict(json.loads(run(hub, home, STORY)))


def test_a_download_is_told_in_bytes(hub: Hub, told: dict[str, Any]) -> None:
    first = told["first"]
    assert first["end"] == "Finished"
    assert first["bytes"] and {model for model, _, _ in first["bytes"]} == {"some/model"}
    done = [one for _, one, _ in first["bytes"]]
    folder = hub.models["some/model"]
    size = sum((folder / name).stat().st_size for repo, name in hub.given if repo == "some/model")
    assert done == sorted(done) and all(one <= total for _, one, total in first["bytes"])
    # the small files that tell the model's kind came before
    assert first["bytes"][-1][1] == first["bytes"][-1][2] and 0.95 * size <= done[-1] <= size


def test_only_what_is_read_is_fetched_and_that_once(hub: Hub, told: dict[str, Any]) -> None:
    names = [name for repo, name in hub.given if repo == "some/model"]
    assert "unet/diffusion_pytorch_model.safetensors" in names and "tokenizer/tokenizer.json" in names
    assert not [name for name in names if "fp16" in name or name.endswith(".bin") or name.startswith("whole")]
    assert len(names) == len(set(names))
    assert told["again"]["end"] == told["offline"]["end"] == "Finished"
    assert told["offline"]["bytes"] == []


def test_a_download_is_stopped(home: Path, told: dict[str, Any]) -> None:
    assert told["stopped"]["bytes"] and told["stopped"]["end"] == "Cancelled"
    assert told["stopped"]["count"] == len(told["stopped"]["bytes"]) + 1  # nothing was begun
    assert 0 < _arrived(home, "slow") < _arrived(home, "some")


def test_a_known_model_that_is_gone(told: dict[str, Any]) -> None:
    assert told["sdxl"]["end"] == "ModelError" and "model 'sdxl' is not on the hub" in told["sdxl"]["said"]


def _arrived(home: Path, owner: str) -> int:
    return sum(file.is_file() for file in home.glob(f"hub/models--{owner}--model/snapshots/*/**/*"))


def test_pickled_weights_are_refused_before_anything_is_fetched_and_read_if_allowed(tmp_path: Path) -> None:
    """Where only a part has them; beside safetensors they are not fetched even then."""
    pipe: Any = tiny.KINDS["sd_noise"]()
    pipe.save_pretrained(folder := tmp_path / "model")
    pipe.unet.save_pretrained(folder / "unet", safe_serialization=False)
    for safe in (folder / "unet").glob("*.safetensors"):
        safe.rename(safe.with_suffix(".fp16.safetensors"))  # a variant that nobody asks for
    (folder / "vae" / "diffusion_pytorch_model.bin").write_bytes(b"the same weights pickled")
    with served({"some/pickled": folder}) as server:
        refused, _ = json.loads(run(server, tmp_path / "home", PICKLED, "some/pickled"))
        before = [name for _, name in server.given]
        allowed = json.loads(run(server, tmp_path / "home", PICKLED, "some/pickled", "allow"))
        given = [name for _, name in server.given]
    assert "'some/pickled' has pickled weights" in refused and "--allow-pickle" in refused
    assert set(before) <= {"model_index.json", "unet/config.json", "vae/config.json"}
    assert allowed == [pytest.approx(float(pipe.unet.conv_in.weight.detach().sum()))] * 2, "offline, too"
    assert [name for name in given if name.endswith(".bin")] == ["unet/diffusion_pytorch_model.bin"]
    assert "vae/diffusion_pytorch_model.safetensors" in given


def test_which_folders_have_pickled_weights_alone() -> None:
    files = [
        "a/model.bin",
        "a/model.safetensors",
        "b/model-1-of-2.bin",
        "b/model.fp16.safetensors",
        "c/x.json",
    ]
    assert only_pickled([*files, "d/model.fp16.bin", "model.ckpt"]) == {"b", ""}


@pytest.mark.parametrize(
    ("name", "offline", "words"),
    [
        ("some/gated", False, "is gated; accept"),
        ("some/missing", False, "is not on the hub"),
        ("some/missing", True, "the hub cannot be reached"),
    ],
)
def test_the_hub_says_no(hub: Hub, tmp_path: Path, name: str, offline: bool, words: str) -> None:
    said = run(hub, tmp_path, CARD, name, offline=offline)
    assert words in said and said.count("\n") == 1
