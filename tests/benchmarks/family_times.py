"""What the methods cost in time, family by family, at reduced size: docs/results/family_times.md and .json.

``python -m tests.benchmarks.family_times [--only NAME]… [--repeats N] [--out FOLDER] [--runs FOLDER]``

The tests' tiny pipelines with a wider and deeper denoiser, and the embedded model as it is, a batch of four in one
call as on a GPU; and SDXL's blocks at a third of their width, one image. Each run is timed in immediate succession with
its own run of what it is compared with. A stopped run goes on where it was. Shares are not those of real sizes, which
flops.py counts: here stands what the count leaves out, elementwise work and calls.
"""

from __future__ import annotations

import argparse
import json
import warnings
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pipelines import schedulers
from pipelines.engine import Engine, Loaded
from pipelines.pictures import PictureStore
from pipelines.request import AvoidRequest, LayerRequest, RenderRequest
from tests.benchmarks import built, common, overhead
from tests.pipelines import tiny
from tests.pipelines import tiny_transformers as tt

_BLOCKS = {"num_layers": 2, "num_single_layers": 3, "attention_head_dim": 32, "num_attention_heads": 4}
_ROPE = {"axes_dims_rope": (8, 12, 12)}
_UNET = {"sample_size": 32, "block_out_channels": (64, 128), "norm_num_groups": 16}
GROWN: dict[str, dict[str, Any]] = {
    "embedded": {},
    "sd_noise": _UNET | {"attention_head_dim": 4},
    "sd2": _UNET | {"attention_head_dim": (4, 8)},
    "sdxl": _UNET | {"attention_head_dim": (4, 8)},
    "sd3": {"num_layers": 5, "attention_head_dim": 32, "sample_size": 32, "caption_projection_dim": 128},
    "flux": _BLOCKS | _ROPE,
    "schnell": _BLOCKS | _ROPE,
    "chroma": _BLOCKS | _ROPE,
    "flux2": _BLOCKS | {"axes_dims_rope": (8, 8, 8, 8)},
    "klein": _BLOCKS | {"axes_dims_rope": (8, 8, 8, 8)},
    "qwen": {"num_layers": 5, "attention_head_dim": 32, "num_attention_heads": 4, **_ROPE},
    "zimage": {"dim": 128, "n_layers": 5, "n_heads": 4, "n_kv_heads": 4, "axes_dims": (8, 12, 12)},
}
"""What of each tiny denoiser's config is made larger: widths of 128, about five blocks. Nothing of the embedded model,
which is none of them. ``sd_noise`` is Stable Diffusion 1.5, ``sd2`` 2.1."""
SHAPED = "SDXL, a third as wide"
NAMES = (*GROWN, SHAPED)
ALL = "all together"


def grown(name: str) -> Loaded:
    """A tiny pipeline of the family with its larger denoiser, the embedded model, or SDXL's shape."""
    if name == "embedded":
        return Engine().load(name)
    if name == SHAPED:
        return built.built(built.THIRD, torch.device("cpu"), torch.float32)
    pipe = (tt.KINDS if name in tt.KINDS else tiny.KINDS)[name]()
    part = "unet" if hasattr(pipe, "unet") else "transformer"
    small = getattr(pipe, part)
    torch.manual_seed(0)
    with warnings.catch_warnings():
        warnings.simplefilter(
            "ignore", FutureWarning
        )  # diffusers' own class uses what diffusers calls deprecated
        larger = type(small).from_config({**small.config, **GROWN[name]}).eval()
    pipe.register_modules(**{part: larger})
    card = (tt if name in tt.KINDS else tiny).card_for(name)
    return Engine().adopt(name, pipe, card)


