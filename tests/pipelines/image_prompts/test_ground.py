"""What an image encoder is shown of a cut-out."""

from __future__ import annotations

import numpy as np
import pytest

from pipelines.errors import PictureError
from pipelines.image_prompts.ground import GROUND, on_ground


def test_cropped_whole_and_in_the_middle_of_a_square() -> None:
    cutout = np.zeros((20, 30, 4), np.uint8)
    cutout[..., :3] = (0, 255, 0)  # hidden: of no account
    cutout[4:8, 10:20] = (200, 100, 0, 255)
    shown = on_ground(cutout, "a")
    assert shown.shape == (10, 10, 3)
    assert (shown[3:7] == (200, 100, 0)).all()
    assert (shown[:3] == GROUND).all() and (shown[7:] == GROUND).all()


def test_what_is_half_there_is_half_ground() -> None:
    half = np.full((3, 3, 4), (255, 255, 255, 51), np.uint8)
    assert np.abs(on_ground(half, "a").astype(int) - (np.array(GROUND) * 0.8 + 51)).max() <= 1


def test_the_ground_is_nothing_to_the_encoder() -> None:
    """In the numbers that CLIP's image processor makes of it."""
    from transformers.image_utils import OPENAI_CLIP_MEAN, OPENAI_CLIP_STD

    numbers = (np.array(GROUND) / 255 - OPENAI_CLIP_MEAN) / OPENAI_CLIP_STD
    assert np.abs(numbers).max() < 0.01


def test_nothing_is_refused() -> None:
    with pytest.raises(PictureError, match="'hat'"):
        on_ground(np.zeros((4, 4, 4), np.uint8), "hat")
