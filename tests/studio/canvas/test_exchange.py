"""Page documents to collages and back; what a page must not get away with."""

from __future__ import annotations

import copy
import json
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from pipelines.errors import FieldError, PictureError, VersionError
from studio.canvas import exchange
from studio.canvas.component import suggest
from studio.canvas.exchange import Uploads, file_data, sketch, to_collage, to_page, without_addresses
from studio.document import Avoid, Background, Collage, Layer
from studio.pictures import Library


class Folder:
    """An upload folder: `keep` stores as the page's server does."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.uploads = Uploads(path)

    def keep(self, name: str, data: bytes) -> str:
        (self.path / name).write_bytes(data)
        return str(self.path / name)


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    (tmp_path / "uploads").mkdir()
    return Folder(tmp_path / "uploads")


@pytest.fixture
def made(library: Library) -> Collage:
    cat, mask = (
        library.add(Image.new("RGBA", size, colour)) for size, colour in [((8, 6), "red"), ((4, 4), "#0008")]
    )
    return Collage(
        name="Cat",
        background=Background(picture=mask),
        layers=(
            Layer(id="a", name="cat", picture=cat, mask=mask, x=1.5, y=2, clip=((0, 0), (4, 0), (4, 4))),
        ),
        avoids=(Avoid(id="b", picture=cat, layer="a", alpha=1.25),),
        seed=0,
    )


def test_there_and_back(made: Collage, library: Library, folder: Folder) -> None:
    page = to_page(made, library, folder.keep)
    assert (page["layers"][0]["width"], page["layers"][0]["height"]) == (8, 6)
    assert page["layers"][0]["picture"]["meta"] == {"_type": "gradio.FileData"}
    page = json.loads(json.dumps({**page, "rev": 7, "opened": 2, "incoming": None}))
    collage, pictures = to_collage(page, folder.uploads)
    assert collage == made
    assert set(pictures) == set(library)
    assert all(pictures.bytes(digest) == library.bytes(digest) for digest in library)


@given(data=st.data())
@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
def test_any_collage_there_and_back(
    data: st.DataObject, collages: st.SearchStrategy[Collage], few_pictures: Library, folder: Folder
) -> None:
    collage = data.draw(collages)
    page = json.loads(json.dumps(to_page(collage, few_pictures, folder.keep)))
    assert to_collage(page, folder.uploads)[0] == collage


def test_the_page_sent_is_left_as_it_was(made: Collage, library: Library, folder: Folder) -> None:
    page = to_page(made, library, folder.keep)
    before = copy.deepcopy(page)
    to_collage(page, folder.uploads)
    assert page == before


def test_an_upload_of_any_kind_becomes_png(folder: Folder) -> None:
    Image.new("RGB", (10, 4), "blue").save(folder.path / "photo.jpg")
    page = {
        "layers": [
            {"id": "a", "x": 0, "y": 0, "picture": file_data(str(folder.path / "photo.jpg"), "image/jpeg")}
        ]
    }
    collage, library = to_collage(page, folder.uploads)
    assert library.size(collage.layers[0].picture) == (10, 4)


@pytest.mark.parametrize(
    "path",
    [
        "/etc/passwd",
        "../secret.png",
        "link.png",
        "missing.png",
        "x" * 300,
        "\ud800",
        "",
        "a\0b",
        None,
        7,
        ["x"],
    ],
    ids=ascii,
)
def test_only_uploaded_files_are_read(path: Any, folder: Folder) -> None:
    secret = folder.path.parent / "secret.png"
    Image.new("RGB", (2, 2)).save(secret)
    (folder.path / "link.png").symlink_to(secret)
    if isinstance(path, str) and path and not path.startswith("/"):
        path = f"{folder.path}/{path}"
    page = {"layers": [{"id": "a", "name": "cat", "x": 0, "y": 0, "picture": {"path": path}}]}
    with pytest.raises(PictureError, match=r"^layer 'cat' names .*; add .* again\.$|^layer 'cat' names no"):
        to_collage(page, folder.uploads)


def test_what_a_page_still_uses_is_renewed_and_not_read_again(
    made: Collage, library: Library, folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Gradio deletes by the time of the last change of a file's entry."""
    page = to_page(made, library, folder.keep)
    to_collage(page, folder.uploads)
    files = list(folder.path.iterdir())
    before = {path: path.stat() for path in files}
    time.sleep(0.05)
    monkeypatch.setattr(Library, "add", None)
    to_collage(page, folder.uploads)
    for path in files:
        assert path.stat().st_ctime_ns > before[path].st_ctime_ns
        assert path.stat().st_mtime_ns == before[path].st_mtime_ns


def test_a_broken_picture_names_its_layer(folder: Folder) -> None:
    path = folder.keep("broken.png", b"\x89PNG\r\n\x1a\nnothing")
    page = {"avoids": [{"id": "a", "name": "fox", "picture": file_data(path, "image/png")}]}
    with pytest.raises(PictureError, match=r"^avoid 'fox': the picture 'broken.png' is damaged"):
        to_collage(page, folder.uploads)


