"""Image prompts in a run: they act, off means off, and nothing of them stays, whatever happens."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pipelines.engine import Engine, Loaded
from pipelines.errors import ModelError, PictureError, UnsupportedError
from pipelines.image_prompts import prompting
from pipelines.loading import LoadOptions
from pipelines.models.ip_adapter import IPAdapter
from pipelines.pictures import PictureStore
from pipelines.request import LookRequest, RenderRequest
from tests.pipelines import control, tiny, tiny_adapter
from tests.pipelines.image_prompts.conftest import CUTOUT, prompt, state
from tests.pipelines.stops import stopped
from tests.pipelines.test_adapters import apart, same


def request_of(loaded: Loaded, store: PictureStore, **words: Any) -> RenderRequest:
    """Two layers; by default the cat's cut-out is a prompt."""
    cat = words.pop("cat", {"image_prompt": prompt(store)})
    return tiny.collage_request(store, loaded.card.name, cat=cat, **{"steps": 3, **words})


def run(engine: Engine, loaded: Loaded, request: RenderRequest, store: PictureStore) -> list[Any]:
    """On the model as it is called in the engine, which is not always its card's name."""
    name = next(name for name, one in engine._loaded.items() if one is loaded)
    return list(tiny.pictures(engine, request.replace(model=name), store))


def test_it_acts_and_nothing_stays(adapters: Engine, loaded: Loaded, store: PictureStore) -> None:
    """Twice alike; stronger is farther; and what is off is as before, in every bit."""
    before = state(loaded.pipe.unet)
    parts = {name: id(part) for name, part in loaded.pipe.components.items()}
    off = request_of(loaded, store, cat={})
    plain = run(adapters, loaded, off, store)
    full, again, half, none = (
        run(adapters, loaded, request_of(loaded, store, cat={"image_prompt": prompt(store, much)}), store)
        for much in (1.0, 1.0, 0.3, 0.0)
    )
    assert same(full, again) and apart(full, plain) > 2
    assert apart(half, plain) > 0.2
    assert same(none, plain), "strength 0 is off"
    assert same(run(adapters, loaded, off, store), plain), "a render after it is the one before it"
    now = state(loaded.pipe.unet)
    assert now.pop("random") == before.pop("random") and now == before
    assert {name: id(part) for name, part in loaded.pipe.components.items()} == parts


def test_with_every_method(adapters: Engine, loaded: Loaded, store: PictureStore) -> None:
    """Attention, harmonize, spread, avoid, vary, negative words, CADS, watching: in one batch of two, with guidance in
    pairs of rows and a reference's row beside; and without guidance."""
    words = {"attend_inside": 1.0, "attend_outside": 1.0, "negative": "blue"}
    given: dict[str, Any] = {
        "car": {**words, "harmonize": 1.0},
        "images": 2,
        "spread": 1.0,
        "spread_threshold": 0.0,
        "window": 0.7,
        "cads": 0.2,
        "avoids": (tiny.avoid(store),),
    }
    for guidance in (4.0, 1.0):
        both, plain = (
            run(
                adapters,
                loaded,
                request_of(loaded, store, guidance=guidance, cat={**words, "vary": 0.5, **more}, **given),
                store,
            )
            for more in ({"image_prompt": prompt(store)}, {})
        )
        assert len(both) == 2 and apart(both, plain) > 2
        assert tiny.moved(*both) > 1


@pytest.mark.parametrize("model", ["sd_noise", "sdxl"])
def test_beside_a_controlnet(tmp_path: Path, store: PictureStore, model: str) -> None:
    """A picture as prompt and a kept shape, with a reference's row beside: each acts, and nothing of either stays."""
    made = control.engine_with(tmp_path / "control", model)
    loaded = made.load(model)
    source = tiny_adapter.save(tmp_path / "adapter", loaded.pipe.unet)
    loaded.card = dataclasses.replace(loaded.card, ip_adapter=source)
    before = state(loaded.pipe.unet)
    both, shape, picture, plain = (
        run(
            made,
            loaded,
            request_of(
                loaded, store, images=2, car={"keep_shape": kept}, cat=cat, avoids=(tiny.avoid(store),)
            ),
            store,
        )
        for kept, cat in (
            (1.0, {"image_prompt": prompt(store)}),
            (1.0, {}),
            (0.0, {"image_prompt": prompt(store)}),
            (0.0, {}),
        )
    )
    assert min(apart(both, one) for one in (shape, picture, plain)) > 0.5
    now = state(loaded.pipe.unet)
    assert now.pop("random") == before.pop("random") and now == before


