"""Models from a hub: what is fetched, how that is told, how it is stopped, and the hub's own errors."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.pipelines import tiny
from tests.pipelines.hub import Hub, run, served

RENDER = """
import json, sys
from pipelines.engine import Engine
from pipelines.events import Downloading, Finished
from pipelines.loading import LoadOptions
from pipelines.pictures import PictureStore
from tests.pipelines import tiny
request = tiny.text_request(sys.argv[1])
engine = Engine(0, LoadOptions(device="cpu"))
bytes_ = []
for event in engine.render(request, PictureStore()):
    if isinstance(event, Downloading):
        bytes_.append([event.model, event.done, event.total])
print(json.dumps([bytes_, isinstance(event, Finished)]))
"""

STOP = """
import sys, threading
from pipelines.engine import Engine
from pipelines.errors import Cancelled
from pipelines.events import Downloading
from pipelines.loading import LoadOptions
from pipelines.pictures import PictureStore
from tests.pipelines import tiny
stop = threading.Event()
try:
    for event in Engine(0, LoadOptions(device="cpu")).render(
        tiny.text_request(sys.argv[1]), PictureStore(), cancel=stop
    ):
        print(type(event).__name__)
        stop.set()
except Cancelled:
    print("stopped")
"""

LOAD = """
import sys
from pipelines.errors import ModelError
from pipelines.loading import LoadOptions, load_pipeline
from pipelines.models import card
try:
    load_pipeline(card(sys.argv[1]), LoadOptions(device="cpu"))
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
    with served({"some/model": folder}) as server:
        yield server


@pytest.fixture(scope="module")
def home(hub: Hub, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache in which the model arrived by a render."""
    folder = tmp_path_factory.mktemp("home")
    bytes_, finished = json.loads(run(hub, folder, RENDER, "some/model"))
    assert finished
    (folder / "bytes.json").write_text(json.dumps(bytes_))
    return folder


def test_a_download_is_told_in_bytes(hub: Hub, home: Path) -> None:
    told = json.loads((home / "bytes.json").read_text())
    assert told and {model for model, _, _ in told} == {"some/model"}
    done = [one for _, one, _ in told]
    model = hub.models["some/model"]
    size = sum((model / name).stat().st_size for name in set(hub.given))
    assert done == sorted(done) and all(one <= total for _, one, total in told)
    # the index came before, to say what else to fetch
    assert told[-1][1] == told[-1][2] and 0.99 * size <= done[-1] <= size


def test_only_what_is_read_is_fetched(hub: Hub, home: Path) -> None:
    names = set(hub.given)
    assert "unet/diffusion_pytorch_model.safetensors" in names and "tokenizer/tokenizer.json" in names
    assert not [name for name in names if "fp16" in name or name.endswith(".bin") or name.startswith("whole")]


def test_what_is_here_is_not_fetched_again(hub: Hub, home: Path) -> None:
    before = len(hub.given)
    assert json.loads(run(hub, home, RENDER, "some/model"))[1]
    assert len(hub.given) == before
    bytes_, finished = json.loads(run(hub, home, RENDER, "some/model", offline=True))
    assert finished and not bytes_ and len(hub.given) == before


def test_a_download_is_stopped(hub: Hub, tmp_path: Path) -> None:
    assert run(hub, tmp_path, STOP, "some/model").split() == ["Downloading", "stopped"]


@pytest.mark.parametrize(
    ("name", "offline", "words"),
    [
        ("sdxl", False, "is not on the hub"),
        ("some/gated", False, "is gated; accept"),
        ("some/missing", False, "is not on the hub"),
        ("some/missing", True, "the hub cannot be reached"),
    ],
)
def test_the_hub_says_no(hub: Hub, tmp_path: Path, name: str, offline: bool, words: str) -> None:
    said = run(hub, tmp_path, LOAD, name, offline=offline)
    assert words in said and said.count("\n") == 1
