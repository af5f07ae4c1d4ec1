"""What the embedded model can do, counted by the judge: writes docs/results/embedded.md, raw JSON and a
contact sheet.

``python -m tests.benchmarks.embedded [--dtype bf16] [--single 500 --pair 200 …]``

Runs the stock pipeline in batches, with nothing of ours around it. Prompts and settings are frozen in
protocol/embedded.json. Pictures are kept in runs/ until the weights change, so a stopped run goes on.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.progress import track

from pipelines.embedded.judge import Judge
from pipelines.embedded.judge.evaluate import through
from pipelines.embedded.training.captions import prompt_for
from pipelines.embedded.training.places import place
from pipelines.embedded.training.scenes import render
from pipelines.embedded.training.world import COLOURS, World, world
from pipelines.measure.intervals import Interval, bootstrap
from pipelines.measure.similarity import psnr
from pipelines.pictures import Pixels
from presets.recipes.build import WORLD, drawer_store
from tests.benchmarks import common
from tests.benchmarks.embedded_report import report

KINDS = ("single", "pair", "coloured", "held_out_pair")


@dataclass(frozen=True)
class Ask:
    """One prompt and what it asks for; ``time`` is None where the place knows only one."""

    kind: str
    prompt: str
    labels: tuple[str, ...]
    colours: tuple[str | None, ...]
    place: str
    time: str | None


def asks(chosen: World, kind: str, count: int, seed: int) -> list[Ask]:
    """The first ``count`` prompts of a kind: objects, places and times drawn evenly. Fewer are a prefix of
    more.
    """
    rng = np.random.default_rng([seed, KINDS.index(kind)])
    pool = sorted(chosen.recolourable) if kind == "coloured" else list(chosen.labels)
    held = sorted(chosen.heldout_pairs)
    found: list[Ask] = []
    while len(found) < count:
        if kind == "held_out_pair":
            labels = list(held[int(rng.integers(len(held)))])
        else:
            size = 1 if kind == "single" else 2
            labels = [pool[k] for k in rng.choice(len(pool), size, replace=False)]
        where = chosen.places[int(rng.integers(len(chosen.places)))]
        times = place(where).times
        when = times[int(rng.integers(len(times)))] if len(times) > 1 else None
        colours: list[str | None] = [None] * len(labels)
        if kind == "coloured":
            colours = [list(COLOURS)[k] for k in rng.choice(len(COLOURS), 2, replace=False)]
        if kind != "held_out_pair" and chosen.held_out(labels):
            continue
        prompt = prompt_for(chosen, labels, colours, where, when)
        found.append(Ask(kind, prompt, tuple(labels), tuple(colours), where, when))
    return found


def load(folder: Path, kind: str = "StableDiffusionPipeline") -> Any:
    """A stock pipeline in fp32, quiet, in the layout a CPU likes."""
    import diffusers

    pipe = getattr(diffusers, kind).from_pretrained(folder, dtype=torch.float32)
    pipe.unet.to(memory_format=torch.channels_last)
    pipe.vae.to(memory_format=torch.channels_last)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def generate(
    pipe: Any,
    wanted: Sequence[Ask],
    settings: dict[str, Any],
    offset: int,
    kept: Path,
    batch: int,
    bf16: bool,
) -> list[Pixels]:
    """One picture a prompt, kept batch by batch; picture k has its own generator, seed + offset + k."""
    kept.mkdir(parents=True, exist_ok=True)
    out: list[Pixels] = []
    for start in track(range(0, len(wanted), batch), f"{wanted[0].kind}: generating"):
        part = wanted[start : start + batch]
        seeds = [settings["seed"] + offset + start + k for k in range(len(part))]
        key = common.digest([[a.prompt for a in part], seeds, settings["steps"], settings["guidance"], bf16])
        path = kept / f"{key}.npz"
        if not path.exists():
            with torch.autocast("cpu", dtype=torch.bfloat16, enabled=bf16):
                made = pipe(
                    [a.prompt for a in part],
                    generator=[torch.Generator().manual_seed(seed) for seed in seeds],
                    num_inference_steps=settings["steps"],
                    guidance_scale=settings["guidance"],
                    output_type="pt",
                ).images
            pictures = (made.float() * 255).round().clamp(0, 255).byte().permute(0, 2, 3, 1).numpy()
            np.savez_compressed(path, pictures=pictures)
        with np.load(path) as data:
            out += list(data["pictures"])
    return out


def count(judge: Judge, wanted: Sequence[Ask], pictures: Sequence[Pixels]) -> list[dict[str, Any]]:
    """One row a picture: which objects, place, time and colours are right. Abstaining counts as wrong."""
    rows = []
    found = judge.find(pictures, [a.labels for a in wanted])
    for ask, verdict, answers in zip(wanted, judge.whole(pictures), found, strict=True):
        colours = [
            answer.right and answer.region is not None and answer.region.colour == colour
            for answer, colour in zip(answers, ask.colours, strict=True)
            if colour
        ]
        rows.append(
            asdict(ask)
            | {
                "objects": [answer.right for answer in answers],
                "place right": verdict.place == ask.place,
                "time right": ask.time is None or verdict.time == ask.time,
                "colours": colours,
            }
        )
    return rows


def autoencoder_figures(vae: Any, n: int, seed: int) -> dict[str, Interval]:
    """PSNR in dB on new scenes, whole and inside the objects' masks, fp32."""
    rng = np.random.default_rng([seed, 99])
    shown = [render(common.drawer_scene(rng, split="heldout"), drawer_store()) for _ in range(n)]
    back = through(vae, [r.image for r in shown], bf16=False)
    whole = [psnr(r.image, b) for r, b in zip(shown, back, strict=True)]
    inside = [psnr(r.image, b, r.masks.sum(0).clip(0, 1)) for r, b in zip(shown, back, strict=True)]
    return {"whole": bootstrap(whole), "inside": bootstrap(inside)}


