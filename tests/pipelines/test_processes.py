"""Determinism across processes: a picture does not depend on the process, the batch or the hash seed it was made in."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import torch

from pipelines.engine import Engine
from pipelines.pictures import PictureStore
from tests.pipelines import tiny

ROOT = Path(__file__).parents[2]
CHILD = """
import sys, torch
torch.set_num_threads(int(sys.argv[1]))
from tests.pipelines.test_processes import digests
print(",".join(digests(images=1, seed=int(sys.argv[2]))))
"""


def digests(**words: int) -> list[str]:
    """sha256 of each picture of one collage on a tiny model."""
    engine, store = Engine(), PictureStore()
    engine.adopt("sd_velocity", tiny.sd_velocity(), tiny.card_for("sd_velocity"))
    request = tiny.collage_request(store, cat={"harmonize": 0.2}, car={"attend_inside": 0.7}, **words)
    return [hashlib.sha256(one.tobytes()).hexdigest() for one in tiny.pictures(engine, request, store)]


def test_image_k_of_a_batch_is_image_k_alone_in_another_process() -> None:
    batch = digests(images=2, seed=5)
    assert batch[0] != batch[1]
    for k, hash_seed in enumerate(("1", "2")):
        done = subprocess.run(
            [sys.executable, "-c", CHILD, str(torch.get_num_threads()), str(5 + k)],
            cwd=ROOT,
            env={**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            check=True,
        )
        assert done.stdout.strip().splitlines()[-1] == batch[k]
