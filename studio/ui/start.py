"""What is on the canvas when a page is opened: the first preset, else three cut-outs of the drawer."""

from __future__ import annotations

from typing import Any

from studio.canvas.exchange import to_page
from studio.document import Collage, Layer, new_id
from studio.pictures import Library
from studio.ui.files import Files
from studio.ui.settings import DRAWER, cutouts, preset_names

_PLACES = (
    (0.3, 0.62, 0.42),
    (0.7, 0.7, 0.36),
    (0.5, 0.36, 0.3),
)  # x, y, longest side, as shares of the canvas


def first_page(files: Files, model: str) -> dict[str, Any]:
    """The page document of a fresh tab."""
    names = preset_names()
    if names:
        return files.preset_page(names[0])
    return to_page(*from_drawer(model), files.keep)


def from_drawer(model: str) -> tuple[Collage, Library]:
    """A collage of the drawer's first three cut-outs; empty where there is no drawer."""
    library = Library()
    empty = Collage(model=model)
    layers = []
    for entry, (x, y, share) in zip(cutouts(), _PLACES, strict=False):
        scale = share * empty.canvas.width / max(entry["width"], entry["height"])
        layers.append(
            Layer(
                id=new_id(),
                name=entry["name"],
                prompt=entry["name"],
                picture=library.add(DRAWER / entry["file"]),
                x=x * empty.canvas.width,
                y=y * empty.canvas.height,
                scale_x=scale,
                scale_y=scale,
            )
        )
    return empty.replace(layers=tuple(layers)), library
