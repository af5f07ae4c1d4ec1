"""Edit one layer: it is rendered anew on a finished picture, and all else of that picture stays.

The picture lies underneath, the layer's cut-out over it where the layer shows; the engine is given a crop around the
layer as a request like any other, in which everything but the layer has harmonize 0. What it makes is laid into the
picture through the layer's feathered mask, so that outside it not one pixel differs. (Collage Diffusion, arXiv
2303.00262, has the mode in its released interface, without crop or mask.)
"""

from __future__ import annotations

import dataclasses
from collections.abc import Generator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image, ImageFilter

from pipelines.errors import DocumentError, FieldError, PictureError
from pipelines.events import Event, Finished, ImageDone, Preview, RenderResult, Warned
from pipelines.measure.numbers import apart, changed_share, measured
from pipelines.models import card
from pipelines.pictures import PictureStore, Pixels, digest
from pipelines.request import MAX_GROW, LayerRequest, RenderRequest
from studio.compositing import Box, Composition, Plane, compose, place_part
from studio.crop import Crop, choose
from studio.document import Canvas, Collage, Layer
from studio.formats import png
from studio.pictures import Library, read_pixels
from studio.to_request import avoid_requests, ill_sized, to_request

if TYPE_CHECKING:
    from pipelines.measure.encoders import PictureFeatures

MAX_FEATHER = 256.0
FAINT = 0.05
"""A rim that would count for less than this share is left out."""


@dataclass(frozen=True)
class Edit:
    """A request for a crop, and the way back from its pictures to whole ones.

    ``picture`` uint8 (height, width, 3) lies underneath; ``mask`` uint8 (height, width) is how much of each pixel the
    run may replace, 0 none. ``request`` is for ``crop``; its pictures go through `paste`.
    """

    request: RenderRequest
    crop: Crop
    layer: Layer
    picture: Pixels
    mask: Pixels
    warnings: tuple[Warned, ...] = ()

    def paste(self, part: Pixels) -> Pixels:
        """The whole picture with ``part``, a picture of the crop at the run's size, laid in through the mask."""
        left, top, right, bottom = self.crop.box
        window = np.s_[top:bottom, left:right]
        under = self.picture[window].astype(np.float32)
        share = self.mask[window][..., None].astype(np.float32) / 255
        over = resized(part, (right - left, bottom - top)).astype(np.float32)
        whole = self.picture.copy()
        whole[window] = np.rint(under + (over - under) * share).astype(np.uint8)
        return whole

    @property
    def made_on(self) -> tuple[str, Pixels]:
        """The layer's id and the picture underneath, which a result's PNG keeps."""
        return self.layer.id, self.picture

    def outside(self, whole: Pixels) -> int:
        """The largest difference, in 8-bit steps of a channel, to the picture underneath where the mask is 0."""
        return int(apart((whole, self.picture))[self.mask == 0].max(initial=0))

    def finish(
        self, result: RenderResult, pictures: PictureStore, features: PictureFeatures | None = None
    ) -> RenderResult:
        """A finished run of `request` with whole pictures and a report that says so.

        ``report["edit"]`` tells the ``layer`` and its ``id``, the ``box`` of the canvas that was run, the size it was
        ``run_at`` and the sha256 of the pixels that it was done ``on``. Numbers are of the crop, but ``changed``, the
        share of the whole picture's pixels that changed, and ``outside``, with the largest difference there.
        ``features`` replaces the embedded CLIP in what compares pictures.
        """
        whole = tuple(self.paste(part) for part in result.pictures)
        made = measured(result, pictures, features)
        numbers: Any = made.report.get("numbers", {})
        found = {
            **numbers,
            "changed": [round(changed_share(one, self.picture), 4) for one in whole],
            "outside": {"layer": self.layer.label, "largest": [self.outside(one) for one in whole]},
        }
        edit = {
            "layer": self.layer.label,
            "id": self.layer.id,
            "on": digest(self.picture),
            "box": list(self.crop.box),
            "run_at": [self.crop.width, self.crop.height],
        }
        return dataclasses.replace(
            made, pictures=whole, report={**made.report, "edit": edit, "numbers": found}
        )

    def pasted(
        self, events: Generator[Event], pictures: PictureStore, features: PictureFeatures | None = None
    ) -> Generator[Event]:
        """The events of a run of `request`, every picture in them whole, the result as `finish` has it."""
        with closing(events):
            for event in events:
                match event:
                    case Preview() | ImageDone():
                        yield dataclasses.replace(event, picture=self.paste(event.picture))
                    case Finished(result=result):
                        yield Finished(self.finish(result, pictures, features))
                    case _:
                        yield event