def test_two_layers_have_a_prompt_each(adapters: Engine, store: PictureStore) -> None:
    loaded = adapters.load("sd_noise")
    other = store.put(np.dstack([tiny.picture(8), tiny.box(0, 0, 64, 64)]))
    asked = [{}, {"image_prompt": prompt(store)}, {"image_prompt": prompt(store, cutout=other)}]
    found = [
        run(adapters, loaded, request_of(loaded, store, car=car, cat=cat), store)
        for car in asked
        for cat in asked
    ]
    assert min(apart(a, b) for number, a in enumerate(found) for b in found[:number]) > 0.5


def test_each_image_of_a_joint_batch_is_as_prompted(adapters: Engine, store: PictureStore) -> None:
    """With prompts of their own (variants) images get their words, and all get the picture."""
    from pipelines.request import Variant

    loaded = adapters.load("sd_noise")
    told = tuple(
        Variant(prompt=text, spans=(None, None)) for text in ("a red car and a cat", "a blue car at night")
    )
    given = {"images": 2, "variants": told, "spread": 0.5, "spread_threshold": 0.0}
    with_it, without = (
        run(adapters, loaded, request_of(loaded, store, cat=cat, **given), store)
        for cat in ({"image_prompt": prompt(store)}, {})
    )
    assert apart(with_it, without) > 1


def test_a_frozen_layer_has_none_and_it_is_said(adapters: Engine, store: PictureStore) -> None:
    loaded = adapters.load("sd_noise")
    frozen, plain = (
        request_of(loaded, store, cat={"harmonize": 0.0, **more})
        for more in ({"image_prompt": prompt(store)}, {})
    )
    assert prompting(frozen) == [] and same(
        run(adapters, loaded, frozen, store), run(adapters, loaded, plain, store)
    )
    said = tiny.warnings(tiny.events(adapters, frozen, store))
    assert any("'cat' is frozen, so its picture as prompt" in one for one in said)


