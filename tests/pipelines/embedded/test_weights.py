"""The weights that ship: small, safe, and loadable by stock diffusers and transformers in every way promised."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import (
    AutoPipelineForImage2Image,
    ControlNetModel,
    StableDiffusionControlNetPipeline,
    StableDiffusionPipeline,
)
from PIL import Image
from safetensors import safe_open
from transformers import CLIPModel, CLIPTokenizer

from pipelines.embedded.training.captions import prompt_for
from pipelines.embedded.training.scenes import render
from pipelines.embedded.training.world import world
from pipelines.measure.features import Features
from pipelines.models import card
from presets.recipes.build import WORLD, drawer_store
from tests.benchmarks import common

MEGABYTE = 10**6
SIDE = 64
"""Other shapes run too, and a small one is quick."""


@pytest.fixture(scope="module")
def folder() -> Path:
    found = card("embedded").folder
    assert found is not None
    return Path(found)


@pytest.fixture(scope="module")
def pipe(folder: Path) -> Any:
    logging.getLogger("diffusers").setLevel(logging.ERROR)  # AutoencoderTiny is meant
    made = StableDiffusionPipeline.from_pretrained(folder, dtype=torch.float32)
    made.set_progress_bar_config(disable=True)
    return made


def draw(
    pipe: Any, prompt: str = "a red car on the beach", **more: Any
) -> np.ndarray[Any, np.dtype[np.float32]]:
    """One picture of two steps, float (H, W, 3) in 0..1."""
    generator = torch.Generator().manual_seed(3)
    more = {"height": SIDE, "width": SIDE, "num_inference_steps": 2} | more
    picture = pipe(prompt, generator=generator, guidance_scale=4.0, output_type="np", **more).images[0]
    assert np.isfinite(picture).all()
    return np.asarray(picture)


def test_small_files_in_half_precision_and_nothing_that_runs_code(folder: Path) -> None:
    files = [path for path in folder.rglob("*") if path.is_file()]
    weights = [path for path in files if path.suffix == ".safetensors"]
    assert sum(path.stat().st_size for path in weights) <= 38 * MEGABYTE
    assert max(path.stat().st_size for path in files) < 10 * MEGABYTE
    assert {path.suffix for path in files} <= {".safetensors", ".json", ".txt", ".md"}
    for path in weights:
        with safe_open(path, "pt") as tensors:  # type: ignore[no-untyped-call]
            kinds = {tensors.get_tensor(name).dtype for name in tensors.keys()}  # noqa: SIM118
        assert kinds <= {torch.float16, torch.int64}, path.name


def test_text_to_image(pipe: Any) -> None:
    car, whale = draw(pipe), draw(pipe, "a whale in the snow at night")
    assert car.shape == (SIDE, SIDE, 3) and car.std() > 0.05
    assert np.abs(car - whale).mean() > 0.05, "the words count"


def test_image_to_image(folder: Path) -> None:
    made = AutoPipelineForImage2Image.from_pretrained(folder, dtype=torch.float32)
    made.set_progress_bar_config(disable=True)
    start = Image.new("RGB", (SIDE, SIDE), (200, 60, 40))
    generator = torch.Generator().manual_seed(3)
    out = made(
        "a car", image=start, strength=0.25, num_inference_steps=4, generator=generator, output_type="np"
    )
    red, green, blue = out.images[0].mean((0, 1))
    assert red > green + 0.2 and red > blue + 0.2, "a quarter of the run keeps the start's colour"


def test_textual_inversion(folder: Path, pipe: Any) -> None:
    made = StableDiffusionPipeline.from_pretrained(folder, dtype=torch.float32)
    made.set_progress_bar_config(disable=True)
    car = made.tokenizer("car", add_special_tokens=False).input_ids
    assert len(car) == 1
    vector = made.text_encoder.get_input_embeddings().weight[car[0]].detach().clone()
    made.load_textual_inversion({"<mine>": vector[None]})
    assert np.allclose(draw(made, "a red <mine> on the beach"), draw(pipe), atol=1e-4), "the same vector"
    made.unload_textual_inversion("<mine>")
    assert "<mine>" not in made.tokenizer.get_vocab()


def test_controlnet(pipe: Any) -> None:
    torch.manual_seed(0)
    control = ControlNetModel.from_unet(pipe.unet)
    parts = {name: part for name, part in pipe.components.items() if name != "image_encoder"}
    made = StableDiffusionControlNetPipeline(**parts, controlnet=control, requires_safety_checker=False)
    made.set_progress_bar_config(disable=True)
    edges = Image.fromarray((np.indices((SIDE, SIDE)).sum(0) % 16 < 2).astype(np.uint8) * 255).convert("RGB")
    new = draw(made, image=edges)
    assert np.allclose(new, draw(pipe), atol=1e-4), "a new ControlNet says nothing yet"
    for part in control.controlnet_down_blocks:
        torch.nn.init.normal_(part.weight, std=0.1)
    assert np.abs(draw(made, image=edges) - new).mean() > 0.01


def test_the_clip_knows_words_from_pictures(folder: Path) -> None:
    """Scenes of one object each, against their own words and each other's."""
    clip = CLIPModel.from_pretrained(folder / "clip")
    assert len(CLIPTokenizer.from_pretrained(folder / "clip")) == clip.config.text_config.vocab_size
    labels = [
        "automobile",
        "penguin",
        "cactus",
        "strawberry",
        "house",
        "whale",
        "guitar",
        "bus",
        "castle",
        "owl",
    ]
    rng, known, store = np.random.default_rng(5), world(WORLD), drawer_store()
    scenes = [common.drawer_scene(rng, labels=[label], time="day") for label in labels]
    features = Features(folder / "clip")
    pictures = features.pictures([render(scene, store).image for scene in scenes])
    texts = features.texts([prompt_for(known, [label]) for label in labels])
    best = (pictures @ texts.T).argmax(1)
    assert (best == np.arange(len(labels))).mean() >= 0.7
