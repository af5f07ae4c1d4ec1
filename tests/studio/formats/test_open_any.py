"""Opening by what a file is, not by what it is called."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipelines.errors import ArchiveError
from studio.document import Collage, Layer
from studio.formats import archive, open_any, png
from studio.pictures import Library


def test_all_kinds_open_as_the_same_collage(library: Library, tmp_path: Path) -> None:
    digest = library.add(Image.new("RGB", (20, 20), "red"))
    collage = Collage(layers=(Layer(id="a", picture=digest, x=1.0, y=2.0),))
    folder = tmp_path / "folder"
    folder.mkdir()
    archive.write(folder, collage, library)
    (tmp_path / "named.png").write_bytes(archive.write_bytes(collage, library))
    (tmp_path / "named.collage").write_bytes(png.embed(np.zeros((8, 8, 3), np.uint8), collage, library, {}))
    for path in (folder, folder / "collage.json", tmp_path / "named.png", tmp_path / "named.collage"):
        for given in (path, str(path)):
            opened, pictures = open_any(given)
            assert opened == collage
            assert list(pictures) == [digest]


@pytest.mark.parametrize(
    ("data", "why"), [(b"", "is neither"), (b"text", "is neither"), (b"PK\3\4", "whole")]
)
def test_other_files_are_refused_by_name(tmp_path: Path, data: bytes, why: str) -> None:
    path = tmp_path / "odd.collage"
    path.write_bytes(data)
    with pytest.raises(ArchiveError, match=f"'odd.collage'.* {why}"):
        open_any(path)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ArchiveError, match=r"'no.collage' cannot be opened \(No such file"):
        open_any(tmp_path / "no.collage")
