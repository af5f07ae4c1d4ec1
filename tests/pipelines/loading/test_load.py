"""Loading: real folders, files and LoRAs of tiny models."""

from __future__ import annotations

import dataclasses
import errno
import importlib.util
import logging
import shutil
from pathlib import Path
from typing import Any

import diffusers
import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from pipelines.errors import FieldError, ModelError
from pipelines.loading import LoadOptions, Lora, load, load_pipeline
from pipelines.loading.failures import is_out_of_memory, sentence
from pipelines.loading.load import told
from pipelines.loading.placing import SPARE, choose_offload, place, quantization
from pipelines.loading.weights import taken
from pipelines.models import card
from tests.needs import library
from tests.pipelines import tiny

GB = 2**30


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("model")
    tiny.KINDS["sd_velocity"]().save_pretrained(made)
    return made


def test_dtype_is_overridden_and_said(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "pipelines.loading"):
        pipe = load_pipeline(card(str(folder)), LoadOptions(dtype="bfloat16", device="cpu"))
    assert pipe.unet.dtype == torch.bfloat16
    (line,) = caplog.messages
    assert "cpu" in line and "bfloat16" in line and "offload none" in line
    assert load_pipeline(card(str(folder)), LoadOptions(device="cpu")).unet.dtype == torch.float32


@pytest.mark.parametrize(
    ("device", "offload", "options", "level"),
    [
        ("cpu", "none", {}, logging.DEBUG),
        ("cpu", "none", {"dtype": "bfloat16"}, logging.INFO),
        ("cuda", "none", {}, logging.INFO),
        ("mps", "none", {}, logging.INFO),
        ("cuda", "group", {}, logging.INFO),
        ("cuda", "group", {"offload": "group"}, logging.INFO),
        ("cuda", "group", {"quantize": "bnb4"}, logging.INFO),
    ],
)
def test_what_was_chosen_is_said_wherever_something_was(
    device: str, offload: str, options: dict[str, str], level: int
) -> None:
    """And what else would help where the machine chose the slowest way itself."""
    found, line = told("m", device, "float16", offload, LoadOptions(**options))
    assert found == level and f"device {device}, float16, offload {offload}" in line
    assert ("--quantize makes" in line) == (offload == "group" and not options)


@pytest.mark.parametrize(
    ("total", "largest", "free", "where"),
    [(6, 4, 8, "none"), (6, 4, 7, "model"), (6, 4, 6, "model"), (6, 4, 5, "group"), (0, 0, 0, "none")],
)
def test_the_memory_rule(total: int, largest: int, free: int, where: str) -> None:
    assert choose_offload(total * GB, largest * GB, free * GB) == where


