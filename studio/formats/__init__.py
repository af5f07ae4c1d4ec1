"""Files that hold a collage: .collage archives, folders of the same content, and rendered PNGs."""

from __future__ import annotations

from pathlib import Path

from pipelines.errors import ArchiveError
from studio.document import Collage
from studio.formats import archive, png
from studio.pictures import Library

__all__ = ["archive", "is_png", "open_any", "png"]


def open_any(path: str | Path) -> tuple[Collage, Library]:
    """Open a .collage file, a folder (or the collage.json in it) or a PNG with a collage inside.

    What a file is, its first bytes say, not its name. Raises `ArchiveError`, `VersionError`, `FieldError` or
    `PictureError`, each with a sentence that names the file.
    """
    path = Path(path)
    if path.is_dir():
        return archive.read(path)
    if path.name == archive.DOCUMENT:
        return archive.read(path.parent)
    try:
        with path.open("rb") as file:
            start = file.read(8)
    except OSError as error:
        raise ArchiveError(f"{path.name!r} cannot be opened ({error.strerror}); check the path.") from None
    if start == png.SIGNATURE:
        return png.read(path)
    if start[:2] == b"PK":
        return archive.read(path)
    raise ArchiveError(f"{path.name!r} is neither a .collage file nor a PNG; give one that Decollage saved.")


def is_png(path: Path) -> bool:
    """Whether a file begins as a PNG does; raises `OSError` when it cannot be read."""
    with path.open("rb") as file:
        return file.read(len(png.SIGNATURE)) == png.SIGNATURE
