"""Reference rows: they ride along while NegToMe is active, and nobody else notices."""

from __future__ import annotations

import dataclasses
import gc
import weakref
from typing import Any

import numpy as np
import pytest
import torch

from pipelines.attention.kernel import Kernel
from pipelines.engine import Engine
from pipelines.methods import reference_rows
from pipelines.methods.base import Inputs
from pipelines.methods.negtome import match
from pipelines.methods.reference_rows import ReferenceRows, kept_latents
from pipelines.pictures import PictureStore
from pipelines.request import RenderRequest
from tests.pipelines import tiny


def batches(engine: Engine, request: RenderRequest, store: PictureStore) -> list[tuple[int, int]]:
    """Rows into and out of the denoiser, a call."""
    found: list[tuple[int, int]] = []
    unet = engine.load(request.model).pipe.unet
    inner: list[int] = []
    handles = [
        unet.conv_in.register_forward_hook(lambda _, args, out: inner.append(len(out))),
        unet.register_forward_pre_hook(lambda _, args: found.append((len(args[0]), 0))),
    ]
    try:
        tiny.result(engine, request, store)
    finally:
        for handle in handles:
            handle.remove()
    return [(outside, inside) for (outside, _), inside in zip(found, inner, strict=True)]


@pytest.mark.parametrize(("guidance", "rows"), [(4.0, 2), (1.0, 1)])
def test_one_row_in_active_steps_only(
    engine: Engine, store: PictureStore, model: str, guidance: float, rows: int
) -> None:
    request = tiny.text_request(model, avoids=(tiny.avoid(store),), steps=8, guidance=guidance)
    seen = batches(engine, request, store)
    assert seen == [(rows, rows + 1)] * 2 + [(rows, rows)] * 6
    two = request.replace(avoids=(tiny.avoid(store), tiny.avoid(store, 10)))
    assert batches(engine, two, store)[0] == (rows, rows + 2)
    off = request.replace(avoids=(tiny.avoid(store, alpha=0.0),))
    assert batches(engine, off, store) == [(rows, rows)] * 8


def test_each_reference_has_its_own_window(engine: Engine, store: PictureStore) -> None:
    avoids = (tiny.avoid(store), tiny.avoid(store, 10, window=0.5), tiny.avoid(store, 11, alpha=0.0))
    request = tiny.text_request(avoids=avoids, steps=8)
    assert batches(engine, request, store) == [(2, 4)] * 2 + [(2, 3)] * 2 + [(2, 2)] * 4
    run = tiny.run_of(engine, request, store)
    method = ReferenceRows()
    method.begin(run, Kernel())
    for index, references in ((1, {0: 2, 1: 3}), (3, {1: 2}), (4, {})):
        step = tiny.step_of(run, index)
        text = {"encoder_hidden_states": torch.zeros(2, 77, 32)}
        method.before_forward(step, Inputs(torch.zeros(2, 4, 8, 8), text))
        assert step.references == references
    longer = tiny.pictures(engine, request, store)[0]
    shared = tuple(dataclasses.replace(one, window=None) for one in avoids)
    assert tiny.moved(longer, tiny.pictures(engine, request.replace(avoids=shared), store)[0]) > 0.01


def test_other_rows_do_not_notice(engine: Engine, store: PictureStore, model: str) -> None:
    run = tiny.run_of(engine, tiny.text_request(model, avoids=(tiny.avoid(store),)), store)
    step = tiny.step_of(run, 0)
    method = ReferenceRows()
    method.begin(run, Kernel())
    generator = torch.Generator().manual_seed(0)
    sample = torch.randn(2, 4, 8, 8, generator=generator)
    kwargs: dict[str, Any] = {
        "encoder_hidden_states": torch.randn(
            2, 77, run.pipe.unet.config.cross_attention_dim, generator=generator
        )
    }
    if model == "sdxl":
        ids = torch.tensor([[64.0, 64, 0, 0, 64, 64]]).expand(2, -1)
        kwargs["added_cond_kwargs"] = {"text_embeds": torch.ones(2, 32), "time_ids": ids}
    inputs = Inputs(sample, dict(kwargs))
    method.before_forward(step, inputs)
    assert len(inputs.sample) == 3 and step.references == {0: 2}
    assert len(kwargs["encoder_hidden_states"]) == 2, "the pipeline keeps its own tensors"
    if model == "sdxl":
        assert len(kwargs["added_cond_kwargs"]["text_embeds"]) == 2
    with torch.no_grad():
        alone = run.pipe.unet(sample, 500, **kwargs, return_dict=False)[0]
        long = run.pipe.unet(inputs.sample, 500, **inputs.kwargs, return_dict=False)[0]
    shorter = method.after_forward(step, long)
    assert shorter.shape == alone.shape
    assert torch.allclose(shorter, alone, atol=1e-5)
    assert (long[2] - long[1]).abs().max() > 1e-3


def test_encoded_once_a_run_and_noised_with_one_noise(engine: Engine, store: PictureStore) -> None:
    pipe = engine.load("sd_noise").pipe
    encoded: list[int] = []
    handle = pipe.vae.encoder.register_forward_hook(lambda *_: encoded.append(1))
    rows: list[torch.Tensor] = []
    kept = pipe.unet.conv_in.register_forward_pre_hook(lambda _, args: rows.append(args[0].clone()))
    request = tiny.text_request(
        "sd_noise", avoids=(tiny.avoid(store, 77),), window=1.0, images=3, steps=4, scheduler="euler"
    )
    try:
        tiny.result(engine, request, store)
    finally:
        handle.remove()
        kept.remove()
    run = tiny.run_of(engine, request, store)
    clean = run.family.encode_picture(run.pipe, store.get(request.avoids[0].picture))
    references = [row[2] for row in rows]
    noises = [
        (row - clean[0] * a) / s for row, (a, s) in zip(references, run.levels * 3, strict=False) if s > 0.3
    ]
    # previews are fitted once an engine, with pictures of their own
    assert len(encoded) in (1, 13)
    assert len(noises) > 3
    # the levels of each image start anew: compare the first step of each
    assert torch.equal(references[0], references[4]) and torch.equal(references[0], references[8])
    assert torch.allclose(noises[0], noises[1], atol=1e-4)


