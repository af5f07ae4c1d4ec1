"""What the methods cost: writes docs/results/overhead.md and the raw pairs, overhead.json.

``python -m tests.benchmarks.overhead [--model FOLDER] [--repeats 9] [--out FOLDER]``

Whole runs against the stock pipeline on the same loaded model, same steps, same number of denoiser calls. Processor
time counts what all threads did, wall time what a user waits; both are paired inside a round.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.progress import track

from pipelines import schedulers
from pipelines.attention.kernel import Kernel
from pipelines.attention.tap import installed
from pipelines.embedded.training.world import world
from pipelines.engine import Engine, Loaded
from pipelines.measure.intervals import bootstrap
from pipelines.pictures import PictureStore
from pipelines.request import LayerRequest, RenderRequest
from presets.recipes.build import WORLD
from tests.benchmarks import common

Contender = Callable[[], object]


def words(count: int) -> list[str]:
    """The first ``count`` objects of the embedded world, each by one word that no other has."""
    known = world(WORLD)
    found = dict.fromkeys(known.words[label][0] for label in known.labels if " " not in known.words[label][0])
    return list(found)[:count]


def request_of(model: str, side: int, settings: dict[str, Any], steps: int, **changes: Any) -> RenderRequest:
    """Plain text-to-image with the words of all layers, whatever the number of layers: one text for all contenders."""
    return RenderRequest(
        model=model,
        width=side,
        height=side,
        prompt=", ".join(words(max(settings["layers"]))),
        scheduler=settings["scheduler"],
        guidance=settings["guidance"],
        steps=steps,
        seed=settings["seed"],
        **changes,
    )


def layered(plain: RenderRequest, count: int, settings: dict[str, Any], store: PictureStore) -> RenderRequest:
    """``count`` layers side by side, free to change from the first step, so that only their attention differs."""
    layers, at, side = [], 0, plain.width
    for number, word in enumerate(words(count)):
        mask = np.zeros((plain.height, side), np.uint8)
        mask[:, side * number // count : side * (number + 1) // count] = 255
        start = plain.prompt.index(word, at)
        at = start + len(word)
        layers.append(
            LayerRequest(
                name=word,
                mask=store.put(mask),
                span=(start, at),
                harmonize=1.0,
                attend_inside=settings["attend_inside"],
                attend_outside=settings["attend_outside"],
            )
        )
    flat = np.full((plain.height, side, 3), 128, np.uint8)
    return plain.replace(collage=store.put(flat), layers=tuple(layers), background_harmonize=1.0)


def stock(loaded: Loaded, request: RenderRequest) -> object:
    """The stock pipeline as anybody would call it, images in one batch."""
    scheduler = schedulers.build(
        request.scheduler, loaded.pipe.scheduler, loaded.card, pinned=False, steps=request.steps
    )
    pipe = loaded.family.pipeline(loaded.pipe, scheduler, from_picture=False)
    pipe.set_progress_bar_config(disable=True)
    return pipe(
        prompt=request.prompt,
        height=request.height,
        width=request.width,
        num_inference_steps=request.steps,
        guidance_scale=request.guidance,
        num_images_per_prompt=request.images,
        generator=[torch.Generator().manual_seed(request.seed + k) for k in range(request.images)],
        output_type="np",
    )


def silent(loaded: Loaded, request: RenderRequest) -> object:
    """The stock pipeline with every processor tapped and both slots answering "nothing to do"."""
    kernel = Kernel([lambda *_: None], [lambda _site, out: out])
    with installed(loaded.pipe.unet, kernel, loaded.family.site):
        return stock(loaded, request)


def contenders(
    engine: Engine, model: str, settings: dict[str, Any], steps: int
) -> dict[str, tuple[Contender, str]]:
    """Name → (what is timed, the name it is compared with)."""
    loaded, store = engine.load(model), PictureStore()
    plain = request_of(model, loaded.card.side, settings, steps)
    batch = plain.replace(images=settings["images"])
    spread = batch.replace(
        spread=settings["spread"], spread_threshold=settings["spread_threshold"], window=settings["window"]
    )

    def engine_run(request: RenderRequest) -> Contender:
        return lambda: list(engine.render(request, store))

    alone, together = "stock", f"stock, {batch.images} images in one batch"
    found: dict[str, tuple[Contender, str]] = {
        alone: (lambda: stock(loaded, plain), alone),
        "engine, all off": (engine_run(plain), alone),
        "tapped, slots silent": (lambda: silent(loaded, plain), alone),
        together: (lambda: stock(loaded, batch), together),
        f"spread over {batch.images} images": (engine_run(spread), together),
    }
    for count in settings["layers"]:
        found[f"layer attention, {count} layers"] = (
            engine_run(layered(plain, count, settings, store)),
            alone,
        )
    return found


def measure(runs: dict[str, tuple[Contender, str]], repeats: int, what: str) -> list[dict[str, Any]]:
    """One row a round: name → [processor seconds, wall seconds]. The first round warms up and is not kept."""
    return [one_round(runs, turn) for turn in track(range(repeats + 1), what)][1:]


def one_round(runs: dict[str, tuple[Contender, str]], turn: int) -> dict[str, list[float]]:
    """Each contender once, in an order that turns with ``turn``: name → [processor seconds, wall seconds]."""
    row: dict[str, list[float]] = {}
    names = list(runs)
    shift = turn % len(names)
    order = names[shift:] + names[:shift]
    for name in order if turn % 2 else reversed(order):
        wall, used = time.perf_counter(), time.process_time()
        runs[name][0]()
        row[name] = [time.process_time() - used, time.perf_counter() - wall]
    return row


def ratios(rows: Sequence[dict[str, Any]], name: str, base: str, clock: int) -> str:
    """The mean ratio inside rounds with its interval, and the median."""
    found = [row[name][clock] / row[base][clock] for row in rows]
    return f"{common.number(bootstrap(found))}, median {np.median(found):.3f}"


def main() -> None:
    """Time everything and write both files."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--model", default="embedded", help="a model's name or folder")
    parser.add_argument("--repeats", type=int)
    parser.add_argument("--out", type=Path, default=common.RESULTS)
    asked = parser.parse_args()
    settings = common.protocol("overhead")
    repeats = asked.repeats or settings["repeats"]
    engine = Engine()
    folder = engine.load(asked.model).card.folder
    weights = common.weights_digest(folder) if folder else asked.model
    raw: dict[str, Any] = {"machine": common.machine(), "weights": weights, "repeats": repeats, "seconds": {}}
    command = "python -m tests.benchmarks.overhead"
    page = common.heading("What the methods cost", command, settings, weights)
    page += (
        f"{repeats} rounds. A ratio above 1 is slower than what it is compared with; the interval is a 95 % bootstrap "
        "over rounds. Seconds of every run: `overhead.json`, as [processor, wall].\n"
    )
    for steps in settings["steps"]:
        runs = contenders(engine, asked.model, settings, steps)
        rows = measure(runs, repeats, f"{steps} steps")
        raw["seconds"][str(steps)] = rows
        lines = [
            [
                name,
                base,
                ratios(rows, name, base, 0),
                ratios(rows, name, base, 1),
                f"{np.median([row[name][1] for row in rows]):.2f}",
            ]
            for name, (_, base) in runs.items()
            if name != base
        ]
        headers = ["run", "against", "processor time, ratio", "wall time, ratio", "median wall seconds"]
        page += f"\n## {steps} steps\n\n{common.table(headers, lines)}"
    asked.out.mkdir(parents=True, exist_ok=True)
    (asked.out / "overhead.json").write_text(json.dumps(raw, indent=1) + "\n")
    (asked.out / "overhead.md").write_text(page)


if __name__ == "__main__":
    main()