def requests(loaded: Loaded, settings: dict[str, Any], store: PictureStore) -> dict[str, RenderRequest]:
    """Name → request; all have the words of the most layers, so that one text serves all."""
    side, most = settings["side"], max(settings["layers"])
    known = (tiny.WORDS * 2)[:most]
    starts = np.cumsum([0, *(len(word) + 1 for word in known)])
    flat = store.put(np.full((side, side, 3), 128, np.uint8))
    plain = RenderRequest(
        model=loaded.card.name,
        width=side,
        height=side,
        prompt=" ".join(known),
        scheduler=loaded.card.scheduler,
        guidance=loaded.card.guidance,
        steps=settings["steps"],
        seed=settings["seed"],
        images=settings["images"],
        window=settings["window"],
    )

    def layered(count: int) -> RenderRequest:
        layers = []
        for k in range(count):
            mask = np.zeros((side, side), np.uint8)
            mask[:, side * k // count : side * (k + 1) // count] = 255
            place = (int(starts[k]), int(starts[k]) + len(known[k]))
            strengths = {word: settings[word] for word in ("attend_inside", "attend_outside")}
            kept = store.put(mask)
            layers.append(LayerRequest(name=known[k], mask=kept, span=place, harmonize=1.0, **strengths))
        return plain.replace(collage=flat, layers=tuple(layers))

    avoid = AvoidRequest(name="that", picture=flat, alpha=1.0, threshold=settings["avoid_threshold"])
    found = {"engine, all off": plain}
    found |= {f"layer attention, {count} layers": layered(count) for count in settings["layers"]}
    if plain.images > 1:
        found["spread"] = plain.replace(spread=1.0, spread_threshold=settings["spread_threshold"])
    found["avoid, second render"] = plain.replace(avoids=(avoid,))
    return found


def contenders(loaded: Loaded, settings: dict[str, Any]) -> dict[str, tuple[overhead.Contender, str]]:
    """Name → (what is timed, the name it is compared with), all of one batch in one call."""
    store = PictureStore()
    asked = requests(loaded, settings, store)
    plain = next(iter(asked.values()))
    seeds = [plain.seed + k for k in range(plain.images)]

    def stock() -> object:
        scheduler = schedulers.build(
            plain.scheduler, loaded.pipe.scheduler, loaded.card, pinned=False, steps=plain.steps
        )
        pipe = loaded.family.pipeline(loaded.pipe, scheduler, from_picture=False)
        pipe.set_progress_bar_config(disable=True)
        return pipe(
            **{"height": plain.height, "width": plain.width, **loaded.family.arguments(pipe, plain)},
            num_inference_steps=plain.steps,
            num_images_per_prompt=plain.images,
            generator=[torch.Generator().manual_seed(seed) for seed in seeds],
            output_type="np",
        )

    runs: dict[str, tuple[overhead.Contender, str]] = {
        name: (partial(overhead.in_one_call, loaded, request, store), "stock")
        for name, request in asked.items()
    }
    firsts = overhead.first_renders(asked["avoid, second render"], store)
    runs["avoid, one reference"] = lambda: overhead.in_one_call(loaded, next(firsts), store), "stock"
    return {"stock": (stock, "stock"), **runs}


def settings_of(name: str, settings: dict[str, Any]) -> dict[str, Any]:
    """The protocol's, with what it says of this one."""
    return {**settings, **settings["own"].get(name, {})}


def rounds(name: str, settings: dict[str, Any], repeats: int, folder: Path) -> list[dict[str, Any]]:
    """The rounds of a family: those kept in ``folder`` and those that are missing, after one that warms up."""
    runs: dict[str, tuple[overhead.Contender, str]] = {}

    settings = settings_of(name, settings)

    def make(turn: int) -> dict[str, Any]:
        if not runs:
            runs.update(contenders(grown(name), settings))
            overhead.one_round(runs, overhead.pairs_of(runs, settings), 0)
        return overhead.one_round(runs, overhead.pairs_of(runs, settings), turn)

    return common.kept_rows(folder / f"{common.digest([name, settings])}.jsonl", repeats, make, name)


def _together(families: dict[str, dict[overhead.Pair, overhead.Rows]]) -> dict[overhead.Pair, overhead.Rows]:
    """The pairs of all families: few of one leave its interval wide, all together do not."""
    found: dict[overhead.Pair, overhead.Rows] = {}
    for one in families.values():
        for pair, rows in one.items():
            found.setdefault(pair, []).extend(rows)
    return found


def report(found: dict[str, list[dict[str, Any]]], settings: dict[str, Any]) -> str:
    """A table for each clock, a line a family, a column a method, the ratio to the stock run; and the targets."""
    page = ""
    families = {model: overhead.paired(rows) for model, rows in found.items()}
    pairs = list(dict.fromkeys(pair for one in families.values() for pair in one))
    heads = [name if base == "stock" else f"{name} against {base}" for name, base in pairs]
    for clock, title in enumerate(("Processor time", "Wall time")):
        lines = []
        for model, one in {**families, ALL: _together(families)}.items():
            stock = [row["stock"][clock] for rows in one.values() for row in rows if "stock" in row]
            told = (overhead.ratios(one[pair], *pair, clock) if pair in one else "–" for pair in pairs)
            lines.append([model, f"{np.median(stock):.3f}", *told])
        page += f"\n## {title}\n\n{common.table(['family', 'stock, median seconds', *heads], lines)}"
    if SHAPED in families:
        page += f"\n## {SHAPED}: targets\n\n"
        page += overhead.section(families[SHAPED], settings_of(SHAPED, settings))
    return page


def main() -> None:
    """Time every family and write both files."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--only", action="append", choices=NAMES, help="a family of the table")
    parser.add_argument("--repeats", type=int)
    parser.add_argument("--out", type=Path, default=common.RESULTS)
    parser.add_argument("--runs", type=Path, default=common.RUNS / "family_times")
    asked = parser.parse_args()
    settings = common.protocol("family_times")
    found = {
        name: rounds(name, settings, asked.repeats or settings_of(name, settings)["repeats"], asked.runs)
        for name in asked.only or NAMES
    }
    command = "python -m tests.benchmarks.family_times"
    asked.out.mkdir(parents=True, exist_ok=True)
    raw = {"command": command, "made": common.machine(), "seconds": found}
    (asked.out / "family_times.json").write_text(json.dumps(raw, indent=1) + "\n")
    page = common.heading("What the methods cost in time, by family", command, settings, "random", kept=True)
    page += (
        "A ratio above 1 is slower than what it is compared with, the stock pipeline where nothing else is said; the "
        "interval is a 95 % bootstrap over pairs of runs in immediate succession, in every second round the other "
        "way round. Of an avoid reference's first render its encoding is a part, of a second render not. Seconds of "
        "every pair: `family_times.json`, as run, against what, [processor, wall] of both. Wall time holds whatever "
        "else the machine does: processor time is what counts.\n"
    )
    (asked.out / "family_times.md").write_text(page + report(found, settings))


if __name__ == "__main__":
    main()
