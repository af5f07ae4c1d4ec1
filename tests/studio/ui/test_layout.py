"""Limits of the page's server: what may come in."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from studio import pictures
from studio.canvas.exchange import Uploads, file_data, to_page
from studio.document import Collage, Layer
from studio.formats import archive, png
from studio.pictures import Library
from studio.session import Jobs
from studio.ui import launch_options
from studio.ui.files import Files
from studio.ui.settings import limits


def test_what_the_page_saves_it_takes_back() -> None:
    """A picture alone may be smaller than a file of several."""
    assert launch_options()["max_file_size"] == limits()["result"] == png.MAX_PNG
    assert limits()["archive"] == archive.MAX_ARCHIVE >= pictures.MAX_TOTAL
    assert limits()["bytes"] == pictures.MAX_FILE < archive.MAX_ARCHIVE <= png.MAX_PNG


def test_a_file_larger_than_any_picture_is_opened(
    library: Library, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def keep(name: str, data: bytes) -> str:
        (tmp_path / name).write_bytes(data)
        return str(tmp_path / name)

    layers = tuple(
        Layer(id=f"a{side}", picture=library.add(Image.effect_noise((side, side), 99)), x=0.0, y=0.0)
        for side in (20, 21, 22)
    )
    page = {**to_page(Collage(layers=layers), library, keep), "rev": 7}
    files = Files(Jobs(), Uploads(tmp_path), keep)
    monkeypatch.setattr(pictures, "MAX_FILE", 2500)
    saved = files.save(page)["saved"]["file"]
    assert Path(saved["path"]).stat().st_size > pictures.MAX_FILE
    opened = files.open({"incoming": file_data(saved["path"], "application/zip")})
    assert [layer["id"] for layer in opened["value"]["layers"]] == ["a20", "a21", "a22"]


def test_a_save_says_which_document_it_was_of(tmp_path: Path) -> None:
    """So that the page counts that one as saved, and no later one; nothing but a number comes back."""
    files = Files(Jobs(), Uploads(tmp_path), lambda name, data: str(tmp_path / name))
    page = to_page(Collage(), Library(), lambda name, data: "")
    assert files.save({**page, "rev": 7})["saved"]["rev"] == 7
    assert files.save({**page, "rev": {"path": "/etc/hosts"}})["saved"]["rev"] is None
    refused = files.save({**page, "rev": 8, "images": 0})["saved"]
    assert refused["rev"] == 8 and "error" in refused
    assert "rev" not in files.open({})["saved"]