def edit_layer(
    collage: Collage,
    library: Library,
    store: PictureStore,
    picture: Pixels,
    layer_id: str,
    *,
    seed: int | None = None,
    before: tuple[Collage, Library] | None = None,
) -> Edit:
    """Render one layer of ``collage`` anew on ``picture``, uint8 (height, width, 3) of the canvas's size.

    The layer has its own words and strengths, ``seed`` the meaning it has in `to_request`. Only what of it no other
    layer covers is rendered. The other layers stay as the picture has them; their words keep to their places. Avoid
    references count where they act on the whole picture or on this layer, and are scaled to fit the crop. A layer that
    is half transparent lies over whatever the picture shows, also over an earlier rendering of itself. ``before`` is
    the collage that the picture was made of, where that is known: a layer that lay elsewhere in it is still seen there,
    which is said.

    Raises `FieldError` when there is no such layer, or it is hidden, locked, or shows nothing, `PictureError` when the
    picture has another size, and the errors of `to_request`.
    """
    layer = collage.layer(layer_id)
    where = f"layer {layer.label!r}"
    if not layer.visible:
        raise FieldError(f"{where} is hidden; show it to render it.")
    if layer.locked:
        raise FieldError(f"{where} is locked; unlock it to render it.")
    height, width = collage.canvas.height, collage.canvas.width
    if picture.shape != (height, width, 3):
        raise PictureError(
            f"the picture underneath is {picture.shape[1]} × {picture.shape[0]} and the canvas {width} × {height}; "
            "give a result of this collage."
        )
    full = PictureStore()
    base = to_request(collage, library, full, seed=seed)
    number = next((n for n, at in enumerate(base.layers) if collage.layers[at] is layer), None)
    if number is None:
        raise FieldError(f"{where} shows nothing, so there is nothing to render; move it or what covers it.")
    asked = base.request.layers[number]
    shown = full.get(asked.mask)
    mask = feathered(shown, asked.feather, _free(base.composition, collage, layer))
    model = card(collage.model)
    crop = choose(_box_of(shown), _box_of(mask), collage.canvas, model)
    flat = _laid_over(picture, layer, base.composition, collage, library)
    acting = collage.replace(
        canvas=Canvas(width=crop.width, height=crop.height),
        avoids=[avoid for avoid in collage.avoids if avoid.layer in (None, layer.id)],
    )
    under = _cut(flat, crop)
    for made_of in (asked.look, asked.image_prompt):
        if made_of is not None:
            store.put(full.get(made_of.cutout))
    request = base.request.replace(
        width=crop.width,
        height=crop.height,
        collage=store.put(under),
        frozen=store.put(_kept(picture, mask, crop)),
        background_harmonize=0.0,
        layers=tuple(
            _in_crop(one, full.get(one.mask), at == number, crop, store)
            for at, one in enumerate(base.request.layers)
        ),
        avoids=tuple(avoid_requests(acting, library, store, under, True, {layer.id: number}, [])),
        grow=max(-MAX_GROW, min(MAX_GROW, base.request.grow * crop.scale)),
    )
    about_size = [*ill_sized(width, height, model)]
    said = [
        *ill_sized(crop.width, crop.height, model, "the part that is run"),
        *(one for one in base.warnings if one.layer in (None, layer.label) and one not in about_size),
    ]
    if before is not None and _left_behind(layer, *before, mask) > model.factor**2:
        message = (
            f"{where} lay elsewhere when this picture was made, and what shows of it there stays; render the whole "
            "collage to clear it."
        )
        said.append(Warned(message, layer.label))
    return Edit(request, crop, layer, picture, mask, tuple(said))


def read_result(path: Path, layer_id: str) -> tuple[Pixels, tuple[Collage, Library] | None]:
    """A picture file to edit, uint8 (height, width, 3), and the collage it carries, None where it carries none.

    Where this very layer was rendered last on another picture, it is that picture, so that the rendering is replaced.
    The collage is the file's even then: a layer that lies elsewhere now may show on both. Raises `PictureError` when
    the file cannot be read.
    """
    pixels = read_pixels(path)
    try:
        before = png.read(path)
        under = png.read_underneath(path.read_bytes(), pixels, layer_id)
    except DocumentError:
        return pixels, None
    return (pixels if under is None else under), before


