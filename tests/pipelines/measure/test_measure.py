"""Numbers that are known beforehand."""

from __future__ import annotations

import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from pipelines.embedded.training.captions import all_words
from pipelines.embedded.training.clip import new_clip
from pipelines.embedded.training.tokenizer import build_tokenizer
from pipelines.embedded.training.world import world
from pipelines.errors import FieldError, ModelError, PictureError
from pipelines.measure import bootstrap, masked_error, psnr, ssim, wilson
from pipelines.measure.features import Features, mean_pairwise_distance


def _noise(seed: int, side: int = 48) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (side, side, 3), dtype=np.uint8)


def test_wilson_matches_published_values() -> None:
    found = wilson(81, 263)  # Newcombe 1998, table I: 0.2553 to 0.3662
    assert (round(found.low, 4), round(found.high, 4), found.n) == (0.2553, 0.3662, 263)
    assert wilson(0, 20).low == 0 and 0.15 < wilson(0, 20).high < 0.17
    with pytest.raises(FieldError, match="not a share"):
        wilson(3, 2)


def test_bootstrap_covers_the_mean_and_repeats() -> None:
    values = np.random.default_rng(0).normal(1.0, 2.0, 400)
    found = bootstrap(values)
    assert found.low < found.value < found.high
    assert found.value == pytest.approx(values.mean())
    assert found.high - found.low == pytest.approx(2 * 1.96 * values.std() / 20, rel=0.15)
    assert bootstrap(values) == found
    for bad in ([], [float("nan")]):
        with pytest.raises(FieldError, match="finite number"):
            bootstrap(bad)


def test_masked_error_counts_only_the_mask() -> None:
    first = _noise(0)
    second = first.copy()
    second[:10] = 255 - second[:10]
    mask = np.zeros((48, 48), np.float32)
    mask[20:] = 1
    assert masked_error(first, second, mask) == 0 and math.isinf(psnr(first, second, mask))
    assert masked_error(first, second) > 30
    black, grey = np.zeros((8, 8, 3), np.uint8), np.full((8, 8, 3), 51, np.uint8)
    assert masked_error(black, grey) == pytest.approx(51)
    assert psnr(black, grey) == pytest.approx(20 * math.log10(5))


def test_ssim_is_one_for_equal_and_falls_with_noise() -> None:
    smooth = np.tile(np.linspace(0, 255, 48).astype(np.uint8)[:, None, None], (1, 48, 3))
    little = np.clip(smooth + np.random.default_rng(1).normal(0, 8, smooth.shape), 0, 255).astype(np.uint8)
    assert ssim(smooth, smooth) == pytest.approx(1)
    assert 0.2 < ssim(smooth, little) < 0.95
    assert abs(ssim(_noise(1), _noise(2))) < 0.1


def test_bad_pairs_and_masks_are_refused() -> None:
    with pytest.raises(PictureError, match="one size"):
        masked_error(_noise(0), _noise(0, 32))
    with pytest.raises(PictureError, match="does not fit"):
        masked_error(_noise(0), _noise(1), np.ones((4, 4), np.float32))
    with pytest.raises(PictureError, match="empty"):
        ssim(_noise(0), _noise(1), np.zeros((48, 48), np.float32))


@pytest.fixture(scope="module")
def features(tmp_path_factory: pytest.TempPathFactory) -> Features:
    """A random CLIP of the embedded model's own shape."""
    folder = tmp_path_factory.mktemp("clip")
    torch.manual_seed(0)
    tokenizer = build_tokenizer(all_words(world("small")))
    new_clip(tokenizer).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return Features(folder)


def test_features_are_unit_vectors_that_tell_pictures_apart(features: Features) -> None:
    vectors = features.pictures([_noise(0, 256), _noise(0, 256), _noise(1, 128)])
    assert vectors.shape == (3, 128) and vectors.dtype == np.float32
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    assert np.allclose(vectors[0], vectors[1]) and vectors[0] @ vectors[2] < 1 - 1e-6
    texts = features.texts(["a red car", "a red car", "a cat in the snow"])
    assert np.allclose(texts[0], texts[1], atol=1e-6) and texts[0] @ texts[2] < 1 - 1e-4


def test_features_match_the_stock_model_on_its_own_input(features: Features) -> None:
    picture = _noise(3, 128)
    x = torch.from_numpy(picture).permute(2, 0, 1)[None].float() / 255
    with torch.no_grad():
        stock = features.model(
            pixel_values=(x - 0.5) / 0.5,
            input_ids=features.tokenizer(["a cat"], return_tensors="pt").input_ids,
        )
    assert np.allclose(features.pictures([picture]), stock.image_embeds.numpy(), atol=1e-5)
    padded = features.texts(["a cat"])
    assert np.allclose(padded, stock.text_embeds.numpy(), atol=1e-5), "padding behind the end changes nothing"


def test_mean_pairwise_distance() -> None:
    same, apart = np.array([[1, 0], [1, 0]], np.float32), np.array([[1, 0], [0, 1], [-1, 0]], np.float32)
    assert mean_pairwise_distance(same) == 0
    assert mean_pairwise_distance(apart) == pytest.approx((1 + 2 + 1) / 3)


def test_missing_clip_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="export the embedded model"):
        Features(tmp_path)


def test_import_leaves_torch_alone() -> None:
    code = "import sys, pipelines.measure; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
