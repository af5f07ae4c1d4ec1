"""The whole path, from a collage file to a PNG, on every family."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from PIL import Image

from pipelines.engine import Engine
from pipelines.models import CARDS
from pipelines.pictures import PictureStore
from tests.pipelines import tiny
from tests.pipelines import tiny_transformers as tt


@pytest.mark.parametrize("model", [*tiny.KINDS, *tt.KINDS])
def test_from_a_collage_file_to_a_png(
    request: pytest.FixtureRequest, model: str, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The studio's own way: archive → request → engine → PNG with the collage inside."""
    from studio.document import Canvas, Collage, Layer
    from studio.formats import archive, png
    from studio.pictures import Library
    from studio.to_request import to_request

    engine: Engine = request.getfixturevalue("engine" if model in tiny.KINDS else "transformers")
    card = engine.load(model).card
    monkeypatch.setitem(CARDS, model, card)
    library = Library()
    cutout = np.dstack([tiny.picture(3), tiny.CAT])
    digest = library.add(Image.fromarray(cutout))
    document = Collage(
        canvas=Canvas(width=64, height=64),
        model=model,
        prompt="a red car on the beach",
        layers=[Layer(id="one", name="car", picture=digest, prompt="red car", x=32, y=32, attend_inside=1.0)],
        seed=3,
    )
    archive.write(tmp_path / "one.collage", document, library)
    collage_read, pictures = archive.read(tmp_path / "one.collage")
    store = PictureStore()
    prepared = to_request(collage_read, pictures, store)
    assert prepared.request.scheduler == card.scheduler and prepared.request.layers[0].attend_inside == 1
    outcome = tiny.result(engine, prepared.request, store)
    (tmp_path / "one.png").write_bytes(png.embed_result(outcome, 0, collage_read, pictures))
    again, _ = png.read(tmp_path / "one.png")
    assert again.prompt == document.prompt and again.model == model
    with Image.open(tmp_path / "one.png") as shown:
        assert np.array_equal(np.asarray(shown.convert("RGB")), outcome.pictures[0])
