"""Results as the ground of the next rendering: what they carry, what shows of a layer that has moved."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipelines.errors import PictureError
from pipelines.pictures import PictureStore
from studio.document import Canvas, Collage
from studio.edit_layer import edit_layer, read_result
from studio.formats import png, underneath
from studio.pictures import Library
from tests.studio.edit_layer.conftest import UNDER, Counted, collage_of, disc, edited


def test_a_layer_that_has_moved_is_still_seen_where_it_was(library: Library) -> None:
    collage = collage_of(disc(library, "car"))

    def said(moved: Collage, before: tuple[Collage, Library] | None) -> list[str]:
        edit = edit_layer(moved, library, PictureStore(), UNDER, "car", before=before)
        return [warning.message for warning in edit.warnings]

    far = collage.replace_layer("car", x=200.0)
    (message,) = said(far, (collage, library))
    assert message.startswith("layer 'car' lay elsewhere when this picture was made")
    near = collage.replace_layer("car", x=102.0)
    assert said(near, (collage, library)) == said(far, None) == said(far, (far, library)) == []
    assert said(far, (collage_of(), library)) == []
    assert said(far, (collage.replace(canvas=Canvas(width=512, height=256)), library)) == []


def test_results_are_read_with_the_collage_they_carry(library: Library, tmp_path: Path) -> None:
    collage = collage_of(disc(library, "car"))
    (tmp_path / "made.png").write_bytes(png.embed(UNDER, collage, library, {}))
    pixels, carried = read_result(tmp_path / "made.png", "car")
    assert np.array_equal(pixels, UNDER) and carried is not None and carried[0] == collage
    Image.fromarray(UNDER).save(tmp_path / "plain.png")
    pixels, carried = read_result(tmp_path / "plain.png", "car")
    assert np.array_equal(pixels, UNDER) and carried is None
    (tmp_path / "none.png").write_bytes(b"no picture")
    with pytest.raises(PictureError, match=r"none\.png"):
        read_result(tmp_path / "none.png", "car")


def test_the_same_layer_again_is_rendered_on_what_lay_underneath(
    engine: Counted, library: Library, tmp_path: Path
) -> None:
    collage = collage_of(disc(library, "car", opacity=0.5), disc(library, "cat", x=200.0))
    edit, result = edited(engine, collage, library, "car")
    path = tmp_path / "made.png"
    path.write_bytes(png.embed_result(result, 0, collage, library, edit.made_on))
    picture = result.pictures[0]
    pixels, carried = read_result(path, "car")
    remade, pictures = png.read(path)
    assert np.array_equal(pixels, UNDER) and carried is not None and carried[0] == remade
    assert np.array_equal(edited(engine, remade, pictures, "car", pixels)[1].pictures[0], picture)
    over_itself = edited(engine, remade, pictures, "car", picture)[1].pictures[0]
    assert not np.array_equal(over_itself, picture), "half of it would show through"
    pixels, carried = read_result(path, "cat")
    assert np.array_equal(pixels, picture) and carried is not None and carried[0] == remade


def test_of_what_lay_underneath_only_what_changed_is_kept(engine: Counted, library: Library) -> None:
    collage = collage_of(disc(library, "car", scale_x=0.5, scale_y=0.5))
    edit, result = edited(engine, collage, library, "car")
    plain, kept = (png.embed_result(result, 0, collage, library, on) for on in (None, edit.made_on))
    box = edit.mask.any(0).sum() * edit.mask.any(1).sum()
    assert 0 < len(kept) - len(plain) < 3 * box * 1.1 + 400, "noise, which no file makes smaller"
    painted = result.pictures[0].copy()
    painted[0, 0] ^= 255
    chunk = underneath.pack("car", UNDER, result.pictures[0])
    assert underneath.unpack(chunk, painted, "car") is None, "another picture than it belongs to"
    assert underneath.unpack(chunk, result.pictures[0], "cat") is None
    assert underneath.unpack(underneath.pack("car", UNDER, UNDER), UNDER, "car") is not None


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: b"",
        lambda data: data[: len(data) // 2],
        lambda data: b"[]" + data[data.index(b"\n") :],
        lambda data: data.replace(b'"at": [', b'"at": [-1', 1),
        lambda data: data.replace(b'"at": [', b'"at": [9999', 1),
        lambda data: data.replace(b'"at": [', b'"to": [', 1),
        lambda data: data.replace(b'"at": [', b'"at": [1e999, ', 1),
    ],
)
def test_what_lay_underneath_is_not_believed_when_damaged(damage: Callable[[bytes], bytes]) -> None:
    whole = UNDER.copy()
    whole[100:120, 90:130] = 0
    chunk = underneath.pack("car", UNDER, whole)
    found = underneath.unpack(chunk, whole, "car")
    assert found is not None and np.array_equal(found, UNDER)
    assert underneath.unpack(damage(chunk), whole, "car") is None
