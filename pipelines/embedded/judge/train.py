"""Training the judge, in about ten minutes on two CPU cores.

``python -m pipelines.embedded.judge.train --pool POOL --autoencoder AE --out RUN --minutes 8``

Learns from a pool's pictures and from what the autoencoder makes of some of them, so that its blur is nothing
new. Resumable: RUN/state.pt holds the weights and the time spent, RUN/examples.npz the decoded pictures. At
the end the weights and their card are written to ``--export`` (half precision safetensors, JSON).
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from accelerate import Accelerator
from rich.progress import Progress
from safetensors.torch import save_file

from pipelines.embedded.judge.data import (
    ATTRIBUTES,
    IGNORE,
    Examples,
    augment,
    from_chunk,
    join,
    rarity,
    wreck,
)
from pipelines.embedded.judge.decoded import (
    as_tensor,
    decoded_examples,
    load_examples,
    save_examples,
    unfinished_examples,
)
from pipelines.embedded.judge.model import JudgeNet, Vocabulary
from pipelines.embedded.training.world import WORLDS

WEIGHTS = Path(__file__).parent / "weights"
SEED = 4711
BATCH, RATE = 96, 2.5e-3
HELD_OUT = 400  # the first crops and the first scenes of the pool, for the accuracy that is printed
WRECKED = 0.15  # share of a batch
LOSS = {"object": 1.0, "presence": 5.0, "cells": 1.0, "place": 0.3, "time": 0.3}
LOSS |= {"colour": 0.4, "tone": 0.3, "gender": 0.3, "style": 0.15}
NONE = 0.2  # weight of "none" among colours, tones and genders: most objects have none


def spoil(
    x: torch.Tensor, targets: dict[str, torch.Tensor], generator: torch.Generator, nothing: dict[str, int]
) -> None:
    """Turn `WRECKED` of the batch, in place, into wrecks and set their targets."""
    count = round(WRECKED * len(x))
    x[:count], gone = wreck(x[:count], generator)
    targets["object"][:count] = nothing["object"]
    for head in ("colour", "tone", "gender", "style"):
        targets[head][:count] = IGNORE
    targets["place"][:count][gone] = nothing["place"]
    targets["presence"][:count], targets["cells"][:count] = -1, -1


def losses(out: dict[str, torch.Tensor], targets: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Mean loss of each head over what is known; 0 where a batch knows nothing."""
    found = {}
    for head, logits in out.items():
        target, logits = targets[head], logits.float()
        if head == "presence":
            known = (target >= 0).float()
            each = F.binary_cross_entropy_with_logits(logits, target.clamp(min=0).float(), reduction="none")
            found[head] = (each * known).sum() / known.sum().clamp(min=1)
            continue
        ignore = -1 if head == "cells" else IGNORE
        smoothing = 0.05 if head == "object" else 0.0
        weight = torch.ones(logits.shape[1])
        if head in ATTRIBUTES:
            weight[-1] = NONE
        total = F.cross_entropy(
            logits, target.long(), weight, ignore_index=ignore, reduction="sum", label_smoothing=smoothing
        )
        known = target[target != ignore].long()
        found[head] = total / weight[known].sum().clamp(min=1)
    return found


@torch.no_grad()
def accuracy(model: torch.nn.Module, examples: Examples) -> dict[str, float]:
    """Share of right answers of each head over what is known."""
    model.eval()
    outs = [model(as_tensor(examples.pictures[k : k + 64])) for k in range(0, len(examples), 64)]
    model.train()
    found = {}
    for head, target in examples.targets.items():
        best = torch.cat([out[head] for out in outs]).argmax(1).numpy()
        known = target != IGNORE
        if known.any():
            found[head] = float((best == target)[known].mean())
    return found


def export(model: JudgeNet, vocabulary: Vocabulary, folder: Path, record: dict[str, object]) -> None:
    """Write ``judge.safetensors`` (half precision) and ``judge.json``."""
    folder.mkdir(parents=True, exist_ok=True)
    weights = {name: p.detach().half().contiguous() for name, p in model.state_dict().items()}
    save_file(weights, folder / "judge.safetensors")
    card = {
        "what": "A small classifier of the embedded world's pictures, independent of the models it judges.",
        "input": "RGB, 128 by 128, (x / 127.5) - 1",
        "vocabulary": vocabulary.to_dict(),
        "parameters": sum(p.numel() for p in model.parameters()),
        "training": record,
        "limits": "Knows this world only. 'Nothing recognisable' is an answer and counts as wrong.",
    }
    (folder / "judge.json").write_text(json.dumps(card, indent=1) + "\n")


