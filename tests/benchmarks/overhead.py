"""What the methods cost: writes docs/results/overhead.md and the raw pairs, overhead.json.

``python -m tests.benchmarks.overhead [--model FOLDER] [--repeats 9] [--out FOLDER]``

Whole runs against the stock pipeline on the same loaded model, same steps, same number of denoiser calls. Processor
time counts what all threads did, wall time what a user waits. Each run stands beside its own run of what it is compared
with, since a machine that others use too changes within seconds.
"""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import json
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.progress import track

from pipelines import sampling, schedulers
from pipelines.attention.kernel import Kernel
from pipelines.attention.tap import installed
from pipelines.embedded.training.world import world
from pipelines.engine import Engine, Loaded
from pipelines.measure.intervals import Interval, bootstrap
from pipelines.methods import methods_for
from pipelines.pictures import PictureStore
from pipelines.request import AvoidRequest, LayerRequest, RenderRequest
from presets.recipes.build import WORLD
from tests.benchmarks import common

Contender = Callable[[], object]
NOISE = 1.02
"""A ratio up to this is 1 within noise, the target of what is installed and off: the margin that more layers have."""


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


def first_renders(request: RenderRequest, store: PictureStore) -> Iterator[RenderRequest]:
    """The request again and again, with a picture to avoid that is encoded anew: the engine keeps the last 32."""
    for number in itertools.count():
        picture = store.put(np.full((request.height, request.width, 3), 1 + number % 255, np.uint8))
        yield request.replace(avoids=(dataclasses.replace(request.avoids[0], picture=picture),))


def in_one_call(loaded: Loaded, request: RenderRequest, store: PictureStore) -> object:
    """All images of a request in one batch, which the engine does on a GPU; on a CPU it runs them one after another."""
    return sampling.sample(
        loaded.pipe,
        loaded.family,
        loaded.card,
        request,
        store,
        methods_for(request),
        [request.seed + k for k in range(request.images)],
        lambda *_: None,
    )


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
    flat = store.put(np.full((plain.height, plain.width, 3), 128, np.uint8))
    avoid = AvoidRequest(name="that", picture=flat, alpha=1.0, threshold=settings["avoid_threshold"])
    avoids = first_renders(plain.replace(avoids=(avoid,), window=settings["window"]), store)
    few = settings["layers"][0]
    layers_together = layered(plain, few, settings, store).replace(images=batch.images)

    def engine_run(request: RenderRequest) -> Contender:
        return lambda: list(engine.render(request, store))

    alone, together = "stock", f"stock, {batch.images} images in one batch"
    found: dict[str, tuple[Contender, str]] = {
        alone: (lambda: stock(loaded, plain), alone),
        "engine, all off": (engine_run(plain), alone),
        "tapped, slots silent": (lambda: silent(loaded, plain), alone),
        together: (lambda: stock(loaded, batch), together),
        f"spread over {batch.images} images": (engine_run(spread), together),
        f"layer attention, {few} layers, {batch.images} images in one batch": (
            lambda: in_one_call(loaded, layers_together, store),
            together,
        ),
        "one avoid reference": (lambda: list(engine.render(next(avoids), store)), alone),
    }
    for count in settings["layers"]:
        found[f"layer attention, {count} layers"] = (
            engine_run(layered(plain, count, settings, store)),
            alone,
        )
    return found


Pair = tuple[str, str]
"""(a run, what it is compared with)"""
Rows = list[dict[str, list[float]]]
"""Name → [processor seconds, wall seconds], a row a round."""


def side_by_side(
    runs: dict[str, tuple[Contender, str]], pairs: Sequence[Pair], repeats: int, what: str
) -> dict[Pair, Rows]:
    """`one_round` again and again. The first warms up and is not kept."""
    return paired([one_round(runs, pairs, turn) for turn in track(range(repeats + 1), what)][1:])


def one_round(runs: dict[str, tuple[Contender, str]], pairs: Sequence[Pair], turn: int) -> dict[str, Any]:
    """Each pair's two runs in immediate succession, in every second round the other way round; JSON-ready.

    ``pairs``: [name, what it is compared with, [processor seconds, wall seconds], those of the other], for each.
    """
    found = []
    for name, base in pairs:
        row = {one: timed(runs[one][0]) for one in ((name, base) if turn % 2 else (base, name))}
        found.append([name, base, row[name], row[base]])
    return {"pairs": found}


def paired(rounds: Sequence[dict[str, Any]]) -> dict[Pair, Rows]:
    """Rounds by pair."""
    found: dict[Pair, Rows] = {}
    for one in rounds:
        for name, base, own, other in one["pairs"]:
            found.setdefault((name, base), []).append({name: own, base: other})
    return found


def timed(run: Contender) -> list[float]:
    """[processor seconds, wall seconds] of a run."""
    wall, used = time.perf_counter(), time.process_time()
    run()
    return [time.process_time() - used, time.perf_counter() - wall]


def ratio(rows: Sequence[dict[str, Any]], name: str, base: str, clock: int) -> Interval:
    """The mean ratio inside rounds, bootstrapped over rounds."""
    return bootstrap([row[name][clock] / row[base][clock] for row in rows])


def ratios(rows: Sequence[dict[str, Any]], name: str, base: str, clock: int) -> str:
    """`ratio` with its interval, and the median."""
    median = np.median([row[name][clock] / row[base][clock] for row in rows])
    return f"{common.number(ratio(rows, name, base, clock))}, median {median:.3f}"