def test_a_cutout_is_encoded_once(
    adapters: Engine, store: PictureStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded = adapters.load("sdxl")
    run(adapters, loaded, request_of(loaded, store), store)
    calls = []
    encoder = loaded.adapter.encoder
    monkeypatch.setattr(encoder, "forward", lambda *args, **more: calls.append(args))
    run(adapters, loaded, request_of(loaded, store, seed=9), store)
    assert calls == []
    assert list(loaded.adapter.encoded)[-1] == store.put(CUTOUT)


def test_the_report_names_the_adapter(adapters: Engine, store: PictureStore) -> None:
    loaded = adapters.load("sd_noise")
    report = tiny.result(adapters, request_of(loaded, store), store).report
    assert report["ip_adapter"] == str(loaded.card.ip_adapter)
    assert "ip_adapter" not in tiny.result(adapters, request_of(loaded, store, cat={}), store).report


def test_beside_a_learned_look(adapters: Engine, store: PictureStore, tmp_path: Path) -> None:
    """The look is learned on the model alone: it is the one that is learned without the prompt."""
    loaded = adapters.load("sd_noise")
    engine = Engine(1e9, looks=tmp_path / "looks")
    card = dataclasses.replace(loaded.card, look_batch=1)
    engine.adopt("sd_noise", loaded.pipe, card)
    look = {"look": LookRequest(cutout=store.put(CUTOUT), steps=1)}
    first = tiny.result(engine, request_of(loaded, store, cat=look), store)
    both = tiny.result(engine, request_of(loaded, store, cat={**look, "image_prompt": prompt(store)}), store)
    assert [fact["cached"] for fact in both.report["looks"]] == [True]  # type: ignore[attr-defined]
    assert tiny.moved(first.pictures[0], both.pictures[0]) > 1


def test_stop_leaves_nothing(adapters: Engine, loaded: Loaded, store: PictureStore) -> None:
    request = request_of(loaded, store, steps=6)
    name = next(name for name, one in adapters._loaded.items() if one is loaded)
    before = state(loaded.pipe.unet)
    stopped(adapters, request.replace(model=name), store)
    assert state(loaded.pipe.unet) == before


def test_an_error_in_the_run_leaves_nothing(
    adapters: Engine, store: PictureStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pipelines.methods.image_prompt import ImagePrompt

    def fail(*_: Any) -> torch.Tensor:
        raise RuntimeError("in the middle of a forward")

    loaded = adapters.load("sd_noise")
    before = state(loaded.pipe.unet)
    with monkeypatch.context() as patch, pytest.raises(RuntimeError, match="in the middle"):
        patch.setattr(ImagePrompt, "lay_mask", fail)
        run(adapters, loaded, request_of(loaded, store), store)
    assert state(loaded.pipe.unet) == before
    assert (
        apart(
            run(adapters, loaded, request_of(loaded, store), store),
            run(adapters, loaded, request_of(loaded, store, cat={}), store),
        )
        > 2
    )


def bare(source: IPAdapter | None, options: LoadOptions | None = None, model: str = "sd_noise") -> Engine:
    """An engine with one fresh model and this adapter on its card."""
    engine = Engine(1e9, options)
    card = dataclasses.replace(tiny.card_for(model), ip_adapter=source)
    engine.adopt(model, tiny.KINDS[model](), card)
    return engine


def broken(change: Callable[[dict[str, torch.Tensor]], Any], folder: Path) -> IPAdapter:
    """A tiny adapter with some tensors changed."""
    from safetensors.torch import load_file, save_file

    source = tiny_adapter.save(folder, tiny.KINDS["sd_noise"]().unet)
    tensors = load_file(folder / source.weights)
    change(tensors)
    save_file(tensors, folder / source.weights)
    return source


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda tensors: tensors.pop("ip_adapter.5.to_v_ip.weight"), "could not be loaded"),
        (
            lambda tensors: tensors.update({"ip_adapter.3.to_k_ip.weight": torch.zeros(3, 3)}),
            "could not be loaded",
        ),
        (lambda tensors: tensors.clear() or tensors.update({"x": torch.zeros(1)}), "could not be loaded"),
        (
            lambda tensors: tensors.update({"ip_adapter.1.to_k_lora.down.weight": torch.zeros(1)}),
            "reads faces",
        ),
    ],
    ids=["one missing", "another shape", "no adapter", "a face's"],
)
def test_a_file_that_does_not_fit_is_said_and_leaves_nothing(
    store: PictureStore, tmp_path: Path, change: Any, why: str
) -> None:
    engine = bare(broken(change, tmp_path))
    loaded = engine.load("sd_noise")
    before = state(loaded.pipe.unet)
    before.pop("random")
    with pytest.raises(ModelError, match=why):
        tiny.pictures(engine, request_of(loaded, store), store)
    after = state(loaded.pipe.unet)
    after.pop("random")
    assert after == before and loaded.adapter is None
    assert tiny.pictures(engine, request_of(loaded, store, cat={}), store)


