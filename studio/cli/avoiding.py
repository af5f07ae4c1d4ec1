"""``--avoid`` and ``--style``: references from a file, a result, a layer, or made of the collage."""

from __future__ import annotations

import itertools
from collections.abc import Sequence, Set
from pathlib import Path
from typing import Annotated, Any

import typer
from PIL import Image

from pipelines.errors import FieldError
from studio.cutout import cutout
from studio.document import Avoid, Collage, new_id
from studio.pictures import Library
from studio.references import READY

LAYER = "layer:"

Avoids = Annotated[
    list[str] | None,
    typer.Option(
        "--avoid",
        metavar="WHAT[:ALPHA]",
        help="Push away from a picture file (a result, say), layer:NAME, or blurred or noisy: such a copy of the "
        "collage. ALPHA below 0 pulls towards it. Repeatable.",
    ),
]
Styles = Annotated[
    list[str] | None,
    typer.Option(
        "--style",
        metavar="WHAT[:ALPHA]",
        help="Pull towards a picture file or layer:NAME: the same as --avoid with alpha "
        f"{READY['style']['alpha']}. ALPHA above 0 pushes away from it instead. What it shows comes along, not its "
        "style alone. Repeatable.",
    ),
]


def with_references(
    collage: Collage, library: Library, avoids: Sequence[str], styles: Sequence[str]
) -> Collage:
    """The collage with references added; their pictures go into ``library``. Raises `FieldError`, `PictureError`.

    Each has a name of its own, such as "car", "car 2", "car 3", by which ``--set avoids.NAME`` finds it.
    """
    asked = [("--avoid", one) for one in avoids] + [("--style", one) for one in styles]
    added: list[Avoid] = []
    for option, text in asked:
        what, alpha = _split(text)
        fields: dict[str, Any] = {} if option == "--avoid" else dict(READY["style"])
        if option == "--avoid" and what in ("blurred", "noisy"):
            fields = dict(READY[what])
        elif what.startswith(LAYER):
            fields |= _of_layer(collage, library, what.removeprefix(LAYER), f"{option} {text}")
        else:
            fields |= {"name": Path(what).stem, "picture": library.add(Path(what))}
        if alpha is not None:
            fields["alpha"] = alpha
        fields["name"] = _free(fields["name"], {one.label for one in (*collage.avoids, *added)})
        added.append(Avoid(id=new_id(), **fields))
    return collage.replace(avoids=(*collage.avoids, *added)) if added else collage


def _free(name: str, taken: Set[str]) -> str:
    """``name``, with a number after it where others have it, in at most 100 characters."""
    numbered = (f"{name[:97]} {number}" for number in itertools.count(2))
    return next(one for one in itertools.chain([name[:100]], numbered) if one not in taken)


def _split(text: str) -> tuple[str, float | None]:
    """WHAT and ALPHA; a colon that no number follows belongs to WHAT."""
    what, colon, number = text.rpartition(":")
    try:
        return (what, float(number)) if colon and what else (text, None)
    except ValueError:
        return text, None


def _of_layer(collage: Collage, library: Library, name: str, where: str) -> dict[str, Any]:
    """What a layer shows of its picture: what is transparent, masked or clipped away does not count."""
    found = [layer for layer in collage.layers if name in (layer.id, layer.label)]
    if len(found) != 1:
        names = ", ".join(repr(layer.label) for layer in collage.layers) or "none"
        raise FieldError(f"{where}: {len(found)} layers are called {name!r}; there are: {names}.")
    layer = found[0]
    if layer.clip is None:
        return {"name": layer.label, "picture": layer.picture, "mask": layer.mask}
    side = max(collage.canvas.width, collage.canvas.height)  # references are scaled to fit the canvas
    shown = Image.fromarray(cutout(layer, library, side))
    return {"name": layer.label, "picture": library.add(shown)}
