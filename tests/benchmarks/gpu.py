"""What the methods cost in time on a GPU, at real sizes: writes docs/results/gpu.md and the raw pairs, gpu.json.

``python -m tests.benchmarks.gpu [--only NAME]… [--repeats 5] [--device cuda] [--out FOLDER] [--runs FOLDER]``

Whole runs of SDXL and FLUX.1 dev with random weights in bfloat16, a batch of four in one call, at the side, steps and
window of their cards. Each run is timed in immediate succession with its own run of what it is compared with, and the
device is waited for before each clock is read. A stopped run goes on where it was. Layer attention is also run without
its mask over text and picture (split.py).
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tests.benchmarks import built, common, family_times, overhead, split

COMMAND = "python -m tests.benchmarks.gpu"
DTYPE = torch.bfloat16
SPLIT = "keys split"


def device_of(name: str) -> torch.device:
    """The device to time on; one sentence where it is not there."""
    device = torch.device(name)
    if device.type == "cuda" and not torch.cuda.is_available():
        raise SystemExit(
            "this times whole runs of SDXL and FLUX on a GPU, and torch sees no CUDA device here; run it on a machine "
            "that has one."
        )
    return device


def name_of(device: torch.device) -> str:
    """What it is called on the page."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


def waited(run: overhead.Contender, device: torch.device) -> overhead.Contender:
    """``run``, over when the device is done."""

    def whole() -> object:
        out = run()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        return out

    return whole


def settings_of(subject: built.Subject, settings: dict[str, Any]) -> dict[str, Any]:
    """The protocol's with what the subject's card says."""
    shape = subject.shape
    return {**settings, "side": shape.card.side, "steps": shape.card.steps, "window": shape.window}


def split_differences(subject: built.Subject, device: torch.device) -> tuple[float, float] | str | None:
    """`split.differences` at the subject's size in `DTYPE`; why it cannot run here; None without joint attention."""
    shape = subject.shape
    joint = getattr(built.shapes.family(shape.family), "joint", None)
    if joint is None:
        return None
    cells = shape.card.side // shape.card.factor
    h, w = joint.grid((cells, cells))
    try:
        return split.differences(
            device, DTYPE, (shape.text, h * w), shape.sizes.get("attention_head_dim", 128)
        )
    except RuntimeError as error:  # a device without this kernel: the other contenders are timed all the same
        return str(error).splitlines()[0]


def contenders(
    subject: built.Subject, settings: dict[str, Any], device: torch.device, splits: bool
) -> dict[str, tuple[overhead.Contender, str]]:
    """Those of `family_times`, and layer attention with its keys split."""
    loaded, chosen = built.built(subject, device, DTYPE), settings_of(subject, settings)
    runs = family_times.contenders(loaded, chosen)
    cells = chosen["side"] // loaded.card.factor

    def without_mask(run: overhead.Contender) -> Callable[[], object]:
        def whole() -> object:
            with split.splitting((cells, cells)):
                return run()

        return whole

    if splits:
        for name in [f"layer attention, {count} layers" for count in settings["layers"]]:
            runs[f"{name}, {SPLIT}"] = without_mask(runs[name][0]), "stock"
    return {name: (waited(run, device), base) for name, (run, base) in runs.items()}


def rounds(
    name: str, settings: dict[str, Any], device: torch.device, repeats: int, splits: bool, folder: Path
) -> list[dict[str, Any]]:
    """The rounds of a model: those kept in ``folder`` and those that are missing, after one that warms up."""
    runs: dict[str, tuple[overhead.Contender, str]] = {}

    def make(turn: int) -> dict[str, Any]:
        if not runs:
            runs.update(contenders(built.SUBJECTS[name], settings, device, splits))
            overhead.one_round(runs, overhead.pairs_of(runs, settings), 0)
        return overhead.one_round(runs, overhead.pairs_of(runs, settings), turn)

    key = [name, settings, splits, name_of(device), torch.__version__]
    rows = common.kept_rows(folder / f"{common.digest(key)}.jsonl", repeats, make, name)
    runs.clear()
    if device.type == "cuda":
        torch.cuda.empty_cache()
    return rows


def section(name: str, rows: list[dict[str, Any]], settings: dict[str, Any]) -> str:
    """A line a contender: its ratio to the stock run, and the verdict on its target."""
    targets = {**settings["targets"]["every model"], **settings["targets"].get(name, {})}
    found = overhead.paired(rows)
    lines = []
    for (one, base), times in found.items():
        ratio = overhead.ratio(times, one, base, 1)
        target = overhead.target_of(one, base, targets)
        median = f"{np.median([row[one][1] for row in times]):.2f}"
        lines.append([one, base, common.number(ratio), overhead.verdict(ratio, target), median])
    heads = ["run", "against", "wall time, ratio", "target", "median seconds"]
    stock = np.median([row["stock"][1] for times in found.values() for row in times if "stock" in row])
    steps = settings_of(built.SUBJECTS[name], settings)["steps"]
    return (
        f"\n## {name}\n\n{len(rows)} rounds of {steps} steps; stock, median: {stock:.2f} seconds.\n\n"
        f"{common.table(heads, lines)}"
    )


def main() -> None:
    """Time both models and write both files."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--only", action="append", choices=built.SUBJECTS, help="a model of the page")
    parser.add_argument("--repeats", type=int)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--out", type=Path, default=common.RESULTS)
    parser.add_argument("--runs", type=Path, default=common.RUNS / "gpu")
    asked = parser.parse_args()
    device, settings = device_of(asked.device), common.protocol("gpu")
    repeats = asked.repeats or settings["repeats"]
    raw: dict[str, Any] = {
        "command": COMMAND,
        "made": common.machine(),
        "device": name_of(device),
        "models": {},
    }
    page = common.heading(
        "What the methods cost in time on a GPU", COMMAND, settings, "random, bfloat16", kept=True
    )
    page += (
        f"On {name_of(device)}. A ratio above 1 is slower than what it is compared with, with a 95 % bootstrap "
        "interval over pairs of runs in immediate succession; a target is open where it reaches over it. Seconds of "
        "every pair: `gpu.json`, as run, against what, [processor, wall] of both. Weights are random, which changes "
        "no shape; text encoders have two layers.\n"
    )
    for name in asked.only or built.SUBJECTS:
        found = split_differences(built.SUBJECTS[name], device)
        rows = rounds(name, settings, device, repeats, isinstance(found, tuple), asked.runs)
        raw["models"][name] = {"split": found, "seconds": rows}
        page += section(name, rows, settings)
        if isinstance(found, tuple):
            page += (
                f"\nLargest difference from the masked call in float32, at this size: keys split {found[0]:.2g}, the "
                f"masked call in bfloat16 {found[1]:.2g}.\n"
            )
        elif found is not None:
            page += f"\nKeys are not split here: {found}\n"
    asked.out.mkdir(parents=True, exist_ok=True)
    (asked.out / "gpu.json").write_text(json.dumps(raw, indent=1) + "\n")
    (asked.out / "gpu.md").write_text(page)


if __name__ == "__main__":
    main()
