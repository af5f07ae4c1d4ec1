"""The judge's network: a residual CNN with GroupNorm on 128×128 pictures, about 70 M multiplications a
picture.

One trunk, four kinds of answer: what the picture as a whole or the region in its middle is (`object`, with a
last class "nothing recognisable"), what each of 16×16 cells shows (`cells`, class 0 = place; says where an
object is), what is present (`presence`, one sigmoid a class, from the surest cell), and attributes. Ours:
small, free of attention, and unlike anything it judges.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

import torch
from torch import nn

from pipelines.embedded.training.world import COLOURS, World

SIDE = 128
CELLS = 16
WIDTHS = (32, 64, 112)
GROUPS = 8


@dataclass(frozen=True)
class Vocabulary:
    """The words of every head. ``object``, ``place`` and ``time`` end with an unlisted "nothing
    recognisable".
    """

    labels: tuple[str, ...]
    places: tuple[str, ...]
    times: tuple[str, ...]
    colours: tuple[str, ...]
    tones: tuple[str, ...]
    genders: tuple[str, ...]
    styles: tuple[str, ...]

    @classmethod
    def of(cls, world: World) -> Vocabulary:
        """The words of a world."""
        return cls(
            world.labels, world.places, world.times, tuple(COLOURS), world.tones, world.genders, world.styles
        )

    @classmethod
    def from_dict(cls, data: dict[str, list[str]]) -> Vocabulary:
        """Inverse of `to_dict`."""
        return cls(**{name: tuple(words) for name, words in data.items()})

    def to_dict(self) -> dict[str, list[str]]:
        """JSON-ready lists."""
        return {name: list(words) for name, words in asdict(self).items()}

    def heads(self) -> dict[str, int]:
        """Outputs of each pooled head; one more than its words where "none" or "nothing recognisable" is
        last.
        """
        return {
            "object": len(self.labels) + 1,
            "presence": len(self.labels),
            "place": len(self.places) + 1,
            "time": len(self.times) + 1,
            "colour": len(self.colours) + 1,
            "tone": len(self.tones) + 1,
            "gender": len(self.genders) + 1,
            "style": len(self.styles),
        }


class Residual(nn.Module):
    """Two 3×3 convolutions with GroupNorm and a shortcut."""

    def __init__(self, inside: int, outside: int, stride: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(inside, outside, 3, stride, 1, bias=False)
        self.first_norm = nn.GroupNorm(GROUPS, outside)
        self.second = nn.Conv2d(outside, outside, 3, 1, 1, bias=False)
        self.second_norm = nn.GroupNorm(GROUPS, outside)
        same = inside == outside and stride == 1
        self.shortcut = nn.Identity() if same else nn.Conv2d(inside, outside, 1, stride)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(n, inside, h, w) → (n, outside, h/stride, w/stride)."""
        y = torch.relu(self.first_norm(self.first(x)))
        return torch.relu(self.second_norm(self.second(y)) + self.shortcut(x))


class JudgeNet(nn.Module):
    """Pictures (n, 3, 128, 128) in −1..1 → logits: `Vocabulary.heads` (n, k) and ``cells`` (n, classes + 1,
    16, 16).
    """

    def __init__(self, vocabulary: Vocabulary) -> None:
        super().__init__()
        low, middle, high = WIDTHS
        self.stem = nn.Sequential(nn.Conv2d(3, low, 7, 4, 3), Residual(low, low, 1))
        self.fine = nn.Sequential(Residual(low, middle, 2), Residual(middle, middle, 1))
        self.coarse = nn.Sequential(Residual(middle, high, 2), Residual(high, high, 1))
        sizes = {name: k for name, k in vocabulary.heads().items() if name != "presence"}
        self.heads = nn.ModuleDict({name: nn.Linear(3 * high, k) for name, k in sizes.items()})
        self.cells = nn.Conv2d(middle + high, len(vocabulary.labels) + 1, 1)
        self.presence_scale = nn.Parameter(torch.tensor(3.0))
        self.presence_bias = nn.Parameter(torch.full((len(vocabulary.labels),), 2.0))

    def forward(self, pictures: torch.Tensor) -> dict[str, torch.Tensor]:
        """Logits of every head. The pooled features are the mean, the maximum, and the mean of the middle
        quarter.
        """
        fine = self.fine(self.stem(pictures))
        coarse = self.coarse(fine)
        edge = coarse.shape[-1] // 4
        middle = coarse[..., edge:-edge, edge:-edge]
        pooled = torch.cat([coarse.mean((2, 3)), coarse.amax((2, 3)), middle.mean((2, 3))], 1)
        out: dict[str, torch.Tensor] = {name: head(pooled) for name, head in self.heads.items()}
        upper = nn.functional.interpolate(coarse, scale_factor=2, mode="nearest")
        cells = self.cells(torch.cat([fine, upper], 1))
        surest = cells.float().log_softmax(1)[:, 1:].amax((2, 3))
        return {**out, "cells": cells, "presence": self.presence_scale * surest + self.presence_bias}
