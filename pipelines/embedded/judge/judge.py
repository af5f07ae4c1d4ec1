"""Asking the judge: what is in this picture, what is in this region, where is this object.

Every answer may be None, "nothing recognisable"; whoever counts, counts None as wrong.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from safetensors.torch import load_file

from pipelines.embedded.judge.model import SIDE, JudgeNet, Vocabulary
from pipelines.errors import FieldError, ModelError, PictureError

WEIGHTS = Path(__file__).parent / "weights"
PRESENT = 0.5
"""An object is present where its sigmoid is at least this."""
LOCATED = 0.3
"""A cell may show an object where its probability is at least this; the region around it decides."""
MARGIN = 1.3
"""A region's square is this many times the longest side of what it is about, the middle of the range it
learnt.
"""
LEAST = 88
"""No region is smaller than this on a canvas of 256 px (and in proportion on others): smaller ones were never
seen.
"""

Pixels = NDArray[np.uint8]
Box = tuple[float, float, float, float]
"""left, top, right, bottom in pixels of the picture."""


@dataclass(frozen=True)
class WholeVerdict:
    """A whole picture: `present` is one probability a class; place and time may be None."""

    present: NDArray[np.float32]
    labels: frozenset[str]
    place: str | None
    time: str | None
    style: str
    cells: NDArray[np.float32]


@dataclass(frozen=True)
class RegionVerdict:
    """One region: its object (None = nothing recognisable), that answer's probability, and attributes (None =
    none).
    """

    label: str | None
    probability: float
    probabilities: NDArray[np.float32]
    colour: str | None
    tone: str | None
    gender: str | None


@dataclass(frozen=True)
class Found:
    """Where an object was looked for and whether it is there.

    ``right`` means that some cells may show it (``box`` is around them) and that the region there is
    recognised.
    """

    right: bool
    box: Box | None
    region: RegionVerdict | None


class Judge:
    """The trained network with its words. Pictures are uint8 (H, W, 3), square or not, of any size."""

    def __init__(
        self, model: JudgeNet, vocabulary: Vocabulary, card: dict[str, object] | None = None
    ) -> None:
        self.model = model.eval().requires_grad_(False).to(memory_format=torch.channels_last)
        self.vocabulary = vocabulary
        self.card = card or {}
        self._names = {word: k for k, word in enumerate(vocabulary.labels)}

    @classmethod
    def load(cls, folder: Path = WEIGHTS) -> Judge:
        """Read the exported weights; `ModelError` where there are none."""
        if not (folder / "judge.json").is_file():
            raise ModelError(
                f"there is no judge in {folder.name!r}: train it with pipelines.embedded.judge.train."
            )
        card = json.loads((folder / "judge.json").read_text())
        vocabulary = Vocabulary.from_dict(card["vocabulary"])
        model = JudgeNet(vocabulary)
        model.load_state_dict({k: v.float() for k, v in load_file(folder / "judge.safetensors").items()})
        return cls(model, vocabulary, card)

    def whole(self, pictures: Sequence[Pixels]) -> list[WholeVerdict]:
        """Verdicts on whole pictures."""
        out = self._ask([square_view(picture, None) for picture in pictures])
        words = self.vocabulary
        verdicts = []
        for n in range(len(pictures)):
            present = out["presence"][n].sigmoid().numpy()
            labels = frozenset(words.labels[k] for k in np.flatnonzero(present >= PRESENT))
            verdicts.append(
                WholeVerdict(
                    present=present,
                    labels=labels,
                    place=_word(words.places, out["place"][n]),
                    time=_word(words.times, out["time"][n]),
                    style=words.styles[int(out["style"][n].argmax())],
                    cells=out["cells"][n].softmax(0).numpy(),
                )
            )
        return verdicts

    def regions(
        self, pictures: Sequence[Pixels], where: Sequence[Box | NDArray[np.float32]]
    ) -> list[RegionVerdict]:
        """Verdicts on one region of each picture: a `Box`, or a mask (H, W) in 0..1 whose bounding box is
        taken.
        """
        if len(pictures) != len(where):
            raise FieldError(f"{len(pictures)} pictures need as many regions, not {len(where)}.")
        boxes = [box_of(region) if isinstance(region, np.ndarray) else region for region in where]
        out = self._ask([square_view(picture, box) for picture, box in zip(pictures, boxes, strict=True)])
        words = self.vocabulary
        verdicts = []
        for n in range(len(pictures)):
            chances = out["object"][n].softmax(0).numpy()
            verdicts.append(
                RegionVerdict(
                    label=_word(words.labels, out["object"][n]),
                    probability=float(chances.max()),
                    probabilities=chances,
                    colour=_word(words.colours, out["colour"][n]),
                    tone=_word(words.tones, out["tone"][n]),
                    gender=_word(words.genders, out["gender"][n]),
                )
            )
        return verdicts

    def region(self, picture: Pixels, where: Box | NDArray[np.float32]) -> RegionVerdict:
        """`regions` for one picture."""
        return self.regions([picture], [where])[0]

    def find(self, pictures: Sequence[Pixels], labels: Sequence[Sequence[str]]) -> list[list[Found]]:
        """Look for each of ``labels[n]`` in picture n: located by its cells, and recognised in the region
        there.
        """
        verdicts = self.whole(pictures)
        closer = self._ask([square_view(picture, None, 2 * SIDE) for picture in pictures], 16)
        places: list[tuple[int, int, Box | None]] = []
        for n, wanted in enumerate(labels):
            # Small objects are found in the larger view, large ones in the smaller.
            cells = np.maximum(
                verdicts[n].cells.repeat(2, 1).repeat(2, 2), closer["cells"][n].softmax(0).numpy()
            )
            for k, label in enumerate(wanted):
                places.append((n, k, self._locate(cells, label, pictures[n].shape)))
        asked = [(n, box) for n, _, box in places if box is not None]
        answers = iter(self.regions([pictures[n] for n, _ in asked], [box for _, box in asked]))
        out: list[list[Found]] = [[] for _ in pictures]
        for n, k, box in places:
            region = next(answers) if box is not None else None
            out[n].append(Found(region is not None and region.label == labels[n][k], box, region))
        return out

    def _locate(self, cells: NDArray[np.float32], label: str, shape: tuple[int, ...]) -> Box | None:
        """The bounding box of the cells that show ``label``, connected to the surest of them; None where none
        does.
        """
        if label not in self._names:
            raise FieldError(
                f"the judge does not know {label!r}; it knows {', '.join(self.vocabulary.labels[:5])} …."
            )
        mine = cells[self._names[label] + 1]
        peak = np.unravel_index(int(mine.argmax()), mine.shape)
        if mine[peak] < LOCATED:
            return None
        part = _connected(mine >= LOCATED, (int(peak[0]), int(peak[1])))
        rows, columns = np.flatnonzero(part.any(1)), np.flatnonzero(part.any(0))
        high, wide = shape[0] / mine.shape[0], shape[1] / mine.shape[1]
        return (columns[0] * wide, rows[0] * high, (columns[-1] + 1) * wide, (rows[-1] + 1) * high)

    @torch.no_grad()
    def _ask(self, squares: list[Pixels], size: int = 64) -> dict[str, torch.Tensor]:
        parts = []
        for start in range(0, len(squares), size):
            x = (
                torch.from_numpy(np.stack(squares[start : start + size])).permute(0, 3, 1, 2).float() / 127.5
                - 1
            )
            parts.append(self.model(x.contiguous(memory_format=torch.channels_last)))
        return {name: torch.cat([part[name] for part in parts]) for name in parts[0]} if parts else {}


def box_of(mask: NDArray[np.float32]) -> Box:
    """The bounding box of a mask's values of at least one half; `PictureError` where there are none."""
    rows, columns = np.flatnonzero((mask >= 0.5).any(1)), np.flatnonzero((mask >= 0.5).any(0))
    if not len(rows):
        raise PictureError("this region is empty: give a mask with values of at least 0.5.")
    return float(columns[0]), float(rows[0]), float(columns[-1] + 1), float(rows[-1] + 1)


