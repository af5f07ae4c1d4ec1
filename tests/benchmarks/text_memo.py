"""Whether remembering a text's keys and values pays on UNets: writes docs/results/text_memo.md and text_memo.json.

``python -m tests.benchmarks.text_memo [--out FOLDER]``

In cross-attention keys and values are linear maps of the prompt's states, which are the same tensor in every step. Here
they are computed once and handed out again, on the embedded model's UNet and on one of SDXL's shape, and the processor
time of the same forward passes is compared inside rounds. How much of the arithmetic they are at real sizes is counted
beside it: the fewer places a picture has, the more its words weigh. The memo lives here alone: docs/architecture.md
says why no run uses it.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import UNet2DConditionModel
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from pipelines.measure.intervals import bootstrap
from tests.benchmarks import common, shapes

COMMAND = "python -m tests.benchmarks.text_memo"
COUNTED = ("embedded", "SD 1.5", "SDXL")


@contextmanager
def remembered(unet: torch.nn.Module) -> Iterator[list[torch.Tensor]]:
    """Linear maps of the text computed once for each text tensor; yields what they hold, and takes itself out again."""
    patched: list[Any] = []
    held: list[torch.Tensor] = []

    def patch(linear: Any) -> None:
        stock, last = linear.forward, {}

        def forward(states: torch.Tensor) -> torch.Tensor:
            if last.get("in") is not states:
                last["in"], last["out"] = states, stock(states)
                held.append(last["out"])
            found: torch.Tensor = last["out"]
            return found

        linear.forward = forward
        patched.append(linear)

    for module in unet.modules():
        if getattr(module, "is_cross_attention", False):
            patch(module.to_k)
            patch(module.to_v)
    try:
        yield held
    finally:
        for linear in patched:
            del linear.forward


def unets() -> dict[str, Any]:
    """Name → UNet, those of the protocol in its order."""
    torch.manual_seed(0)
    embedded = UNet2DConditionModel.from_pretrained(common.WEIGHTS / "unet").eval()
    return dict(
        zip(
            common.protocol("text_memo")["rounds"],
            (embedded, UNet2DConditionModel(**shapes.SDXL_THIRD).eval()),
            strict=True,
        )
    )


def counted(shape: shapes.Shape, settings: dict[str, Any]) -> float:
    """The text's keys and values as a share of a forward pass's arithmetic, at the side of the shape's card."""
    unet, cells = shapes.parts(shape).unet, shape.card.side // shape.card.factor
    args, kwargs = shapes.arguments(shape.family, unet, settings["rows"], (cells, cells), settings["text"])
    # attention is one operation in fast kernels, which the counter does not know on every device
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        unet(*args, **kwargs)
    maps = [
        linear.in_features * linear.out_features
        for module in unet.modules()
        if getattr(module, "is_cross_attention", False)
        for linear in (module.to_k, module.to_v)
    ]
    return 2 * settings["rows"] * settings["text"] * sum(maps) / counter.get_total_flops()


def rounds(unet: Any, count: int, settings: dict[str, Any]) -> tuple[list[dict[str, float]], int]:
    """(processor seconds, plain and remembered, of each round, after one that warms up; numbers that are held)."""
    generator = torch.Generator().manual_seed(settings["seed"])
    config, rows = unet.config, settings["rows"]
    side = config.sample_size
    sample = torch.randn(rows, config.in_channels, side, side, generator=generator)
    text = torch.randn(rows, settings["text"], config.cross_attention_dim, generator=generator)
    added = {"text_embeds": torch.zeros(rows, 320), "time_ids": torch.zeros(rows, 6)}
    size = 0

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
            if way == "plain":
                seconds[way], outputs[way] = run()
                continue
            with remembered(unet) as held:
                seconds[way], outputs[way] = run()
                size = sum(one.numel() for one in held)
        if not torch.equal(outputs["plain"], outputs["remembered"]):
            raise SystemExit("remembering changed the output.")
        found.append(seconds)
    return found[1:], size


def main() -> None:
    """Measure and write both files."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--out", type=Path, default=common.RESULTS)
    asked = parser.parse_args()
    settings = common.protocol("text_memo")
    torch.set_num_threads(1)
    raw, lines = {}, []
    for name, unet in unets().items():
        found, size = rounds(unet, settings["rounds"][name], settings)
        raw[name] = found
        ratios = [one["remembered"] / one["plain"] for one in found]
        median = f"{np.median(ratios):.3f}"
        lines.append(
            [name, str(len(found)), common.number(bootstrap(ratios)), median, f"{4 * size / 1e6:.1f}"]
        )
    asked.out.mkdir(parents=True, exist_ok=True)
    known = {shape.name: shape for shape in shapes.SHAPES}
    third = dataclasses.replace(
        known["SDXL"],
        name=f"{known['SDXL'].name}, a third as wide",
        sizes=shapes.SDXL_THIRD,
        card=dataclasses.replace(known["SDXL"].card, side=256),
    )
    shares = {
        f"{shape.name}, {shape.card.side} × {shape.card.side}": counted(shape, settings)
        for shape in (*(known[name] for name in COUNTED), third)
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
