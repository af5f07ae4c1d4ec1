"""What it costs to render one layer anew, and what it leaves alone: writes docs/results/edit_layer.md and raw JSON.

``python -m tests.benchmarks.edit_layer [--n 200] [--freeze]``

The same collage rendered whole and, on a result of it, its one layer alone, through the project's own engine: time and
counted work of the denoiser (latent cells times calls) against the layer's area, the largest difference outside the
feathered mask, and whether the judge still recognises the object. Rows are kept, so a stopped run goes on.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pipelines.embedded.judge import Judge
from pipelines.embedded.training.scenes import Scene
from pipelines.events import Finished, RenderResult
from pipelines.measure.intervals import bootstrap, wilson
from pipelines.pictures import PictureStore
from presets.recipes.build import Preset, compose, drawer_store, item
from studio.edit_layer import edit_layer
from studio.to_request import to_request
from tests.benchmarks import common
from tests.benchmarks.collage import Row, Shot, sheet, shot
from tests.benchmarks.effects import judge_folder

SIDE = 256
SHOWN = ("underneath", "rendered whole", "one layer alone")


def layout(k: int, settings: dict[str, Any]) -> Preset:
    """Row k: a random object of the area whose turn it is, wholly on the canvas, at a random place and time."""
    rng = np.random.default_rng([settings["seed"], k])
    area = settings["areas"][k % len(settings["areas"])]
    scene = common.drawer_scene(rng, count=1)
    label = scene.items[0].label
    alpha = drawer_store()[item(label, 0, 0, 1).key][..., 3] / 255
    longest = max(alpha.shape)
    # as large as it must be for its area, but never larger than the canvas
    size = min(SIDE, round((area * SIDE**2 * longest**2 / float(alpha.sum())) ** 0.5))
    half = [size * side / longest / 2 for side in (alpha.shape[1], alpha.shape[0])]
    x, y = (float(rng.uniform(reach, SIDE - reach)) for reach in half)
    placed = item(label, x, y, size, flip=scene.items[0].flip)
    placed_scene: Scene = dataclasses.replace(scene, items=(placed,))
    preset = compose("Edit one layer", placed_scene, each={}, background_harmonize=0.8)
    return dataclasses.replace(preset, collage=preset.collage.replace(seed=settings["seed"] + k))


def frozen(settings: dict[str, Any]) -> list[str]:
    """The prompts of all rows."""
    return [layout(k, settings).collage.prompt for k in range(settings["n"])]


class Bench:
    """One engine and its judge, and the latent cells that the denoiser was given."""

    def __init__(self, engine: Any, judge: Judge, settings: dict[str, Any]) -> None:
        self.engine, self.judge, self.settings = engine, judge, settings
        self.cells = 0
        engine.load("embedded").pipe.unet.register_forward_pre_hook(self._count)

    def _count(self, _module: Any, args: tuple[Any, ...]) -> None:
        self.cells += args[0].shape[0] * args[0].shape[2] * args[0].shape[3]

    def row(self, k: int) -> Shot:
        """Render whole, then alone on a result; the other way round in every second row. With the pictures."""
        preset = layout(k, self.settings)
        collage, library = preset.collage, preset.library
        ground = self._whole(collage, library)[0].pictures[0]
        if k % 2:
            alone, spent_alone = self._alone(collage, library, ground)
            whole, spent_whole = self._whole(collage, library)
        else:
            whole, spent_whole = self._whole(collage, library)
            alone, spent_alone = self._alone(collage, library, ground)
        mask = to_request(collage, library, PictureStore()).composition.visible[0]
        numbers: Any = alone.report["numbers"]
        edit: Any = alone.report["edit"]
        pictures = [whole.pictures[0], alone.pictures[0]]
        seen = self.judge.regions(pictures, [mask, mask])
        row = {
            "label": preset.truth.items[0].label,
            "asked": self.settings["areas"][k % len(self.settings["areas"])],
            "area": float(mask.mean()),
            "run": edit["run_at"][0] * edit["run_at"][1] / SIDE**2,
            "whole": spent_whole,
            "alone": spent_alone,
            "outside": numbers["outside"]["largest"][0],
            "recognised": [one.label == preset.truth.items[0].label for one in seen],
        }
        return row, [ground, *pictures]

    def _whole(self, collage: Any, library: Any) -> tuple[RenderResult, list[float]]:
        store = PictureStore()

        def run() -> RenderResult:
            return finished(self.engine.render(to_request(collage, library, store).request, store))

        return self._timed(run)

    def _alone(self, collage: Any, library: Any, ground: Any) -> tuple[RenderResult, list[float]]:
        store, again = PictureStore(), collage.replace(seed=collage.seed + 1)

        def run() -> RenderResult:
            edit = edit_layer(again, library, store, ground, collage.layers[0].id)
            return finished(edit.pasted(self.engine.render(edit.request, store), store))

        return self._timed(run)

    def _timed(self, run: Callable[[], RenderResult]) -> tuple[RenderResult, list[float]]:
        """The result and [processor seconds, wall seconds, latent cells times denoiser calls]."""
        self.cells = 0
        wall, used = time.perf_counter(), time.process_time()
        result = run()
        spent = [time.process_time() - used, time.perf_counter() - wall, float(self.cells)]
        return result, spent


def finished(events: Any) -> RenderResult:
    """The result of a run."""
    *_, last = events
    assert isinstance(last, Finished)
    return last.result


def section(rows: Sequence[Row], settings: dict[str, Any]) -> str:
    """The table, a line an area, and the two verdicts."""
    lines, shares = [], {}
    for area in settings["areas"]:
        own = [row for row in rows if row["asked"] == area]
        if not own:
            continue
        ratios = [
            bootstrap([row["alone"][clock] / row["whole"][clock] for row in own]) for clock in (2, 0, 1)
        ]
        shares[area] = ratios
        before, after = (wilson(sum(row["recognised"][n] for row in own), len(own)) for n in (0, 1))
        lines.append(
            [
                f"{100 * area:g} %",
                str(len(own)),
                f"{100 * float(np.mean([row['run'] for row in own])):.0f} %",
                *(common.percent(ratio) for ratio in ratios),
                str(max(row["outside"] for row in own)),
                common.percent(before),
                common.percent(after),
            ]
        )
    heads = [
        "layer's area",
        "n",
        "pixels run, of the canvas's",
        "denoiser work",
        "processor time",
        "wall time",
    ]
    heads += ["largest change outside, of 255", "recognised, rendered whole", "rendered alone"]
    text = common.table(heads, lines) + "\n"
    target = settings["target"]
    if target["area"] in shares:
        work, _, wall = shares[target["area"]]
        met = common.all_of(common.within(one, most=target["share"]) for one in (work, wall))
        text += (
            f"A layer of {100 * target['area']:g} % costs at most {100 * target['share']:g} % of the whole run, in "
            f"work and in wall time: {common.reached(met)}. "
        )
    most = max(row["outside"] for row in rows)
    text += (
        f"Outside the feathered mask nothing changes: {'**holds**' if most == 0 else '**does not hold**'}.\n"
    )
    return text


ABOUT = """Work is latent cells times calls of the denoiser. Ratios are taken inside a row, rendered alone against
rendered whole, both at the default strengths (layer .5, background .8): at equal steps the work is the third column.
Times hold everything from the document to the last number of the report, with the model loaded. They follow the area
less than work does, as a call of this small denoiser has a fixed cost: on 4 × 4 latent cells it takes 14 ms, on all
32 × 32 102 ms (the least of 12 calls on a machine that did nothing else, with the text's keys and values remembered).
Document, words, encoding, decoding and numbers take another tenth of an edit.

"""


def main() -> None:
    """Command line."""
    settings = common.protocol("edit_layer")
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--n", type=int, default=settings["n"])
    parser.add_argument("--freeze", action="store_true", help="write down the prompts' digest and stop")
    parser.add_argument("--weights", type=Path, default=common.WEIGHTS)
    parser.add_argument("--out", type=Path, default=common.RESULTS)
    options = parser.parse_args()
    common.hold_to("edit_layer", frozen(settings), options.freeze)
    if options.freeze:
        return
    weights = common.weights_digest(options.weights)
    bench = Bench(common.engine(options.weights), Judge.load(), settings)
    bench.row(0)  # warms up
    kept = (
        common.RUNS
        / f"edit_layer-{common.digest([settings, weights, common.weights_digest(judge_folder(None))])}"
    )
    rows = common.kept_rows(kept.with_suffix(".jsonl"), options.n, shot(bench.row, kept), "edit one layer")
    options.out.mkdir(parents=True, exist_ok=True)
    common.save_sheet(sheet(kept, SHOWN), options.out / "edit_layer.jpg")
    raw = {"protocol": settings, "weights": weights, "machine": common.machine(), "rows": rows}
    (options.out / "edit_layer.json").write_text(json.dumps(raw, separators=(",", ":")) + "\n")
    command = ("python -m tests.benchmarks.edit_layer " + " ".join(sys.argv[1:])).strip()
    text = (
        common.heading("Edit one layer", command, settings, weights, kept=True)
        + ABOUT
        + section(rows, settings)
    )
    text += "\n![the first layouts, unselected](edit_layer.jpg)\n"
    text += "\nIntervals: 95 %, bootstrap over rows for ratios, Wilson for shares.\n"
    (options.out / "edit_layer.md").write_text(text)
    print(text)


if __name__ == "__main__":
    main()
