"""What NegToMe's benchmark draws: each part's row, all of whose settings share prompt and seeds."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from pipelines.embedded.judge import Judge
from pipelines.embedded.training.captions import prompt_for
from pipelines.embedded.training.scenes import Scene, render
from pipelines.embedded.training.world import world
from pipelines.measure.features import Features, mean_pairwise_distance, vendi
from pipelines.measure.numbers import agreement, apart, numbers
from pipelines.pictures import PictureStore, Pixels
from pipelines.request import AvoidRequest, LayerRequest, RenderRequest, Variant
from presets.recipes.build import WORLD, drawer_store
from studio.variants import variant
from tests.benchmarks.effects import draw
from tests.benchmarks.negtome_curves import avoid_ways, axis_ways, spread_ways
from tests.benchmarks.negtome_measures import Row, Settings
from tests.benchmarks.negtome_scenes import TUNED, alternatives_of, counts, prompt_of, scene_of
from tests.benchmarks.negtome_seconds import beside
from tests.benchmarks.negtome_steps import longer_ways, spread_longer_ways, window_ways
from tests.benchmarks.overhead import in_one_call

SHEET_ROWS = 3
"""Rows of a part whose pictures go on its contact sheet: the first, whatever they show."""


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
        seed = own["tuning_seed" if part in TUNED else "seed"]
        prompts, _ = counts(part, own)
        number, turn = k % prompts, k // prompts
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

    def seen(
        self, part: str, k: int, name: str, scene: Scene, request: RenderRequest, store: PictureStore
    ) -> tuple[Row, tuple[Pixels, ...]]:
        """One setting of a row: its pictures, what the judge sees in them, how they differ, processor seconds."""
        start = time.process_time()
        pictures = draw(self.engine, request, store)
        seconds = time.process_time() - start
        if k < SHEET_ROWS and part not in TUNED:
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
        return row

    def seconds(self, k: int) -> Row:
        """The rivals, spread and their sums, each timed beside a plain batch: all images in one call, as NegToMe's must
        be and as the engine does on a GPU (on a CPU it draws images that do not act on each other one by one).
        """
        scene, request, store = self.of_row("seconds", k)
        asked, loaded = self.ways(request, scene), self.engine.load(request.model)
        row: Row = {"prompt": request.prompt}
        for at, name in enumerate(self.settings["seconds"]["settings"]):
            run, off = (partial(in_one_call, loaded, asked[which], store) for which in (name, "off"))
            row[name] = beside(run, off, first=(k + at) % 2 == 0)
        return row

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

    def collaged(
        self, part: str, k: int
    ) -> tuple[Scene, RenderRequest, PictureStore, LayerRequest, Pixels, Pixels]:
        """Row k as a collage of one layer, all of it free: also the flat picture and the layer's mask."""
        own = self.settings[part]
        scene, request, store = self.of_row(part, k)
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
        return scene, request, store, layer, flat.image, mask

    def vary(self, k: int) -> Row:
        """One layer of a collage that varies, the rest free or pinned: how far apart inside, and outside?"""
        scene, request, store, layer, flat, mask = self.collaged("vary", k)
        varied = (dataclasses.replace(layer, vary=self.settings["vary"]["alpha"]),)
        pinned = store.put(np.dstack([flat, 255 - mask]))
        ways: dict[str, dict[str, Any]] = {
            "off": {},
            "vary": {"layers": varied},
            "vary, rest pinned": {"layers": varied, "background_harmonize": 0.0, "frozen": pinned},
        }
        row: Row = {"prompt": request.prompt, "label": scene.items[0].label}
        for name, changes in ways.items():
            row[name], pictures = self.seen("vary", k, name, scene, request.replace(**changes), store)
            row[name] |= agreement(mask, pictures, self.features)
        return row

    def reach(self, k: int) -> Row:
        """The true scene's object to avoid, in the whole picture and in its layer alone: what moves, and where?"""
        own = self.settings["reach"]
        scene, request, store, _, _, mask = self.collaged("reach", k)
        shown = render(scene, drawer_store())
        whole = AvoidRequest(
            name="reference",
            picture=store.put(shown.image),
            mask=store.put(np.rint(shown.masks[0] * 255).astype(np.uint8)),
            alpha=own["alpha"],
            threshold=own["threshold"],
        )
        confined = dataclasses.replace(whole, layer=0)
        ways: dict[str, dict[str, Any]] = {"off": {}}
        for by, alpha in (("guidance", own["alpha"]), ("push", own["push"])):
            for where, avoid in (("everywhere", whole), ("in the layer", confined)):
                avoids = (dataclasses.replace(avoid, alpha=alpha),)
                ways[f"{by}, {where}"] = {"avoids": avoids, "avoid_by": by}
        row: Row = {"prompt": request.prompt, "label": scene.items[0].label}
        inside, plain = mask >= 128, ()
        for name, changes in ways.items():
            row[name], pictures = self.seen("reach", k, name, scene, request.replace(**changes), store)
            plain = plain or pictures
            told = numbers(request.replace(avoids=(confined,)), pictures, store, self.features)["avoids"][0]
            moved = np.mean([apart(pair) for pair in zip(pictures, plain, strict=True)], 0)
            row[name] |= {
                "near": {word: float(np.mean(told[word])) for word in ("inside", "outside")},
                "moved": {"inside": float(moved[inside].mean()), "outside": float(moved[~inside].mean())},
            }
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

    def axes(self, k: int) -> Row:
        """A picture to avoid by push, along the right axis and along the released code's."""
        scene, request, store, whole, _ = self.avoiding("axes", k)
        row: Row = {"prompt": request.prompt, "label": scene.items[0].label}
        for name, changes in axis_ways(self.settings["axes"], whole).items():
            row[name], pictures = self.seen("axes", k, name, scene, request.replace(**changes), store)
            row[name]["whole similarity"] = self.likeness(request, pictures, store, whole)
        return row

    def windows(self, k: int) -> Row:
        """One layer of a collage that varies, by its noise alone, and by NegToMe in more and fewer of the steps."""
        scene, request, store, layer, _, mask = self.collaged("windows", k)
        row: Row = {"prompt": request.prompt}
        for name, changes in window_ways(self.settings["windows"], layer).items():
            found, pictures = self.seen("windows", k, name, scene, request.replace(**changes), store)
            found |= agreement(mask, pictures, self.features)
            row[name] = {word: found[word] for word in ("object", "inside", "outside", "seconds")}
        return row

    def longer(self, k: int) -> Row:
        """A picture to avoid by guidance, in more and fewer of the steps."""
        scene, request, store, whole, _ = self.avoiding("longer", k)
        row: Row = {"prompt": request.prompt, "label": scene.items[0].label}
        for name, changes in longer_ways(self.settings["longer"], whole).items():
            row[name], pictures = self.seen("longer", k, name, scene, request.replace(**changes), store)
            row[name]["whole similarity"] = self.likeness(request, pictures, store, whole)
        return row

    def spread_longer(self, k: int) -> Row:
        """A batch that differs by NegToMe, in more and fewer of the steps."""
        scene, request, store = self.of_row("spread_longer", k)
        row: Row = {"prompt": request.prompt, "label": scene.items[0].label}
        for name, changes in spread_longer_ways(self.settings["spread_longer"]).items():
            row[name], _ = self.seen("spread_longer", k, name, scene, request.replace(**changes), store)
        return row

    def spread_more(self, k: int) -> Row:
        """The tuning prompts' best of these, on the counted ones."""
        own = self.settings["spread_more"]
        scene, request, store = self.of_row("spread_more", k)
        asked = request.replace(
            spread=own["alpha"], spread_threshold=own["threshold"], window=own["window"], spread_by="guidance"
        )
        row: Row = {"prompt": request.prompt, "label": scene.items[0].label}
        for name, one in {"off": request, "negtome": asked}.items():
            row[name], _ = self.seen("spread_more", k, name, scene, one, store)
        return row
