"""``--avoid`` and ``--style``: where references come from, and which way they push."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipelines.errors import FieldError, PictureError
from studio.cli.avoiding import with_references
from studio.cli.settings import apply_settings
from studio.compositing import read_mask
from studio.cutout import cutout
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
    asked = [str(file), f"{file}:-1", "layer:one"]
    ready, own, layer = with_references(collage, library, [], asked).avoids
    assert (ready.alpha, own.alpha, layer.alpha) == (READY["style"]["alpha"], -1, READY["style"]["alpha"])
    assert (ready.name, layer.picture) == ("old result", collage.layers[0].picture)


def test_what_was_there_stays_and_nothing_asked_changes_nothing(collage: Collage, library: Library) -> None:
    there = collage.replace(avoids=[Avoid(id="a", picture=collage.layers[0].picture)])
    assert with_references(there, library, [], []) is there
    assert with_references(there, library, ["noisy"], []).avoids[0] == there.avoids[0]


def test_a_file_that_is_not_there(collage: Collage, library: Library) -> None:
    with pytest.raises(PictureError, match=r"'missing\.png' cannot be read"):
        with_references(collage, library, ["missing.png"], [])


def test_a_layer_counts_only_inside_its_polygon(collage: Collage, library: Library) -> None:
    layer = collage.layers[0].replace(clip=((0, 0), (4, 0), (4, 8), (0, 8)))
    (avoid,) = with_references(collage.replace(layers=[layer]), library, ["layer:one"], []).avoids
    assert avoid.picture is not None and avoid.mask is None
    assert library.size(avoid.picture) == (4, 8)
    assert np.array_equal(np.asarray(library.open(avoid.picture)), cutout(layer, library, 256))
    assert library.open(avoid.picture).getextrema() == ((255, 255), (0, 0), (0, 0), (128, 128))


def test_references_of_one_name_are_numbered(collage: Collage, library: Library, file: Path) -> None:
    there = collage.replace(avoids=[Avoid(id="a", name="old result")])
    asked = [str(file), f"{file}:2", "layer:one", "layer:one", "noisy"]
    names = [one.name for one in with_references(there, library, asked, [str(file)]).avoids]
    assert names == [
        "old result",
        "old result 2",
        "old result 3",
        "red car",
        "red car 2",
        "noisy copy",
        "old result 4",
    ]
    long = Layer(id="b", prompt="x" * 200, picture=collage.layers[0].picture, x=0.0, y=0.0)
    both = with_references(collage.replace(layers=[long]), library, ["layer:b", "layer:b"], []).avoids
    assert [one.name for one in both] == ["x" * 100, "x" * 97 + " 2"]


def test_a_mask_file_and_a_layers_name_confine_a_reference(
    collage: Collage, library: Library, file: Path, tmp_path: Path
) -> None:
    """The whole way of `render`: the file's stem names the reference, its mask is a file, its reach a layer's name."""
    mask = tmp_path / "left.png"
    Image.fromarray(np.repeat(np.uint8([[255] * 4 + [0] * 4]), 8, axis=0)).save(mask)
    avoiding = with_references(collage, library, [str(file)], [])
    settings = [f"avoids.old result.mask={mask}", "avoids.old result.layer=red car"]
    (avoid,) = apply_settings(avoiding, settings, library).avoids
    assert avoid.layer == "one" and avoid.mask is not None
    assert read_mask(library, avoid.mask).getbbox() == (0, 0, 4, 8)
