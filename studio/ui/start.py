"""What is on the canvas when a page is opened: the first preset, else three cut-outs of the drawer, else nothing."""

from __future__ import annotations

import gradio as gr

from pipelines.errors import DecollageError
from studio.canvas.exchange import to_page
from studio.document import Collage, Layer, new_id
from studio.pictures import Library
from studio.ui.files import Files, Update
from studio.ui.settings import DRAWER, cutouts, preset_names

_PLACES = (
    (0.3, 0.62, 0.42),
    (0.7, 0.7, 0.36),
    (0.5, 0.36, 0.3),
)  # x, y, longest side, as shares of the canvas


def first_page(files: Files, model: str) -> Update:
    """What a fresh tab is told: its first document; where that cannot be made, an empty one and why.

    Without a document nothing can be done on a page, and an empty one needs no file.
    """
    names = preset_names()
    try:
        page = files.preset_page(names[0]) if names else to_page(*from_drawer(model), files.keep)
    except DecollageError as error:
        return {**files.refused(error), "value": to_page(Collage(model=model), Library(), files.keep)}
    return gr.update(value=page)


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