def _word(words: tuple[str, ...], logits: torch.Tensor) -> str | None:
    best = int(logits.argmax())
    return words[best] if best < len(words) else None


def _connected(cells: NDArray[np.bool_], start: tuple[int, int]) -> NDArray[np.bool_]:
    """The cells that hang together with ``start``, diagonals included."""
    out = np.zeros_like(cells)
    out[start] = True
    while True:
        grown = np.pad(out, 1)
        wide = np.zeros_like(cells)
        for dy in range(3):
            for dx in range(3):
                wide |= grown[dy : dy + cells.shape[0], dx : dx + cells.shape[1]]
        wide &= cells
        if (wide == out).all():
            return out
        out = wide


def square_view(picture: Pixels, box: Box | None, side: int = SIDE) -> Pixels:
    """A square view: the whole picture, or a square around the box with `MARGIN`, moved inside."""
    if picture.dtype != np.uint8 or picture.ndim != 3 or picture.shape[2] != 3:
        raise PictureError(f"the judge reads uint8 (height, width, 3), not {picture.dtype} {picture.shape}.")
    height, width = picture.shape[:2]
    full = Image.fromarray(picture)
    if box is None:
        return np.asarray(full.resize((side, side), Image.Resampling.BICUBIC))
    longest = max(box[2] - box[0], box[3] - box[1])
    span = min(max(longest * MARGIN, LEAST * min(height, width) / 256), height, width)
    left = min(max((box[0] + box[2] - span) / 2, 0), width - span)
    top = min(max((box[1] + box[3] - span) / 2, 0), height - span)
    view = full.resize((side, side), Image.Resampling.BICUBIC, box=(left, top, left + span, top + span))
    return np.asarray(view)
