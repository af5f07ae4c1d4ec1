"""Model cards: by name, and read from folders that the stock pipelines wrote."""

from __future__ import annotations

import dataclasses
import json
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipelines.engine import Engine
from pipelines.errors import FieldError, ModelError, UnsupportedError
from pipelines.families import family
from pipelines.models import CARDS, SCHEDULERS, card, shipped
from pipelines.models.card import FLOW_SCHEDULERS
from pipelines.models.ip_adapter import IPAdapter
from pipelines.pictures import PictureStore
from studio.defaults import defaults, defaults_of
from studio.document import Canvas, Collage
from tests.pipelines import tiny, tiny_transformers


def test_cards_hold_together() -> None:
    for name, one in CARDS.items():
        assert one.name == name and one.origin
        flow = one.schedulers == FLOW_SCHEDULERS
        assert one.scheduler in one.schedulers and (flow or set(one.schedulers) <= set(SCHEDULERS))
        assert one.side % one.factor == 0 and 1 <= one.smallest_grid <= one.side // one.factor
        assert set(one.negtome_blocks) <= ({"double", "single"} if flow else {"down", "mid", "up"})
        assert card(name) is one


@pytest.mark.parametrize("name", [name for name in CARDS if name != "embedded"])
def test_the_hub_id_of_a_card_is_that_card(name: str) -> None:
    """By its id it has the same defaults and file; nothing is looked up, as a test has no network."""
    known = CARDS[name]
    assert card(known.source) == dataclasses.replace(known, name=known.source) == shipped(known.source)
    collage = Collage(model=known.source)
    assert defaults_of(collage) == defaults(known, collage.canvas) == defaults_of(collage.replace(model=name))


def test_no_two_cards_share_a_hub_id() -> None:
    assert len({one.source for one in CARDS.values()}) == len(CARDS)


def test_a_folder_of_that_name_is_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    folder = Path("stabilityai", "sdxl-turbo")
    folder.mkdir(parents=True)
    (folder / "model_index.json").write_text(json.dumps({"_class_name": "StableDiffusionPipeline"}))
    assert shipped(str(folder)) is None and card(str(folder)).family == "sd"


def test_z_image_is_not_its_turbo() -> None:
    base, turbo = card("Tongyi-MAI/Z-Image"), card("Tongyi-MAI/Z-Image-Turbo")
    assert (base.steps, base.guidance, turbo.steps, turbo.guidance) == (50, 4.0, 8, 0.0)
    assert "window" in turbo.own and "window" not in base.own and base.family == turbo.family


@pytest.mark.parametrize("name", [name for name in CARDS if name != "embedded"])
def test_thresholds_are_those_of_the_familys_release(name: str) -> None:
    """NegToMe was released for SDXL with .7 and for FLUX with .65; few-step models keep their family's."""
    unet = CARDS[name].family in ("sd", "sdxl")
    usual = defaults(CARDS[name], Canvas())
    assert [usual[f"{way}_threshold"] for way in ("spread", "avoid")] == [0.7 if unet else 0.65] * 2


@pytest.mark.parametrize("name", CARDS)
def test_cards_have_a_family(name: str) -> None:
    assert family(CARDS[name].family).name == CARDS[name].family


def test_the_page_about_models_tells_the_cards() -> None:
    told = (Path(__file__).parents[2] / "docs" / "models.md").read_text(encoding="utf-8")
    rows = [line for line in told.splitlines() if line.startswith("| `") and line.count("|") == 7]
    assert len(rows) == len(CARDS)
    for one, row in zip(CARDS.values(), rows, strict=True):
        name, source, side, steps, guidance, window = (cell.strip(" `") for cell in row.split("|")[1:-1])
        assert (name, int(side), int(steps)) == (one.name, one.side, one.steps)
        assert float(guidance) == one.guidance
        assert source == one.source or one.name == "embedded"
        assert float(window.split()[0]) == defaults(one, Canvas())["window"]


def test_only_the_embedded_model_is_a_folder() -> None:
    assert CARDS["sd15"].folder is None and CARDS["sdxl"].folder is None
    assert Path(CARDS["embedded"].source).parts[-3:] == ("pipelines", "embedded", "weights")


