"""What fewer reference tokens change of NegToMe's pushes: writes docs/results/thinning.md and thinning.json.

``python -m tests.benchmarks.thinning [--out FOLDER]``

Features are those of real runs of the embedded model, above its own size, so that its grids are finer. In each block
each token finds its partner among all tokens of the other images, and among fewer, chosen in several ways.
"""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pipelines import sampling
from pipelines.engine import Engine
from pipelines.methods.base import Step
from pipelines.methods.negtome import Spread, match
from pipelines.methods.thinning import thinned
from pipelines.pictures import PictureStore
from pipelines.request import RenderRequest
from tests.benchmarks import common

COMMAND = "python -m tests.benchmarks.thinning"
PICKED, EXACT = "one of each two by two (what runs)", "all"


def mean(features: torch.Tensor, grid: tuple[int, int]) -> torch.Tensor:
    """(rows, h · w, D) → (rows, ⌈h/2⌉ · ⌈w/2⌉, D): the mean of each two by two."""
    cells = torch.nn.functional.avg_pool2d(
        features.unflatten(1, grid).movedim(-1, 1), 2, ceil_mode=True, count_include_pad=False
    )
    return cells.flatten(2).transpose(1, 2)


WAYS: dict[str, Any] = {
    EXACT: lambda features, grid: features,
    PICKED: thinned,
    "mean of each two by two": mean,
    "every fourth along the lines (`spread_every` 4)": lambda features, grid: features[:, ::4],
}


class Watched(Spread):
    """Spread that also asks what other references would have said; what it does stays exact."""

    def __init__(self, found: dict[Any, list[list[float]]], settings: dict[str, Any]) -> None:
        self.found, self.settings = found, settings

    def moved(self, features: torch.Tensor, step: Step, grid: tuple[int, int]) -> torch.Tensor:
        if min(grid) >= self.settings["smallest"]:
            references = {way: choose(features, grid) for way, choose in WAYS.items()}
            for branch in step.branches:
                for row in branch:
                    others = [other for other in branch if other != row]
                    partners = {way: one[others].flatten(0, 1) for way, one in references.items()}
                    for way, numbers in compared(features[row], partners, self.settings["threshold"]).items():
                        self.found[grid, way].append(numbers)
        return super().moved(features, step, grid)


def compared(
    source: torch.Tensor, references: dict[str, torch.Tensor], threshold: float
) -> dict[str, list[float]]:
    """Way → best cosine, share above the threshold, cosine with the exact push, and its length against the exact's."""
    numbers: dict[str, list[float]] = {}
    exact = source
    for way, reference in references.items():
        best, index = match(source, reference)
        push = (source - reference[index]) * (best > threshold)[:, None]
        exact = push if way == EXACT else exact
        alike = torch.nn.functional.cosine_similarity(push.flatten(), exact.flatten(), dim=0)
        share = (best > threshold).float().mean()
        length = push.norm() / exact.norm()
        numbers[way] = [float(number) for number in (best.mean(), share, alike, length)]
    return numbers


def measured(settings: dict[str, Any]) -> dict[Any, list[list[float]]]:
    """(grid, way) → a row of numbers for each token grid, image, block and step."""
    loaded, store = Engine().load("embedded"), PictureStore()
    found: dict[Any, list[list[float]]] = defaultdict(list)
    for number, prompt in enumerate(settings["prompts"]):
        request = RenderRequest(
            model="embedded",
            width=settings["side"],
            height=settings["side"],
            prompt=prompt,
            scheduler=loaded.card.scheduler,
            guidance=loaded.card.guidance,
            steps=settings["steps"],
            seed=settings["seed"] + 100 * number,
            images=settings["images"],
            spread=1.0,
            spread_threshold=settings["threshold"],
            window=settings["window"],
        )
        seeds = [request.seed + k for k in range(request.images)]
        sampling.sample(
            loaded.pipe,
            loaded.family,
            loaded.card,
            request,
            store,
            [Watched(found, settings)],
            seeds,
            lambda *_: None,
        )
    return found


def report(found: dict[Any, list[list[float]]]) -> str:
    """A line for each grid and way."""
    lines = []
    for (grid, way), rows in sorted(
        found.items(), key=lambda one: (-one[0][0][0], list(WAYS).index(one[0][1]))
    ):
        best, share, alike, length = np.mean(rows, 0)
        size = f"{grid[0]} × {grid[1]}"
        lines.append([size, way, f"{best:.4f}", f"{100 * share:.1f} %", f"{alike:.3f}", f"{length:.3f}"])
    heads = [
        "grid",
        "reference tokens",
        "best cosine, mean",
        "above the threshold",
        "cosine with the exact push",
        "length against it",
    ]
    return common.table(heads, lines)


def main() -> None:
    """Measure and write both files."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--out", type=Path, default=common.RESULTS)
    asked = parser.parse_args()
    settings = common.protocol("thinning")
    found = measured(settings)
    asked.out.mkdir(parents=True, exist_ok=True)
    weights = common.weights_digest(common.WEIGHTS)
    rows = [{"grid": grid, "way": way, "numbers": numbers} for (grid, way), numbers in found.items()]
    raw = {"command": COMMAND, "made": common.machine(), "weights": weights, "rows": rows}
    (asked.out / "thinning.json").write_text(json.dumps(raw) + "\n")
    page = common.heading("What fewer reference tokens change", COMMAND, settings, weights)
    page += (
        "Each token's partner among all tokens of the other images, or among a quarter of them, in the features of "
        "real runs.\n\n"
    )
    (asked.out / "thinning.md").write_text(page + report(found))


if __name__ == "__main__":
    main()
