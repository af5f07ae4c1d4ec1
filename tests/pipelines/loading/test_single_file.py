"""Models from one file: told by their weights' names, and the same as the folders that they were made of."""

from __future__ import annotations

import dataclasses
import types
from pathlib import Path
from typing import Any

import diffusers
import pytest
import torch
from diffusers.loaders.single_file_model import SINGLE_FILE_LOADABLE_CLASSES
from safetensors.torch import save_file

from pipelines.errors import ModelError
from pipelines.loading import LoadOptions, load_pipeline
from pipelines.models import CARDS, card
from tests.pipelines import single_file, tiny
from tests.pipelines import tiny_transformers as tt
from tests.pipelines.single_transformers import RELEASES, save_transformer

KINDS = {
    "sd15": ("model.diffusion_model.input_blocks.0.0.weight", "cond_stage_model.transformer.x"),
    "sd21": ("model.diffusion_model.input_blocks.0.0.weight", "cond_stage_model.model.x"),
    "sdxl": (
        "model.diffusion_model.input_blocks.0.0.weight",
        "conditioner.embedders.0.transformer.x",
        "conditioner.embedders.1.model.x",
    ),
    "chroma": ("distilled_guidance_layer.in_proj.bias", "double_blocks.0.x", "txt_in.weight"),
    "flux": ("double_blocks.0.x", "vector_in.in_layer.bias", "txt_in.weight", "guidance_in.in_layer.bias"),
    "flux-schnell": ("double_blocks.0.x", "vector_in.in_layer.bias", "txt_in.weight"),
    "flux2": ("double_stream_modulation_img.lin.weight", "guidance_in.in_layer.weight"),
    "flux2-klein-base": ("double_stream_modulation_img.lin.weight",),
    "sd3": ("joint_blocks.0.x", "y_embedder.mlp.0.bias"),
    "z-image-turbo": ("noise_refiner.0.x", "cap_embedder.0.x", "layers.0.adaLN_modulation.0.weight"),
    "qwen-image": ("transformer_blocks.0.img_mod.1.weight", "txt_norm.weight"),
}


def named(path: Path, *names: str) -> Path:
    """A file of weights with those names."""
    save_file({name: torch.zeros(1) for name in names}, path)
    return path


@pytest.mark.parametrize("prefix", ["", "model.diffusion_model."])
@pytest.mark.parametrize("like", KINDS)
def test_a_file_is_told_by_the_names_of_its_weights(tmp_path: Path, like: str, prefix: str) -> None:
    """With and without the prefix that some programs write before a transformer's."""
    whole = CARDS[like].family in ("sd", "sdxl")
    names = KINDS[like] if whole else tuple(prefix + name for name in KINDS[like])
    one, known = card(str(named(tmp_path / "one.safetensors", *names))), CARDS[like]
    assert (one.family, one.steps, one.guidance) == (known.family, known.steps, known.guidance)
    assert one.name == one.source == str(tmp_path / "one.safetensors")


def test_wrong_files(tmp_path: Path) -> None:
    text, broken = tmp_path / "a.txt", tmp_path / "c.safetensors"
    text.write_text("x")
    broken.write_bytes(b"no model")
    other = named(tmp_path / "b.safetensors", "x")
    refiner = named(
        tmp_path / "d.safetensors", "model.diffusion_model.input_blocks.0.0.weight", "conditioner.x"
    )
    for file, words in (
        (text, "no .safetensors"),
        (other, "none that is known by its weights"),
        (refiner, "none that is known by its weights"),
        (broken, "damaged"),
    ):
        with pytest.raises(ModelError, match=words):
            card(str(file))


def test_a_pickled_file_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "a.ckpt"
    file.write_bytes(b"")
    with pytest.raises(ModelError, match="--allow-pickle"):
        load_pipeline(card(str(file)), LoadOptions(device="cpu"))


def test_a_file_that_is_not_what_it_says(tmp_path: Path) -> None:
    file = named(tmp_path / "one.safetensors", *KINDS["sdxl"])
    with pytest.raises(ModelError, match="could not be loaded"):
        load_pipeline(card(str(file)), LoadOptions(device="cpu", config=str(tmp_path)))


@pytest.mark.parametrize(
    ("like", "given", "asked"),
    [
        ("sd21", None, CARDS["sd21"].source),
        ("sd21", "own/configs", "own/configs"),
        ("sd15", None, None),
        ("sdxl", None, None),
    ],
)
def test_whose_configs_a_file_gets(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, like: str, given: str | None, asked: str | None
) -> None:
    """diffusers knows them, but for Stable Diffusion 2, whose place on the hub it has is gone."""
    configs: list[object] = []

    def stock(path: str, **words: object) -> None:
        configs.append(words.get("config"))
        raise OSError("no more is looked at")

    for kind in ("StableDiffusionPipeline", "StableDiffusionXLPipeline"):
        monkeypatch.setattr(getattr(diffusers, kind), "from_single_file", stock)
    file = named(tmp_path / "one.safetensors", *KINDS[like])
    with pytest.raises(ModelError, match="no more is looked at"):
        load_pipeline(card(str(file)), LoadOptions(device="cpu", config=given))
    assert configs == [asked]


