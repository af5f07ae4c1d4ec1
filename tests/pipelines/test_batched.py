"""Images sampled in one call: rows of a batch may differ from the image alone in the last bits, by 2 of 255 at most.

On a GPU that is meant and not yet measured: no machine that ran these tests had one.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from pipelines.engine import Engine
from pipelines.pictures import PictureStore
from tests.pipelines import tiny


def furthest(engine: Engine, store: PictureStore, **words: Any) -> tuple[int, float]:
    """Largest difference of image k of a joint run from image k alone, and the mean one between two images.

    ``words`` are for the joint run only.
    """
    request = tiny.collage_request(
        store,
        engine.load("one").card.name,
        cat={"harmonize": 0.2},
        car={"attend_inside": 0.7, "attend_outside": 0.4},
        images=3,
    ).replace(model="one")
    batch = tiny.pictures(engine, request.replace(**words), store)
    alone = [
        tiny.pictures(engine, request.replace(images=1, seed=request.seed + k), store)[0] for k in range(3)
    ]
    most = max(int(np.abs(a.astype(int) - b).max()) for a, b in zip(batch, alone, strict=True))
    return most, tiny.moved(batch[0], batch[1])


def test_rows_of_a_joint_run_on_a_cpu(store: PictureStore, model: str) -> None:
    """Spread with a threshold that nothing reaches: one call for all images, and nobody is pushed."""
    own = Engine(preview_seconds=60)
    own.adopt("one", tiny.KINDS[model](), tiny.card_for(model))
    most, between = furthest(own, store, spread=1.0, spread_threshold=1.0)
    assert most <= 2 and between > 0.2
    assert furthest(own, store, spread=1.0, spread_threshold=0.0)[0] > 2


def test_decoding_one_after_another_gives_the_same_pictures(store: PictureStore, model: str) -> None:
    """As autoencoders do on an accelerator (`pipelines.loading.placing`), to the last bits of a batch."""
    own, pipe = Engine(preview_seconds=60), tiny.KINDS[model]()
    own.adopt("own", pipe, tiny.card_for(model))
    request = tiny.collage_request(store, model, images=3, spread=1.0, spread_threshold=0.0)
    decoded: list[int] = []
    pipe.vae.decoder.register_forward_pre_hook(lambda _, args: decoded.append(len(args[0])))
    batch = tiny.pictures(own, request.replace(model="own"), store)
    pipe.vae.enable_slicing()
    single = tiny.pictures(own, request.replace(model="own"), store)
    assert decoded == [3, 1, 1, 1]
    assert max(int(np.abs(a.astype(int) - b).max()) for a, b in zip(batch, single, strict=True)) <= 1


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device to measure batched rows on")
def test_rows_of_a_batch_on_a_gpu(store: PictureStore, model: str) -> None:
    own = Engine(preview_seconds=60)
    own.adopt("one", tiny.KINDS[model]().to("cuda"), tiny.card_for(model))
    most, between = furthest(own, store)
    assert most <= 2 and between > 0.2
