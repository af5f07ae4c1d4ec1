"""How often the judge itself is right: on new scenes, and apart on held-out art and held-out pairs.

``python -m pipelines.embedded.judge.evaluate --store CUTOUTS --autoencoder AE --out docs/results/judge.json``

Every figure stands twice: on the pictures as rendered and on what the autoencoder makes of them. A judge that
never doubts is no judge, so its false alarms (an absent object said to be there) and its abstentions on
wrecks count too.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from rich.progress import track

from pipelines.embedded.judge.data import wreck
from pipelines.embedded.judge.decoded import as_tensor
from pipelines.embedded.judge.judge import WEIGHTS, Judge, box_of, square_view
from pipelines.embedded.training.cutouts import CutoutStore
from pipelines.embedded.training.scenes import Rendered, Scene, render, sample_scene
from pipelines.embedded.training.world import WORLDS, World, art_key
from pipelines.measure.intervals import wilson
from pipelines.pictures import Pixels

SEED = 90_210  # far from the pool's seeds, which count up from 1000

Sampler = Callable[[np.random.Generator], Scene]
Figures = dict[str, dict[str, float | int]]


def held_out_art(world: World, store: CutoutStore, rng: np.random.Generator) -> Scene:
    """A scene of one object or person in a look that no training scene shows."""
    bare = sorted(world.heldout_art)[int(rng.integers(len(world.heldout_art)))]
    label, _, colour = bare.partition("#")
    if colour:
        return sample_scene(world, rng, store, labels=[label], colours=[colour], split="heldout")
    label, _, look = bare.partition("/")
    tone, _, gender = look.rpartition("-")
    scene = sample_scene(world, rng, store, labels=[label], split="heldout")
    item = replace(
        scene.items[0], key=art_key(scene.style, label, tone=tone, gender=gender), tone=tone, gender=gender
    )
    return replace(scene, items=(item,))


def held_out_pair(world: World, store: CutoutStore, rng: np.random.Generator) -> Scene:
    """A scene of two classes that no training scene shows together."""
    pairs = sorted(world.heldout_pairs)
    return sample_scene(world, rng, store, labels=pairs[int(rng.integers(len(pairs)))], split="heldout")


def samplers(world: World, store: CutoutStore) -> dict[str, Sampler]:
    """The kinds of scenes that figures are given for."""
    pairs = list(world.recolourable)

    def two_coloured(rng: np.random.Generator) -> Scene:
        while True:
            labels = [pairs[k] for k in rng.choice(len(pairs), 2, replace=False)]
            if not world.held_out(labels):
                return sample_scene(world, rng, store, labels=labels)

    return {
        "one object": lambda rng: sample_scene(world, rng, store, count=1),
        "two objects": lambda rng: sample_scene(world, rng, store, count=2),
        "two coloured objects": two_coloured,
        "held-out art": lambda rng: held_out_art(world, store, rng),
        "held-out pairs": lambda rng: held_out_pair(world, store, rng),
    }


def shares(hits: dict[str, list[bool]]) -> Figures:
    """Wilson intervals of all lists of hits."""
    return {name: wilson(sum(found), len(found)).to_dict() for name, found in hits.items() if found}


def figures(
    judge: Judge, world: World, scenes: Sequence[Scene], shown: Sequence[Rendered], pictures: Sequence[Pixels]
) -> Figures:
    """All shares of right answers on these pictures of these scenes."""
    rng = np.random.default_rng(SEED)
    hits: dict[str, list[bool]] = {
        name: [] for name in ("place", "time", "object in its region", "all objects found")
    }
    hits |= {
        name: [] for name in ("colour", "tone", "gender", "both colours right", "all right", "false alarm")
    }
    absent = [
        [rest[int(rng.integers(len(rest)))] for rest in ([x for x in world.labels if x not in r.labels],)]
        for r in shown
    ]
    found = judge.find(pictures, [[*r.labels, *others] for r, others in zip(shown, absent, strict=True)])
    for scene, verdict, answers in zip(scenes, judge.whole(pictures), found, strict=True):
        there, not_there = answers[:-1], answers[-1]
        objects = all(answer.right for answer in there)
        hits["place"].append(verdict.place == scene.place)
        hits["time"].append(verdict.time == scene.time)
        hits["all objects found"].append(objects)
        hits["false alarm"].append(not_there.right)
        hits["all right"].append(objects and verdict.place == scene.place and verdict.time == scene.time)
        coloured = [(i, a) for i, a in zip(scene.items, there, strict=True) if i.colour]
        if len(coloured) == 2:
            hits["both colours right"].append(
                all(a.right and a.region is not None and a.region.colour == i.colour for i, a in coloured)
            )
    where = [
        (n, k) for n, r in enumerate(shown) for k in range(len(r.labels)) if (r.masks[k] >= 0.5).sum() > 64
    ]
    regions = judge.regions([pictures[n] for n, _ in where], [box_of(shown[n].masks[k]) for n, k in where])
    for (n, k), region in zip(where, regions, strict=True):
        item = scenes[n].items[k]
        hits["object in its region"].append(region.label == item.label)
        for name in ("colour", "tone", "gender"):
            if getattr(item, name):
                hits[name].append(getattr(region, name) == getattr(item, name))
    return shares(hits)


@torch.no_grad()
def through(
    autoencoder: torch.nn.Module, pictures: Sequence[Pixels], size: int = 8, *, bf16: bool = True
) -> list[Pixels]:
    """What an autoencoder makes of the pictures: the upper bound of every picture it will ever decode."""
    out: list[Pixels] = []
    for start in track(range(0, len(pictures), size), "autoencoder", transient=True):
        x = as_tensor(np.stack(pictures[start : start + size]))
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=bf16):
            y = autoencoder.decoder(autoencoder.encoder(x)).float()  # type: ignore[operator]
        out += list(((y + 1) * 127.5).round().clamp(0, 255).byte().permute(0, 2, 3, 1).numpy())
    return out


def abstentions(judge: Judge, pictures: Sequence[Pixels], shown: Sequence[Rendered]) -> Figures:
    """How often a wreck of a region is rightly called nothing (blurred, shuffled, faded or warped)."""
    squares = np.stack([square_view(p, box_of(r.masks[0])) for p, r in zip(pictures, shown, strict=True)])
    ruined, _ = wreck(as_tensor(squares), torch.Generator().manual_seed(SEED))
    back = ((ruined + 1) * 127.5).round().clamp(0, 255).byte().permute(0, 2, 3, 1).numpy()
    return shares(
        {
            "abstains on wrecks": [
                v.label is None for v in judge.regions(list(back), [(0, 0, 128, 128)] * len(back))
            ]
        }
    )


def evaluate(
    judge: Judge, world: World, store: CutoutStore, autoencoder: torch.nn.Module | None, n: int
) -> dict[str, Figures]:
    """Figures by kind of scene, "as rendered" and "through the autoencoder"."""
    out: dict[str, Figures] = {}
    for number, (kind, sample) in enumerate(samplers(world, store).items()):
        rng = np.random.default_rng([SEED, number])
        scenes = [sample(rng) for _ in range(n)]
        shown = [render(scene, store) for scene in track(scenes, kind, transient=True)]
        pictures = [r.image for r in shown]
        out[kind] = figures(judge, world, scenes, shown, pictures)
        if kind == "one object":
            out[kind] |= abstentions(judge, pictures, shown)
        if autoencoder is not None:
            out[f"{kind}, through the autoencoder"] = figures(
                judge, world, scenes, shown, through(autoencoder, pictures)
            )
    return out


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--store", type=Path, required=True)
    parser.add_argument("--autoencoder", type=Path)
    parser.add_argument("--judge", type=Path, default=WEIGHTS)
    parser.add_argument("--n", type=int, default=500, help="scenes of each kind")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    autoencoder = None
    if options.autoencoder:
        from diffusers import AutoencoderTiny

        autoencoder = AutoencoderTiny.from_pretrained(options.autoencoder).eval()
    store = CutoutStore.load(options.store)
    found = evaluate(Judge.load(options.judge), WORLDS[store.world], store, autoencoder, options.n)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps({"seed": SEED, "n": options.n, "figures": found}, indent=1) + "\n")
    for kind, rows in found.items():
        print(kind)
        for name, row in rows.items():
            print(f"  {name}: {row['value']:.3f} ({row['low']:.3f} to {row['high']:.3f}, n = {row['n']})")


if __name__ == "__main__":
    main()
