"""Whether remembering a text's keys and values pays on UNets: writes docs/results/text_memo.md and text_memo.json.

``python -m tests.benchmarks.text_memo [--out FOLDER]``

In cross-attention keys and values are linear maps of the prompt's states, which are the same tensor in every step, so a
run computes them once (`pipelines.attention.memo`). Here the processor time of the same forward passes with and without
it is compared inside rounds, on the embedded model's UNet, whole and on the smallest crop that an edit of one layer
runs, and on one of SDXL's shape. How much of the arithmetic they are at real sizes is counted beside it: the fewer
places a picture has, the more its words weigh.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import time
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import UNet2DConditionModel
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from pipelines.attention.memo import remembered
from pipelines.families import family
from pipelines.measure.intervals import bootstrap
from tests.benchmarks import common, shapes

COMMAND = "python -m tests.benchmarks.text_memo"
COUNTED = ("embedded", "SD 1.5", "SDXL")


def measured() -> dict[str, tuple[UNet2DConditionModel, int]]:
    """Name → (UNet, side in latent cells), those of the protocol in its order."""
    torch.manual_seed(0)
    embedded = UNet2DConditionModel.from_pretrained(common.WEIGHTS / "unet").eval()
    third = UNet2DConditionModel(**shapes.SDXL_THIRD).eval()
    whole = embedded.config.sample_size
    found = [(embedded, whole), (embedded, whole // 2), (third, third.config.sample_size)]
    return dict(zip(common.protocol("text_memo")["rounds"], found, strict=True))


def maps(unet: torch.nn.Module) -> list[torch.nn.Linear]:
    """The key and value maps of the text."""
    return [
        linear
        for module in unet.modules()
        if getattr(module, "is_cross_attention", False)
        for linear in (module.to_k, module.to_v)
    ]


def counted(shape: shapes.Shape, settings: dict[str, Any]) -> float:
    """The text's keys and values as a share of a forward pass's arithmetic, at the side of the shape's card."""
    unet, cells = shapes.parts(shape).unet, shape.card.side // shape.card.factor
    args, kwargs = shapes.arguments(shape.family, unet, settings["rows"], (cells, cells), settings["text"])
    # attention is one operation in fast kernels, which the counter does not know on every device
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        unet(*args, **kwargs)
    products = sum(linear.in_features * linear.out_features for linear in maps(unet))
    return 2 * settings["rows"] * settings["text"] * products / counter.get_total_flops()


def rounds(unet: Any, cells: int, count: int, settings: dict[str, Any]) -> list[dict[str, float]]:
    """Processor seconds, plain and remembered, of each round, after one that warms up."""
    generator = torch.Generator().manual_seed(settings["seed"])
    config, rows = unet.config, settings["rows"]
    sample = torch.randn(rows, config.in_channels, cells, cells, generator=generator)
    text = torch.randn(rows, settings["text"], config.cross_attention_dim, generator=generator)
    added = {"text_embeds": torch.zeros(rows, 320), "time_ids": torch.zeros(rows, 6)}

    def run() -> tuple[float, torch.Tensor]:
        start = time.process_time()
        with torch.no_grad():
            for step in range(settings["steps"]):
                out = unet(sample, 900 - 100 * step, text, added_cond_kwargs=added, return_dict=False)[0]
        return time.process_time() - start, out

    found = []
    for turn in range(count + 1):
        seconds: dict[str, float] = {}
        outputs = {}
        for way in ("plain", "remembered") if turn % 2 else ("remembered", "plain"):
            with remembered(unet, family("sd").site) if way == "remembered" else nullcontext():
                seconds[way], outputs[way] = run()
        if not torch.equal(outputs["plain"], outputs["remembered"]):
            raise SystemExit("remembering changed the output.")
        found.append(seconds)
    return found[1:]


def main() -> None:
    """Measure and write both files."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--out", type=Path, default=common.RESULTS)
    asked = parser.parse_args()
    settings = common.protocol("text_memo")
    torch.set_num_threads(1)
    raw, lines = {}, []
    for name, (unet, cells) in measured().items():
        found = rounds(unet, cells, settings["rounds"][name], settings)
        held = 4 * settings["rows"] * settings["text"] * sum(linear.out_features for linear in maps(unet))
        raw[name] = found
        ratios = [one["remembered"] / one["plain"] for one in found]
        median = f"{np.median(ratios):.3f}"
        lines.append([name, str(len(found)), common.number(bootstrap(ratios)), median, f"{held / 1e6:.1f}"])
    asked.out.mkdir(parents=True, exist_ok=True)
    known = {shape.name: shape for shape in shapes.SHAPES}
    third = dataclasses.replace(
        known["SDXL"],
        name=f"{known['SDXL'].name}, a third as wide",
        sizes=shapes.SDXL_THIRD,
        card=dataclasses.replace(known["SDXL"].card, side=256),
    )
    crop = dataclasses.replace(
        known["embedded"],
        card=dataclasses.replace(known["embedded"].card, side=known["embedded"].card.side // 2),
    )
    shares = {
        f"{shape.name}, {shape.card.side} × {shape.card.side}": counted(shape, settings)
        for shape in (*(known[name] for name in COUNTED), crop, third)
    }
    made = {"command": COMMAND, "made": common.machine(), "seconds": raw, "shares": shares}
    (asked.out / "text_memo.json").write_text(json.dumps(made, indent=1) + "\n")
    page = common.heading(
        "Keys and values of the text, remembered", COMMAND, settings, common.weights_digest(common.WEIGHTS)
    )
    page += (
        "Processor time of the same forward passes with a text's keys and values remembered, against computed anew: "
        "below 1 is faster. The outputs are equal to the last bit.\n\n"
    )
    heads = ["UNet", "rounds", "ratio, mean (95 %)", "median", "MB held"]
    page += common.table(heads, lines)
    page += "\nTheir share of a forward pass's floating-point operations, which is the most that can be saved:\n\n"
    page += common.table(
        ["UNet", "share"], [[name, f"{100 * share:.2f} %"] for name, share in shares.items()]
    )
    (asked.out / "text_memo.md").write_text(page)


if __name__ == "__main__":
    main()
