"""A second model that does not fit beside the first has its room."""

from __future__ import annotations

import gc
import weakref
from pathlib import Path
from typing import Any

import pytest

from pipelines.engine import Engine
from pipelines.errors import RoomError
from pipelines.loading import load_pipeline
from pipelines.pictures import PictureStore
from tests.pipelines import tiny


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """Two models."""
    root: Path = tmp_path_factory.mktemp("models")
    for name in ("one", "two"):
        tiny.sd_noise().save_pretrained(root / name)
    return str(root / "one"), str(root / "two")


def narrow(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Only one model of its own fits beside what the engine was given; the names that were asked for."""
    asked: list[str] = []

    def load(card: Any, *given: Any) -> Any:
        asked.append(card.name)
        if set(engine._loaded) - {"given"}:
            raise RoomError("there is too little free memory")
        return load_pipeline(card, *given)

    monkeypatch.setattr("pipelines.engine.load_pipeline", load)
    return asked


def test_the_first_is_let_go_and_comes_back(
    folders: tuple[str, str], store: PictureStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two = folders
    engine = Engine(1e9)
    given = engine.adopt("given", tiny.sd_velocity(), tiny.card_for("sd_velocity"))
    asked = narrow(engine, monkeypatch)
    request = tiny.text_request(one, steps=2)
    before = tiny.pictures(engine, request, store)[0]
    left = weakref.ref(engine.load(one).pipe.unet)
    tiny.pictures(engine, request.replace(model=two), store)
    gc.collect()
    assert left() is None, "nothing holds it"
    assert engine.load("given") is given, "what was given cannot be loaded again"
    assert (tiny.pictures(engine, request, store)[0] == before).all()
    assert asked == [one, two, two, one, one]


def test_one_that_is_in_use_stays(folders: tuple[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    one, two = folders
    engine = Engine(1e9)
    asked = narrow(engine, monkeypatch)
    loaded = engine.load(one)
    with loaded.lock, pytest.raises(RoomError, match="too little free memory"):
        engine.load(two)
    assert engine.load(one) is loaded and asked == [one, two]
    assert engine.load(two) and asked == [one, two, two, two]
