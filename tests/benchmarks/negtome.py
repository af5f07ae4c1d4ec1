"""NegToMe, its rivals and their sums, where the truth is known: writes docs/results/negtome.md, its raw JSON and
unselected contact sheets.

``python -m tests.benchmarks.negtome [PART ...] [--n 200]``; parts are those of `PARTS`.

All settings of a row share prompt and seeds, and run through the project's own engine. Everything is frozen in
protocol/negtome.json before a run. Rows are kept one by one, so a stopped run goes on where it was; row k asks prompt
k mod 20 with the seed number k // 20, so that fewer rows still ask all prompts. ``curves``, ``axes``, ``windows``,
``longer`` and ``spread_longer`` run on the tuning seed.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from pipelines.embedded.judge import Judge
from pipelines.measure.features import Features
from tests.benchmarks import common
from tests.benchmarks.effects import draw, judge_folder
from tests.benchmarks.negtome_draw import SHEET_ROWS, Bench
from tests.benchmarks.negtome_measures import Row, Settings, names_of
from tests.benchmarks.negtome_report import page, section
from tests.benchmarks.negtome_scenes import TUNED, counts, frozen

PARTS = (
    "spread",
    "seconds",
    "avoid",
    "reach",
    "vary",
    "curves",
    "axes",
    "windows",
    "longer",
    "spread_longer",
    "spread_more",
)


def key_of(part: str, settings: Settings, weights: str, judge: str) -> str:
    """What rows of a part were made with: other settings of the part, other weights or another judge, another key."""
    told = (*PARTS, "about", "why", "loss")
    shared = {word: value for word, value in settings.items() if word not in told}
    also = [settings["spread"]] if part == "seconds" else []  # it times spread's settings
    return common.digest([shared, settings[part], *also, weights, judge])


def sheet(part: str, rows: Sequence[Row], folder: Path) -> Image.Image | None:
    """The first rows of a part: settings down, images across, pictures of all those rows side by side."""
    names = names_of(rows)
    count = min(SHEET_ROWS, len(rows))
    shown = []
    for name in names:
        files = [sorted(folder.glob(f"{part} {k} {name} [0-9]*.png")) for k in range(count)]
        if not all(files):
            return None
        shown.append([np.asarray(Image.open(path)) for each in files for path in each])
    labels = [name.replace("+", "\n+ ").replace(", ", ",\n") for name in names]
    return common.grid(shown, 112, labels)


def main() -> None:
    """Command line."""
    settings = common.protocol("negtome")
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "parts", nargs="*", default=[], help=f"of {', '.join(PARTS)} (all where none is named)"
    )
    parser.add_argument("--n", type=int, help="rows of each part (all where left out)")
    parser.add_argument("--freeze", action="store_true", help="write down the prompts' digest and stop")
    parser.add_argument("--judge", type=Path)
    parser.add_argument("--weights", type=Path, default=common.WEIGHTS)
    parser.add_argument("--out", type=Path, default=common.RESULTS)
    parser.add_argument("--rows", type=Path, default=common.RUNS, help="where rows are kept")
    options = parser.parse_args()
    common.hold_to("negtome", frozen(settings), options.freeze)
    if options.freeze:
        return
    unknown = set(options.parts) - set(PARTS)
    if unknown:
        parser.error(f"no part is called {unknown.pop()!r}")
    judge = Judge.load(options.judge) if options.judge else Judge.load()
    weights = common.weights_digest(options.weights)
    judged = common.weights_digest(judge_folder(options.judge))
    engine, features = common.engine(options.weights), Features(options.weights / "clip")
    options.out.mkdir(parents=True, exist_ok=True)
    raw_path = options.out / "negtome.json"
    raw: dict[str, Any] = json.loads(raw_path.read_text()) if raw_path.exists() else {"parts": {}}
    for part in options.parts or PARTS:
        key = key_of(part, settings, weights, judged)
        folder = options.rows / f"negtome-{part}-{key}"
        bench = Bench(engine, judge, features, settings, folder)
        _, warm, store = bench.of_row(part, 0)
        draw(engine, warm, store)  # the first run of a process also reads the weights
        whole = int(np.prod(counts(part, settings)))
        count = whole if options.n is None else min(options.n, whole)
        rows = common.kept_rows(folder.with_suffix(".jsonl"), count, getattr(bench, part), part)
        raw["parts"][part] = {
            "n": count,
            "key": key,
            "protocol": settings[part],
            "machine": common.machine(),
            "rows": rows,
        }
        print(section(part, rows, settings))
        picture = sheet(part, rows, folder) if part not in TUNED else None
        if picture is not None:
            common.save_sheet(picture, options.out / f"negtome-{part}.jpg")
    # what other settings or weights gave is not shown under these
    raw["parts"] = {
        part: one
        for part, one in raw["parts"].items()
        if one.get("key") == key_of(part, settings, weights, judged)
    }
    raw["protocol"] = settings
    raw_path.write_text(json.dumps(raw, separators=(",", ":")) + "\n")
    command = "` · `".join(
        f"python -m tests.benchmarks.negtome {part} --n {one['n']}" for part, one in raw["parts"].items()
    )
    heading = common.heading(
        "NegToMe and its rivals, where the truth is known", command, settings, weights, kept=True
    )
    (options.out / "negtome.md").write_text(page(heading, raw["parts"], settings, options.out))


if __name__ == "__main__":
    main()