def kind_of(name: str, base: str, targets: dict[str, float]) -> str | None:
    """Which target a run has: the one that its name begins with; ``more layers`` is against fewer layers."""
    if base.startswith("layer attention"):
        return "more layers" if "more layers" in targets else None
    return next((start for start in targets if name.startswith(start)), None)


def target_of(name: str, base: str, targets: dict[str, float]) -> float | None:
    """The target of a run, None where there is none."""
    kind = kind_of(name, base, targets)
    return None if kind is None else targets[kind]


def verdict(found: Interval, target: float | None) -> str:
    """A ratio held against its target: open where its interval reaches over it."""
    return "–" if target is None else said(target, met(found, target))


def met(found: Interval, target: float) -> bool | None:
    """Whether a ratio is at most its target, None where its interval reaches over it; at most `NOISE` for 1."""
    return common.within(found, most=NOISE if target == 1 else target)


def said(target: float, true: bool | None) -> str:
    """A target and whether it is met, in words."""
    what = f"1 within noise (≤ {NOISE:g})" if target == 1 else f"≤ {target:g}"
    return f"{what}: {common.reached(true)}"


def pairs_of(runs: dict[str, tuple[Contender, str]], settings: dict[str, Any]) -> list[Pair]:
    """Each run with what it is compared with; and the most layers with the fewest."""
    few, most = (f"layer attention, {count} layers" for count in settings["layers"])
    return [*((name, base) for name, (_, base) in runs.items() if name != base), (most, few)]


def section(found: dict[Pair, Rows], settings: dict[str, Any]) -> str:
    """A line a pair with its target's verdict, by processor time."""
    lines = []
    for (name, base), rows in found.items():
        target = target_of(name, base, settings["targets"])
        lines.append(
            [
                name,
                base,
                ratios(rows, name, base, 0),
                ratios(rows, name, base, 1),
                verdict(ratio(rows, name, base, 0), target),
                f"{np.median([row[name][1] for row in rows]):.2f}",
            ]
        )
    headers = ["run", "against", "processor time, ratio", "wall time, ratio", "target", "median wall seconds"]
    return common.table(headers, lines)


def together(found: Sequence[dict[Pair, Rows]], settings: dict[str, Any]) -> str:
    """A line a target, over all pairs of all numbers of steps that it is for; reached where each of them reaches it."""
    every: dict[str, list[list[float]]] = {}
    for pairs in found:
        for (name, base), rows in pairs.items():
            start = kind_of(name, base, settings["targets"])
            if start is not None:
                every.setdefault(start, []).append([row[name][0] / row[base][0] for row in rows])
    lines = []
    for start, each in every.items():
        pooled, target = list(itertools.chain.from_iterable(each)), settings["targets"][start]
        ratio_ = bootstrap(pooled)
        true = common.all_of(met(bootstrap(one), target) for one in each)
        told = f"{common.number(ratio_)}, median {np.median(pooled):.3f}"
        lines.append([start, str(ratio_.n), told, said(target, true)])
    return common.table(["all that is called", "pairs", "processor time, ratio", "target"], lines)


def report(raw: dict[str, Any], settings: dict[str, Any]) -> str:
    """The page under its heading, from what `main` writes to overhead.json."""
    page = (
        f"{raw['repeats']} rounds. A ratio above 1 is slower than what it is compared with; the interval is a 95 % "
        "bootstrap over rounds. A target is held against the interval of processor time, and open where that reaches "
        f"over it; 1, the target of what is installed and off, is reached within noise of {NOISE - 1:.2f}. "
        "The avoid reference is another picture in every run, so its encoding is in it. Images that do not act on each "
        "other the engine draws one after another on a CPU; layer attention in one batch is timed as it runs on a GPU, "
        "in one call, against the stock batch. SDXL's shape: `python -m tests.benchmarks.family_times`. Seconds of "
        "every pair: `overhead.json`, as [[processor, wall] of the run, of what it is against].\n"
    )
    every: list[dict[Pair, Rows]] = []
    for steps, pairs in raw["seconds"].items():
        every.append({})
        for pair in pairs:
            name, base = pair["run"], pair["against"]
            every[-1][name, base] = [{name: own, base: other} for own, other in pair["rounds"]]
        page += f"\n## {steps} steps\n\n{section(every[-1], settings)}"
    return page + (
        "\n## All together\n\nRuns of several kinds count for one target: it is reached where each of them reaches it, "
        f"missed where one misses it, and else open.\n\n{together(every, settings)}"
    )


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
    heading = common.heading("What the methods cost", command, settings, weights)
    for steps in settings["steps"]:
        runs = contenders(engine, asked.model, settings, steps)
        found = side_by_side(runs, pairs_of(runs, settings), repeats, f"{steps} steps")
        raw["seconds"][str(steps)] = [
            {"run": name, "against": base, "rounds": [[row[name], row[base]] for row in rows]}
            for (name, base), rows in found.items()
        ]
    asked.out.mkdir(parents=True, exist_ok=True)
    (asked.out / "overhead.json").write_text(json.dumps(raw, indent=1) + "\n")
    (asked.out / "overhead.md").write_text(heading + report(raw, settings))


if __name__ == "__main__":
    main()
