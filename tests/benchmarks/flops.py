"""What the methods cost in arithmetic at real sizes: writes docs/results/flops.md and flops.json.

``python -m tests.benchmarks.flops [--only NAME]… [--out FOLDER]``

Real denoisers on torch's meta device, called as their pipelines call them, with the engine's own hooks, kernel and
methods around them; torch's counter adds up matrix products, convolutions and attention. Text encoders and the decoder
are left out of both sides, so that a ratio is, if anything, too large. Elementwise work and memory traffic are not in
it: overhead.py times those.
"""

from __future__ import annotations

import argparse
import json
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from pipelines import sampling
from pipelines.attention.kernel import Kernel
from pipelines.attention.tap import installed
from pipelines.listening import Latest
from pipelines.methods import methods_for
from pipelines.methods.base import Run, grids
from pipelines.methods.thinning import thins
from pipelines.models.card import THIN_FROM, ModelCard
from pipelines.pictures import PictureStore
from pipelines.request import AvoidRequest, LayerRequest, RenderRequest
from tests.benchmarks import common, shapes

COMMAND = "python -m tests.benchmarks.flops"
ABOUT = """What is added to the floating-point operations of a whole stock run: matrix products, convolutions and
attention of the denoiser, and of the autoencoder where it encodes a reference. Counted on torch's meta device through
the engine's own hooks, kernel and methods; `tests/test_flops.py` holds the count against real runs of tiny models.
Elementwise work and memory traffic are not in it, nor text encoders and the decoder, on either side, nor what a run
saves by remembering the text's keys and values on UNets. Side, steps, guidance and the share of the steps in which
NegToMe acts are those of each model's card, so what its users get.

What spread costs is the product of each image's tokens with the reference tokens of the others. On grids of {thin}
tokens and more one reference token of each two by two is compared, where the card says so (all cards do but the
embedded model's, whose grids are smaller); `exact_match` compares all of them, the columns "exact". What is picked and
why: `pipelines/methods/thinning.py`; what it changes of the pushes: [thinning.md](thinning.md).

What an avoid reference costs is one more row in the steps in which it acts, the products with its tokens, and its
encoding; the row weighs more where fewer rows share it (one branch, a small batch). **A second render with the same
reference saves its encoding and nothing else.** Its features are not kept from render to render: without its row the
batch has another size, in which the other rows differ in the last bits, so the second of two equal requests would give
another picture than the first; and they are large (`pipelines/methods/reference_rows.py`).

"""


@dataclass(frozen=True)
class Count:
    """Floating-point operations: before the first step, of a step in which NegToMe acts, and of another step."""

    begin: int
    active: int
    rest: int
    active_steps: int
    steps: int

    @property
    def whole(self) -> int:
        """Of the whole run."""
        return self.begin + self.active_steps * self.active + (self.steps - self.active_steps) * self.rest


@dataclass(frozen=True)
class Subject:
    """What is counted: a pipeline's parts, its card, and the shapes its calls have."""

    pipe: Any
    card: ModelCard
    text: int
    words: int
    clip: int = 0
    distilled: bool = False

    def tokens(self, layers: int) -> list[list[int]]:
        """``words`` text tokens a layer, one layer after another; twice where CLIP and T5 both read the phrase."""
        own = [[1 + layer * self.words + k for k in range(self.words)] for layer in range(layers)]
        return [[*row, *(self.clip + k for k in row)] for row in own] if self.clip else own


