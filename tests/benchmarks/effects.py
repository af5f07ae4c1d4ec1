"""The four effects of the studio's methods, measured where the truth is known: writes docs/results/effects.md
and raw JSON.

``python -m tests.benchmarks.effects [attention harmonize spread avoid] [--n 200]``

With and without share seeds, layouts and prompts, and run through the project's own engine. Everything is
frozen in protocol/effects.json before a run; ``--tune`` uses other seeds, for choosing those settings, and
writes no page.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pipelines.embedded.judge import Judge
from pipelines.embedded.training.captions import prompt_for
from pipelines.embedded.training.scenes import Scene, render
from pipelines.embedded.training.world import COLOURS, world
from pipelines.events import Finished
from pipelines.measure.features import Features, mean_pairwise_distance
from pipelines.measure.similarity import masked_error
from pipelines.pictures import PictureStore, Pixels
from pipelines.request import AvoidRequest, LayerRequest, RenderRequest
from presets.recipes.build import WORLD, drawer_store
from tests.benchmarks import common
from tests.benchmarks.effects_report import page, section

CLAIMS = ("attention", "harmonize", "spread", "avoid")
Settings = dict[str, Any]
Row = dict[str, Any]


def scene_of(claim: str, k: int, seed: int) -> tuple[Scene, list[str | None]]:
    """Layout k of a claim and the colours its prompt asks for."""
    rng, chosen = np.random.default_rng([seed, CLAIMS.index(claim), k]), world(WORLD)
    if claim == "attention":
        scene = common.drawer_scene(rng, count=2)
        colours = [list(COLOURS)[c] for c in rng.choice(len(COLOURS), 2, replace=False)]
        wanted = [
            c if i.label in chosen.recolourable else None for i, c in zip(scene.items, colours, strict=True)
        ]
        return scene, wanted
    if claim == "harmonize":
        time = ("sunset", "night")[k % 2]
        scene = common.drawer_scene(rng, count=1 + int(rng.integers(3)), time=time)
        return scene, [None] * len(scene.items)
    # People and coloured objects: what the prompt leaves open is skewed, so there is something to spread.
    open_ = [*sorted(chosen.recolourable), *chosen.roles]
    return common.drawer_scene(rng, labels=[open_[int(rng.integers(len(open_)))]]), [None]


def words(scene: Scene, colours: Sequence[str | None]) -> tuple[str, list[tuple[int, int]]]:
    """The prompt, and where each object's words stand in it."""
    chosen = world(WORLD)
    prompt = prompt_for(chosen, [i.label for i in scene.items], list(colours), scene.place, scene.time)
    spans, start = [], 0
    for item, colour in zip(scene.items, colours, strict=True):
        phrase = f"{colour or ''} {chosen.words[item.label][0]}".strip()
        start = prompt.index(phrase, start)
        spans.append((start, start + len(phrase)))
        start += len(phrase)
    return prompt, spans


def count(settings: Settings, claim: str) -> int:
    """Layouts of a claim: its own number where it has one."""
    return int(settings[claim].get("n", settings["n"]))


def prompts(settings: Settings) -> list[str]:
    """All that are counted, claim by claim: what is frozen."""
    return [
        words(*scene_of(claim, k, settings["seed"]))[0]
        for claim in CLAIMS
        for k in range(count(settings, claim))
    ]


def key_of(claim: str, settings: Settings, seed: int, weights: str, judge: str) -> str:
    """What rows of a claim were made with: other settings of the claim, other weights or another judge, another key."""
    shared = [settings[word] for word in ("guidance", "scheduler", "prompts")]
    return common.digest([settings[claim], shared, seed, weights, judge])


def base(settings: Settings, claim: str, seed: int, prompt: str, **more: Any) -> RenderRequest:
    """A request with the claim's steps."""
    return RenderRequest(
        model="embedded",
        width=256,
        height=256,
        prompt=prompt,
        scheduler=settings["scheduler"],
        steps=settings[claim]["steps"],
        guidance=settings["guidance"],
        seed=seed,
        **more,
    )


def draw(engine: Any, request: RenderRequest, store: PictureStore) -> tuple[Pixels, ...]:
    """The pictures of one run."""
    for event in engine.render(request, store):
        if isinstance(event, Finished):
            return event.result.pictures
    raise RuntimeError("the run ended without a result")