def test_which_models_have_an_ip_adapter() -> None:
    """Of Stable Diffusion 1 and XL, and what is distilled from them."""
    having = {name for name, one in CARDS.items() if one.ip_adapter is not None}
    assert having == {"sd15", "lcm", "sdxl", "sdxl-turbo", "sdxl-lightning"}
    assert CARDS["lcm"].ip_adapter == CARDS["sd15"].ip_adapter != CARDS["sdxl"].ip_adapter


@pytest.mark.parametrize(("width", "adapter"), [(768, "sd15"), (1024, None), (None, None)])
def test_a_folder_has_one_where_its_words_are_as_wide(
    tmp_path: Path, width: int | None, adapter: str | None
) -> None:
    (tmp_path / "unet").mkdir()
    (tmp_path / "unet" / "config.json").write_text(json.dumps({"cross_attention_dim": width}))
    (tmp_path / "model_index.json").write_text(json.dumps({"_class_name": "StableDiffusionPipeline"}))
    found = card(str(tmp_path)).ip_adapter
    assert found == (CARDS[adapter].ip_adapter if adapter else None)


def test_an_ip_adapter_is_named() -> None:
    assert IPAdapter.parse("a/b:c/d.safetensors") == IPAdapter("a/b", "c/d.safetensors", "c/image_encoder")
    assert IPAdapter.parse("C:\\x:d.safetensors") == IPAdapter("C:\\x", "d.safetensors", "image_encoder")
    one = IPAdapter.parse("a/b:d.safetensors:e/f")
    assert one == IPAdapter("a/b", "d.safetensors", "e/f") == IPAdapter.parse(str(one))
    for wrong in ("a/b", "a:b:c:d", "a:", ":b", ""):
        with pytest.raises(FieldError, match=r"SOURCE:WEIGHTS.*such as h94"):
            IPAdapter.parse(wrong)


@pytest.mark.parametrize("name", ["", "nonesuch", "a/b/c"])
def test_unknown_names(name: str) -> None:
    with pytest.raises(ModelError, match="embedded"):
        card(name)


