"""LoRA files: lists of them on every family, folders, the hub, and what is wrong with them."""

from __future__ import annotations

import importlib.util
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from pipelines.errors import ModelError
from pipelines.loading import LoadOptions, Lora, load_pipeline
from pipelines.loading.loras import USUAL, add_loras
from pipelines.models import card
from tests.needs import library
from tests.pipelines import tiny
from tests.pipelines import tiny_transformers as tt
from tests.pipelines.hub import run, served

KINDS: dict[str, Any] = {"sd_noise": tiny.sd_noise, "sdxl": tiny.sdxl, **tt.KINDS}


def denoiser(pipe: Any) -> Any:
    return pipe.unet if hasattr(pipe, "unet") else pipe.transformer


def saved(pipe: Any, folder: Path, seed: int) -> Path:
    """A LoRA of random weights for ``pipe``, as its pipeline saves one; the pipeline is left as it was."""
    peft = library("peft")
    from peft.utils import get_peft_model_state_dict

    torch.manual_seed(seed)
    model = denoiser(pipe)
    model.add_adapter(
        peft.LoraConfig(r=2, lora_alpha=2, init_lora_weights=False, target_modules=["to_q", "to_k"])
    )
    layers = "unet_lora_layers" if hasattr(pipe, "unet") else "transformer_lora_layers"
    type(pipe).save_lora_weights(folder, **{layers: get_peft_model_state_dict(model)})
    model.delete_adapters("default")
    return folder / USUAL


def queries(pipe: Any) -> Any:
    """The first layer that they change."""
    return next(part for name, part in denoiser(pipe).named_modules() if name.endswith(".to_q"))


@pytest.mark.parametrize("kind", KINDS)
def test_two_files_add_up_by_their_weights(tmp_path: Path, kind: str) -> None:
    files = [saved(KINDS[kind](), tmp_path / str(seed), seed) for seed in (1, 2)]

    def answer(*loras: Lora) -> torch.Tensor:
        pipe = KINDS[kind]()
        add_loras(pipe, LoadOptions(loras=loras), lambda done, total: None)
        layer = queries(pipe)
        given = torch.randn(2, 3, layer.in_features, generator=torch.Generator().manual_seed(0))
        with torch.no_grad():
            return torch.as_tensor(layer(given))

    plain = answer()
    one, other = (answer(Lora(str(file))) - plain for file in files)
    assert one.std() > 0.01 and other.std() > 0.01
    both = answer(Lora(str(files[0]), 0.5), Lora(str(files[1].parent), -2.0))
    assert torch.allclose(both - plain, 0.5 * one - 2 * other, atol=1e-4)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("model")
    tiny.sd_noise().save_pretrained(made)
    return made


def test_a_missing_lora_is_named(model: Path, tmp_path: Path) -> None:
    gone = str(tmp_path / "gone.safetensors")
    here = importlib.util.find_spec("peft") is not None
    with pytest.raises(
        ModelError, match=r"LoRA .*gone.*no file, folder or hub id" if here else "package peft"
    ):
        load_pipeline(card(str(model)), LoadOptions(device="cpu", loras=(Lora(gone),)))


def test_what_a_folder_may_hold(tmp_path: Path) -> None:
    pipe = tiny.sd_noise()
    file = saved(pipe, tmp_path, 1)

    def fails(match: str, source: Path = tmp_path, **more: Any) -> None:
        with pytest.raises(ModelError, match=match):
            add_loras(pipe, LoadOptions(loras=(Lora(str(source)),), **more), lambda done, total: None)

    file.rename(tmp_path / "a.safetensors")
    shutil.copy(tmp_path / "a.safetensors", tmp_path / "b.safetensors")
    fails(r"has 2 files \(a.safetensors, b.safetensors, …\); give one as .*/FILE")
    for name in "ab":
        (tmp_path / f"{name}.safetensors").unlink()
    fails("has no .safetensors file")
    (tmp_path / "a.pt").write_bytes(b"x")
    fails("pickled weights.*--allow-pickle")
    fails("pickled weights.*--allow-pickle", tmp_path / "a.pt")
    fails("could not be loaded .*made for this model", allow_pickle=True)


def test_one_made_for_another_model(tmp_path: Path) -> None:
    file = saved(tt.KINDS["sd3"](), tmp_path, 1)
    with pytest.raises(ModelError, match=r"LoRA .*made for"):
        add_loras(tiny.sd_noise(), LoadOptions(loras=(Lora(str(file)),)), lambda done, total: None)


def test_too_little_memory_is_not_the_wrong_model(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A CPU's allocator says so in a plain error."""
    file = saved(tiny.sd_noise(), tmp_path, 1)
    monkeypatch.setattr(
        tiny.StableDiffusionPipeline, "load_lora_weights", lambda *_, **__: torch.empty(2**50)
    )
    with pytest.raises(ModelError, match="too little free memory"):
        load_pipeline(card(str(model)), LoadOptions(device="cpu", loras=(Lora(str(file)),)))


STORY = """
import json, sys
import huggingface_hub.constants
from pipelines.errors import ModelError
from pipelines.loading import LoadOptions, Lora, load_pipeline
from pipelines.models import card

def load(lora):
    told = []
    options = LoadOptions(device="cpu", loras=(Lora(lora, 0.5),))
    try:
        pipe = load_pipeline(card(sys.argv[1]), options, lambda done, total: told.append([done, total]))
        return {"told": told, "active": pipe.get_active_adapters()}
    except ModelError as error:
        return {"told": told, "error": str(error)}

found = {name: load(name) for name in sys.argv[2:]}
huggingface_hub.constants.HF_HUB_OFFLINE = True
found["offline"] = load("some/lora")
found["never"] = load("other/lora")
print(json.dumps(found))
"""


def test_from_the_hub_with_progress_and_a_sentence_a_cause(model: Path, tmp_path: Path) -> None:
    lora, pickles, several = (tmp_path / name for name in ("lora", "pickles", "several"))
    file = saved(tiny.sd_noise(), lora, 1)
    (lora / "README.md").write_text("not fetched, and missed by nobody where the hub cannot be asked")
    pickles.mkdir()
    (pickles / "a.bin").write_bytes(b"x")
    several.mkdir()
    for name in ("a", "b.v2"):
        shutil.copy(file, several / f"{name}.safetensors")
    names = (
        "some/lora",
        "some/gated",
        "some/missing",
        "some/pickles",
        "some/several",
        "some/several/b.v2.safetensors",
    )
    with served({"some/lora": lora, "some/pickles": pickles, "some/several": several}) as hub:
        told = json.loads(run(hub, tmp_path / "home", STORY, str(model), *names))
        given = list(hub.given)
    assert told["some/lora"]["active"] == ["lora0"] == told["offline"]["active"]
    assert told["some/lora"]["told"][-1] == [file.stat().st_size] * 2 and told["offline"]["told"] == []
    assert told["some/several/b.v2.safetensors"]["active"] == ["lora0"]
    assert given == [("some/lora", USUAL), ("some/several", "b.v2.safetensors")], "nothing else was fetched"
    for name, words in (
        ("some/gated", "LoRA 'some/gated' is gated; accept"),
        ("some/missing", "LoRA 'some/missing' is not on the hub"),
        ("some/pickles", "'some/pickles' has pickled weights"),
        ("some/several", "LoRA 'some/several' has 2 files (a.safetensors, b.v2.safetensors, …); give one as"),
        ("never", "LoRA 'other/lora' is not on this machine and the hub cannot be reached"),
    ):
        assert words in told[name]["error"] and "embedded" not in told[name]["error"]