@pytest.mark.parametrize(
    ("room", "options", "where"),
    [
        ("for all", LoadOptions(), "to"),
        ("for the largest", LoadOptions(), "enable_model_cpu_offload"),
        ("for none", LoadOptions(), "enable_group_offload"),
        ("for all", LoadOptions(offload="group"), "enable_group_offload"),
        ("for none", LoadOptions(offload="none"), "to"),
    ],
)
def test_weights_go_where_the_rule_says(
    room: str, options: LoadOptions, where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On CUDA, as no other device tells its free memory: what diffusers is asked for is caught on the way."""
    pipe = tiny.sdxl()
    parts = [part for part in pipe.components.values() if isinstance(part, torch.nn.Module)]
    sizes = [sum(one.numel() * one.element_size() for one in part.parameters()) for part in parts]
    enough = int(SPARE * max(sizes)) + 1
    free = {"for all": 2 * sum(sizes), "for the largest": enough, "for none": max(sizes)}[room]
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (free, 10 * free))
    asked: list[str] = []
    for name in ("to", "enable_model_cpu_offload", "enable_group_offload"):
        monkeypatch.setattr(pipe, name, lambda *_, _name=name, **__: asked.append(_name))
    found = place(pipe, "cuda", options)
    assert asked == [where]
    assert (
        found == {"to": "none", "enable_model_cpu_offload": "model", "enable_group_offload": "group"}[where]
    )
    assert pipe.vae.use_slicing


@pytest.mark.parametrize(
    ("quantize", "where"), [(None, "group"), ("int8", "group"), ("bnb4", "model"), ("bnb8", "model")]
)
def test_what_cannot_come_in_groups_comes_by_component(
    quantize: str | None, where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipe = tiny.sdxl()
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (1, 1))
    for name in ("enable_model_cpu_offload", "enable_group_offload"):
        monkeypatch.setattr(pipe, name, lambda **_: None)
    assert place(pipe, "cuda", LoadOptions(quantize=quantize)) == where


def test_what_is_on_the_device_already_is_not_counted_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    """Bitsandbytes puts weights there while it reads them; here the device is called meta."""
    pipe = tiny.sdxl()
    sizes = [taken(one) for one in pipe.components.values() if isinstance(one, torch.nn.Module)]
    room = int(SPARE * sum(sizes)) + 1
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (room - 100, room))
    monkeypatch.setattr(pipe, "to", lambda *_: None)
    monkeypatch.setattr(pipe, "enable_model_cpu_offload", lambda **_: None)
    assert place(pipe, "cuda", LoadOptions()) == "model"
    monkeypatch.setattr(
        "pipelines.loading.placing.taken",
        lambda part, kind=None: taken(part) if kind is None or part is pipe.unet else 0,
    )
    assert place(pipe, "cuda", LoadOptions()) == "none"


def test_what_others_hold_is_given_back_before_weights_have_to_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    pipe = tiny.sdxl()
    whole = (
        int(SPARE * sum(taken(one) for one in pipe.components.values() if isinstance(one, torch.nn.Module)))
        + 1
    )
    free, asked = [whole], list[int]()
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (free[0], whole))
    for name in ("to", "enable_model_cpu_offload"):
        monkeypatch.setattr(pipe, name, lambda *_, **__: None)

    def let_go() -> bool:
        asked.append(free[0])
        free[0] = whole
        return True

    assert place(pipe, "cuda", LoadOptions(), let_go) == "none" and asked == []
    free[0] = whole - 100
    assert place(pipe, "cuda", LoadOptions(), let_go) == "none" and asked == [whole - 100]
    free[0] = whole - 100
    assert place(pipe, "cuda", LoadOptions()) == "model"


def test_quantized_weights_are_counted_as_they_are(folder: Path) -> None:
    library("torchao")
    plain, eighth = (
        load_pipeline(card(str(folder)), LoadOptions(device="cpu", quantize=quantize)).unet
        for quantize in (None, "int8")
    )
    assert taken(plain) == sum(one.numel() * 4 for one in plain.parameters())
    assert taken(eighth) < 0.75 * sum(one.numel() * one.element_size() for one in eighth.parameters())
    assert taken(plain, "cpu") == taken(plain) and taken(plain, "cuda") == 0


def test_four_bits_are_computed_with_in_the_type_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    """The config of transformers stands for that of diffusers, which wants the package."""
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())
    monkeypatch.setattr(diffusers, "BitsAndBytesConfig", transformers.BitsAndBytesConfig, raising=False)
    config = quantization(LoadOptions(quantize="bnb4"), {"transformer", "text_encoder_2"}, torch.bfloat16)
    assert set(config.quant_mapping) == {"transformer", "text_encoder_2"}
    for one in config.quant_mapping.values():
        assert one.load_in_4bit and one.bnb_4bit_quant_type == "nf4"
        assert one.bnb_4bit_compute_dtype is torch.bfloat16
    config = quantization(LoadOptions(quantize="bnb8"), {"transformer", "text_encoder_2"}, torch.bfloat16)
    assert all(one.load_in_8bit and not one.load_in_4bit for one in config.quant_mapping.values())


def test_on_a_cpu_images_are_decoded_as_they_came(folder: Path) -> None:
    assert not load_pipeline(card(str(folder)), LoadOptions(device="cpu")).vae.use_slicing


def test_a_text_encoder_without_some_of_its_weights(folder: Path, tmp_path: Path) -> None:
    """Transformers would make them up, other ones each time."""
    torn = Path(shutil.copytree(folder, tmp_path / "torn"))
    (file,) = (torn / "text_encoder").glob("*.safetensors")
    weights = load_file(file)
    lost = next(name for name in weights if "layers.0" in name)
    save_file({name: one for name, one in weights.items() if name != lost}, file, {"format": "pt"})
    with pytest.raises(
        ModelError, match=r"the text_encoder of model .* lacks 1 of its weights \(.*layers\.0"
    ):
        load_pipeline(card(str(torn)), LoadOptions(device="cpu"))


def test_words_are_checked() -> None:
    for word in ("dtype", "offload", "quantize"):
        with pytest.raises(FieldError, match=f"{word} is 'x'"):
            LoadOptions(**{word: "x"})
    with pytest.raises(FieldError, match="device_map"):
        LoadOptions(device_map="balanced", offload="model")
    with pytest.raises(FieldError, match="quantize 'bnb8' does not go with offload 'group'"):
        LoadOptions(quantize="bnb8", offload="group")
    assert LoadOptions(quantize="int8", offload="group").in_groups


def test_a_lora_is_parsed() -> None:
    assert Lora.parse("a/b:0.5") == Lora("a/b", 0.5)
    for weight in ("nan", "inf", "-inf"):
        with pytest.raises(FieldError, match=f"LoRA 'a': its weight is {weight}"):
            Lora.parse(f"a:{weight}")
    assert Lora.parse("a/b") == Lora("a/b") and Lora.parse("c:/x") == Lora("c:/x")


@pytest.mark.skipif(importlib.util.find_spec("bitsandbytes") is not None, reason="bitsandbytes is installed")
def test_a_missing_package_is_named(folder: Path) -> None:
    with pytest.raises(ModelError, match="package bitsandbytes"):
        load_pipeline(card(str(folder)), LoadOptions(quantize="bnb4"))


@pytest.mark.parametrize("offload", ["model", "group"])
def test_offload_on_a_cpu_is_refused_before_anything_is_fetched(
    folder: Path, monkeypatch: pytest.MonkeyPatch, offload: str
) -> None:
    monkeypatch.setattr(load, "fetch_model", lambda *_, **__: pytest.fail("the model is fetched"))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    for source in (str(folder), "flux-schnell"):
        for device in ("cpu", None):
            with pytest.raises(ModelError, match="needs an accelerator"):
                load_pipeline(card(source), LoadOptions(device=device, offload=offload))
    assert load_pipeline(card(str(folder)), LoadOptions(device="cpu", offload="none")).device.type == "cpu"


def test_pickles_only_by_flag(folder: Path, tmp_path: Path) -> None:
    torn = tmp_path / "pickled"
    shutil.copytree(folder, torn)
    pipe = load_pipeline(card(str(folder)), LoadOptions(device="cpu"))
    for weights in (torn / "unet").glob("*.safetensors"):
        weights.unlink()
    pipe.unet.save_pretrained(torn / "unet", safe_serialization=False)
    with pytest.raises(ModelError, match="--allow-pickle"):
        load_pipeline(card(str(torn)), LoadOptions(device="cpu"))
    allowed = load_pipeline(card(str(torn)), LoadOptions(device="cpu", allow_pickle=True))
    assert torch.equal(allowed.unet.conv_in.weight, pipe.unet.conv_in.weight)


def test_a_model_that_asks_for_other_steps_gets_them(folder: Path) -> None:
    """As the file of SDXL Lightning, whose scheduler's config is that of plain SDXL."""
    plain = card(str(folder))
    before = load_pipeline(plain, LoadOptions(device="cpu")).scheduler
    assert before.config.timestep_spacing != "leading"
    after = load_pipeline(dataclasses.replace(plain, spacing="leading"), LoadOptions(device="cpu")).scheduler
    assert after.config.timestep_spacing == "leading" and type(after) is type(before)


def test_int8_weights(folder: Path) -> None:
    library("torchao")
    loaded = load_pipeline(card(str(folder)), LoadOptions(device="cpu", quantize="int8"))
    plain = load_pipeline(card(str(folder)), LoadOptions(device="cpu"))
    name = "mid_block.attentions.0.transformer_blocks.0.attn1.to_q.weight"
    ours, theirs = loaded.unet.get_parameter(name), plain.unet.get_parameter(name)
    assert "Int8" in type(ours).__name__ and "Int8" not in type(theirs).__name__
    # the half of one of 127 levels either way, of each row's largest weight
    off = (ours.dequantize() - theirs).detach().abs().amax(1)
    assert float(off.max()) > 0 and bool((off <= theirs.abs().amax(1) / 127).all())


@pytest.mark.parametrize("where", ["place", "add_loras"])
@pytest.mark.parametrize("wrapped", [False, True])
def test_too_little_memory_to_load(
    folder: Path, monkeypatch: pytest.MonkeyPatch, where: str, wrapped: bool
) -> None:
    """A CPU's allocator says so in an error of no class of its own, which diffusers wraps where it reads a file."""

    def full(*_: Any) -> None:
        try:
            torch.empty(2**50)
        except RuntimeError as error:
            if not wrapped:
                raise
            raise OSError("Unable to load weights from checkpoint file") from error

    monkeypatch.setattr(load, where, full)
    with pytest.raises(ModelError, match="too little free memory to load model"):
        load_pipeline(card(str(folder)), LoadOptions(device="cpu"))


@pytest.mark.parametrize(
    ("error", "is_so"),
    [
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), False),
        (OSError(errno.ENOENT, "No such file"), False),
        (OSError(errno.ENOMEM, "Cannot allocate memory"), True),
        (ValueError("out of memory"), False),
    ],
)
def test_too_little_memory_is_told_from_the_rest(error: Exception, is_so: bool) -> None:
    assert is_out_of_memory(error) == is_so


def test_a_full_disk_is_told_from_the_rest() -> None:
    wrapped = RuntimeError("download failed")
    wrapped.__cause__ = OSError(errno.ENOSPC, "No space left on device")
    assert "does not fit on the disk" in sentence("m", "a/b", wrapped)
    assert "does not fit on the disk" not in sentence("m", "a/b", RuntimeError("download failed"))


@pytest.mark.parametrize(
    ("device", "words"), [("toaster", "none that torch knows"), ("cuda", "not on this machine")]
)
def test_a_device_that_is_not_there(folder: Path, device: str, words: str) -> None:
    if device == "cuda" and torch.cuda.is_available():
        pytest.skip("cuda is on this machine")
    with pytest.raises(ModelError, match=words):
        load_pipeline(card(str(folder)), LoadOptions(device=device))
