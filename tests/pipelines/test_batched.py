"""Images sampled in one call: rows of a batch may differ from the image alone in the last bits, by 2 of 255 at most.

On a GPU that is meant and not yet measured: no machine that ran these tests had one.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from pipelines.engine import Engine
from pipelines.errors import ModelError
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


class Room:
    """Memory for so many rows of a denoiser call; ``calls`` has the rows of each."""

    def __init__(self, rows: int) -> None:
        self.rows, self.calls = rows, list[int]()

    def __call__(self, _: Any, args: tuple[torch.Tensor, ...]) -> None:
        self.calls.append(len(args[0]))
        if len(args[0]) > self.rows:
            raise torch.OutOfMemoryError("CUDA out of memory")


def test_images_that_do_not_fit_together_are_made_fewer_at_a_time(
    store: PictureStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on an accelerator, where images share calls: five are halved to three, and to two."""
    own, pipe, room = Engine(preview_seconds=60), tiny.sd_velocity(), Room(4)
    own.adopt("one", pipe, tiny.card_for("sd_velocity"))
    monkeypatch.setattr("pipelines.job.one_a_call", lambda device: False)
    request = tiny.collage_request(store, "sd_velocity", cat={"harmonize": 0.2}, images=5).replace(
        model="one"
    )
    whole = tiny.result(own, request, store)
    handle = pipe.unet.register_forward_pre_hook(room)
    try:
        result = tiny.result(own, request, store)
        assert list(dict.fromkeys(room.calls)) == [10, 6, 4, 2], "with and without the words each"
        pairs = zip(result.pictures, whole.pictures, strict=True)
        assert max(int(np.abs(a.astype(int) - b).max()) for a, b in pairs) <= 2
        said = result.report["warnings"]
        assert isinstance(said, list) and said[-2:] == [
            "5 pictures do not fit into memory together; made 3 at a time.",
            "3 pictures do not fit into memory together; made 2 at a time.",
        ]
        with pytest.raises(ModelError, match="too little memory"):
            tiny.result(own, request.replace(spread=1.0), store)
        room.rows = 1
        with pytest.raises(ModelError, match="too little memory"):
            tiny.result(own, request, store)
    finally:
        handle.remove()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device to measure batched rows on")
def test_rows_of_a_batch_on_a_gpu(store: PictureStore, model: str) -> None:
    own = Engine(preview_seconds=60)
    own.adopt("one", tiny.KINDS[model]().to("cuda"), tiny.card_for(model))
    most, between = furthest(own, store)
    assert most <= 2 and between > 0.2