class Bench:
    """Engine, judge and features with the settings of one run."""

    def __init__(self, engine: Any, judge: Judge, features: Features, settings: Settings, seed: int) -> None:
        self.engine, self.judge, self.features = engine, judge, features
        self.settings, self.seed = settings, seed

    def layered(
        self, claim: str, scene: Scene, prompt: str, spans: Sequence[tuple[int, int]], k: int
    ) -> tuple[RenderRequest, PictureStore, np.ndarray[Any, Any], Pixels]:
        """The request of a flat collage with one layer an object, all settings of the layers at 0; masks; the
        flat picture.
        """
        store, flat = PictureStore(), render(scene, drawer_store(), light=False)
        layers = tuple(
            LayerRequest(
                name=item.label,
                mask=store.put((mask * 255).round().astype(np.uint8)),
                span=span,
                harmonize=1.0,
            )
            for item, mask, span in zip(scene.items, flat.masks, spans, strict=True)
        )
        request = base(
            self.settings, claim, self.seed + k, prompt, collage=store.put(flat.image), layers=layers
        )
        return request, store, flat.masks, flat.image

    def attention(self, k: int) -> Row:
        """Two objects from pure noise, with and without layer attention: is each inside its own mask?"""
        own = self.settings["attention"]
        scene, colours = scene_of("attention", k, self.seed)
        prompt, spans = words(scene, colours)
        request, store, masks, _ = self.layered("attention", scene, prompt, spans, k)
        row: Row = {"prompt": prompt}
        for name, inside, outside in (("without", 0.0, 0.0), ("with", own["inside"], own["outside"])):
            layers = tuple(
                LayerRequest(**{**vars(layer), "attend_inside": inside, "attend_outside": outside})
                for layer in request.layers
            )
            picture = draw(self.engine, request.replace(layers=layers), store)[0]
            seen = self.judge.regions([picture] * len(masks), list(masks))
            row[name] = [v.label == item.label for v, item in zip(seen, scene.items, strict=True)]
            row[f"{name} colour"] = [
                hit and v.colour == c for hit, v, c in zip(row[name], seen, colours, strict=True) if c
            ]
        return row

    def harmonize(self, k: int) -> Row:
        """Daylight objects on an evening place, at every strength: change inside the layers, distance to the
        truth.
        """
        own = self.settings["harmonize"]
        scene, colours = scene_of("harmonize", k, self.seed)
        prompt, spans = words(scene, colours)
        request, store, masks, flat = self.layered("harmonize", scene, prompt, spans, k)
        truth, inside = render(scene, drawer_store()).image, masks.sum(0).clip(0, 1)
        row: Row = {
            "prompt": prompt,
            "flat": masked_error(flat, truth, inside),
            "change": [],
            "error": [],
            "judge": [],
        }
        row["flat whole"], row["error whole"] = masked_error(flat, truth), []
        covered = np.rint(inside * 255).astype(np.uint8)
        frozen = store.put(np.dstack([flat, covered]))
        for strength in own["strengths"]:
            layers = tuple(LayerRequest(**{**vars(layer), "harmonize": strength}) for layer in request.layers)
            changed = request.replace(
                layers=layers, background_harmonize=own["background"], frozen=None if strength else frozen
            )
            picture = draw(self.engine, changed, store)[0]
            row["change"].append(masked_error(picture, flat, inside))
            row["error"].append(masked_error(picture, truth, inside))
            row["error whole"].append(masked_error(picture, truth))
            seen = self.judge.regions([picture] * len(masks), list(masks))
            row["judge"].append([v.label == item.label for v, item in zip(seen, scene.items, strict=True)])
        return row

    def _agreement(self, pictures: Sequence[Pixels], scene: Scene, setting: bool = True) -> list[bool]:
        """Object, and with ``setting`` place and time too, all right, for each picture."""
        label = scene.items[0].label
        found = self.judge.find(pictures, [[label]] * len(pictures))
        return [
            answers[0].right and (not setting or (whole.place == scene.place and whole.time == scene.time))
            for answers, whole in zip(found, self.judge.whole(pictures), strict=True)
        ]

    def spread(self, k: int) -> Row:
        """One prompt, a batch, with and without spread: how far apart, and still what was asked?"""
        own = self.settings["spread"]
        scene, colours = scene_of("spread", k, self.seed)
        prompt, _ = words(scene, colours)
        request = base(self.settings, "spread", self.seed + 100 * k, prompt, images=own["images"])
        more = {
            "spread": own["alpha"],
            "spread_by": own["by"],
            "spread_threshold": own["threshold"],
            "window": own["window"],
        }
        row: Row = {"prompt": prompt}
        for name, changes in (("without", {}), ("with", more)):
            pictures = draw(self.engine, request.replace(**changes), PictureStore())
            row[name] = self._agreement(pictures, scene)
            row[f"{name} distance"] = mean_pairwise_distance(self.features.pictures(pictures))
        return row

    def avoid(self, k: int) -> Row:
        """A prompt that names an object and leaves the rest open, and a true scene of it as the picture to avoid:
        how similar to it, and still what was asked? (What the prompt itself demands cannot be avoided.)
        """
        own = self.settings["avoid"]
        scene, _ = scene_of("avoid", k, self.seed)
        prompt = prompt_for(world(WORLD), [scene.items[0].label])
        shown, store = render(scene, drawer_store()), PictureStore()
        reference, object_ = shown.image, np.rint(shown.masks[0] * 255).astype(np.uint8)
        avoided = AvoidRequest(
            name="reference",
            picture=store.put(reference),
            mask=store.put(object_) if own["masked"] else None,
            alpha=own["alpha"],
            threshold=own["threshold"],
        )
        request = base(self.settings, "avoid", self.seed + k, prompt, window=own["window"])
        row: Row = {"prompt": prompt}
        target = self.features.pictures([reference])[0]
        ways: tuple[tuple[str, dict[str, Any]], ...] = (
            ("without", {}),
            ("with", {"avoids": (avoided,)}),
            ("push", {"avoids": (avoided,), "avoid_by": "push"}),
        )
        for name, asked in ways:
            picture = draw(self.engine, request.replace(**asked), store)[0]
            row[name] = self._agreement([picture], scene, setting=False)
            row[f"{name} similarity"] = float(self.features.pictures([picture])[0] @ target)
        return row


