"""What a model's own safety checker blacks out is said."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from diffusers.pipelines.stable_diffusion.safety_checker import StableDiffusionSafetyChecker
from transformers import CLIPConfig, CLIPImageProcessor

from pipelines.engine import Engine
from pipelines.events import Finished
from pipelines.pictures import PictureStore
from tests.pipelines import tiny

ALWAYS, NEVER = -2.0, 2.0
"""Least cosine that is too near to a concept."""


@pytest.fixture
def own() -> Engine:
    """An engine with a tiny model, under "own", that has a safety checker."""
    torch.manual_seed(0)
    tower = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    vision = {**tower, "image_size": 32, "patch_size": 8}
    config = CLIPConfig(text_config=tower, vision_config=vision, projection_dim=16)
    size = {"height": 32, "width": 32}
    pipe = tiny.sd_noise()
    pipe.register_modules(
        safety_checker=StableDiffusionSafetyChecker(config).eval(),
        feature_extractor=CLIPImageProcessor(size=size, crop_size=size),
    )
    made = Engine(preview_seconds=60)
    made.adopt("own", pipe, tiny.card_for("sd_noise"))
    return made


def warned(
    own: Engine, store: PictureStore, bounds: list[float], **words: Any
) -> tuple[list[str], list[int]]:
    """The warnings of a run of three images, and each picture's brightest number; the checker's k-th call has the k-th
    bound.
    """
    checker, left = own.load("own").pipe.safety_checker, list(bounds)

    def bound(*_: Any) -> None:
        checker.concept_embeds_weights.data.fill_(left.pop(0))

    handle = checker.register_forward_pre_hook(bound)
    try:
        found = tiny.events(own, tiny.text_request("own", images=3, steps=2, **words), store)
    finally:
        handle.remove()
    assert left == [] and isinstance(found[-1], Finished)
    result = found[-1].result
    assert result.report["warnings"] == tiny.warnings(found)
    return tiny.warnings(found), [int(picture.max()) for picture in result.pictures]


def test_the_image_that_was_blacked_out_is_named(own: Engine, store: PictureStore) -> None:
    told, brightest = warned(own, store, [NEVER, ALWAYS, NEVER])
    assert told == ["image 2 was blacked out by the model's safety checker; change the prompt or the seed."]
    assert brightest[1] == 0 and brightest[0] > 0 and brightest[2] > 0


def test_each_image_of_a_joint_call(own: Engine, store: PictureStore) -> None:
    told, brightest = warned(own, store, [ALWAYS], spread=1.0)
    assert [one.partition(" was")[0] for one in told] == ["image 1", "image 2", "image 3"]
    assert brightest == [0, 0, 0]


def test_nothing_is_said_where_nothing_was_found(own: Engine, store: PictureStore) -> None:
    assert warned(own, store, [NEVER] * 3)[0] == []
