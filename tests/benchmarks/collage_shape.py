"""Keep shape in the collage benchmark: do the flat collage's edges come back, from pure noise, as it is raised?"""

from __future__ import annotations

from typing import Any

import numpy as np

from pipelines.errors import UnsupportedError
from pipelines.pictures import Pixels
from tests.benchmarks.collage_measures import edge_agreement


def refusal(bench: Any) -> str | None:
    """Why the model cannot keep shape, or None where it can: asked by a run of one step."""
    _, laid = bench.laid("shape", 0)
    try:
        bench.draw(laid, layers=laid.layers(keep_shape=1.0), steps=1)
    except UnsupportedError as error:
        return str(error)
    return None


def shape(bench: Any, k: int) -> tuple[dict[str, Any], list[Pixels]]:
    """Layout k at every strength, attention as everywhere, from pure noise: edge agreement with the flat collage, and
    what the judge sees.
    """
    own = bench.settings["shape"]
    one, laid = bench.laid("shape", k)
    row: dict[str, Any] = {"prompt": laid.request.prompt, "edges": [], "object": []}
    pictures = [laid.flat]
    for strength in own["strengths"]:
        layers = laid.layers(harmonize=own["harmonize"], keep_shape=strength, **bench.attention)
        pictures.append(bench.draw(laid, layers=layers, background_harmonize=own["harmonize"]))
        agree = [edge_agreement(pictures[-1], laid.flat, mask) for mask in laid.masks]
        row["edges"].append(float(np.mean(agree)))
        row["object"].append(bench.judged(pictures[-1], one, laid.masks)["object"])
    row["truth"] = float(np.mean([edge_agreement(laid.truth, laid.flat, mask) for mask in laid.masks]))
    return row, pictures
