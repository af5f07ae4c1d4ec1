"""Collages that render as they are, packaged with the program."""

from __future__ import annotations

from importlib import resources
from pathlib import Path


def names() -> tuple[str, ...]:
    """Names of all presets, sorted; a preset's name is its file's, without the ending."""
    return tuple(sorted(path.stem for path in _files()))


def path(name: str) -> Path:
    """Where the preset is; `KeyError` when there is none of this name."""
    for found in _files():
        if found.stem == name:
            return found
    raise KeyError(name)


def _files() -> list[Path]:
    folder = Path(str(resources.files(__name__)))  # packages are always installed unpacked
    return [found for found in folder.iterdir() if found.suffix == ".collage"]