@pytest.mark.parametrize(
    ("page", "kind", "sentence"),
    [
        (None, FieldError, "the page sent no collage"),
        ([], FieldError, "the page sent no collage"),
        ({"steps": 1e9}, FieldError, "steps is 1000000000"),
        ({"seed": float("nan")}, FieldError, "seed"),
        ({"wings": 2}, FieldError, "unknown field 'wings'"),
        ({"layers": 3}, FieldError, "layers is 3"),
        ({"layers": [3]}, FieldError, "layer 1: it is 3"),
        (
            {"layers": [{"id": f"l{n}", "x": 0, "y": 0, "picture": {"path": "/x"}} for n in range(65)]},
            FieldError,
            "layers",
        ),
        ({"background": {"picture": {"path": "/x"}, "glow": 1}}, FieldError, "unknown field 'glow'"),
        ({"version": 2}, VersionError, "version 2"),
    ],
)
def test_bad_documents_are_refused_before_any_file_is_read(
    page: Any, kind: type[Exception], sentence: str, folder: Folder
) -> None:
    if isinstance(page, dict):
        page = {**page, "avoids": [{"id": "z", "picture": file_data("/nowhere", "image/png")}]}
    with pytest.raises(kind) as caught:
        to_collage(page, folder.uploads)
    assert sentence in str(caught.value)


def test_a_picture_is_decoded_once_until_its_file_changes(
    made: Collage, library: Library, folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = to_page(made, library, folder.keep)
    to_collage(page, folder.uploads)
    decoded = []
    real = Library.add

    def counted(self: Library, source: Path) -> str:
        decoded.append(source)
        return real(self, source)

    monkeypatch.setattr(Library, "add", counted)
    to_collage(page, folder.uploads)
    assert decoded == []
    Image.new("RGBA", (9, 9)).save(page["layers"][0]["picture"]["path"])
    changed, pictures = to_collage(page, folder.uploads)
    assert pictures.size(changed.layers[0].picture) == (9, 9)
    assert decoded


def test_what_is_kept_is_bounded(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exchange, "MAX_KEPT", 1)
    for number in range(5):
        path = folder.path / f"{number}.png"
        Image.new("RGB", (number + 1, 1)).save(path)
        folder.uploads.add(Library(), file_data(str(path), "image/png"), "layer")
    assert len(folder.uploads._read) == 1


def test_addresses_are_taken_off_files_and_nothing_else() -> None:
    page = {"a": [{"path": "/x", "url": "http://elsewhere/x", "meta": 1}], "b": ({"url": "kept"},), "c": None}
    assert without_addresses(page) == {
        "a": [{"path": "/x", "url": None, "meta": 1}],
        "b": [{"url": "kept"}],
        "c": None,
    }
    assert page["a"][0]["url"] == "http://elsewhere/x"  # type: ignore[index]


def test_a_layer_to_render_alone_is_no_part_of_the_collage(
    made: Collage, library: Library, folder: Folder
) -> None:
    page = to_page(made, library, folder.keep)
    edit = {"layer": "a", "picture": page["layers"][0]["picture"]}
    assert to_collage({**page, "edit": edit}, folder.uploads)[0] == made


def test_a_sketch_needs_no_pictures(made: Collage, library: Library, folder: Folder) -> None:
    page = to_page(made, library, folder.keep)
    bare = [{**layer, "picture": None, "mask": None} for layer in page["layers"]]
    collage, sizes = sketch({"canvas": page["canvas"], "layers": bare})
    assert sizes == {"a": (8, 6)}
    (layer,) = collage.layers
    assert layer.replace(picture=made.layers[0].picture, mask=made.layers[0].mask) == made.layers[0]
    found = suggest({"canvas": page["canvas"], "layers": bare})
    assert [(one["layer"], one["word"]) for one in found] == [
        ("a", word) for word in ("harmonize", "keep_shape", "feather")
    ]
    assert json.loads(json.dumps(found)) == found


def test_a_sketch_says_for_which_model(made: Collage, library: Library, folder: Folder) -> None:
    page = to_page(made.replace_layer("a", attend_inside=None, prompt="a cat"), library, folder.keep)
    bare = [{**layer, "picture": None, "mask": None} for layer in page["layers"]]
    insist = {
        model: [
            one["value"]
            for one in suggest({"canvas": page["canvas"], "model": model, "layers": bare})
            if one["word"] == "attend_inside"
        ]
        for model in ("embedded", "sdxl")
    }
    assert 0 < insist["embedded"][0] < insist["sdxl"][0]


@pytest.mark.parametrize(
    "change",
    [
        {"width": None},
        {"width": 0},
        {"height": 10**9},
        {"height": True},
        {"x": "left"},
        {"unknown": 1},
    ],
    ids=str,
)
def test_nonsense_is_suggested_nothing(
    made: Collage, library: Library, folder: Folder, change: dict[str, Any]
) -> None:
    page = to_page(made, library, folder.keep)
    with pytest.raises(FieldError):
        sketch({"canvas": page["canvas"], "layers": [{**page["layers"][0], **change}]})
    assert suggest({"canvas": page["canvas"], "layers": [{**page["layers"][0], **change}]}) == []
    for nothing in (None, [], {"layers": 3}, {"layers": [3]}, {"layers": []}):
        assert suggest(nothing) == []
