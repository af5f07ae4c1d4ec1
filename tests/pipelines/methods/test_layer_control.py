"""Keep shape: diffusers' own ControlNet pipelines at strength 1, nothing at 0, each layer for itself between."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
import torch

from pipelines.engine import Engine
from pipelines.errors import EngineError, UnsupportedError
from pipelines.methods import methods_for
from pipelines.methods.layer_control import LayerControl, scaled
from pipelines.pictures import PictureStore
from pipelines.request import RenderRequest
from tests.pipelines import control, tiny
from tests.pipelines.runs import fingerprint
from tests.pipelines.stops import stopped

ALL = tiny.box(0, 0, tiny.SIDE, tiny.SIDE)


@pytest.fixture(scope="module")
def engines(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Engine]:
    made = {name: control.engine_with(tmp_path_factory.mktemp(name), name) for name in tiny.KINDS}
    made["union"] = control.engine_with(tmp_path_factory.mktemp("union"), "sdxl", union=True)
    return made


def whole(store: PictureStore, model: str, keep_shape: float = 1.0, **words: Any) -> RenderRequest:
    """One layer over all of the canvas."""
    held = words.get("background_harmonize", 0.6)
    layer = tiny.layer(store, "red car", ALL, keep_shape=keep_shape, harmonize=held)
    return tiny.collage_request(store, model, layers=(layer,), **words)


@contextmanager
def added(engine: Engine, model: str) -> Iterator[list[list[torch.Tensor]]]:
    """What each call of the denoiser is given from a ControlNet; nothing is changed."""
    calls: list[list[torch.Tensor]] = []
    unet = engine.load(model).pipe.unet
    stock = type(unet).forward

    def forward(*args: Any, **kwargs: Any) -> Any:
        down = kwargs.get("down_block_additional_residuals")
        if down is not None:
            calls.append([*down, kwargs["mid_block_additional_residual"]])
        return stock(unet, *args, **kwargs)

    unet.forward = forward
    try:
        yield calls
    finally:
        del unet.forward


@pytest.mark.parametrize("name", [*tiny.KINDS, "union"])
@pytest.mark.parametrize("held", [1.0, 0.6])
def test_strength_1_is_diffusers_own(
    engines: dict[str, Engine], store: PictureStore, name: str, held: float
) -> None:
    engine, model = engines[name], "sdxl" if name == "union" else name
    words: dict[str, Any] = {"background_harmonize": held, "scheduler": "ddim"}
    request = whole(store, model, edges="soft" if name == "union" else "canny", **words)
    ours = tiny.pictures(engine, request, store)[0]
    theirs = control.stock(engine, request, store, None if held == 1 else held)
    plain = tiny.pictures(engine, whole(store, model, 0.0, **words), store)[0]
    assert tiny.moved(ours, theirs) == 0
    assert tiny.moved(ours, plain) > 0.2


def test_a_union_tells_the_kinds_of_edges_apart(engines: dict[str, Engine], store: PictureStore) -> None:
    loaded = engines["union"].load("sdxl")
    tiny.pictures(engines["union"], whole(store, "sdxl"), store)
    net = next(iter(loaded.controlnets.values()))
    told = []
    handle = net.register_forward_pre_hook(
        lambda module, args, kwargs: told.append(
            (kwargs["control_type_idx"], kwargs["control_type"][0].tolist())
        ),
        with_kwargs=True,
    )
    try:
        for kind in ("canny", "soft"):
            tiny.pictures(
                engines["union"], whole(store, "sdxl", edges=kind, steps=1, background_harmonize=1.0), store
            )
    finally:
        handle.remove()
    assert told == [([3], [0, 0, 0, 1, 0, 0]), ([2], [0, 0, 1, 0, 0, 0])]


def test_off_asks_for_no_method_and_no_controlnet(store: PictureStore) -> None:
    request = tiny.collage_request(store)
    assert not any(isinstance(method, LayerControl) for method in methods_for(request))
    on = tiny.collage_request(store, cat={"keep_shape": 0.1})
    assert any(isinstance(method, LayerControl) for method in methods_for(on))


def test_off_loads_nothing_and_is_what_a_plain_engine_makes(
    engine: Engine, store: PictureStore, tmp_path_factory: pytest.TempPathFactory
) -> None:
    own = control.engine_with(tmp_path_factory.mktemp("own"), "sd_noise")
    request = tiny.collage_request(store, "sd_noise")
    assert np.array_equal(tiny.pictures(own, request, store)[0], tiny.pictures(engine, request, store)[0])
    assert own.load("sd_noise").controlnets == {}


def test_a_layer_at_0_gets_exactly_none(engines: dict[str, Engine], store: PictureStore) -> None:
    engine = engines["sd_noise"]
    request = tiny.collage_request(store, "sd_noise", car={"keep_shape": 1.0}, cat={"keep_shape": 0.0})
    with added(engine, "sd_noise") as calls:
        tiny.pictures(engine, request, store)
    assert len(calls) == 3
    for residual in (one for call in calls for one in call):
        side = residual.shape[-1]
        cells = tiny.SIDE // side
        car = torch.from_numpy(tiny.CAR > 0).view(side, cells, side, cells)
        touched = car.any(1).any(-1)
        assert (residual[..., ~touched] == 0).all()
        assert residual[..., touched].abs().max() > 0


def test_what_is_added_is_in_proportion(engines: dict[str, Engine], store: PictureStore) -> None:
    engine = engines["sd_noise"]
    firsts = []
    for strength in (1.0, 0.25):
        with added(engine, "sd_noise") as calls:
            tiny.pictures(engine, whole(store, "sd_noise", strength, steps=5), store)
        firsts.append(calls[0])
    for full, less in zip(*firsts, strict=True):
        torch.testing.assert_close(less, 0.25 * full)


def test_feather_softens_the_edge(engines: dict[str, Engine], store: PictureStore) -> None:
    engine = engines["sd_noise"]
    reached = []
    for feather in (0.0, 8.0):
        request = tiny.collage_request(store, "sd_noise", car={"keep_shape": 1.0, "feather": feather})
        with added(engine, "sd_noise") as calls:
            tiny.pictures(engine, request, store)
        reached.append(int((calls[0][0] != 0).any(0).any(0).sum()))
    assert reached[0] < reached[1]


def test_beyond_the_feather_is_exactly_nothing(engines: dict[str, Engine], store: PictureStore) -> None:
    """Three deviations from the layer's edge, whatever blurs it."""
    corner = tiny.layer(store, "red car", tiny.box(0, 0, 16, 16), keep_shape=1.0, harmonize=1.0, feather=2.0)
    with added(engines["sd_noise"], "sd_noise") as calls:
        tiny.pictures(engines["sd_noise"], tiny.collage_request(store, "sd_noise", layers=(corner,)), store)
    (cells, *_) = calls[0]
    free = cells.shape[-1] * 24 // tiny.SIDE
    assert (cells[..., free:, :] == 0).all() and (cells[..., free:] == 0).all()
    assert (cells[..., : free // 2, : free // 2] != 0).any()


def test_a_frozen_layer_needs_no_controlnet(store: PictureStore) -> None:
    """It keeps its shape without, so none is looked for; the warning says so. One that is not is refused."""
    bare = Engine(0)
    bare.adopt("sd_noise", tiny.KINDS["sd_noise"](), tiny.card_for("sd_noise"))
    frozen = tiny.collage_request(store, "sd_noise", cat={"keep_shape": 1.0, "harmonize": 0.0})
    made = tiny.result(bare, frozen, store)
    assert any("keeps its shape anyway" in one for one in made.report["warnings"])
    assert "controlnet" not in made.report
    with pytest.raises(UnsupportedError, match="keep shape needs a ControlNet"):
        tiny.result(bare, tiny.collage_request(store, "sd_noise", cat={"keep_shape": 1.0}), store)


def test_the_report_names_what_kept_the_shapes(engines: dict[str, Engine], store: PictureStore) -> None:
    engine = engines["sd_noise"]
    report = tiny.result(engine, whole(store, "sd_noise"), store).report
    assert report["controlnet"] == engine.options.controlnet
    assert "controlnet" not in tiny.result(engine, whole(store, "sd_noise", 0.0), store).report


def test_scaled() -> None:
    residual = torch.ones(2, 3, 2, 2)
    cells = torch.tensor([[0.0, 1.0], [0.5, 0.25]])
    made = scaled(residual, cells, 3)
    assert made.shape == (3, 3, 2, 2)
    assert torch.equal(made[0, 0], cells) and torch.equal(made[1, 2], cells)
    assert (made[2] == 0).all()


@pytest.mark.parametrize("model", ["sd_noise", "sdxl"])
def test_rows_of_avoid_references_get_none(
    engines: dict[str, Engine], store: PictureStore, model: str
) -> None:
    engine = engines[model]
    request = whole(store, model, avoids=(tiny.avoid(store, window=1.0),))
    with added(engine, model) as calls:
        with_both = tiny.pictures(engine, request, store)[0]
    for residual in (one for call in calls for one in call):
        assert len(residual) == 3 and (residual[2] == 0).all() and residual[:2].abs().max() > 0
    alone = tiny.pictures(engine, whole(store, model), store)[0]
    assert not np.array_equal(with_both, alone)
    unmoved = request.replace(avoids=(tiny.avoid(store, window=1.0, threshold=1.0),))
    # nothing is pushed, so the reference's row must not have reached the others
    assert tiny.moved(tiny.pictures(engine, unmoved, store)[0], alone) < 0.05


def test_with_every_other_method_in_one_joint_batch(
    engines: dict[str, Engine], store: PictureStore, model: str
) -> None:
    engine = engines[model]
    words: dict[str, Any] = {
        "images": 2,
        "spread": 1.0,
        "spread_threshold": 0.0,
        "cads": 0.2,
        "avoids": (tiny.avoid(store),),
    }
    car = {"attend_inside": 0.8, "attend_outside": 0.5, "harmonize": 0.8}
    cat = {"harmonize": 0.0, "negative": "table"}
    both = [
        tiny.pictures(
            engine,
            tiny.collage_request(store, model, car={**car, "keep_shape": keep}, cat=cat, **words),
            store,
        )
        for keep in (0.0, 1.0)
    ]
    for without, kept in zip(*both, strict=True):
        assert tiny.moved(without, kept) > 0
        frozen = tiny.CAT > 0
        assert np.array_equal(kept[frozen], tiny.picture(1)[frozen])


def test_guidance_off_has_one_branch(engines: dict[str, Engine], store: PictureStore) -> None:
    engine = engines["sd_noise"]
    request = whole(store, "sd_noise", guidance=1.0, background_harmonize=1.0, scheduler="ddim")
    assert (
        tiny.moved(tiny.pictures(engine, request, store)[0], control.stock(engine, request, store, None)) == 0
    )


def test_of_a_long_prompt_it_reads_the_first_chunk(engines: dict[str, Engine], store: PictureStore) -> None:
    engine = engines["sd_noise"]
    tiny.pictures(engine, whole(store, "sd_noise", steps=2), store)
    net = next(iter(engine.load("sd_noise").controlnets.values()))
    lengths = []
    handle = net.register_forward_pre_hook(lambda module, args: lengths.append(args[2].shape[1]))
    try:
        layer = tiny.layer(store, "cat", tiny.CAT, keep_shape=1.0, negative="table")
        tiny.pictures(engine, tiny.collage_request(store, "sd_noise", layers=(layer,), steps=2), store)
    finally:
        handle.remove()
    assert lengths == [77]


def test_nothing_is_left_behind(engines: dict[str, Engine], store: PictureStore) -> None:
    engine = engines["sd_velocity"]
    pipe, request = engine.load("sd_velocity").pipe, whole(store, "sd_velocity")
    off = request.replace(layers=(tiny.layer(store, "red car", ALL, harmonize=0.6),))
    before, plain = fingerprint(pipe), tiny.pictures(engine, off, store)[0]
    first = tiny.pictures(engine, request, store)[0]
    stopped(engine, request, store)
    net = next(iter(engine.load("sd_velocity").controlnets.values()))

    def broken(*_: Any) -> None:
        raise RuntimeError("torn")

    handle = net.mid_block.register_forward_hook(broken)
    with pytest.raises(RuntimeError, match="torn"):
        tiny.pictures(engine, request, store)
    handle.remove()
    assert fingerprint(pipe) == before
    assert not net._forward_hooks and not net._forward_pre_hooks
    assert np.array_equal(tiny.pictures(engine, off, store)[0], plain)
    assert np.array_equal(tiny.pictures(engine, request, store)[0], first)


def test_without_a_controlnet_it_says_so(engine: Engine, store: PictureStore) -> None:
    run = tiny.run_of(engine, whole(store, "sd_noise"), store)
    with pytest.raises(EngineError, match="no ControlNet"):
        LayerControl().begin(run, None)  # type: ignore[arg-type]


def test_a_frozen_layer_keeps_its_shape_anyway(engines: dict[str, Engine], store: PictureStore) -> None:
    request = tiny.collage_request(store, "sd_noise", cat={"keep_shape": 0.5, "harmonize": 0.0})
    (said,) = tiny.warnings(tiny.events(engines["sd_noise"], request, store))
    assert "'cat' is frozen" in said
