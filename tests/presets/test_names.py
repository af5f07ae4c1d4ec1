"""Presets: found by name, and each a document that comes back equal and renders without a warning."""

from __future__ import annotations

import pytest

import presets
from pipelines.pictures import PictureStore
from studio.document import Collage
from studio.formats import archive, open_any
from studio.to_request import to_request


def test_names_are_sorted_and_lead_to_files() -> None:
    names = presets.names()
    assert list(names) == sorted(set(names))
    assert all(presets.path(name).name == f"{name}.collage" for name in names)
    with pytest.raises(KeyError, match="nonsense"):
        presets.path("nonsense")


def test_all_nine_are_there() -> None:
    assert presets.names() == (
        "avoid", "evening", "keep", "living-room", "parade", "pool", "ship", "spread", "still-life"
    )  # fmt: skip


@pytest.mark.parametrize("name", presets.names())
def test_a_preset_comes_back_equal_and_needs_no_warning(name: str) -> None:
    collage, library = open_any(presets.path(name))
    assert Collage.from_json(collage.to_json()) == collage
    assert archive.read_bytes(archive.write_bytes(collage, library))[0] == collage
    assert collage.name
    assert collage.seed is not None  # the same picture for everyone
    assert to_request(collage, library, PictureStore()).warnings == ()
