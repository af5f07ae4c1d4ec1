"""What a FILE on the command line may be: a path, or the name of a preset."""

from __future__ import annotations

from pathlib import Path

import presets
from pipelines.errors import ArchiveError
from studio.document import Collage
from studio.formats import archive, open_any
from studio.pictures import Library


def find(file: str) -> Path:
    """The path that ``file`` means: what is there, else the preset NAME, NAME.collage or presets/NAME.

    A folder without a collage, as results leave it, does not take a preset's name. Raises `ArchiveError` when it is
    neither.
    """
    path = Path(file)
    there = _exists(path)
    if there and not (path.is_dir() and not (path / archive.DOCUMENT).is_file()):
        return path
    name = path.stem if path.suffix == ".collage" else path.name
    if path.parent.name in ("", "presets") and name in presets.names():
        return presets.path(name)
    if there:
        return path
    known = ", ".join(presets.names()) or "none"
    raise ArchiveError(f"{_short(file)!r} is neither a file nor a preset; the presets are: {known}.")


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:  # a name that no file can have
        return False


def _short(file: str) -> str:
    return file if len(file) <= 80 else f"{file[:79]}…"


def load(file: str) -> tuple[Collage, Library]:
    """Open what ``file`` means; errors as in `studio.formats.open_any`."""
    return open_any(find(file))