def test_too_little_memory_for_one_is_said(
    store: PictureStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A CPU's allocator says so in a plain error, which is no fault of the adapter's."""
    engine = bare(tiny_adapter.save(tmp_path, tiny.KINDS["sd_noise"]().unet))
    loaded = engine.load("sd_noise")
    monkeypatch.setattr(type(loaded.pipe), "load_ip_adapter", lambda *_, **__: torch.empty(2**50))
    with pytest.raises(ModelError, match="too little memory for"):
        tiny.pictures(engine, request_of(loaded, store), store)


def test_files_are_looked_for_before_they_are_read(store: PictureStore, tmp_path: Path) -> None:
    source = tiny_adapter.save(tmp_path, tiny.KINDS["sd_noise"]().unet)
    for wrong, why in (
        (dataclasses.replace(source, weights="models/other.safetensors"), "lacks its weights"),
        (dataclasses.replace(source, encoder="elsewhere"), "image encoder"),
        (dataclasses.replace(source, weights="models/tiny.bin"), "no .safetensors"),
    ):
        with pytest.raises(ModelError, match=why):
            tiny.pictures(engine := bare(wrong), request_of(engine.load("sd_noise"), store), store)


def test_a_model_without_one_says_what_else_there_is(store: PictureStore, tmp_path: Path) -> None:
    engine = bare(None)
    request = request_of(engine.load("sd_noise"), store)
    with pytest.raises(UnsupportedError, match=r"'cat': image prompt.*use learn look.*--ip-adapter"):
        tiny.pictures(engine, request, store)
    source = tiny_adapter.save(tmp_path, engine.load("sd_noise").pipe.unet)
    named = bare(None, LoadOptions(ip_adapter=source))
    assert tiny.result(named, request, store).report["ip_adapter"] == str(source)


@pytest.mark.parametrize(
    ("spoil", "why"),
    [
        (lambda pipe: pipe.unet.compile(backend="eager"), "compiled"),
        (lambda pipe: pipe.unet.mid_block.compile(backend="eager"), "compiled"),
        (lambda pipe: setattr(pipe.unet, "encoder_hid_proj", torch.nn.Identity()), "of its own"),
        (
            lambda pipe: pipe.unet.enable_group_offload(
                onload_device=torch.device("cpu"), offload_type="leaf_level"
            ),
            "wait off the device",
        ),
    ],
)
def test_a_model_that_cannot_wear_one(store: PictureStore, tmp_path: Path, spoil: Any, why: str) -> None:
    engine = bare(tiny_adapter.save(tmp_path, tiny.KINDS["sd_noise"]().unet))
    loaded = engine.load("sd_noise")
    spoil(loaded.pipe)
    with pytest.raises(UnsupportedError, match=f"{why}.*learn look"):
        tiny.pictures(engine, request_of(loaded, store), store)


def test_whole_parts_that_wait_off_the_device_come(store: PictureStore, tmp_path: Path) -> None:
    """Offload of whole models; a CPU stands in for the accelerator."""
    engine = bare(tiny_adapter.save(tmp_path, tiny.KINDS["sdxl"]().unet), model="sdxl")
    loaded = engine.load("sdxl")
    request = request_of(loaded, store)
    plain = tiny.pictures(engine, request, store)
    loaded.adapter = None
    loaded.pipe.enable_model_cpu_offload(device="cpu")
    before = state(loaded.pipe.unet)
    assert same(list(tiny.pictures(engine, request, store)), list(plain))
    after = state(loaded.pipe.unet)
    assert {key: after[key] for key in ("processors", "config", "projection", "hooks")} == {
        key: before[key] for key in ("processors", "config", "projection", "hooks")
    }


def test_a_cutout_that_shows_nothing(adapters: Engine, store: PictureStore) -> None:
    empty = store.put(np.zeros((4, 4, 4), np.uint8))
    loaded = adapters.load("sd_noise")
    before = state(loaded.pipe.unet)
    with pytest.raises(PictureError, match=r"'cat'.*shows nothing"):
        run(
            adapters,
            loaded,
            request_of(loaded, store, cat={"image_prompt": prompt(store, cutout=empty)}),
            store,
        )
    flat = prompt(store, cutout=store.put(tiny.picture(1)))
    with pytest.raises(PictureError, match=r"\(h, w, 4\)"):
        run(adapters, loaded, request_of(loaded, store, cat={"image_prompt": flat}), store)
    assert state(loaded.pipe.unet) == before
