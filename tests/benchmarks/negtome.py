"""NegToMe, its rivals and their sums, where the truth is known: writes docs/results/negtome.md, its raw JSON and
unselected contact sheets.

``python -m tests.benchmarks.negtome [spread avoid vary curves] [--n 200]``

All settings of a row share prompt and seeds, and run through the project's own engine. Everything is frozen in
protocol/negtome.json before a run. Rows are kept one by one, so a stopped run goes on where it was; row k asks prompt
k mod 20 with the seed number k // 20, so that fewer rows still ask all prompts. ``curves`` runs on the tuning seed.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from pipelines.embedded.judge import Judge
from pipelines.embedded.training.captions import prompt_for
from pipelines.embedded.training.scenes import Scene, render
from pipelines.embedded.training.world import world
from pipelines.measure.features import Features, mean_pairwise_distance, vendi
from pipelines.measure.numbers import agreement, numbers
from pipelines.pictures import PictureStore, Pixels
from pipelines.request import AvoidRequest, LayerRequest, RenderRequest, Variant
from presets.recipes.build import WORLD, drawer_store
from studio.variants import variant
from tests.benchmarks import common
from tests.benchmarks.effects import draw, judge_folder
from tests.benchmarks.negtome_curves import avoid_ways, spread_ways
from tests.benchmarks.negtome_report import page, section
from tests.benchmarks.negtome_scenes import alternatives_of, frozen, prompt_of, scene_of
from tests.benchmarks.overhead import in_one_call

PARTS = ("spread", "avoid", "vary", "curves")
SHEET_ROWS = 3
"""Rows of a part whose pictures go on its contact sheet: the first, whatever they show."""
Settings = dict[str, Any]
Row = dict[str, Any]


class Bench:
    """Engine, judge and features with the settings of one run; ``sheets`` is where pictures for sheets are kept."""

    def __init__(
        self, engine: Any, judge: Judge, features: Features, settings: Settings, sheets: Path
    ) -> None:
        self.engine, self.judge, self.features = engine, judge, features
        self.settings, self.sheets = settings, sheets

    def of_row(self, part: str, k: int) -> tuple[Scene, RenderRequest, PictureStore]:
        """Scene, plain request and store of row k."""
        own = self.settings
        seed = own["tuning_seed" if part == "curves" else "seed"]
        number, turn = k % self.count(part)[0], k // self.count(part)[0]
        scene = scene_of(number, own, part)
        request = RenderRequest(
            model="embedded",
            width=256,
            height=256,
            prompt=prompt_of(scene),
            scheduler=own["scheduler"],
            steps=own["steps"],
            guidance=own["guidance"],
            seed=seed + 1000 * number + 20 * turn,
            images=own["images"],
        )
        return scene, request, PictureStore()

    def count(self, part: str) -> tuple[int, int]:
        """(prompts, seeds) of a part."""
        own = self.settings["curves"] if part == "curves" else self.settings
        return own["prompts_each"], own["seeds_each"]

    def seen(
        self, part: str, k: int, name: str, scene: Scene, request: RenderRequest, store: PictureStore
    ) -> tuple[Row, tuple[Pixels, ...]]:
        """One setting of a row: its pictures, what the judge sees in them, how they differ, processor seconds."""
        start = time.process_time()
        pictures = draw(self.engine, request, store)
        seconds = time.process_time() - start
        if k < SHEET_ROWS and part != "curves":
            for image, picture in enumerate(pictures):
                self.sheets.mkdir(parents=True, exist_ok=True)
                Image.fromarray(picture).save(self.sheets / f"{part} {k} {name} {image}.png")
        label = scene.items[0].label
        found = [one[0] for one in self.judge.find(pictures, [[label]] * len(pictures))]
        wholes = self.judge.whole(pictures)
        vectors = self.features.pictures(pictures)
        row = {
            "object": [one.right for one in found],
            "agreement": [
                one.right and whole.place == scene.place and whole.time == scene.time
                for one, whole in zip(found, wholes, strict=True)
            ],
            "open": {
                word: [getattr(one.region, word) if one.right else None for one in found]
                for word in ("colour", "tone", "gender")
            },
            "style": [whole.style for whole in wholes],
            "distance": round(mean_pairwise_distance(vectors), 5),
            "vendi": round(vendi(vectors), 4),
            "seconds": round(seconds, 2),
        }
        return row, pictures

    def ways(self, request: RenderRequest, scene: Scene) -> dict[str, RenderRequest]:
        """The rivals of spread and their sums."""
        own = self.settings["spread"]
        told = [variant([alternatives_of(scene)], request.seed + k)[0] for k in range(request.images)]
        changes: dict[str, Mapping[str, Any]] = {
            "cads": {"cads": own["cads"]},
            "interval": {"guidance_interval": tuple(own["interval"])},
            "variants": {"variants": tuple(Variant(prompt=one) for one in told)},
            "negtome": {
                "spread": own["alpha"],
                "spread_threshold": own["threshold"],
                "window": own["window"],
            },
        }
        sums = ("negtome+cads", "negtome+interval", "negtome+variants", "negtome+cads+interval+variants")
        found = {"off": request}
        for name in (*changes, *sums):
            both: dict[str, Any] = {}
            for way in name.split("+"):
                both |= changes[way]
            found[name] = request.replace(**both)
        push = {**changes["negtome"], "spread_by": "push", "spread": own["push"]}
        found["negtome, push"] = request.replace(**push)
        found["negtome, paper"] = request.replace(**push, spread_match="first")
        found["negtome, released"] = request.replace(**push, spread_match="first", axis="released")
        return found

    def spread(self, k: int) -> Row:
        """A batch with each way to make it differ, and with their sums."""
        scene, request, store = self.of_row("spread", k)
        row: Row = {"prompt": request.prompt, "label": scene.items[0].label}
        for name, asked in self.ways(request, scene).items():
            row[name], _ = self.seen("spread", k, name, scene, asked, store)
        row["off"]["together"] = self.together(request, store)
        return row

    def together(self, request: RenderRequest, store: PictureStore) -> float:
        """Processor seconds of a plain batch in one call: what NegToMe, whose images need one, is to be held against.

        On a CPU the engine samples images that do not depend on each other one by one, to keep them exact.
        """
        loaded = self.engine.load(request.model)
        start = time.process_time()
        in_one_call(loaded, request, store)
        return round(time.process_time() - start, 2)

    def avoiding(
        self, part: str, k: int
    ) -> tuple[Scene, RenderRequest, PictureStore, AvoidRequest, AvoidRequest]:
        """Row k with its true scene as the picture to avoid, whole and masked to its object; the prompt names the
        object alone.
        """
        own = self.settings["avoid"]
        scene, request, store = self.of_row(part, k)
        shown = render(scene, drawer_store())
        object_ = np.rint(shown.masks[0] * 255).astype(np.uint8)
        request = request.replace(
            prompt=prompt_for(world(WORLD), [scene.items[0].label]), window=self.settings[part]["window"]
        )
        whole = AvoidRequest(
            name="reference",
            picture=store.put(shown.image),
            alpha=own["alpha"],
            threshold=own["threshold"],
        )
        return scene, request, store, whole, dataclasses.replace(whole, mask=store.put(object_))

    def likeness(
        self, request: RenderRequest, pictures: Sequence[Pixels], store: PictureStore, avoid: AvoidRequest
    ) -> list[float]:
        """How like the picture to avoid each picture is, whether or not the request avoids it."""
        told = numbers(request.replace(avoids=(avoid,)), pictures, store, self.features)
        found: list[float] = told["avoids"][0]["inside"]
        return found

    def avoid(self, k: int) -> Row:
        """A true scene as the picture to avoid, by each way, masked to its object and not; and said in words."""
        scene, request, store, whole, masked = self.avoiding("avoid", k)
        label, colour = scene.items[0].label, scene.items[0].colour
        pushed = dataclasses.replace(whole, alpha=self.settings["avoid"]["push"])
        said = prompt_for(world(WORLD), [label], [colour], scene.place, scene.time)
        rest = prompt_of(scene).removeprefix(request.prompt)
        ways: dict[str, dict[str, Any]] = {
            "off": {},
            "push": {"avoids": (pushed,), "avoid_by": "push"},
            "push, masked": {
                "avoids": (dataclasses.replace(masked, alpha=pushed.alpha),),
                "avoid_by": "push",
            },
            "guidance": {"avoids": (whole,)},
            "guidance, masked": {"avoids": (masked,)},
            "negative prompt": {"negative_prompt": said},
            # what the prompt asks for is not to be driven out
            "negative prompt, without the object": {"negative_prompt": f"{colour or ''} {rest}".strip()},
            "guidance+negative prompt": {"avoids": (whole,), "negative_prompt": said},
        }
        row: Row = {"prompt": request.prompt, "label": label, "negative": said}
        for name, changes in ways.items():
            row[name], pictures = self.seen("avoid", k, name, scene, request.replace(**changes), store)
            for word, reference in {"whole": whole, "object": masked}.items():
                row[name][f"{word} similarity"] = self.likeness(request, pictures, store, reference)
        return row

    def vary(self, k: int) -> Row:
        """One layer of a collage that varies, the rest free or pinned: how far apart inside, and outside?"""
        own = self.settings["vary"]
        scene, request, store = self.of_row("vary", k)
        flat = render(scene, drawer_store(), light=False)
        mask = np.rint(flat.masks[0] * 255).astype(np.uint8)
        words = prompt_for(world(WORLD), [scene.items[0].label]).split(" ", 1)[1]
        start = request.prompt.index(words)
        layer = LayerRequest(
            name=scene.items[0].label,
            mask=store.put(mask),
            span=(start, start + len(words)),
            harmonize=1.0,
        )
        request = request.replace(
            collage=store.put(flat.image),
            layers=(layer,),
            spread_threshold=own["threshold"],
            window=own["window"],
        )
        varied = (dataclasses.replace(layer, vary=own["alpha"]),)
        pinned = store.put(np.dstack([flat.image, 255 - mask]))
        ways: dict[str, dict[str, Any]] = {
            "off": {},
            "vary": {"layers": varied},
            "vary, rest pinned": {"layers": varied, "background_harmonize": 0.0, "frozen": pinned},
        }
        row: Row = {"prompt": request.prompt, "label": scene.items[0].label}
        for name, changes in ways.items():
            row[name], pictures = self.seen("vary", k, name, scene, request.replace(**changes), store)
            row[name] |= agreement(mask >= 128, pictures, self.features)
            row[name]["exact"] = agreement(mask > 0, pictures, self.features)["apart"]
        return row

    def curves(self, k: int) -> Row:
        """Every alpha and threshold: spread by the right axis and by the released code's rule, avoid by both ways; and
        the rivals at several strengths.
        """
        own = self.settings["curves"]
        scene, request, store = self.of_row("curves", k)
        row: Row = {"prompt": request.prompt, "label": scene.items[0].label}
        for name, changes in spread_ways(own).items():
            row[name], _ = self.seen("curves", k, name, scene, request.replace(**changes), store)
        scene, request, store, whole, _ = self.avoiding("curves", k)
        for name, changes in avoid_ways(own, whole).items():
            row[name], pictures = self.seen("curves", k, name, scene, request.replace(**changes), store)
            row[name]["whole similarity"] = self.likeness(request, pictures, store, whole)
        return row


def sheet(part: str, rows: Sequence[Row], folder: Path) -> Image.Image | None:
    """The first rows of a part: settings down, images across, pictures of all those rows side by side."""
    names = [name for name, value in rows[0].items() if isinstance(value, dict)]
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
        told = (*PARTS, "about", "why", "loss")
        shared = {word: value for word, value in settings.items() if word not in told}
        key = common.digest([shared, settings[part], weights, judged])
        folder = options.rows / f"negtome-{part}-{key}"
        bench = Bench(engine, judge, features, settings, folder)
        _, warm, store = bench.of_row(part, 0)
        draw(engine, warm, store)  # the first run of a process also reads the weights
        whole = int(np.prod(bench.count(part)))
        count = whole if options.n is None else min(options.n, whole)
        rows = common.kept_rows(folder.with_suffix(".jsonl"), count, getattr(bench, part), part)
        raw["parts"][part] = {
            "n": count,
            "weights": weights,
            "protocol": settings[part],
            "machine": common.machine(),
            "rows": rows,
        }
        print(section(part, rows, settings))
        picture = sheet(part, rows, folder) if part != "curves" else None
        if picture is not None:
            common.save_sheet(picture, options.out / f"negtome-{part}.jpg")
    # what other settings or weights gave is not shown under these
    raw["parts"] = {
        part: one
        for part, one in raw["parts"].items()
        if (one["weights"], one["protocol"]) == (weights, settings[part])
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