def main() -> None:
    """Command line."""
    settings = common.protocol("effects")
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "claims", nargs="*", default=[], help=f"of {', '.join(CLAIMS)} (all where none is named)"
    )
    parser.add_argument("--n", type=int, help="fewer or more than the protocol says, of each claim")
    parser.add_argument("--set", nargs="*", default=[], metavar="CLAIM.NAME=VALUE", help="with --tune only")
    parser.add_argument("--tune", action="store_true", help="other seeds, no page: for choosing settings")
    parser.add_argument("--freeze", action="store_true", help="write down the prompts' digest and stop")
    parser.add_argument("--judge", type=Path)
    parser.add_argument("--weights", type=Path, default=common.WEIGHTS)
    parser.add_argument("--out", type=Path, default=common.RESULTS)
    options = parser.parse_args()
    common.hold_to("effects", prompts(settings), options.freeze)
    if options.freeze:
        return
    if options.set and not options.tune:
        parser.error("settings are frozen: --set goes with --tune")
    for change in options.set:
        path, value = change.split("=")
        claim, name = path.split(".")
        settings[claim][name] = json.loads(value)
    unknown = set(options.claims) - set(CLAIMS)
    if unknown:
        parser.error(f"no claim is called {unknown.pop()!r}")
    seed = settings["tuning_seed" if options.tune else "seed"]
    judge = Judge.load(options.judge) if options.judge else Judge.load()
    features = Features(options.weights / "clip")
    bench = Bench(common.engine(options.weights), judge, features, settings, seed)
    weights = common.weights_digest(options.weights)
    options.out.mkdir(parents=True, exist_ok=True)
    raw_path = options.out / "effects.json"
    raw: dict[str, Any] = json.loads(raw_path.read_text()) if raw_path.exists() else {"claims": {}}
    judged = common.weights_digest(judge_folder(options.judge))
    keys = {claim: key_of(claim, settings, seed, weights, judged) for claim in CLAIMS}
    raw["claims"] = common.of_these(raw["claims"], keys)
    for claim in options.claims or CLAIMS:
        n, path = options.n or count(settings, claim), common.RUNS / f"effects-{claim}-{keys[claim]}.jsonl"
        rows = common.kept_rows(path, n, getattr(bench, claim), claim)
        raw["claims"][claim] = {
            "n": n,
            "key": keys[claim],
            "weights": weights,
            "machine": common.machine(),
            "rows": rows,
        }
        print(section(claim, rows, settings))
    if options.tune:
        return
    raw["protocol"] = settings
    raw_path.write_text(json.dumps(raw, separators=(",", ":")) + "\n")
    command = ("python -m tests.benchmarks.effects " + " ".join(sys.argv[1:])).strip()
    text = common.heading(
        "What the methods do, where the truth is known", command, settings, weights, kept=True
    )
    (options.out / "effects.md").write_text(text + page(raw, settings))


def judge_folder(given: Path | None) -> Path:
    """Where the judge's weights are."""
    from pipelines.embedded.judge.judge import WEIGHTS

    return given or WEIGHTS


if __name__ == "__main__":
    main()
