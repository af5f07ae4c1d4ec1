"""``--avoid`` and ``--style``: where references come from, and which way they push."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from pipelines.errors import FieldError, PictureError
from studio.cli.avoiding import with_references
from studio.document import Avoid, Collage, Layer
from studio.pictures import Library
from studio.references import READY


@pytest.fixture
def collage(library: Library) -> Collage:
    picture = library.add(Image.new("RGBA", (8, 8), (255, 0, 0, 128)))
    return Collage(layers=(Layer(id="one", name="red car", picture=picture, x=1.0, y=1.0),))


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "old result.png"
    Image.new("RGB", (8, 8), "blue").save(path)
    return path


def test_from_a_file_with_and_without_alpha(collage: Collage, library: Library, file: Path) -> None:
    one, other = with_references(collage, library, [str(file), f"{file}:-0.25"], []).avoids
    assert one.name == "old result" and one.picture in library and one.picture == other.picture
    assert (one.alpha, other.alpha, one.made) == (None, -0.25, "given")
    assert one.id != other.id


def test_from_a_layer(collage: Collage, library: Library) -> None:
    for text in ("layer:red car", "layer:one", "layer:red car:2"):
        (avoid,) = with_references(collage, library, [text], []).avoids
        assert (avoid.name, avoid.picture) == ("red car", collage.layers[0].picture)
        assert avoid.alpha == (2 if text.endswith("2") else None)
    with pytest.raises(FieldError, match="0 layers are called 'cat'; there are: 'red car'"):
        with_references(collage, library, ["layer:cat"], [])


def test_made_of_the_collage(collage: Collage, library: Library) -> None:
    blurred, noisy = with_references(collage, library, ["blurred", "noisy:2"], []).avoids
    assert (blurred.made, blurred.picture, blurred.alpha) == ("blurred", None, None)
    assert (noisy.made, noisy.alpha) == ("noisy", 2)


def test_a_style_pulls(collage: Collage, library: Library, file: Path) -> None:
    ready, own = with_references(collage, library, [], [str(file), f"{file}:-1"]).avoids
    assert (ready.alpha, own.alpha) == (READY["style"]["alpha"], -1)
    assert ready.name == "old result"


def test_what_was_there_stays_and_nothing_asked_changes_nothing(collage: Collage, library: Library) -> None:
    there = collage.replace(avoids=[Avoid(id="a", picture=collage.layers[0].picture)])
    assert with_references(there, library, [], []) is there
    assert with_references(there, library, ["noisy"], []).avoids[0] == there.avoids[0]


def test_a_file_that_is_not_there(collage: Collage, library: Library) -> None:
    with pytest.raises(PictureError, match=r"'missing\.png' cannot be read"):
        with_references(collage, library, ["missing.png"], [])