def xl() -> Any:
    """Text towers of two widths, by which diffusers tells them apart; together as wide as always."""
    pipe = tiny.sdxl()
    pipe.text_encoder = tiny.text_encoder(8, wide=16)
    pipe.text_encoder_2 = tiny.text_encoder(9, pooled=True, wide=48)
    return pipe


@pytest.mark.parametrize("kind", ["sd_noise", "sd2", "sdxl"])
def test_a_whole_model_is_the_folder_it_was_made_of(tmp_path: Path, kind: str) -> None:
    whole, file = tmp_path / "whole", tmp_path / "one.safetensors"
    pipe = xl() if kind == "sdxl" else tiny.KINDS[kind]()
    pipe.save_pretrained(whole)
    single = card(str(single_file.save_single(pipe, file)))
    assert single.family == ("sdxl" if kind == "sdxl" else "sd")
    loaded = load_pipeline(single, LoadOptions(device="cpu", config=str(whole)))
    assert_same(
        pipe, loaded, ("unet", "vae", "text_encoder", *(["text_encoder_2"] if kind == "sdxl" else []))
    )
    for word in ({"quantize": "int8"}, {"device_map": "balanced"}):
        with pytest.raises(
            ModelError, match=f"{next(iter(word))} does not work .* single file.*hub id, such as"
        ):
            load_pipeline(single, LoadOptions(config=str(whole), **word))


def assert_same(pipe: Any, loaded: Any, parts: tuple[str, ...]) -> None:
    """Every weight, by name and number."""
    for part in parts:
        ours, theirs = getattr(pipe, part).state_dict(), getattr(loaded, part).state_dict()
        assert ours.keys() == theirs.keys()
        assert all(torch.equal(ours[name], theirs[name]) for name in ours), part


def narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    """diffusers' converters of FLUX.1 and Chroma know one width; the same code with the tests' width in its place."""
    for name in ("FluxTransformer2DModel", "ChromaTransformer2DModel"):
        kind = SINGLE_FILE_LOADABLE_CLASSES[name]
        stock = kind["checkpoint_mapping_fn"]
        assert stock.__code__.co_consts.count(3072) == 1
        consts = tuple(tt.WIDE if one == 3072 else one for one in stock.__code__.co_consts)
        code = stock.__code__.replace(co_consts=consts)
        ours = types.FunctionType(
            code, stock.__globals__, stock.__name__, stock.__defaults__, stock.__closure__
        )
        monkeypatch.setitem(kind, "checkpoint_mapping_fn", ours)


@pytest.mark.parametrize("kind", RELEASES)
def test_a_transformer_from_a_file_and_the_rest_from_a_folder(
    tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The folder has no transformer of its own, but its config."""
    narrow(monkeypatch)
    rest, file = tmp_path / "rest", tmp_path / "one.safetensors"
    pipe = tt.KINDS[kind]()
    pipe.save_pretrained(rest)
    save_transformer(kind, pipe.transformer, file)
    for weights in (rest / "transformer").glob("*.safetensors"):
        weights.unlink()
    loaded = load_pipeline(card(str(file)), LoadOptions(device="cpu", config=str(rest)))
    assert type(loaded) is type(pipe)
    assert_same(pipe, loaded, ("transformer", "vae", "text_encoder"))


@pytest.mark.parametrize("word", [{"quantize": "int8"}, {"device_map": "balanced"}])
def test_what_does_not_work_on_a_transformers_file_is_refused(tmp_path: Path, word: dict[str, str]) -> None:
    """Before the rest is looked for; its model's hub id is named, which can have it."""
    file = named(tmp_path / "one.safetensors", *KINDS["flux"])
    with pytest.raises(ModelError, match=r"does not work .* hub id, such as black-forest-labs/FLUX\.1-dev\."):
        load_pipeline(card(str(file)), LoadOptions(device=None if "device_map" in word else "cpu", **word))


def test_nor_on_a_card_that_is_a_file_on_the_hub(tmp_path: Path) -> None:
    file = named(tmp_path / "one.safetensors", *KINDS["sdxl"])
    lightning = dataclasses.replace(CARDS["sdxl-lightning"], source=str(file))
    with pytest.raises(
        ModelError, match=r"quantize does not work .* such as stabilityai/stable-diffusion-xl"
    ):
        load_pipeline(lightning, LoadOptions(device="cpu", quantize="int8"))


def test_the_rest_is_asked_for_by_name(tmp_path: Path) -> None:
    file = named(tmp_path / "one.safetensors", *KINDS["flux-schnell"])
    with pytest.raises(
        ModelError, match=r"transformer of 'flux' alone; .* --config .*black-forest-labs/FLUX.1-schnell\."
    ):
        load_pipeline(card(str(file)), LoadOptions(device="cpu"))
    with pytest.raises(
        ModelError, match=r"--config 'sdxl' is a model of 'sdxl'; give one of the same family"
    ):
        load_pipeline(card(str(file)), LoadOptions(device="cpu", config="sdxl"))
