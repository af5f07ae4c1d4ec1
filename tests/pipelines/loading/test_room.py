"""Room for weights: what loading will hold in main memory, counted from the files."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from pipelines.errors import ModelError
from pipelines.loading import LoadOptions, load, load_pipeline
from pipelines.loading.room import check_room, free_memory, weights_of
from pipelines.models import card
from tests.pipelines import single_file, tiny


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model in 16 bit."""
    made = tmp_path_factory.mktemp("model")
    pipe = tiny.KINDS["sd_noise"]()
    pipe.to(torch.float16).save_pretrained(made)
    return made


@pytest.fixture(scope="module")
def weights(folder: Path) -> int:
    """How many it has."""
    pipe = load_pipeline(card(str(folder)), LoadOptions(device="cpu"))
    return sum(
        weight.numel() for part in (pipe.unet, pipe.vae, pipe.text_encoder) for weight in part.parameters()
    )


def needed(source: Path, device: str = "cpu", dtype: str = "float32", **options: Any) -> int:
    """The least free memory that is enough, found by halving."""
    low, high = 0, 2**30
    while low < high:
        middle = (low + high) // 2
        try:
            weights = {"": [source]} if source.is_file() else weights_of(source)
            check_room("m", weights, LoadOptions(**options), device, dtype, middle)
            high = middle
        except ModelError:
            low = middle + 1
    return low


def test_where_weights_stay_all_of_them_count_and_half_becomes_whole(folder: Path, weights: int) -> None:
    assert needed(folder) == 4 * weights
    assert needed(folder, dtype="bfloat16") == needed(folder, device="mps", dtype="float16") == 2 * weights
    assert needed(folder, device_map="cpu") == 4 * weights


@pytest.mark.parametrize("offload", ["model", "group"])
def test_where_they_wait_for_a_device_too(folder: Path, weights: int, offload: str) -> None:
    assert needed(folder, device="cuda", dtype="float16", offload=offload) == 2 * weights


def test_on_the_way_to_a_device_it_is_a_file_at_a_time(folder: Path, weights: int) -> None:
    largest = max(file.stat().st_size for file in folder.glob("*/*.safetensors"))
    assert needed(folder, device="cuda", offload="none") == largest < 2 * weights
    assert needed(folder, device_map="balanced") == largest


def test_quantized_weights_are_narrow(folder: Path, weights: int) -> None:
    """The denoiser's; the small text encoder stays as it is."""
    pipe = load_pipeline(card(str(folder)), LoadOptions(device="cpu"))
    unet = sum(weight.numel() for weight in pipe.unet.parameters())
    assert needed(folder, quantize="int8") == 4 * weights - 3 * unet
    assert needed(folder, quantize="bnb4") == pytest.approx(4 * weights - 3.5 * unet, abs=1)


def test_only_files_that_are_read_count(folder: Path, weights: int, tmp_path: Path) -> None:
    """Neither variants nor pickles beside safetensors, nor a ControlNet that came along; without them, pickles."""
    more = tmp_path / "more"
    shutil.copytree(folder, more)
    unet = more / "unet" / "diffusion_pytorch_model.safetensors"
    shutil.copy(unet, unet.with_name("diffusion_pytorch_model.fp16.safetensors"))
    unet.with_suffix(".bin").write_bytes(bytes(10_000_000))
    (more / "controlnet").mkdir()
    shutil.copy(unet, more / "controlnet")
    assert needed(more) == 4 * weights
    unet.unlink()
    assert needed(more) > 10_000_000


def test_a_single_file_is_all_of_the_model(weights: int, tmp_path: Path) -> None:
    file = single_file.save_single(tiny.KINDS["sd_noise"](), tmp_path / "one.safetensors")
    assert needed(file) == 4 * weights
    pickled = tmp_path / "one.ckpt"
    pickled.write_bytes(bytes(1000))
    assert needed(pickled) == 1000


def test_the_sentence(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(load, "free_memory", lambda: 1000)
    words = r"too little free memory to load model .* \(0\.0 GB needed, 0\.0 GB free\); close programs, set --dtype"
    with pytest.raises(ModelError, match=words):
        load_pipeline(card(str(folder)), LoadOptions(device="cpu"))


def test_where_the_system_does_not_say_nothing_is_refused(folder: Path) -> None:
    check_room("m", weights_of(folder), LoadOptions(), "cpu", "float32", None)
    free = free_memory()
    assert free is not None and 2**20 < free < 2**50
