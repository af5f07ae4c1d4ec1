"""What is said of similarities that nobody chose features for."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipelines.measure import features
from pipelines.models import card
from pipelines.pictures import PictureStore
from studio.cli.features import unlike
from tests.pipelines import tiny


def test_other_models_are_named_once() -> None:
    plain = tiny.text_request("embedded", images=2)
    own = plain.replace(model=card("embedded").source)
    assert unlike([plain, own]) is None, "it knows them"
    said = unlike([plain, *(plain.replace(model=model) for model in ("sdxl", "flux", "sdxl"))])
    assert (
        said is not None and "like those of sdxl, flux; name a CLIP or DINOv2 with --features" in said.message
    )


def test_nothing_is_said_where_nothing_is_compared() -> None:
    store = PictureStore()
    alone = tiny.text_request("sdxl")
    assert unlike([]) is None and unlike([alone]) is None
    assert unlike([alone.replace(avoids=(tiny.avoid(store, alpha=0.0),))]) is None
    assert unlike([alone.replace(avoids=(tiny.avoid(store),))]) is not None


def test_nothing_is_said_where_there_is_no_embedded_clip(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(features, "CLIP", tmp_path)
    assert unlike([tiny.text_request("sdxl", images=2)]) is None