def feathered(mask: Pixels, feather: float, free: Plane) -> Pixels:
    """What may change: all of a visible mask (height, width) in 0..255, and a soft rim around it.

    The rim falls from the mask's edge to nothing at about twice ``feather`` pixels; ``free`` (height, width) in
    0..1 is how far it may lie on what is there.
    """
    soft = np.asarray(Image.fromarray(mask).filter(ImageFilter.GaussianBlur(feather))).astype(np.float32)
    # at a straight edge the blur is half; its last twentieth, which nobody sees, only widens the crop
    rim = np.clip((2 * soft / 255 - FAINT) / (1 - FAINT), 0, 1) * 255 * free
    return np.maximum(mask, np.rint(rim).astype(np.uint8))


def resized(picture: Pixels, size: tuple[int, int]) -> Pixels:
    """A picture or a mask at ``size`` (width, height), the same one where it has it."""
    if (picture.shape[1], picture.shape[0]) == size:
        return picture
    return np.asarray(Image.fromarray(picture).resize(size, Image.Resampling.LANCZOS))


def _free(composition: Composition, collage: Collage, layer: Layer) -> Plane:
    """How much of each pixel neither a layer above covers nor anything frozen holds, (height, width) in 0..1."""
    held = np.zeros_like(composition.background_visible)
    above = False
    for index, visible in zip(composition.indices, composition.visible, strict=True):
        other = collage.layers[index]
        if other is layer:
            above = True
        elif above or other.harmonize == 0:
            held = held + visible
    if collage.background.harmonize == 0:
        held = held + composition.background_visible
    return np.clip(1 - held, 0, 1)


def _laid_over(
    picture: Pixels, layer: Layer, composition: Composition, collage: Collage, library: Library
) -> Pixels:
    """The picture with the layer's cut-out over it, as far as no layer above covers it."""
    at = next(n for n, index in enumerate(composition.indices) if collage.layers[index] is layer)
    window, plane = place_part(layer, library, collage.canvas)
    # visible masks from the top down are what each leaves of the rest, so those above sum to what they cover
    covered = sum((mask[window] for mask in composition.visible[at + 1 :]), np.zeros_like(plane[..., 3]))
    placed = plane * np.clip(1 - covered, 0, 1)[..., None]
    whole = picture.copy()
    mixed = picture[window] * (1 - placed[..., 3:]) + placed[..., :3] * 255
    whole[window] = np.rint(np.clip(mixed, 0, 255)).astype(np.uint8)
    return whole


def _left_behind(layer: Layer, collage: Collage, library: Library, mask: Pixels) -> int:
    """How many pixels showed the layer in an earlier collage of the same size and cannot change now."""
    if (collage.canvas.height, collage.canvas.width) != mask.shape:
        return 0
    composition = compose(collage, library)
    ids = [collage.layers[index].id for index in composition.indices]
    if layer.id not in ids:
        return 0
    return int(((composition.visible[ids.index(layer.id)] >= 0.5) & (mask == 0)).sum())


def _cut(plane: Pixels, crop: Crop) -> Pixels:
    left, top, right, bottom = crop.box
    return resized(np.ascontiguousarray(plane[top:bottom, left:right]), (crop.width, crop.height))


def _kept(picture: Pixels, mask: Pixels, crop: Crop) -> Pixels:
    """What the engine lays over previews and pictures: the picture where nothing may change, and no softer."""
    free = _cut(np.where(mask == 0, np.uint8(0), np.uint8(255)), crop) > 0
    return np.dstack((_cut(picture, crop), np.where(free, np.uint8(0), np.uint8(255))))


def _in_crop(one: LayerRequest, mask: Pixels, chosen: bool, crop: Crop, store: PictureStore) -> LayerRequest:
    """A layer as the crop has it: the chosen one free as it asks to be, the others held, their words with them."""
    feather = min(MAX_FEATHER, one.feather * crop.scale)
    held: dict[str, Any] = (
        {}
        if chosen
        else {"harmonize": 0.0, "vary": 0.0, "keep_shape": 0.0, "look": None, "image_prompt": None}
    )
    return dataclasses.replace(one, mask=store.put(_cut(mask, crop)), feather=feather, **held)


def _box_of(mask: Pixels) -> Box:
    """Where a mask (height, width) is not 0."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1
