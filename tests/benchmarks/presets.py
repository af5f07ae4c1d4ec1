"""The presets beside plain img2img: writes docs/results/presets.md, raw JSON and one sheet a preset.

``python -m tests.benchmarks.presets [evening …] [--seeds 16]``

For every preset the flat collage, stock img2img at the largest, mean and smallest strength of its layers, and
ours: the same seeds, unselected. The error is taken inside the layers that may change, against the preset's
true scene. The paper's example scenes have none, and are shown.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.progress import track

from pipelines.embedded.judge import Judge
from pipelines.embedded.training.scenes import Scene, render
from pipelines.measure.intervals import Interval, bootstrap, wilson
from pipelines.measure.similarity import masked_error
from pipelines.pictures import PictureStore, Pixels
from pipelines.request import RenderRequest
from presets.recipes.build import HERE, drawer_store, read_truth
from studio.formats import open_any
from studio.to_request import Prepared, to_request
from tests.benchmarks import common
from tests.benchmarks.effects import draw

SIDE = 112


@dataclass
class Shown:
    """One row of a sheet: what made it, and one picture a seed."""

    name: str
    pictures: list[Pixels]


def prepared(name: str, store: PictureStore, seed: int) -> Prepared:
    """The preset's own request, one image a run unless its images are pushed apart."""
    collage, library = open_any(HERE / f"{name}.collage")
    joint = collage.spread > 0 or any(layer.vary for layer in collage.layers)
    return to_request(collage.replace(images=collage.images if joint else 1), library, store, seed=seed)


def ours(engine: Any, name: str, seeds: Sequence[int], **changes: Any) -> list[Pixels]:
    """One picture a seed; a joint run gives as many as it has images."""
    out: list[Pixels] = []
    while len(out) < len(seeds):
        store = PictureStore()
        request = prepared(name, store, seeds[len(out)]).request
        out += draw(engine, request.replace(**changes), store)
    return out[: len(seeds)]


def img2img(
    pipe: Any, request: RenderRequest, flat: Pixels, strength: float, seeds: Sequence[int]
) -> list[Pixels]:
    """Stock image-to-image of the flat collage at one strength for everything; the flat collage where no step
    is run.
    """
    import torch
    from PIL import Image

    if int(request.steps * strength) < 1:
        return [flat] * len(seeds)
    out = []
    for seed in seeds:
        made = pipe(
            request.prompt,
            image=Image.fromarray(flat),
            strength=strength,
            num_inference_steps=request.steps,
            guidance_scale=request.guidance,
            generator=torch.Generator().manual_seed(seed),
        ).images[0]
        out.append(np.asarray(made.convert("RGB")))
    return out


def text_alone(engine: Any, request: RenderRequest, seeds: Sequence[int]) -> list[Pixels]:
    """The same prompt without a collage: whether words would have put things where the layers are."""
    off = {"collage": None, "frozen": None, "layers": (), "avoids": (), "spread": 0.0, "images": 1}
    return [draw(engine, request.replace(seed=seed, **off), PictureStore())[0] for seed in seeds]


def strengths(request: RenderRequest) -> dict[str, float]:
    """The largest, mean and smallest harmonize of the layers; equal ones are one entry."""
    values = [layer.harmonize for layer in request.layers]
    found = {"largest": max(values), "mean": sum(values) / len(values), "smallest": min(values)}
    return found if max(values) > min(values) else {"same": values[0]}


def changing(request: RenderRequest, store: PictureStore) -> np.ndarray[Any, np.dtype[np.float32]]:
    """The visible masks of all layers that may change, together: (H, W) in 0..1."""
    masks = [store.get(layer.mask) / np.float32(255) for layer in request.layers if layer.harmonize > 0]
    return np.asarray(sum(masks[1:], masks[0]), np.float32).clip(0, 1)


def frozen_difference(
    request: RenderRequest, store: PictureStore, flat: Pixels, pictures: Sequence[Pixels]
) -> int | None:
    """The largest difference, in 8-bit steps, where a frozen layer is wholly visible; None without such a
    layer.
    """
    masks = [store.get(layer.mask) == 255 for layer in request.layers if layer.harmonize == 0]
    if not masks:
        return None
    where = np.logical_or.reduce(masks)
    return max(int(np.abs(p[where].astype(int) - flat[where]).max()) for p in pictures)


def judged(
    judge: Judge, request: RenderRequest, store: PictureStore, scene: Scene, pictures: Sequence[Pixels]
) -> Interval:
    """The share of layers recognised in their own masks, over all pictures. Layers and items share their
    order.
    """
    masks = [store.get(layer.mask) / np.float32(255) for layer in request.layers]
    seen = judge.regions([p for p in pictures for _ in masks], [m for _ in pictures for m in masks])
    wanted = [item.label for _ in pictures for item in scene.items]
    return wilson(sum(v.label == label for v, label in zip(seen, wanted, strict=True)), len(wanted))