def count(subject: Subject, request: RenderRequest, store: PictureStore) -> Count:
    """Count a run of ``request`` by the engine's own hooks and methods: one step of each kind, times their number."""
    pipe, card = subject.pipe, subject.card
    size = (request.height // card.factor, request.width // card.factor)
    kind = shapes.family(card.family)
    denoiser: Any = kind.denoiser(pipe)
    device = next(denoiser.parameters()).device
    in_one, turns = shapes.branches(kind, request.guidance, subject.distilled)
    args, kwargs = shapes.arguments(card.family, denoiser, in_one * request.images, size, subject.text)
    kind = shapes.family_of(card.family, args, kwargs)
    run = Run(
        request=request,
        pictures=store,
        card=card,
        pipe=pipe,
        family=kind,
        images=request.images,
        first=0,
        steps=request.steps,
        levels=[(0.5, 0.5)] * request.steps,
        times=[0.5] * request.steps,
        seeds=list(range(request.images)),
        exploding=False,
        latent_size=size,
        tokens=subject.tokens(len(request.layers)),
        device=device,
        dtype=torch.float32,
    )
    kernel, methods = Kernel(), methods_for(request)
    latest = Latest("flow")
    found: dict[int, int] = {}
    with ExitStack() as stack:
        stack.enter_context(torch.no_grad())
        # attention is one operation in fast kernels, which the counter does not know on every device
        stack.enter_context(sdpa_kernel(SDPBackend.MATH))
        with FlopCounterMode(display=False) as counter:
            for method in methods:
                method.begin(run, kernel)
        begin = counter.get_total_flops()
        stack.enter_context(sampling._hooked(denoiser, run, methods, latest))
        if kernel.logit_bias or kernel.map_output:
            stack.enter_context(installed(denoiser, kernel, kind.site))
        for index in {0, min(run.active_steps, run.steps - 1)}:
            latest.steps, latest.turn = index, 0
            with FlopCounterMode(display=False) as counter:
                for _ in range(turns):
                    denoiser(*args, **kwargs)
            found[index] = counter.get_total_flops()
    return Count(begin, found[0], found[max(found)], run.active_steps, run.steps)


def layered(
    plain: RenderRequest, layers: int, settings: dict[str, Any], store: PictureStore
) -> RenderRequest:
    """``layers`` stripes side by side, each with words, free to change from the first step."""
    made = []
    for number in range(layers):
        mask = np.zeros((plain.height, plain.width), np.uint8)
        mask[:, plain.width * number // layers : plain.width * (number + 1) // layers] = 255
        strengths = {word: settings[word] for word in ("attend_inside", "attend_outside")}
        name = store.put(mask)
        made.append(LayerRequest(name=str(number), mask=name, span=(0, 1), harmonize=1.0, **strengths))
    flat = np.full((plain.height, plain.width, 3), 128, np.uint8)
    return plain.replace(collage=store.put(flat), layers=tuple(made))


def contenders(
    plain: RenderRequest, settings: dict[str, Any], store: PictureStore
) -> dict[str, RenderRequest]:
    """Name → request; the first is the stock pipeline's."""
    picture = store.put(np.full((plain.height, plain.width, 3), 90, np.uint8))
    avoid = AvoidRequest(name="that", picture=picture, alpha=1.0, threshold=settings["avoid_threshold"])
    found = {"stock": plain}
    for layers in settings["layers"]:
        found[f"layer attention, {layers} layers"] = layered(plain, layers, settings, store)
    found["spread"] = plain.replace(spread=1.0, spread_threshold=settings["spread_threshold"])
    found["avoid, one reference"] = plain.replace(avoids=(avoid,))
    found["avoid, second render"] = found["avoid, one reference"]
    found["exact spread"] = found["spread"].replace(exact_match=True)
    found["exact avoid, second render"] = found["avoid, one reference"].replace(exact_match=True)
    return found


def subject(shape: shapes.Shape, words: int) -> Subject:
    """A model at its real size."""
    return Subject(shapes.parts(shape), shape.card, shape.text, words, shape.clip, shape.distilled)


def compared(subject: Subject, request: RenderRequest) -> tuple[int, int]:
    """(reference tokens that are compared, all there are) of one picture on the finest grid that looks at itself."""
    card = subject.card
    cells = request.height // card.factor, request.width // card.factor
    kind = shapes.family(card.family)
    if hasattr(kind, "joint"):
        h, w = kind.joint.grid(cells)
    else:
        config = subject.pipe.unet.config
        only = config.only_cross_attention
        words = only if isinstance(only, list | tuple) else [only] * len(config.down_block_types)
        levels = zip(config.down_block_types, words, grids(cells), strict=False)
        h, w = next(grid for block, one, grid in levels if "CrossAttn" in block and not one)
    every = 2 if thins(card, request, (h, w)) else 1
    return -(-h // every) * -(-w // every), h * w


def usual(shape: shapes.Shape, images: int) -> RenderRequest:
    """What a user of the model runs, as its card says, without any method."""
    card = shape.card
    return RenderRequest(
        model=shape.name,
        width=card.side,
        height=card.side,
        prompt="words",
        scheduler=card.scheduler,
        guidance=card.guidance,
        steps=card.steps,
        seed=0,
        images=images,
        window=shape.window,
    )


def measured(shape: shapes.Shape, settings: dict[str, Any]) -> dict[str, Any]:
    """Every contender on one model, as its card runs it."""
    store, chosen, plain = PictureStore(), subject(shape, settings["words"]), usual(shape, settings["images"])
    denoiser = shapes.family(shape.family).denoiser(chosen.pipe)
    runs = contenders(plain, settings, store)
    return {
        "compared": compared(chosen, plain),
        "parameters": sum(parameter.numel() for parameter in denoiser.parameters()),
        "side": plain.width,
        "steps": plain.steps,
        "guidance": plain.guidance,
        "counts": {name: vars(count(chosen, request, store)) for name, request in runs.items()},
    }


def added(counts: dict[str, dict[str, int]], name: str) -> float:
    """What ``name`` adds to the stock run, as a share of it."""
    return Count(**counts[name]).whole / Count(**counts["stock"]).whole - 1


def more_layers(counts: dict[str, dict[str, int]], layers: list[int]) -> float:
    """What the most layers cost more than the fewest, as a share of the run with the fewest."""
    few, many = (Count(**counts[f"layer attention, {number} layers"]).whole for number in layers)
    return many / few - 1


def reached(share: float, target: float) -> str:
    """The verdict on a share that is to stay under a target."""
    return "reached" if share <= target else "**missed**"


def verdict(share: float, target: float | None) -> str:
    """A share as "+1.234 %" with its target, where it has one."""
    text = f"{100 * share:+.2f} %"
    return text if target is None else f"{text} (≤ {100 * target:g} %: {reached(share, target)})"


def report(found: dict[str, dict[str, Any]], settings: dict[str, Any]) -> str:
    """The table, a line a model and a column a method, and a verdict on every target."""
    names = [name for name in next(iter(found.values()))["counts"] if name != "stock"]
    layers, lines, missed, held = settings["layers"], [], [], 0
    more = f"{layers[1]} layers against {layers[0]}"
    for model, row in found.items():
        counts = row["counts"]
        targets = {**settings["targets"]["every model"], **settings["targets"].get(model, {})}
        stock = Count(**counts["stock"])
        shares = {name: added(counts, name) for name in names} | {more: more_layers(counts, layers)}
        cells = []
        for name, share in shares.items():
            target = targets.get("more layers" if name == more else name.split(",")[0])
            cells.append(verdict(share, target))
            held += target is not None
            if target is not None and share > target:
                missed.append(f"{model}: {name} {cells[-1]}")
        size = f"{row['parameters'] / 1e9:.2f}"
        window = f"{stock.active_steps} of {stock.steps}"
        flops = f"{stock.whole / settings['images'] / 1e15:.3g}"
        picked = "{} of {}".format(*row["compared"])
        lines.append([model, f"{row['side']}", size, window, f"{row['guidance']:g}", picked, flops, *cells])
    heads = [
        "model",
        "side",
        "parameters, 10⁹",
        "steps with NegToMe",
        "guidance",
        "reference tokens, finest grid",
        "stock, 10¹⁵ FLOPs an image",
        *names,
        more,
    ]
    page = f"**{held - len(missed)} of {held} targets are reached.**\n\n"
    page += "".join(f"- {one}\n" for one in missed) + ("\n" if missed else "")
    return page + common.table(heads, lines)


def main() -> None:
    """Count everything and write both files."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--only", action="append", help="a model's name")
    parser.add_argument("--out", type=Path, default=common.RESULTS)
    asked = parser.parse_args()
    settings = common.protocol("flops")
    found = {s.name: measured(s, settings) for s in shapes.SHAPES if not asked.only or s.name in asked.only}
    asked.out.mkdir(parents=True, exist_ok=True)
    raw = {"command": COMMAND, "made": common.machine(), "models": found}
    (asked.out / "flops.json").write_text(json.dumps(raw, indent=1) + "\n")
    page = common.heading("What the methods cost in arithmetic", COMMAND, settings, "none")
    (asked.out / "flops.md").write_text(page + ABOUT.format(thin=THIN_FROM) + report(found, settings))


if __name__ == "__main__":
    main()
