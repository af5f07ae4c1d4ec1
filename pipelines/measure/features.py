"""Vectors of pictures and texts from the embedded model's small CLIP: what "similar" means in our
measurements.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from transformers import CLIPModel, CLIPTokenizer

from pipelines.errors import ModelError
from pipelines.pictures import Pixels

EMBEDDED = "embedded"
CLIP = Path(__file__).parents[1] / "embedded" / "weights" / "clip"

Vectors = NDArray[np.float32]
"""(n, d), each of length 1: the product of two is their cosine."""


class Features:
    """A `CLIPModel` with its own preprocessing: resized to the tower's square, (x / 255 − 0.5) / 0.5."""

    def __init__(self, folder: Path = CLIP) -> None:
        if not (folder / "config.json").is_file():
            raise ModelError(f"there is no CLIP in {folder.name!r}: export the embedded model first.")
        self.name = EMBEDDED if folder == CLIP else str(folder)
        self.model = _load(folder)
        self.tokenizer = CLIPTokenizer.from_pretrained(folder)
        self.side = int(self.model.config.vision_config.image_size)

    @torch.no_grad()
    def pictures(self, pictures: Sequence[Pixels], size: int = 64) -> Vectors:
        """Unit vectors of uint8 (H, W, 3) pictures of any size."""
        parts = []
        for start in range(0, len(pictures), size):
            squares = [
                np.asarray(Image.fromarray(picture).resize((self.side, self.side), Image.Resampling.BICUBIC))
                for picture in pictures[start : start + size]
            ]
            x = torch.from_numpy(np.stack(squares)).permute(0, 3, 1, 2).float() / 127.5 - 1
            found = self.model.visual_projection(self.model.vision_model(pixel_values=x).pooler_output)
            parts.append(found / found.norm(dim=1, keepdim=True))
        return np.asarray(torch.cat(parts).numpy())

    def knows(self, text: str) -> bool:
        """Whether each word is one of the vocabulary's own; others are spelt in pieces that mean nothing to it."""
        pieces = self.tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]
        return 0 < len(pieces) <= len(re.findall(r"\w+|[^\w\s]+", text))

    @torch.no_grad()
    def texts(self, texts: Sequence[str]) -> Vectors:
        """Unit vectors of texts."""
        tokens = self.tokenizer(
            list(texts),
            padding="max_length",
            truncation=True,
            max_length=self.tokenizer.model_max_length,
            return_tensors="pt",
        )
        found = self.model.text_projection(self.model.text_model(input_ids=tokens.input_ids).pooler_output)
        return np.asarray((found / found.norm(dim=1, keepdim=True)).numpy())


def _load(folder: Path) -> Any:
    return CLIPModel.from_pretrained(folder, dtype=torch.float32).requires_grad_(False)


def mean_pairwise_distance(vectors: Vectors) -> float:
    """1 − mean cosine over the pairs of a batch (n ≥ 2): 0 for equal pictures, more for various ones."""
    cosines = vectors @ vectors.T
    above = np.triu_indices(len(vectors), 1)
    return float(1 - cosines[above].mean())


def vendi(vectors: Vectors) -> float:
    """How many different pictures (n, d) count for: 1 for equal ones, n for n that have nothing in common.

    The Vendi score (arXiv 2210.02410, definition 3.1), exp(−Σ λ log λ) over the eigenvalues λ of the cosines divided
    by n.
    """
    cosines = vectors.astype(np.float64) @ vectors.T.astype(np.float64)
    values = np.linalg.eigvalsh(cosines / np.trace(cosines))
    values = values[values > 1e-12]
    return float(np.exp(-(values * np.log(values)).sum()))
