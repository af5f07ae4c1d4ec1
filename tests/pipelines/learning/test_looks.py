"""Looks in a run: learned once, kept, worn, and gone again; off means off."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pipelines.engine import Engine, Loaded
from pipelines.errors import ModelError, PictureError, UnsupportedError
from pipelines.events import Event, Finished, Learning, Started
from pipelines.pictures import PictureStore
from pipelines.request import LookRequest, RenderRequest
from tests.pipelines import tiny
from tests.pipelines.learning.conftest import CUTOUT, NAMES, same, state, without
from tests.pipelines.stops import stopped

pytestmark = pytest.mark.usefixtures("fast")


def look(store: PictureStore, **words: Any) -> LookRequest:
    return LookRequest(**{"cutout": store.put(CUTOUT), "steps": 2, **words})


def request_with(
    store: PictureStore, model: str = "sd_velocity", cat: dict[str, Any] | None = None, **words: Any
) -> RenderRequest:
    """A collage in which layer "cat" has a look."""
    given = {"scheduler": "flow_euler"} if model == "flux" else {}
    return tiny.collage_request(
        store, model, cat={"look": look(store), **(cat or {})}, **{"steps": 2, **given, **words}
    )


def learning(found: list[Event]) -> list[Learning]:
    return [event for event in found if isinstance(event, Learning)]


def picture_of(found: list[Event]) -> np.ndarray:
    last = found[-1]
    assert isinstance(last, Finished)
    return last.result.pictures[0]


def facts_of(found: list[Event]) -> Any:
    last = found[-1]
    assert isinstance(last, Finished)
    return last.result.report.get("looks")


def kept(engine: Engine) -> list[Path]:
    assert engine.looks is not None
    return sorted(engine.looks.iterdir()) if engine.looks.is_dir() else []


@pytest.mark.parametrize("model", NAMES)
def test_learned_once_then_kept(
    engine: Engine, store: PictureStore, all_loaded: dict[str, Loaded], model: str
) -> None:
    """On every family, and the twin: the same run without the look is what it was before, bit for bit."""
    request = request_with(store, model, cat={"attend_inside": 0.8, "attend_outside": 0.5})
    plain = picture_of(tiny.events(engine, without(request), store))
    before = state(all_loaded[model])
    first = tiny.events(engine, request, store)
    assert first[:3] == [Learning("cat", 1, 2), Learning("cat", 2, 2), Started(request.prompt, 1, 1)]
    assert same(before, state(all_loaded[model]))
    (path,) = kept(engine)
    (fact,) = facts_of(first)
    assert (fact["layer"], fact["cached"], fact["steps"]) == ("cat", False, 2) and fact["seconds"] > 0
    written = path.stat().st_mtime_ns
    second = tiny.events(engine, request, store)
    assert learning(second) == [] and tiny.warnings(second) == []
    assert facts_of(second)[0]["cached"] is True
    assert (path.stat().st_mtime_ns, len(kept(engine))) == (written, 1)
    assert np.array_equal(picture_of(first), picture_of(second))
    assert not np.array_equal(picture_of(first), plain)
    assert np.array_equal(picture_of(tiny.events(engine, without(request), store)), plain)
    assert first[-1].result.request == request  # type: ignore[union-attr]


def test_two_looks_in_one_run(engine: Engine, store: PictureStore) -> None:
    other = store.put(np.dstack([tiny.picture(8), tiny.CAR]))
    both = request_with(store, car={"look": look(store, cutout=other, vectors=3)})
    found = tiny.events(engine, both, store)
    assert [(event.layer, event.step) for event in learning(found)] == [
        ("red car", 1),
        ("red car", 2),
        ("cat", 1),
        ("cat", 2),
    ]
    one = tiny.events(engine, request_with(store), store)
    assert learning(one) == []  # the cat's is the same look whoever stands beside it
    assert not np.array_equal(picture_of(one), picture_of(found))
    assert [fact["vectors"] for fact in facts_of(found)] == [[3], [1]]


@pytest.mark.parametrize(
    "change",
    [
        lambda store: {"steps": 1},
        lambda store: {"vectors": 2},
        lambda store: {"cutout": store.put(np.dstack([tiny.picture(8), tiny.CAR]))},
    ],
)
def test_another_setting_or_cutout_is_another_look(
    engine: Engine, store: PictureStore, change: Callable[[PictureStore], dict[str, Any]]
) -> None:
    tiny.events(engine, request_with(store), store)
    found = tiny.events(engine, request_with(store, cat={"look": look(store, **change(store))}), store)
    assert learning(found) and len(kept(engine)) == 2


def test_what_is_transparent_is_no_other_look(engine: Engine, store: PictureStore) -> None:
    tiny.events(engine, request_with(store), store)
    hidden = CUTOUT.copy()
    hidden[CUTOUT[..., 3] == 0, :3] = 99
    given = {"look": look(store, cutout=store.put(hidden))}
    assert learning(tiny.events(engine, request_with(store, cat=given), store)) == []


def test_another_model_is_another_look(engine: Engine, store: PictureStore) -> None:
    tiny.events(engine, request_with(store), store)
    weight = next(engine.load("sd_velocity").pipe.unet.parameters()).data
    before = weight.clone()
    weight *= 1.01
    try:
        assert learning(tiny.events(engine, request_with(store), store))
    finally:
        weight.copy_(before)
    assert len(kept(engine)) == 2


def test_a_stop_leaves_no_trace_and_no_file(engine: Engine, store: PictureStore, velocity: Loaded) -> None:
    before = state(velocity)
    request = request_with(store, cat={"look": look(store, steps=400)})
    found = stopped(engine, request, store, lambda one: isinstance(one, Learning) and one.step == 2)
    assert found == [Learning("cat", 1, 400), Learning("cat", 2, 400)]
    assert same(before, state(velocity))
    assert kept(engine) == []
    assert learning(tiny.events(engine, request_with(store), store))  # and the model is free again


def test_closing_the_generator_stops_learning_too(engine: Engine, store: PictureStore) -> None:
    run = engine.render(request_with(store, cat={"look": look(store, steps=400)}), store)
    assert isinstance(next(run), Learning)
    run.close()
    assert kept(engine) == []


def test_a_failing_run_leaves_no_trace(engine: Engine, store: PictureStore, velocity: Loaded) -> None:
    before = state(velocity)

    def fail(*_: Any) -> None:
        raise RuntimeError("in the middle")

    seen = []
    handle = velocity.pipe.vae.decoder.register_forward_hook(fail)
    try:
        with pytest.raises(RuntimeError, match="in the middle"):
            for event in engine.render(request_with(store), store):
                seen.append(event)
    finally:
        handle.remove()
    assert any(isinstance(event, Started) for event in seen)
    assert same(before, state(velocity))
    assert len(kept(engine)) == 1  # what was learned before it failed is kept


def test_damaged_files_are_learned_anew(engine: Engine, store: PictureStore) -> None:
    first = picture_of(tiny.events(engine, request_with(store), store))
    (path,) = kept(engine)
    path.write_bytes(path.read_bytes()[:-5])
    found = tiny.events(engine, request_with(store), store)
    assert learning(found) and np.array_equal(picture_of(found), first)
    assert learning(tiny.events(engine, request_with(store), store)) == []


def test_a_folder_that_cannot_be_written_is_said(
    all_loaded: dict[str, Loaded], store: PictureStore, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("in the way")
    engine = Engine(preview_seconds=0, looks=tmp_path / "file" / "looks")
    engine.adopt("sd_velocity", all_loaded["sd_velocity"].pipe, all_loaded["sd_velocity"].card)
    found = tiny.events(engine, request_with(store), store)
    (said,) = tiny.warnings(found)
    assert said.startswith("layer 'cat'") and "DECOLLAGE_CACHE" in said
    assert isinstance(found[-1], Finished)


@pytest.mark.parametrize(("cat", "says"), [({"span": None}, "no words"), ({"harmonize": 0.0}, "frozen")])
def test_looks_in_vain_are_said_and_not_learned(
    engine: Engine, store: PictureStore, cat: dict[str, Any], says: str
) -> None:
    request = request_with(store, cat=cat)
    found = tiny.events(engine, request, store)
    (said,) = tiny.warnings(found)
    assert said.startswith("layer 'cat'") and says in said
    assert learning(found) == [] and kept(engine) == []
    assert np.array_equal(picture_of(found), picture_of(tiny.events(engine, without(request), store)))


def test_nothing_is_learned_for_a_run_in_which_nothing_moves(engine: Engine, store: PictureStore) -> None:
    held = {"harmonize": 0.01}
    found = tiny.events(engine, request_with(store, cat=held, car=held, background_harmonize=0.0), store)
    assert learning(found) == [] and isinstance(found[-1], Finished)


def test_parts_off_the_device_are_refused_by_name(
    engine: Engine, store: PictureStore, velocity: Loaded
) -> None:
    """Only learning needs the whole model there: a look that is kept is worn."""
    request = request_with(store)
    velocity.pipe.unet.conv_out._hf_hook = "as offload leaves it"
    try:
        with pytest.raises(UnsupportedError, match=r"layer 'cat': look.*offload none"):
            tiny.events(engine, request, store)
    finally:
        del velocity.pipe.unet.conv_out._hf_hook
    assert learning(tiny.events(engine, request, store))
    velocity.pipe.unet.conv_out._hf_hook = "as offload leaves it"
    try:
        assert learning(tiny.events(engine, request, store)) == []
    finally:
        del velocity.pipe.unet.conv_out._hf_hook


def test_a_cutout_has_four_channels(engine: Engine, store: PictureStore) -> None:
    for shape in ((64, 64), (64, 64, 3)):
        given = look(store, cutout=store.put(np.zeros(shape, np.uint8)))
        with pytest.raises(PictureError, match=r"layer 'cat'.*cut-out"):
            tiny.events(engine, request_with(store, cat={"look": given}), store)


def test_too_little_memory_to_learn_is_said_of_the_layer(
    engine: Engine, store: PictureStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr("pipelines.learning.looks.learn", full)
    with pytest.raises(
        ModelError, match="layer 'cat': there is too little memory to learn its look on sd_velocity"
    ):
        tiny.events(engine, request_with(store), store)


def test_previews_know_the_model_after_a_look(engine: Engine, store: PictureStore) -> None:
    tiny.events(engine, request_with(store, steps=6), store)
    assert engine.load("sd_velocity").preview_matrix is not None
