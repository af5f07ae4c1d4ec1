"""The document: every field bounded, refused by name and place, and JSON that comes back equal."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.errors import ArchiveError, FieldError, VersionError
from studio.document import Avoid, Background, Canvas, Collage, Layer, new_id

DIGEST = "a" * 64
LAYER: dict[str, Any] = {"id": "one", "name": "cat", "picture": DIGEST, "x": 1, "y": 2.5}
AVOID: dict[str, Any] = {"id": "far", "picture": DIGEST}


def document(**layer: Any) -> dict[str, Any]:
    """A document of two layers, of which the second takes the fields given."""
    return {"layers": [{**LAYER, "id": "zero", "name": "sea"}, {**LAYER, **layer}]}


@given(data=st.data())
def test_json_round_trip(collages: st.SearchStrategy[Collage], data: st.DataObject) -> None:
    collage = data.draw(collages)
    assert Collage.from_json(collage.to_json()) == collage
    assert Collage.from_dict(json.loads(json.dumps(collage.to_dict()))) == collage


def test_the_json_holds_every_field() -> None:
    collage = Collage(layers=(Layer(**LAYER),), avoids=(Avoid(id="far", picture=DIGEST),))
    data = collage.to_dict()
    assert set(data) == set(Collage.model_fields)
    assert set(data["layers"][0]) == set(Layer.model_fields)
    assert {"keep_shape", "look", "vary"} <= set(data["layers"][0])
    assert set(data["avoids"][0]) == set(Avoid.model_fields)
    assert data["version"] == 1


def test_an_empty_document_is_the_default_collage() -> None:
    collage = Collage.from_json("{}")
    assert collage == Collage()
    assert (collage.canvas.width, collage.canvas.height, collage.seed) == (256, 256, None)
    assert Collage.from_dict({"seed": 0}).seed == 0


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        ({"opactiy": 1}, "layer 2 'cat': unknown field 'opactiy'; did you mean 'opacity'?"),
        ({"zzz": 1}, "layer 2 'cat': unknown field 'zzz'; remove it."),
        ({"opacity": math.nan}, "layer 2 'cat': opacity is nan; give a number from 0 to 1."),
        ({"x": math.inf}, "layer 2 'cat': x is inf; give a number from -16384 to 16384."),
        ({"opacity": 1.1}, "layer 2 'cat': opacity is 1.1; give a number from 0 to 1."),
        ({"harmonize": "0.5"}, "layer 2 'cat': harmonize is '0.5'; give a number from 0 to 1."),
        ({"vary": True}, "layer 2 'cat': vary is True; give a number from 0 to 3."),
        ({"scale_x": 0}, "layer 2 'cat': scale_x is 0; give a number from 0.001 to 64."),
        ({"feather": 257}, "layer 2 'cat': feather is 257; give a number from 0 to 256."),
        ({"visible": 1}, "layer 2 'cat': visible is 1; give true or false."),
        ({"prompt": "x" * 301}, "give a text of at most 300 characters."),
        (
            {"picture": "cat.png"},
            "layer 2 'cat': picture is 'cat.png'; give the sha256 of a PNG file in hexadecimal.",
        ),
        ({"clip": [[0, 0], [1, 1]]}, "clip is [[0, 0], [1, 1]]; give a list of 3 to 512 items."),
        (
            {"clip": [[0, 0], [1, 1], [2, None]]},
            "clip item 3 item 2 is None; give a number from -16384 to 16384.",
        ),
        ({"id": "a b"}, "layer 2 'cat': id is 'a b'; give 1 to 64 letters, digits, - or _."),
        ({"id": "zero"}, "two layers have the id 'zero'; give each its own."),
    ],
)
def test_a_bad_layer_is_refused_by_name_and_field(layer: dict[str, Any], message: str) -> None:
    with pytest.raises(FieldError) as caught:
        Collage.from_dict(document(**layer))
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"promt": "x"}, "unknown field 'promt'; did you mean 'prompt'?"),
        (
            {"canvas": {"width": 100}},
            "width is 100; give a whole number from 64 to 2048 that is a multiple of 8.",
        ),
        ({"canvas": {"height": 2056}}, "canvas height is 2056; give a whole number from 64"),
        ({"model": ""}, "model is ''; give a name on one line."),
        ({"model": "a\0b"}, "give a name on one line."),
        ({"canvas": {"heigth": 64}}, "unknown field 'heigth' in canvas; did you mean 'height'?"),
        ({"background": {"colour": "red"}}, "background colour is 'red'; give a colour such as '#c8d4e0'."),
        ({"seed": -1}, "seed is -1; give a whole number from 0 to 9007199254740991."),
        ({"seed": 1.5}, "seed is 1.5; give a whole number"),
        (
            {"seed": 2**53 - 1, "images": 2},
            "seed is 9007199254740991, which leaves no seeds for 2 images; give at most 9007199254740990.",
        ),
        ({"images": 17}, "images is 17; give a whole number from 1 to 16."),
        ({"axis": "up"}, "axis is 'up'; give one of 'source', 'released'."),
        ({"avoid_by": "luck"}, "avoid_by is 'luck'; give one of 'guidance', 'push'."),
        ({"spread_by": "luck"}, "spread_by is 'luck'; give one of 'guidance', 'push'."),
        ({"guidance_interval": [2, 1]}, "guidance_interval is [2.0, 1.0]; give the lower noise level first."),
        ({"guidance_interval": [2]}, "guidance_interval"),
        ({"cads": 2.1}, "cads is 2.1; give a number from 0 to 2"),
        ({"spread_match": "best"}, "spread_match is 'best'; give one of 'all', 'nearest', 'first'."),
        ({"spread_parts": ["head"]}, "give one of 'down', 'mid', 'up', 'double', 'single'."),
        ({"spread_every": 17}, "spread_every is 17; give a whole number from 1 to 16."),
        ({"prompt": "x" * 2001}, "give a text of at most 2000 characters."),
        ({"version": "1"}, "version is '1'; give 1."),
        ({"version": 0}, "version is 0; give 1."),
        ({"layers": [LAYER] * 65}, "layers is a list of 65 items; give a list of 0 to 64 items."),
        ({"layers": [5]}, "layer 1: it is 5; give an object with named fields."),
        ({"layers": [{**LAYER, "x": None}]}, "layer 1 'cat': x is None; give a number"),
        ({"layers": [{"id": "one"}]}, "layer 1: picture is missing; give the sha256 of a PNG file"),
        (
            {"avoids": [{**AVOID, "threshold": 0.4}]},
            "avoid 1: threshold is 0.4; give a number from 0.5 to 1.",
        ),
        ({"avoids": [{**AVOID, "layer": "no"}]}, "avoid 'far': there is no layer with the id 'no'; name an"),
    ],
)
def test_a_bad_document_is_refused_by_field(data: dict[str, Any], message: str) -> None:
    with pytest.raises(FieldError) as caught:
        Collage.from_dict(data)
    assert message in str(caught.value)


def test_a_number_too_large_for_a_float_is_a_field_error() -> None:
    with pytest.raises(FieldError, match="guidance is inf"):
        Collage.from_json('{"guidance": 1e999}')
    with pytest.raises(FieldError, match="guidance is 999"):
        Collage.from_json('{"guidance": ' + "9" * 400 + "}")


def test_a_newer_version_is_refused_whatever_else_it_holds() -> None:
    with pytest.raises(VersionError, match="version 2 and this program reads up to 1; update Decollage"):
        Collage.from_dict({"version": 2, "holograms": []})


@pytest.mark.parametrize(
    "text", ["", "[]", "nonsense", '{"a":' + "[" * 100_000, b"\xff\xfe\x00", '{"prompt": "\\ud800"}']
)
def test_what_is_no_json_object_is_no_collage(text: str | bytes) -> None:
    with pytest.raises(ArchiveError, match="collage"):
        Collage.from_json(text)


def test_a_document_that_is_too_long_is_refused_unread() -> None:
    with pytest.raises(ArchiveError, match="longer than 4 MiB"):
        Collage.from_json(" " * (4 * 2**20 + 1))


def test_data_that_is_not_json_is_a_field_error() -> None:
    with pytest.raises(FieldError, match="not JSON"):
        Collage.from_dict({"prompt": object()})


def test_constructors_say_the_same_sentences() -> None:
    with pytest.raises(FieldError, match=r"layer 'cat': opacity is 3; give a number from 0 to 1\."):
        Layer(**LAYER, opacity=3)
    with pytest.raises(FieldError, match="canvas: width is 100"):
        Canvas(width=100)
    with pytest.raises(FieldError, match="background: harmonize is 2"):
        Background(harmonize=2)
    with pytest.raises(FieldError, match=r"prompt is '.ud800'"):
        Collage(prompt="\ud800")


def test_a_refused_change_leaves_the_document_as_it_was() -> None:
    collage = Collage.from_dict(document())
    before = collage.to_json()
    for change in ({"seed": -1}, {"layers": [{}]}, {"bogus": 1}):
        with pytest.raises(FieldError):
            collage.replace(**change)
    with pytest.raises(FieldError, match="layer 'cat': x is nan"):
        collage.replace_layer("one", x=math.nan)
    with pytest.raises(FieldError, match="no layer with the id 'nobody'"):
        collage.replace_layer("nobody", x=0.0)
    assert collage.to_json() == before


def test_an_accepted_change_changes_that_alone() -> None:
    collage = Collage.from_dict(document())
    changed = collage.replace_layer("one", opacity=0.25)
    assert [layer.opacity for layer in changed.layers] == [1.0, 0.25]
    assert changed.replace_layer("one", opacity=1.0) == collage
    assert collage.replace(seed=0).seed == 0


def test_pictures_are_listed_once() -> None:
    layer = Layer(**{**LAYER, "mask": "b" * 64})
    collage = Collage(
        background=Background(picture="c" * 64),
        layers=(layer, layer.replace(id="two")),
        avoids=(Avoid(id="far", picture="d" * 64, mask="b" * 64),),
    )
    assert list(collage.pictures()) == ["c" * 64, DIGEST, "b" * 64, "d" * 64]


def test_a_layer_is_called_by_its_name_else_its_words_else_its_id() -> None:
    assert Layer(**LAYER).label == "cat"
    assert Layer(**{**LAYER, "name": "", "prompt": "a cat"}).label == "a cat"
    assert Layer(**{**LAYER, "name": ""}).label == "one"


def test_new_ids_are_allowed_and_differ() -> None:
    ids = {new_id() for _ in range(50)}
    assert len(ids) == 50
    assert all(Layer(**{**LAYER, "id": one}).id == one for one in ids)
