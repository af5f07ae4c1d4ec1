"""``decollage render --only LAYER --on PICTURE``: what is rendered on what, and under which name."""

from __future__ import annotations

import re
from pathlib import Path

from pipelines.errors import ArchiveError, FieldError
from pipelines.events import Warned
from studio.cli.files import find
from studio.cli.writing import MAX_STEM, cut, size_of
from studio.document import MAX_SEED, Layer
from studio.formats import is_png, png


def sources(files: list[str], only: str | None, on: Path | None) -> list[tuple[str, Path | None]]:
    """Each file with the picture that its layer is rendered on, None where all of it is rendered.

    A rendered PNG may be both: ``on`` stands for a missing file, and one file for a missing ``on``. Raises
    `FieldError` where something is missing or too much.
    """
    if only is None:
        if on is not None:
            raise FieldError(
                "--on names a picture and no layer is to be rendered on it; name one with --only."
            )
        if not files:
            raise FieldError("no collage is named; give at least one FILE.")
        return [(file, None) for file in files]
    if len(files) > 1:
        raise FieldError(
            f"--only renders a layer of one collage, and {len(files)} files are named; give one."
        )
    if on is not None:
        return [(files[0] if files else str(on), on)]
    if not files:
        raise FieldError("--only needs a picture to render the layer on; name one with --on.")
    path = find(files[0])
    if not (path.is_file() and is_png(path)):
        raise FieldError(f"{files[0]!r} is no picture to render {only!r} on; name one with --on.")
    return [(files[0], path)]


def name_of(picture: Path, layer: Layer) -> str:
    """The results' name: the picture's, a hyphen, and the layer's with hyphens for what no file name has.

    Where the picture is named after this layer, as PICTURE-LAYER-SEED, it keeps that name up to the seed.
    """
    words = re.sub(r"\W+", "-", layer.label[:40]).strip("-") or layer.id
    before = re.fullmatch(rf"(.+)-{re.escape(words)}(-\d+){{1,2}}", picture.stem)
    room = MAX_STEM - size_of(f"-{words}-{MAX_SEED}")
    return f"{cut(before[1] if before else picture.stem, room)}-{words}"


def made_alone(path: Path) -> Warned | None:
    """Said of a picture of which one layer alone was rendered: its collage makes another one.

    Nothing where its report is damaged, which keeps nothing else from being rendered.
    """
    if not (path.is_file() and is_png(path)):
        return None
    try:
        edit = png.read_report(path.read_bytes()).get("edit")
    except ArchiveError:
        return None
    if not isinstance(edit, dict):
        return None
    name = str(edit.get("layer"))[:100]
    return Warned(f"{path.name!r} had {name!r} rendered on another picture; this renders its whole collage.")
