"""A picture, collages of discs to lay on it, and an engine that counts its work."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageDraw

from pipelines.engine import Engine
from pipelines.events import Finished, RenderResult
from pipelines.models import card
from pipelines.pictures import PictureStore, Pixels
from pipelines.request import RenderRequest
from studio.document import Collage, Layer
from studio.edit_layer import Edit, edit_layer
from studio.pictures import Library
from tests.pipelines.tiny import sd_velocity

SIDE = 256
UNDER = np.random.default_rng(0).integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)


class Counted(Engine):
    """The engine on a tiny model under the embedded one's name, and the latent cells its denoiser was given."""

    def __init__(self) -> None:
        super().__init__(preview_seconds=0)
        self.cells = 0
        loaded = self.adopt("embedded", sd_velocity(), card("embedded"))
        loaded.pipe.unet.register_forward_pre_hook(self._count)

    def _count(self, _module: Any, args: tuple[Any, ...]) -> None:
        self.cells += args[0].shape[0] * args[0].shape[2] * args[0].shape[3]

    def run(self, request: RenderRequest, store: PictureStore) -> RenderResult:
        """The result; ``cells`` counts this run alone."""
        self.cells = 0
        *_, last = self.render(request, store)
        assert isinstance(last, Finished)
        return last.result


@pytest.fixture(scope="session")
def engine() -> Counted:
    return Counted()


def disc(library: Library, name: str, side: int = 80, **fields: Any) -> Layer:
    """A disc with a soft edge, 80 pixels across."""
    picture = Image.new("RGBA", (side, side))
    ImageDraw.Draw(picture).ellipse((0, 0, side - 1, side - 1), fill=(220, 40, 40, 255))
    return Layer(
        **{"id": name, "prompt": name, "picture": library.add(picture), "x": 100.0, "y": 120.0, **fields}
    )


def collage_of(*layers: Layer, **fields: Any) -> Collage:
    return Collage(**{"prompt": "a red car on the beach", "seed": 3, "steps": 5, "layers": layers, **fields})


def edited(
    engine: Counted, collage: Collage, library: Library, layer: str, picture: Pixels = UNDER
) -> tuple[Edit, RenderResult]:
    """One layer rendered on ``picture``."""
    store = PictureStore()
    edit = edit_layer(collage, library, store, picture, layer)
    return edit, edit.finish(engine.run(edit.request, store), store)
