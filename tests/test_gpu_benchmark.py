"""The GPU benchmark at tiny size on the CPU, through the code that times SDXL and FLUX on a GPU."""

from __future__ import annotations

import dataclasses
import inspect
import json
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.benchmarks import built, common, gpu, overhead, shapes
from tests.pipelines import tiny
from tests.pipelines import tiny_transformers as tt


def small(kind: str, name: str) -> built.Subject:
    """The tiny pipeline's own sizes as a subject of the benchmark."""
    kinds: Any = tt if kind in tt.KINDS else tiny
    pipe, card = kinds.KINDS[kind](), kinds.card_for(kind)
    denoiser = pipe.unet if hasattr(pipe, "unet") else pipe.transformer
    known = inspect.signature(type(pipe.vae)).parameters
    shape = shapes.Shape(
        name=name,
        card=dataclasses.replace(card, steps=2),
        kind=type(denoiser).__name__,
        sizes=dict(denoiser.config),
        vae=type(pipe.vae).__name__,
        encoder={word: value for word, value in pipe.vae.config.items() if word in known},
        text=512,
    )
    return built.Subject(kind, shape, {"text_encoder": {"num_hidden_layers": 3}})


@pytest.fixture
def tiny_subjects(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Both models of the page, tiny; the protocol with fewer layers and images."""
    settings = {**common.protocol("gpu"), "images": 2, "layers": [1, 2]}
    subjects = {"SDXL": small("sdxl", "SDXL"), "FLUX.1 dev": small("flux", "FLUX.1 dev")}
    monkeypatch.setattr(built, "SUBJECTS", subjects)
    monkeypatch.setattr(common, "protocol", lambda name: settings)
    return settings


def test_both_pages_from_whole_runs(
    tiny_subjects: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = ["--device", "cpu", "--repeats", "1", "--out", str(tmp_path), "--runs", str(tmp_path / "runs")]
    monkeypatch.setattr("sys.argv", ["gpu", *asked])
    gpu.main()
    raw = json.loads((tmp_path / "gpu.json").read_text())
    flux, sdxl = (raw["models"][name] for name in ("FLUX.1 dev", "SDXL"))
    assert raw["device"] == "cpu" and len(flux["seconds"]) == len(sdxl["seconds"]) == 1
    assert sdxl["split"] is None
    assert not any(gpu.SPLIT in name for name, _ in overhead.paired(sdxl["seconds"]))
    times = overhead.paired(flux["seconds"])
    assert 0 < flux["split"][0] < 0.1 and (f"layer attention, 2 layers, {gpu.SPLIT}", "stock") in times
    assert all(
        0 < second < 600
        for rows in times.values()
        for row in rows
        for pair in row.values()
        for second in pair
    )
    page = (tmp_path / "gpu.md").read_text()
    for line in (
        "## SDXL",
        "## FLUX.1 dev",
        "| avoid, one reference | stock |",
        "≤ 1.03",
        "1 rounds of 2 steps",
        "(kept rows may be of earlier ones)",
    ):
        assert line in page, line
    gpu.main()
    again = json.loads((tmp_path / "gpu.json").read_text())
    assert again["models"]["SDXL"]["seconds"] == sdxl["seconds"], "kept rounds are not made again"


def test_pipelines_are_built_in_their_number_type() -> None:
    subject = small("flux", "FLUX.1 dev")
    loaded = built.built(subject, torch.device("cpu"), torch.bfloat16)
    parts = [loaded.pipe.transformer, loaded.pipe.vae, loaded.pipe.text_encoder, loaded.pipe.text_encoder_2]
    assert {parameter.dtype for part in parts for parameter in part.parameters()} == {torch.bfloat16}
    assert loaded.pipe.text_encoder.config.num_hidden_layers == 3, "sizes of text encoders are taken"
    assert torch.get_default_dtype() == torch.float32
    with pytest.raises(TypeError):
        built.built(
            dataclasses.replace(subject, shape=dataclasses.replace(subject.shape, sizes={"no": 1})),
            torch.device("cpu"),
            torch.bfloat16,
        )
    assert torch.get_default_dtype() == torch.float32, "after an error too"


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU to time on")
def test_without_a_gpu_one_sentence_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["gpu", "--out", str(tmp_path)])
    with pytest.raises(SystemExit, match=r"^this times .* torch sees no CUDA device here; run it on .*\.$"):
        gpu.main()
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("subject", [*built.SUBJECTS.values(), built.THIRD], ids=lambda one: one.kind)
def test_text_encoders_fit_the_denoiser(subject: built.Subject) -> None:
    config = shapes.parts(subject.shape)
    if subject.kind == "flux":
        wanted = config.transformer.config
        assert subject.texts["text_encoder_2"]["d_model"] == wanted.joint_attention_dim
        assert subject.texts["text_encoder"]["hidden_size"] == wanted.pooled_projection_dim
        return
    wanted = config.unet.config
    widths = [sizes["hidden_size"] for sizes in subject.texts.values()]
    pooled = wanted.projection_class_embeddings_input_dim - 6 * wanted.addition_time_embed_dim
    assert sum(widths) == wanted.cross_attention_dim
    assert subject.texts["text_encoder_2"]["projection_dim"] == pooled