def main() -> None:
    """Command line: train until ``--minutes`` have been spent in all, then export."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--world", default="small", choices=sorted(WORLDS))
    parser.add_argument("--pool", type=Path, required=True)
    parser.add_argument("--autoencoder", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=8)
    parser.add_argument("--chunks", type=int, default=12, help="how much of the pool is read (70 MB each)")
    parser.add_argument(
        "--decoded", type=int, default=1500, help="crops to reconstruct and to ruin (half as many scenes)"
    )
    parser.add_argument("--unfinished", type=Path, help="an early export of the denoiser: more of nothing")
    parser.add_argument("--export", type=Path, default=WEIGHTS)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    vocabulary = Vocabulary.of(WORLDS[options.world])
    paths = sorted(options.pool.glob("chunk-*.npz"))[: options.chunks]
    kept = options.out / "examples.npz"
    if not kept.exists():
        made = decoded_examples(
            paths[-1], vocabulary, options.autoencoder, options.decoded, options.decoded // 2
        )
        if options.unfinished:
            early = unfinished_examples(
                paths[-1], vocabulary, options.unfinished, WORLDS[options.world], options.decoded // 2
            )
            made = join([made, early])
        save_examples(kept, made)
    crops = join([from_chunk(path, vocabulary, "crops")[0] for path in paths])
    whole = join([from_chunk(path, vocabulary, "whole")[0] for path in paths])
    held = {"crops": crops.take(slice(0, HELD_OUT)), "whole": whole.take(slice(0, HELD_OUT))}
    sources = [crops.take(slice(HELD_OUT, None)), whole.take(slice(HELD_OUT, None)), load_examples(kept)]
    shelves = [np.cumsum(rarity(source)) for source in sources]
    shares = [BATCH // 2, BATCH // 4, BATCH - BATCH // 2 - BATCH // 4]

    accelerator = Accelerator(cpu=True, mixed_precision="bf16")
    torch.manual_seed(SEED)
    model = JudgeNet(vocabulary).to(memory_format=torch.channels_last)
    decays = [p for p in model.parameters() if p.ndim > 1]
    rest = [p for p in model.parameters() if p.ndim <= 1]
    optimizer = torch.optim.AdamW(
        [{"params": decays, "weight_decay": 0.05}, {"params": rest, "weight_decay": 0.0}],
        lr=RATE,
        betas=(0.9, 0.98),
    )
    spent, step = 0.0, 0
    state_path = options.out / "state.pt"
    if state_path.exists():
        state = torch.load(state_path, weights_only=True)
        model.load_state_dict(state["weights"])
        optimizer.load_state_dict(state["optimizer"])
        spent, step = state["seconds"], state["step"]
    forward, optimizer = accelerator.prepare(model, optimizer)

    def save(seconds: float) -> None:
        state = {
            "weights": model.state_dict(),
            "optimizer": optimizer.state_dict(),
            "seconds": seconds,
            "step": step,
        }
        torch.save(state, state_path.with_suffix(".part"))
        state_path.with_suffix(".part").replace(state_path)

    rng, generator = np.random.default_rng([SEED, step]), torch.Generator().manual_seed(SEED + step)
    nothing = {"object": len(vocabulary.labels), "place": len(vocabulary.places)}
    total, start, shown_at = options.minutes * 60, time.time() - spent, 0.0
    smooth: dict[str, float] = {}
    with Progress() as progress:
        task = progress.add_task("judge", total=total)
        while (elapsed := time.time() - start) < total:
            for group in optimizer.param_groups:
                group["lr"] = RATE * min(1.0, (step + 1) / 200, 1.6 * (1 - elapsed / total) + 0.002)
            parts = [
                source.take(np.searchsorted(shelf, rng.random(n) * shelf[-1]))
                for source, shelf, n in zip(sources, shelves, shares, strict=True)
            ]
            # shuffled, because wrecks are made from the first of a batch
            batch = join(parts).take(rng.permutation(BATCH))
            x, cells = augment(as_tensor(batch.pictures), torch.from_numpy(batch.cells).long(), generator)
            targets = {name: torch.from_numpy(target) for name, target in batch.targets.items()}
            targets |= {"presence": torch.from_numpy(batch.presence), "cells": cells}
            spoil(x, targets, generator, nothing)
            with accelerator.autocast():
                out = forward(x.contiguous(memory_format=torch.channels_last))
            each = losses(out, targets)
            optimizer.zero_grad()
            accelerator.backward(sum(LOSS[head] * value for head, value in each.items()))
            accelerator.clip_grad_norm_(model.parameters(), 5.0)
            optimizer.step()
            step += 1
            for head, value in each.items():
                smooth[head] = 0.98 * smooth.get(head, value.item()) + 0.02 * value.item()
            if elapsed - shown_at > 30:
                shown_at = elapsed
                progress.update(task, completed=elapsed)
                right = " ".join(
                    f"{head} {share:.3f}" for head, share in accuracy(model, held["crops"]).items()
                )
                print(
                    f"step {step} {elapsed:.0f} s object loss {smooth['object']:.3f} held-out crops: {right}",
                    flush=True,
                )
                save(elapsed)
    save(max(spent, time.time() - start))
    final = {kind: accuracy(model, examples) for kind, examples in held.items()}
    record = {
        "world": options.world,
        "seed": SEED,
        "steps": step,
        "pictures": step * BATCH,
        "minutes": round(max(spent, time.time() - start) / 60, 1),
        "threads": torch.get_num_threads(),
        "held_out_of_the_pool": final,
    }
    export(model, vocabulary, options.export, record)
    print(json.dumps(record, indent=1))


if __name__ == "__main__":
    main()
