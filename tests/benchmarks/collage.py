"""Collage Diffusion's claims, measured where the truth is known: writes docs/results/collage.md, raw JSON, pictures.

``python -m tests.benchmarks.collage [--claims look,place,seam,lost,ladder,shape] [--n 200]``

Ways of one row share layout, prompt and seed, and run through the project's own engine. Everything is frozen in
protocol/collage.json before a run; ``--tune`` uses other seeds and writes beside the kept rows. A stopped run goes on
where it was. Keep shape is left out, and the reason printed, where the model cannot do it.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
from PIL import Image

from pipelines.embedded.judge import Judge
from pipelines.embedded.training.scenes import render
from pipelines.events import Finished, RenderResult
from pipelines.loading.control import FOLDER as CONTROLNET
from pipelines.measure.features import Features
from pipelines.measure.layers import layer_numbers
from pipelines.pictures import PictureStore, Pixels
from pipelines.request import LayerRequest, LookRequest, RenderRequest
from tests.benchmarks import common
from tests.benchmarks.collage_measures import kept, seam_gradient
from tests.benchmarks.collage_report import page, section
from tests.benchmarks.collage_scenes import CLAIMS, Layout, every_art, frozen, in_its_colours, layout
from tests.benchmarks.effects import base, judge_folder, words

SHOWN = 8
"""The first rows of a claim are shown, whatever they are."""
Row = dict[str, Any]
Shot = tuple[Row, list[Pixels]]


@dataclasses.dataclass(frozen=True)
class Laid:
    """A layout as a request in which every layer may change in full and nothing else is on; with its true pictures."""

    request: RenderRequest
    store: PictureStore
    masks: Any
    flat: Pixels
    truth: Pixels

    def layers(self, **changes: Any) -> tuple[LayerRequest, ...]:
        """The layers with some fields changed in all of them."""
        return tuple(dataclasses.replace(layer, **changes) for layer in self.request.layers)


class Bench:
    """Engine, judge and features with the settings of one run; each claim's method makes a row and its pictures."""

    def __init__(
        self, engine: Any, judge: Judge, features: Features, settings: dict[str, Any], seed: int
    ) -> None:
        self.engine, self.judge, self.features = engine, judge, features
        self.settings, self.seed = settings, seed
        self.attention = {"attend_inside": settings["inside"], "attend_outside": settings["outside"]}
        self.shape = False

    def laid(self, claim: str, k: int) -> tuple[Layout, Laid]:
        """Row k of a claim, ready to be changed and rendered."""
        one = layout(claim, k, self.settings, self.seed)
        art = every_art(self.settings["cutouts"], self.settings["seed"])
        prompt, spans = words(one.scene, one.colours)
        store, flat = PictureStore(), render(one.scene, art, light=False)
        layers = tuple(
            LayerRequest(
                name=item.label,
                mask=store.put(np.rint(mask * 255).astype(np.uint8)),
                span=span,
                harmonize=1.0,
            )
            for item, mask, span in zip(one.scene.items, flat.masks, spans, strict=True)
        )
        request = base(
            self.settings, claim, self.seed + k, prompt, collage=store.put(flat.image), layers=layers
        )
        return one, Laid(request, store, flat.masks, flat.image, render(one.scene, art).image)

    def run(self, laid: Laid, *, watch: bool = False, **changes: Any) -> RenderResult:
        """One picture of the request with these changes."""
        for event in self.engine.render(laid.request.replace(**changes), laid.store, watch=watch):
            if isinstance(event, Finished):
                return event.result
        raise RuntimeError("the run ended without a result")

    def draw(self, laid: Laid, **changes: Any) -> Pixels:
        """The picture of `run`."""
        return self.run(laid, **changes).pictures[0]

    def judged(self, picture: Pixels, one: Layout, masks: Any) -> dict[str, list[bool]]:
        """Of each object: whether it is seen in its own mask, and in its own colour where it is to have one."""
        seen = self.judge.regions([picture] * len(masks), list(masks))
        hits = [v.label == item.label for v, item in zip(seen, one.scene.items, strict=True)]
        asked = [said or item.colour for said, item in zip(one.colours, one.scene.items, strict=True)]
        # a colour that another object was to have is worse than none
        others = [set(asked) - {own} for own in asked]
        return {
            "object": hits,
            "colour": [hit and v.colour == own for hit, v, own in zip(hits, seen, asked, strict=True)],
            "swapped": [v.colour in rest for v, rest in zip(seen, others, strict=True)],
        }

    def looks(self, laid: Laid, one: Layout) -> tuple[LayerRequest, ...]:
        """The layers with looks learned from their cut-outs."""
        art = every_art(self.settings["cutouts"], self.settings["seed"])
        steps = self.settings["learn_steps"]
        return tuple(
            dataclasses.replace(layer, look=LookRequest(cutout=laid.store.put(art[item.key]), steps=steps))
            for layer, item in zip(laid.request.layers, one.scene.items, strict=True)
        )

    def look(self, k: int) -> Shot:
        """A cut-out that its words do not tell: words or look, from pure noise or on the picture's own pixels."""
        one, laid = self.laid("look", k)
        strength = self.settings["look"]["harmonize"]
        row: Row = {"prompt": laid.request.prompt, "cutout": one.scene.items[0].key}
        pictures, learned = [laid.truth], []
        for way, layers, harmonize in (
            ("words alone", laid.request.layers, 1.0),
            ("look alone", self.looks(laid, one), 1.0),
            ("pixels", laid.request.layers, strength),
            ("pixels and look", self.looks(laid, one), strength),
        ):
            worn = tuple(
                dataclasses.replace(layer, harmonize=harmonize, **self.attention) for layer in layers
            )
            result = self.run(laid, layers=worn, background_harmonize=strength)
            picture, looks = result.pictures[0], cast("list[Any]", result.report.get("looks", []))
            learned += [fact["seconds"] for fact in looks if not fact["cached"]]
            row[way] = kept(self.features, picture, laid.truth, laid.masks[0])
            row[way] |= {name: hits[0] for name, hits in self.judged(picture, one, laid.masks).items()}
            pictures.append(picture)
        row["learned"] = learned
        return row, pictures

    def place(self, k: int) -> Shot:
        """Two or three coloured objects from pure noise, with and without layer attention."""
        one, laid = self.laid("place", k)
        row: Row = {"prompt": laid.request.prompt, "overlap": one.overlap}
        truth = render(*in_its_colours(one)).image
        drawn = self.judged(truth, one, laid.masks)
        row |= {"truth": drawn["object"], "truth colour": drawn["colour"]}
        pictures = []
        for way, attention in (("without", {}), ("with", self.attention)):
            pictures.append(self.draw(laid, layers=laid.layers(**attention)))
            row[way] = self.judged(pictures[-1], one, laid.masks)
        return row, [truth, *pictures]

    def seam(self, k: int) -> Shot:
        """Daylight objects on an evening place: the gradient on their borders."""
        _, laid = self.laid("seam", k)
        strength, freer = (self.settings["seam"][word] for word in ("harmonize", "background"))
        layers = laid.layers(harmonize=strength, **self.attention)
        ways = {
            "true scene": laid.truth,
            "flat collage": laid.flat,
            "img2img": self.draw(laid, layers=(), background_harmonize=strength),
            "collage": self.draw(laid, layers=layers, background_harmonize=strength),
            "background freer": self.draw(laid, layers=layers, background_harmonize=freer),
        }
        row: Row = {name: seam_gradient(picture, laid.masks) for name, picture in ways.items()}
        return {"prompt": laid.request.prompt, **row}, list(ways.values())

    def lost(self, k: int) -> Shot:
        """A collage of two or three layers: which of them are lost, by our numbers and by the judge."""
        one, laid = self.laid("lost", k)
        strengths = self.settings["lost"]["harmonize"]
        strength = strengths[k // 2 % len(strengths)]
        layers = laid.layers(harmonize=strength, **self.attention)
        result = self.run(laid, watch=True, layers=layers, background_harmonize=strength)
        attention: Any = result.report["attention"]
        found = layer_numbers(result.request, result.pictures, laid.store, attention, self.features)
        row: Row = {"prompt": laid.request.prompt, "harmonize": strength}
        row["said"] = [layer["lost"][0] for layer in found]
        row["attention"] = [layer["attention"][0] for layer in found]
        row["judge"] = [not hit for hit in self.judged(result.pictures[0], one, laid.masks)["object"]]
        row["flat"] = [not hit for hit in self.judged(laid.flat, one, laid.masks)["object"]]
        return row, [laid.flat, result.pictures[0]]

    def ladder(self, k: int) -> Shot:
        """As the paper's ladder: img2img, then one thing more on each rung."""
        one, laid = self.laid("ladder", k)
        own = self.settings["ladder"]
        shared = {"harmonize": own["harmonize"], **self.attention}
        worn = tuple(dataclasses.replace(layer, **shared) for layer in self.looks(laid, one))
        rungs = {"img2img": (), "+ attention": laid.layers(**shared), "+ look": worn}
        if self.shape:
            rungs["+ shape"] = tuple(dataclasses.replace(one, keep_shape=own["shape"]) for one in worn)
        row: Row = {"prompt": laid.request.prompt, "seam": seam_gradient(laid.truth, laid.masks)}
        pictures = [laid.truth]
        for way, layers in rungs.items():
            pictures.append(self.draw(laid, layers=layers, background_harmonize=own["harmonize"]))
            each = [kept(self.features, pictures[-1], laid.truth, mask) for mask in laid.masks]
            row[way] = {name: float(np.mean([one[name] for one in each])) for name in each[0]}
            row[way] |= self.judged(pictures[-1], one, laid.masks)
            row[way]["seam"] = seam_gradient(pictures[-1], laid.masks)
        return row, pictures


def shot(make: Callable[[int], Shot], folder: Path) -> Callable[[int], Row]:
    """What makes a row and keeps the pictures of the first ones side by side in a file of the folder."""

    def row(k: int) -> Row:
        began = time.process_time()
        made, pictures = make(k)
        if k < SHOWN:
            folder.mkdir(parents=True, exist_ok=True)
            Image.fromarray(np.hstack(pictures)).save(folder / f"{k}.png")
        return {**made, "seconds": round(time.process_time() - began, 2)}

    return row


def sheet(folder: Path, labels: Sequence[str]) -> Image.Image:
    """One row a way, one column a row of the claim, as they came."""
    strips = [
        np.asarray(Image.open(folder / f"{k}.png")) for k in range(SHOWN) if (folder / f"{k}.png").exists()
    ]
    columns = [np.hsplit(strip, len(labels)) for strip in strips]
    return common.grid([list(row) for row in zip(*columns, strict=True)], 112, labels)


DECIDES = ("guidance", "scheduler", "inside", "outside", "learn_steps", "cutouts", "seed", "prompts")
"""What every claim's rows depend on, beside the claim's own settings: kept rows of others are not taken up."""

KEEPS = ("ladder", "shape")
"""The claims in which layers keep their shape."""


def key_of(
    claim: str, settings: dict[str, Any], seed: int, weights: str, judge: str, keeper: str | None
) -> str:
    """What rows of a claim were made with: other settings, other weights (``keeper``: of the ControlNet, where layers
    keep their shape) or another judge, another key.
    """
    shared = [settings[name] for name in DECIDES]
    return common.digest([settings[claim], shared, seed, weights, judge, keeper])


def main() -> None:
    """Command line."""
    from tests.benchmarks import collage_shape

    settings = common.protocol("collage")
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--claims", default=",".join(CLAIMS), help="separated by commas; all where not given")
    parser.add_argument("--n", type=int, help="rows of each claim, in place of the protocol's")
    parser.add_argument("--tune", action="store_true", help="other seeds, and the page beside the kept rows")
    parser.add_argument("--freeze", action="store_true", help="write down the layouts' digest and stop")
    parser.add_argument("--judge", type=Path)
    parser.add_argument("--weights", type=Path, default=common.WEIGHTS)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    claims = options.claims.split(",")
    if unknown := set(claims) - set(CLAIMS):
        parser.error(f"no claim is called {unknown.pop()!r}")
    seed = settings["tuning_seed" if options.tune else "seed"]
    if options.freeze or not options.tune:
        common.hold_to("collage", frozen(settings), options.freeze)
    if options.freeze:
        return
    out = options.out or (common.RUNS / "collage-tune" if options.tune else common.RESULTS)
    out.mkdir(parents=True, exist_ok=True)
    judge = Judge.load(options.judge) if options.judge else Judge.load()
    weights = common.weights_digest(options.weights)
    engine = common.engine(options.weights, looks=common.RUNS / "looks")
    bench = Bench(engine, judge, Features(options.weights / "clip"), settings, seed)
    why = collage_shape.refusal(bench)
    bench.shape = why is None
    raw_path = out / "collage.json"
    raw: dict[str, Any] = json.loads(raw_path.read_text()) if raw_path.exists() else {"claims": {}}
    raw |= {"protocol": settings, "no shape": why}
    keepers = dict.fromkeys(
        KEEPS, common.weights_digest(options.weights / CONTROLNET) if bench.shape else None
    )
    judged = common.weights_digest(judge_folder(options.judge))
    keys = {claim: key_of(claim, settings, seed, weights, judged, keepers.get(claim)) for claim in CLAIMS}
    raw["claims"] = common.of_these(raw["claims"], keys)
    for claim in claims:
        if claim == "shape" and why is not None:
            print(f"keep shape is left out: {why}")
            continue
        name = f"collage-{claim}-{keys[claim]}"
        make: Callable[[int], Shot] = (
            getattr(bench, claim) if claim != "shape" else lambda k: collage_shape.shape(bench, k)
        )
        n = options.n or settings[claim]["n"]
        rows = common.kept_rows(
            common.RUNS / f"{name}.jsonl", n, shot(make, common.RUNS / name), f"collage: {claim}"
        )
        raw["claims"][claim] = {
            "n": n,
            "key": keys[claim],
            "weights": weights,
            "controlnet": keepers.get(claim),
            "machine": common.machine(),
            "rows": rows,
        }
        text, labels = section(claim, rows, settings)
        common.save_sheet(sheet(common.RUNS / name, labels), out / f"collage-{claim}.jpg")
        raw_path.write_text(json.dumps(raw, separators=(",", ":")) + "\n")
        print(text)
    command = ("python -m tests.benchmarks.collage " + " ".join(sys.argv[1:])).strip()
    text = common.heading(
        "The collage's claims, where the truth is known", command, settings, weights, kept=True
    )
    (out / "collage.md").write_text(text + page(raw, settings))


if __name__ == "__main__":
    main()
