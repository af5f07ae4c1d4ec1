"""Where results go: a folder that takes them, names that every file system has room for, never over a file."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

from pipelines.errors import ArchiveError

MAX_STEM = 200
"""Bytes of a result's name before its number and its kind: file systems end at 255, some of them sooner."""
_NUMBERED = len("-999.json")
_RANDOM = 8
"""Characters that `tempfile` puts behind a prefix."""


def size_of(name: str) -> int:
    """Bytes of a file's name, in UTF-8."""
    return len(name.encode("utf-8", "replace"))


def cut(name: str, most: int) -> str:
    """The beginning of ``name`` that takes at most ``most`` bytes as a file's name, in whole characters."""
    while name and size_of(name) > most:
        name = name[:-1]
    return name


def stem_of(name: str, *more: object) -> str:
    """``name`` and ``more`` with hyphens between; of what is longer than `MAX_STEM` the end of ``name`` is left out."""
    end = "".join(f"-{part}" for part in more)
    return cut(name, MAX_STEM - size_of(end)) + end


def make_folder(folder: str, stems: Iterable[str]) -> Path:
    """Make a folder for results, where it is not there yet, and try that it takes a file of the longest of ``stems``.

    So that what cannot be written is said before anything is rendered. Raises `ArchiveError`.
    """
    if not folder:
        raise ArchiveError(
            "the folder for the results has no name; give one, such as out, or . for this one."
        )
    path = Path(folder)
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ArchiveError(
            f"the folder {folder!r} cannot be made ({error.strerror}); choose another."
        ) from None
    longest = max(map(size_of, stems)) + _NUMBERED
    try:
        with tempfile.NamedTemporaryFile(dir=path, prefix=".decollage".ljust(longest - _RANDOM, "-")):
            pass
    except OSError as error:
        raise ArchiveError(
            f"nothing can be written to the folder {folder!r} ({error.strerror}); choose another."
        ) from None
    return path


def write_each(folder: Path, pictures: Iterable[tuple[str, bytes]]) -> Iterator[Path | None]:
    """`write_new` for each stem with its data, in order: the path, or None where that cannot be written.

    The first `ArchiveError` is raised after the last picture, so that one that fails takes no other with it.
    """
    failed: ArchiveError | None = None
    for stem, data in pictures:
        try:
            yield write_new(folder, stem, data)
        except ArchiveError as error:
            failed = failed or error
            yield None
    if failed is not None:
        raise failed


def write_new(folder: Path, stem: str, data: bytes, beside: bytes | None = None) -> Path:
    """Write ``stem``.png, or the first free of ``stem``-2.png, ``stem``-3.png …; returns the path.

    ``beside`` goes into the .json of the same name, where the first name is taken that is free for both. Raises
    `ArchiveError` when the folder cannot be written to; then neither is there.
    """
    number = 1
    while True:
        path = folder / (f"{stem}.png" if number == 1 else f"{stem}-{number}.png")
        parts = {path: data} if beside is None else {path: data, path.with_suffix(".json"): beside}
        made: list[Path] = []
        try:
            for part, content in parts.items():
                with part.open("xb") as file:
                    made.append(part)
                    file.write(content)
            return path
        except FileExistsError:
            _remove(made)
            number += 1
        except OSError as error:
            _remove(made)
            raise ArchiveError(
                f"{str(part)!r} cannot be written ({error.strerror}); choose another folder."
            ) from None


def _remove(paths: Iterable[Path]) -> None:
    for path in paths:
        with contextlib.suppress(OSError):
            path.unlink(missing_ok=True)