def one(
    name: str, engine: Any, pipe: Any, judge: Judge, features: Any, seeds: Sequence[int], out: Path
) -> tuple[str, dict[str, Any]]:
    """Render, measure and draw one preset; its section and its raw numbers."""
    store = PictureStore()
    made = prepared(name, store, seeds[0])
    request, flat, scene = made.request, made.composition.flat, read_truth(name)
    truth, inside = render(scene, drawer_store()).image, changing(request, store)
    rows = [
        Shown("flat collage", [flat] * len(seeds)),
        Shown("text alone", text_alone(engine, request, seeds)),
    ]
    for word, strength in strengths(request).items():
        rows.append(Shown(f"img2img\n{word} {strength:.2f}", img2img(pipe, request, flat, strength, seeds)))
    if request.spread:
        rows.append(Shown("ours,\nspread off", ours(engine, name, seeds, spread=0.0)))
    if request.avoids:
        rows.append(Shown("ours,\navoid off", ours(engine, name, seeds, avoids=())))
    rows.append(Shown("ours", ours(engine, name, seeds)))
    rows.append(Shown("true scene", [truth] * len(seeds)))
    raw: dict[str, Any] = {"prompt": made.prompt, "seeds": list(seeds), "rows": {}}
    lines = []
    for row in rows:
        errors = [masked_error(p, truth, inside) for p in row.pictures]
        right = judged(judge, request, store, scene, row.pictures)
        label = row.name.replace("\n", " ")
        cells = [label, common.number(bootstrap(errors), 1), common.percent(right)]
        raw["rows"][label] = {"error": errors, "recognised": right.to_dict()}
        vectors = features.pictures(row.pictures)
        if request.spread:
            from pipelines.measure.features import mean_pairwise_distance

            size = request.images
            groups = [vectors[k : k + size] for k in range(0, len(vectors) - size + 1, size)]
            far = bootstrap([mean_pairwise_distance(group) for group in groups])
            cells.append(common.number(far))
            raw["rows"][label]["distance"] = far.to_dict()
        if request.avoids:
            near = bootstrap(vectors @ features.pictures([store.get(request.avoids[0].picture)])[0])
            cells.append(common.number(near))
            raw["rows"][label]["similarity"] = near.to_dict()
        lines.append(cells)
    headers = ["", "error to the true scene inside the changing layers (of 255)", "layers recognised"]
    headers += ["distance within a batch"] * bool(request.spread) + [
        "similarity to the avoided picture"
    ] * bool(request.avoids)
    common.save_sheet(
        common.grid([r.pictures for r in rows], SIDE, [r.name for r in rows]), out / f"presets-{name}.jpg"
    )
    text = f"## {name}\n\n“{made.prompt}”; harmonize " + ", ".join(
        f"{x.name} {x.harmonize:g}" for x in request.layers
    )
    text += f", background {request.background_harmonize:g}.\n\n{common.table(headers, lines)}\n"
    kept = frozen_difference(request, store, flat, rows[-2].pictures)
    if kept is not None:
        text += f"Largest change of a frozen layer's fully visible pixels: {kept} of 255.\n\n"
        raw["frozen_difference"] = kept
    return text + f"![{len(seeds)} seeds, unselected](presets-{name}.jpg)\n\n", raw


def published(name: str, engine: Any, pipe: Any, seeds: Sequence[int], out: Path) -> str:
    """The sheet of a preset that has no true scene: one of the paper's example scenes, with art of our own."""
    store = PictureStore()
    made = prepared(name, store, seeds[0])
    request, flat = made.request, made.composition.flat
    loose = tuple(dataclasses.replace(layer, keep_shape=0.0) for layer in request.layers)
    mean = float(np.mean([layer.harmonize for layer in request.layers]))
    rows = [
        Shown("flat collage", [flat] * len(seeds)),
        Shown("text alone", text_alone(engine, request, seeds)),
        Shown(f"img2img\nmean {mean:.2f}", img2img(pipe, request, flat, mean, seeds)),
        Shown("ours, without\nkeep shape", ours(engine, name, seeds, layers=loose)),
        Shown("ours", ours(engine, name, seeds)),
    ]
    sheet = common.grid([row.pictures for row in rows], SIDE, [row.name for row in rows])
    common.save_sheet(sheet, out / f"presets-{name}.jpg")
    return (
        f"## {name}\n\n“{made.prompt}”; {len(request.layers)} layers, strengths as published (harmonize at .75 of "
        "their noise, cross-attention scaled to this model).\n\n"
        f"![{len(seeds)} seeds, unselected](presets-{name}.jpg)\n\n"
    )


def main() -> None:
    """Command line."""
    from pipelines.measure.features import Features
    from tests.benchmarks.embedded import load

    settings = common.protocol("presets")
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", default=[])
    parser.add_argument("--seeds", type=int, default=settings["seeds"])
    parser.add_argument("--judge", type=Path)
    parser.add_argument("--weights", type=Path, default=common.WEIGHTS)
    parser.add_argument("--out", type=Path, default=common.RESULTS)
    options = parser.parse_args()
    judge = Judge.load(options.judge) if options.judge else Judge.load()
    pipe = load(options.weights, "StableDiffusionImg2ImgPipeline")
    engine, features = common.engine(options.weights), Features(options.weights / "clip")
    weights = common.weights_digest(options.weights)
    seeds = [settings["seed"] + k for k in range(options.seeds)]
    options.out.mkdir(parents=True, exist_ok=True)
    command = ("python -m tests.benchmarks.presets " + " ".join(sys.argv[1:])).strip()
    text = common.heading("The presets beside plain img2img", command, settings, weights)
    raw: dict[str, Any] = {
        "protocol": settings,
        "weights": weights,
        "machine": common.machine(),
        "presets": {},
    }
    for name in track(options.names or [*settings["presets"], *settings["published"]], "presets"):
        if name in settings["published"]:
            text += published(name, engine, pipe, seeds[: settings["published_seeds"]], options.out)
            continue
        part, raw["presets"][name] = one(name, engine, pipe, judge, features, seeds, options.out)
        text += part
    (options.out / "presets.md").write_text(text)
    (options.out / "presets.json").write_text(json.dumps(raw, separators=(",", ":")) + "\n")
    print(text)


if __name__ == "__main__":
    main()
