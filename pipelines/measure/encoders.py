"""Features of a CLIP or DINOv2 model by folder or hub id, for pictures unlike those the embedded CLIP has seen."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from pipelines.errors import DecollageError, ModelError
from pipelines.loading.failures import first_line
from pipelines.loading.load import quiet
from pipelines.loading.whole import whole
from pipelines.measure.features import EMBEDDED, Features, Vectors
from pipelines.pictures import Pixels

KINDS = ("clip", "dinov2")


class PictureFeatures(Protocol):
    """What turns pictures into vectors; ``name`` goes with the numbers that are made of them."""

    name: str

    def pictures(self, pictures: Sequence[Pixels], size: int = 64) -> Vectors:
        """Unit vectors (n, d) of uint8 (H, W, 3) pictures of any size."""


class Encoder:
    """A stock CLIP or DINOv2. Pictures are resized to its square whole, not cropped: what is at the rim counts too."""

    def __init__(self, name: str) -> None:
        self.name = name
        try:
            with quiet():
                self._load()
            self.pictures([np.zeros((1, 1, 3), np.uint8)])  # what does not fit shows now, not after a render
        except DecollageError:
            raise
        except Exception as error:  # the libraries raise what they like
            raise ModelError(
                f"features {name!r} cannot be loaded ({first_line(error)}); check the name, and that it has "
                "safetensors."
            ) from error

    def _load(self) -> None:
        from transformers import AutoConfig, AutoModel

        config = AutoConfig.from_pretrained(self.name, trust_remote_code=False)
        if config.model_type not in KINDS:
            raise ModelError(
                f"features {self.name!r} are of a {config.model_type} model; give one of {', '.join(KINDS)}."
            )
        self.model: Any = whole(
            AutoModel,
            self.name,
            f"the model of features {self.name!r}",
            dtype=torch.float32,
            use_safetensors=True,
            trust_remote_code=False,
        )
        self.model.eval().requires_grad_(False)
        self.is_clip = config.model_type == "clip"
        given = _preprocessing(self.name)
        vision = config.vision_config if self.is_clip else config
        self.side = _side(given) or int(vision.image_size)
        self.mean = torch.tensor(given.get("image_mean", [0.5] * 3)).view(1, 3, 1, 1)
        self.deviation = torch.tensor(given.get("image_std", [0.5] * 3)).view(1, 3, 1, 1)

    @torch.no_grad()
    def pictures(self, pictures: Sequence[Pixels], size: int = 16) -> Vectors:
        """Unit vectors (n, d) of uint8 (H, W, 3) pictures of any size, ``size`` of them at a time."""
        parts = []
        for start in range(0, len(pictures), size):
            squares: list[NDArray[np.uint8]] = [
                np.asarray(Image.fromarray(picture).resize((self.side, self.side), Image.Resampling.BICUBIC))
                for picture in pictures[start : start + size]
            ]
            x = torch.from_numpy(np.stack(squares)).permute(0, 3, 1, 2).float() / 255
            x = (x - self.mean) / self.deviation
            if self.is_clip:
                found = self.model.visual_projection(self.model.vision_model(pixel_values=x).pooler_output)
            else:
                found = self.model(pixel_values=x).pooler_output
            parts.append(found / found.norm(dim=1, keepdim=True))
        return np.asarray(torch.cat(parts).numpy())


def features_of(name: str) -> PictureFeatures:
    """The features called ``name``: "embedded", or a folder or hub id. Raises `ModelError`."""
    return Features() if name == EMBEDDED else Encoder(name)


def _preprocessing(name: str) -> dict[str, Any]:
    """The numbers in ``preprocessor_config.json``; the class that it names wants torchvision."""
    from transformers.utils import cached_file

    found = cached_file(name, "preprocessor_config.json", _raise_exceptions_for_missing_entries=False)
    data: dict[str, Any] = json.loads(Path(found).read_text(encoding="utf-8")) if found else {}
    return data


def _side(given: dict[str, Any]) -> int | None:
    """The square that is cut out in the model's own preprocessing, else what it resizes to."""
    for key in ("crop_size", "size"):
        value = given.get(key)
        if isinstance(value, dict):
            value = value.get("height") or value.get("shortest_edge")
        if isinstance(value, int):
            return value
    return None