@pytest.mark.parametrize("name", ["models/foo.safetensors", "./foo.safetensors", "my-models/v1.5.ckpt"])
def test_a_file_that_is_not_there_is_not_asked_of_the_hub(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    monkeypatch.setattr("pipelines.loading.fetch.fetch_file", lambda repo, *_: asked.append(repo))
    with pytest.raises(ModelError, match="is not on this machine; check its path") as error:
        card(name)
    assert name in str(error.value) and not asked


def test_unknown_families() -> None:
    with pytest.raises(UnsupportedError, match=r"'painting'.*sd, sdxl"):
        family("painting")


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folders = {}
    for name in ("sd_velocity", "sdxl"):
        folders[name] = tmp_path_factory.mktemp(name)
        tiny.KINDS[name]().save_pretrained(folders[name])
    return folders


def test_a_folder_gets_a_card_from_its_files(saved: dict[str, Path]) -> None:
    one = card(str(saved["sd_velocity"]))
    assert (one.family, one.side, one.factor, one.smallest_grid) == ("sd", 64, 8, 2)
    assert one.name == one.source == str(saved["sd_velocity"]) and one.folder == saved["sd_velocity"]
    assert card(str(saved["sdxl"])).family == "sdxl"


def test_a_folder_and_its_hub_id_get_one_card(tmp_path: Path) -> None:
    """What the files of the public models say leads to the cards written here."""
    for name, cells in (("sd15", 64), ("sdxl", 128)):
        known = CARDS[name]
        kind = "StableDiffusionPipeline" if known.family == "sd" else "StableDiffusionXLPipeline"
        folder = tmp_path / name
        for part, config in (
            ("unet", {"sample_size": cells}),
            ("vae", {"block_out_channels": [128, 256, 512, 512]}),
        ):
            (folder / part).mkdir(parents=True)
            (folder / part / "config.json").write_text(json.dumps(config))
        (folder / "model_index.json").write_text(json.dumps({"_class_name": kind}))
        read = card(str(folder))
        assert (read.side, read.factor, read.smallest_grid) == (known.side, known.factor, known.smallest_grid)


@pytest.mark.parametrize("text", ["{", "[]", "null"])
def test_broken_folders(tmp_path: Path, text: str) -> None:
    (tmp_path / "model_index.json").write_text(text)
    with pytest.raises(ModelError, match=r"model_index\.json"):
        card(str(tmp_path))


def test_a_folder_of_another_kind(tmp_path: Path) -> None:
    (tmp_path / "model_index.json").write_text(json.dumps({"_class_name": "KandinskyPipeline"}))
    with pytest.raises(ModelError, match="KandinskyPipeline"):
        card(str(tmp_path))


@pytest.mark.parametrize("name", ["sd_velocity", "sdxl"])
def test_a_saved_model_is_loaded_and_renders(saved: dict[str, Path], store: PictureStore, name: str) -> None:
    engine = Engine()
    folder = str(saved[name])
    made = tiny.pictures(engine, tiny.text_request(folder), store)[0]
    assert engine.load(folder) is engine.load(folder)
    held = Engine()
    held.adopt(folder, tiny.KINDS[name](), tiny.card_for(name))
    # half a level of 8 bit: the folder's scheduler and weights are the same numbers
    assert tiny.moved(made, tiny.pictures(held, tiny.text_request(folder), store)[0]) < 0.5


LIKE = {
    "sd3": "sd3",
    "flux": "flux",
    "schnell": "flux-schnell",
    "chroma": "chroma",
    "zimage": "z-image-turbo",
    "flux2": "flux2",
    "klein": "flux2-klein-base",
    "qwen": "qwen-image",
}


@pytest.mark.parametrize("kind", tiny_transformers.KINDS)
def test_a_saved_transformer_is_told_by_its_files_and_renders(
    store: PictureStore, tmp_path: Path, kind: str
) -> None:
    """The same picture as from the pipeline in memory, with the steps and guidance of its own card."""
    pipe = tiny_transformers.KINDS[kind]()
    pipe.save_pretrained(tmp_path)
    one = card(str(tmp_path))
    known = CARDS[LIKE[kind]]
    assert (one.family, one.steps, one.guidance, one.own, one.steers_above) == (
        known.family,
        known.steps,
        known.guidance,
        known.own,
        known.steers_above,
    )
    request = dataclasses.replace(
        tiny.text_request(str(tmp_path)),
        scheduler=one.scheduler,
        steps=min(4, one.steps),
        guidance=one.guidance,
    )
    made = tiny.pictures(Engine(1e9), request, store)[0]
    held = Engine(1e9)
    held.adopt(str(tmp_path), pipe, tiny_transformers.card_for(kind))
    assert np.array_equal(made, tiny.pictures(held, request, store)[0]) and made.std() > 1


@pytest.mark.parametrize(("distilled", "like"), [(True, "flux2-klein"), (False, "flux2-klein-base")])
def test_klein_says_whether_it_is_distilled(tmp_path: Path, distilled: bool, like: str) -> None:
    index = {"_class_name": "Flux2KleinPipeline", "is_distilled": distilled}
    (tmp_path / "model_index.json").write_text(json.dumps(index))
    one = card(str(tmp_path))
    assert (one.steps, one.own, one.factor) == (CARDS[like].steps, CARDS[like].own, 16)
    assert one.steers_above == CARDS[like].steers_above == (None if distilled else 1)


@pytest.mark.parametrize(("width", "above"), [(256, None), (None, 1)])
def test_a_folder_says_whether_its_unet_reads_guidance(
    tmp_path: Path, width: int | None, above: float | None
) -> None:
    (tmp_path / "unet").mkdir()
    (tmp_path / "unet" / "config.json").write_text(json.dumps({"time_cond_proj_dim": width}))
    (tmp_path / "model_index.json").write_text(json.dumps({"_class_name": "StableDiffusionXLPipeline"}))
    assert card(str(tmp_path)).steers_above == above


@pytest.mark.parametrize(
    ("part", "config"),
    [
        ("unet", {"sample_size": [64, 64]}),
        ("vae", {"block_out_channels": 5}),
        ("vae", {"block_out_channels": [8] * 5000}),
    ],
)
def test_configs_that_say_nonsense(tmp_path: Path, part: str, config: dict[str, Any]) -> None:
    (tmp_path / "model_index.json").write_text(json.dumps({"_class_name": "StableDiffusionPipeline"}))
    (tmp_path / part).mkdir()
    (tmp_path / part / "config.json").write_text(json.dumps(config))
    with pytest.raises(ModelError, match=r"the configs of model .* do not say what they should"):
        card(str(tmp_path))


def test_an_index_that_is_nothing_but_brackets(tmp_path: Path) -> None:
    (tmp_path / "model_index.json").write_text("[" * 100_000)
    with pytest.raises(ModelError, match="cannot be read"):
        card(str(tmp_path))


@pytest.mark.parametrize("name", ["a/b.git", "a/b--c", "a/b..c", "a/b-", "a/" + "b" * 120])
def test_ids_that_the_hub_has_not(name: str) -> None:
    with pytest.raises(ModelError, match=r"model .*a/b.* could not be loaded"):
        card(name)


def test_a_name_that_no_file_can_have() -> None:
    with pytest.raises(ModelError, match="is not known"):
        card("🐧" * 150)


@pytest.mark.parametrize(
    ("parts", "said"),
    [
        ({"scheduler": ["diffusers", "EDMDPMSolverMultistepScheduler"]}, "runs on EDMDPMSolverMultistep"),
        ({"scheduler": ["diffusers", "FlowMatchEulerDiscreteScheduler"]}, "runs on FlowMatchEuler"),
        ({"tokenizer": [None, None]}, "lacks a tokenizer"),
        ({"scheduler": ["diffusers", "PNDMScheduler"], "tokenizer": ["transformers", "CLIPTokenizer"]}, None),
    ],
)
def test_unets_that_work_otherwise_are_refused_before_they_are_fetched(
    tmp_path: Path, parts: dict[str, Any], said: str | None
) -> None:
    """Playground 2.5 and the refiner are XL pipelines by name."""
    index = {"_class_name": "StableDiffusionXLImg2ImgPipeline", **parts}
    (tmp_path / "model_index.json").write_text(json.dumps(index))
    with nullcontext() if said is None else pytest.raises(ModelError, match=said):
        assert card(str(tmp_path)).family == "sdxl"


def test_a_folder_without_weights_is_refused(
    saved: dict[str, Path], tmp_path: Path, store: PictureStore
) -> None:
    import shutil

    folder = tmp_path / "torn"
    shutil.copytree(saved["sd_velocity"], folder)
    for weights in (folder / "unet").glob("*.safetensors"):
        weights.unlink()
    with pytest.raises(ModelError, match="could not be loaded"):
        tiny.result(Engine(), tiny.text_request(str(folder)), store)


def test_missing_embedded_weights_are_named(
    store: PictureStore, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    import pipelines.models

    gone = dataclasses.replace(CARDS["embedded"], source=str(tmp_path / "gone"))
    monkeypatch.setitem(pipelines.models.CARDS, "embedded", gone)
    with pytest.raises(ModelError, match="weights are not installed"):
        tiny.result(Engine(), tiny.text_request("embedded"), store)


def test_xl_encoders_are_widened_in_half_precision() -> None:
    """Its autoencoder overflows in 16 bit: encoding runs in 32 and leaves the weights as they were."""
    import torch

    pipe: Any = tiny.sdxl()
    pipe.vae.to(torch.float16)
    wide: list[torch.dtype] = []
    handle = pipe.vae.encoder.conv_in.register_forward_hook(lambda _, args, out: wide.append(out.dtype))
    latents = family("sdxl").encode_picture(pipe, tiny.picture(1))
    handle.remove()
    assert wide == [torch.float32]
    assert latents.dtype == torch.float16 and pipe.vae.dtype == torch.float16
    assert latents.isfinite().all() and latents.shape == (1, 4, 8, 8)