def seconds(folder: Path, steps: int, guidance: float, runs: int = 5) -> dict[str, float]:
    """Cold (process start to picture) and warm seconds of one picture, fp32, two threads, in a process of its
    own.
    """
    begun = time.time()
    code = (
        "import json,sys,time,torch\n"
        "torch.set_num_threads(2)\n"
        "from tests.benchmarks.embedded import load\n"
        "from pathlib import Path\n"
        "pipe=load(Path(sys.argv[1]));took=[]\n"
        f"for k in range({runs} + 1):\n"
        " t=time.time()\n"
        f" pipe('a red car on the beach at sunset',num_inference_steps={steps},guidance_scale={guidance},"
        "generator=torch.Generator().manual_seed(k))\n"
        " took.append(time.time()-t)\n"
        " print(json.dumps([time.time(),took]),flush=True)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(folder)], cwd=common.ROOT, capture_output=True, text=True, check=True
    )
    lines = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("[")]
    return {"cold": lines[0][0] - begun, "warm": float(np.median(lines[-1][1][1:]))}


def main() -> None:
    """Command line."""
    settings = common.protocol("embedded")
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--weights", type=Path, default=common.WEIGHTS)
    parser.add_argument("--judge", type=Path)
    parser.add_argument("--dtype", default="fp32", choices=("fp32", "bf16"))
    parser.add_argument("--batch", type=int, default=16)
    for kind in (*KINDS, "autoencoder"):
        parser.add_argument(f"--{kind.replace('_', '-')}", type=int, default=settings[kind], help="samples")
    parser.add_argument("--freeze", action="store_true", help="write down the prompts' digest and stop")
    parser.add_argument("--skip-time", action="store_true")
    parser.add_argument("--out", type=Path, default=common.RESULTS)
    options = parser.parse_args()
    chosen = world(WORLD)
    full = [a.prompt for kind in KINDS for a in asks(chosen, kind, settings[kind], settings["seed"])]
    common.hold_to("embedded", full, options.freeze)
    if options.freeze:
        return
    judge = Judge.load(options.judge) if options.judge else Judge.load()
    name, n = (
        common.weights_digest(options.weights),
        {kind: getattr(options, kind) for kind in (*KINDS, "autoencoder")},
    )
    pipe = load(options.weights)
    rows: dict[str, list[dict[str, Any]]] = {}
    sheet: tuple[list[Pixels], list[str]] = ([], [])
    for number, kind in enumerate(KINDS):
        if n[kind] < 1:
            continue
        wanted = asks(chosen, kind, n[kind], settings["seed"])
        pictures = generate(
            pipe,
            wanted,
            settings,
            10_000 * number,
            common.RUNS / f"embedded-{name}",
            options.batch,
            options.dtype == "bf16",
        )
        rows[kind] = count(judge, wanted, pictures)
        if kind in ("single", "pair"):
            sheet[0].extend(pictures[:32])
            sheet[1].extend(a.prompt for a in wanted[:32])
    coder = autoencoder_figures(pipe.vae, n["autoencoder"], settings["seed"]) if n["autoencoder"] else {}
    took = (
        {} if options.skip_time else seconds(options.weights, settings["timed_steps"], settings["guidance"])
    )
    options.out.mkdir(parents=True, exist_ok=True)
    drawn = [sheet[0][k : k + 8] for k in range(0, len(sheet[0]), 8)]
    common.save_sheet(common.grid(drawn, 144, captions=sheet[1]), options.out / "embedded.jpg")
    command = "python -m tests.benchmarks.embedded " + " ".join(sys.argv[1:])
    text = common.heading(
        "The embedded model, counted by the judge", command.strip(), settings, name, kept=True
    )
    text += f"Pictures in {options.dtype}, the first of every kind of prompt, none selected; "
    text += "abstaining counts as wrong. A target is open where the interval reaches over it.\n\n"
    text += report(rows, coder, took)
    text += "\n![The first 32 pictures of one object and the first 32 of two](embedded.jpg)\n"
    (options.out / "embedded.md").write_text(text)
    raw = {"protocol": settings, "n": n, "dtype": options.dtype, "weights": name, "machine": common.machine()}
    raw |= {"autoencoder": {k: v.to_dict() for k, v in coder.items()}, "seconds": took, "rows": rows}
    (options.out / "embedded.json").write_text(json.dumps(raw, separators=(",", ":")) + "\n")
    print(text)


if __name__ == "__main__":
    main()