class TestKeptLatents:
    def test_the_second_render_encodes_nothing_and_is_the_same(self, store: PictureStore) -> None:
        own = Engine(preview_seconds=1e9)
        vae = own.adopt("own", tiny.sd_noise(), tiny.card_for("sd_noise")).pipe.vae
        before = dict(vars(vae))
        encoded: list[int] = []
        handle = vae.encoder.register_forward_hook(lambda *_: encoded.append(1))
        request = tiny.text_request("own", avoids=(tiny.avoid(store),), window=1.0, steps=1, guidance=1.0)
        first, again = (tiny.pictures(own, request, store)[0] for _ in range(2))
        assert len(encoded) == 1 and np.array_equal(first, again)
        other = tiny.pictures(own, request.replace(avoids=(tiny.avoid(store, 10),)), store)[0]
        assert len(encoded) == 2 and not np.array_equal(first, other), "another picture is another key"
        with torch.no_grad():
            vae.encoder.conv_in.weight *= 2
        changed = tiny.pictures(own, request, store)[0]
        assert len(encoded) == 3 and not np.array_equal(first, changed), "and so are other weights"
        handle.remove()
        assert dict(vars(vae)) == before, "nothing is put on the autoencoder"

    def test_the_key_is_all_that_decides_them(self, engine: Engine, store: PictureStore) -> None:
        run = tiny.run_of(engine, tiny.text_request("sd_noise"), store)
        run.pipe.vae = tiny.autoencoder(4, tiny=False)
        name, vae = store.put(tiny.picture(9)), run.pipe.vae
        first = kept_latents(run, name)
        assert torch.equal(first, run.family.encode_picture(run.pipe, store.get(name)))
        assert kept_latents(run, name) is first
        vae.enable_tiling()
        assert kept_latents(run, name) is not first
        vae.disable_tiling()
        vae.to(torch.bfloat16)
        assert kept_latents(run, name).dtype == torch.bfloat16
        vae.to(torch.float32)
        assert kept_latents(run, name) is first, (
            "moved there and back, as offload does, it was not written to"
        )

    def test_bounded(self, engine: Engine, store: PictureStore, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(reference_rows, "KEPT", 2)
        run = tiny.run_of(engine, tiny.text_request("sd_noise"), store)
        run.pipe.vae = tiny.autoencoder(4, tiny=False)
        names = [store.put(tiny.picture(seed)) for seed in (1, 2, 3)]
        found = [kept_latents(run, name) for name in names]
        assert kept_latents(run, names[2]) is found[2] and kept_latents(run, names[1]) is found[1]
        assert kept_latents(run, names[0]) is not found[0], "the oldest went"
        assert kept_latents(run, names[2]) is not found[2], "and then the one not asked for the longest"

    def test_gone_with_the_autoencoder(self, engine: Engine, store: PictureStore) -> None:
        run = tiny.run_of(engine, tiny.text_request("sd_noise"), store)
        run.pipe.vae = tiny.autoencoder(4, tiny=False)
        latents = weakref.ref(kept_latents(run, store.put(tiny.picture(9))))
        assert latents() is not None
        run.pipe.vae = None
        gc.collect()
        assert latents() is None


@pytest.mark.parametrize(("by", "row", "sign"), [("push", 1, 1), ("push", 0, 1), ("guidance", 0, -1)])
def test_avoid_lowers_the_likeness_of_features(
    engine: Engine, store: PictureStore, model: str, by: str, row: int, sign: int
) -> None:
    """Whole runs: in the middle block, image tokens are less like the reference's, and more like it with alpha < 0.

    By guidance it is the negative row (0), and the other way round.
    """

    def likeness(alpha: float) -> float:
        kept: list[torch.Tensor] = []
        part = engine.load(model).pipe.unet.mid_block.attentions[0].transformer_blocks[0].attn1.to_out[0]
        handle = part.register_forward_pre_hook(lambda _, args: kept.append(args[0].clone()))
        try:
            request = tiny.text_request(
                model, avoids=(tiny.avoid(store, alpha=alpha),), steps=2, guidance=2.0, avoid_by=by
            )
            tiny.result(engine, request, store)
        finally:
            handle.remove()
        return float(match(kept[0][row], kept[0][2])[0].mean())

    off = likeness(1e-9)
    assert likeness(0.8 * sign) < off - 0.005
    # without the prompt the negative row is nearly the reference from the start: little is left to come nearer
    assert likeness(-0.8 * sign) > off + (0.005 if row == 1 else 1e-4)


def test_avoid_changes_the_picture_and_alpha_zero_does_not(
    engine: Engine, store: PictureStore, model: str
) -> None:
    plain = tiny.pictures(engine, tiny.text_request(model), store)[0]
    off = tiny.text_request(model, avoids=(tiny.avoid(store, alpha=0.0),))
    assert np.array_equal(plain, tiny.pictures(engine, off, store)[0])
    on = tiny.text_request(model, avoids=(tiny.avoid(store, alpha=1.0),))
    assert tiny.moved(plain, tiny.pictures(engine, on, store)[0]) > 0.2
