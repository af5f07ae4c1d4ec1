"""Builds the presets of the embedded world: the same files every time.

``python -m presets.recipes.build`` writes ``presets/NAME.collage`` and ``presets/truth/NAME.json``, the true scene:
the same objects, composed and lit by the world's own renderer, as a perfect harmonization would have them.
Cut-outs come from the studio's drawer, backgrounds from the world's painter. Each function says what its
preset shows.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from pipelines.embedded.training.captions import prompt_for
from pipelines.embedded.training.cutouts import CutoutStore
from pipelines.embedded.training.places import paint
from pipelines.embedded.training.scenes import Item, Scene, background, render
from pipelines.embedded.training.world import art_key, world
from pipelines.errors import FieldError
from pipelines.models import card
from presets.recipes.published import SCENES, Cutout, Piece, Published
from studio.defaults import DEFAULTS
from studio.document import Avoid, Background, Collage, Layer
from studio.pictures import Library

HERE = Path(__file__).parent.parent
DRAWER = HERE.parent / "studio" / "drawer"
STYLE = "flat"
WORLD = "small"
NOISE = 0.75
"""Of the published noise: at 1 the embedded model, at 256 pixels, loses the shape of small layers. Chosen by eye."""


@dataclass(frozen=True)
class Preset:
    """A collage with its pictures, and its true scene where there is one in the world."""

    collage: Collage
    library: Library
    truth: Scene | None


@cache
def drawer_index() -> Mapping[str, Mapping[str, Any]]:
    """The drawer's entries by label."""
    entries = json.loads((DRAWER / "index.json").read_text())["cutouts"]
    return {entry["label"]: entry for entry in entries}


def item(label: str, x: float, y: float, size: int, *, flip: bool = False) -> Item:
    """One object in the drawer's own look: centre and longest side in pixels of the 256 canvas."""
    chosen = world(WORLD)
    colour = chosen.recolourable.get(label)
    tone, gender = ("default", "person") if label in chosen.roles else (None, None)
    key = art_key(STYLE, label, colour=colour, tone=tone, gender=gender)
    return Item(key, label, x, y, size, flip, colour, tone, gender)


@cache
def drawer_store() -> CutoutStore:
    """The drawer as the renderer's store: one look a class. `FieldError` where a class of the world is
    missing.
    """
    pictures = {}
    for label in world(WORLD).labels:
        if label not in drawer_index():
            raise FieldError(f"the drawer has no {label!r}: write it again with the cutouts command.")
        with Image.open(DRAWER / drawer_index()[label]["file"]) as picture:
            pictures[item(label, 0, 0, 1).key] = np.asarray(picture.convert("RGBA"))
    return CutoutStore(WORLD, pictures)


def words(label: str) -> str:
    """The usual words of a label, without an article."""
    return world(WORLD).words[label][0]


def layers(scene: Scene, library: Library, settings: Sequence[Mapping[str, Any]]) -> list[Layer]:
    """One layer for each object of a scene, bottom to top, where the renderer puts it."""
    out = []
    for number, (thing, extra) in enumerate(zip(scene.items, settings, strict=True)):
        entry = drawer_index()[thing.label]
        scale = thing.size / max(entry["width"], entry["height"])
        out.append(
            Layer(
                id=f"layer-{number + 1}",
                name=words(thing.label),
                picture=library.add(DRAWER / entry["file"]),
                prompt=words(thing.label),
                x=thing.x,
                y=thing.y,
                scale_x=scale,
                scale_y=scale,
                flip_x=thing.flip,
                **extra,
            )
        )
    return out


def compose(
    name: str,
    scene: Scene,
    *,
    each: Mapping[str, Any] | Sequence[Mapping[str, Any]],
    background_harmonize: float,
    **settings: Any,
) -> Preset:
    """A collage of a scene's objects, in daylight as the drawer has them, on the scene's empty place."""
    chosen, library = world(WORLD), Library()
    per_layer = [each] * len(scene.items) if isinstance(each, Mapping) else each
    lit = scene.time if scene.place != "space" else None
    collage = Collage(
        name=name,
        background=Background(
            picture=library.add(Image.fromarray(background(scene))), harmonize=background_harmonize
        ),
        prompt=prompt_for(chosen, [i.label for i in scene.items], None, scene.place, lit),
        seed=1,
        layers=tuple(layers(scene, library, per_layer)),
        **settings,
    )
    return Preset(collage, library, scene)


def evening() -> Preset:
    """Harmonizing into evening light: daylight cut-outs on a sunset beach take on its colours and cast
    shadows.
    """
    things = (
        item("palm-tree", 58, 138, 136),
        item("automobile", 180, 186, 108),
        item("penguin", 92, 206, 72),
    )
    scene = Scene("beach", "sunset", STYLE, things, 12)
    return compose("Evening light", scene, each={"harmonize": 0.4}, background_harmonize=0.45)


def parade() -> Preset:
    """Three objects where text alone would not put them: a strawberry on a bus, and on it a penguin."""
    things = (
        item("bus", 124, 196, 116),
        item("strawberry", 122, 124, 76),
        item("penguin", 122, 60, 64),
    )
    scene = Scene("meadow", "day", STYLE, things, 8)
    each = [{"harmonize": share} for share in (0.35, 0.4, 0.4)]
    return compose("An unlikely parade", scene, each=each, background_harmonize=0.5)


def keep() -> Preset:
    """Freezing one layer: the castle stays pixel for pixel while night falls on what is around it."""
    things = (
        item("castle", 82, 128, 118),
        item("evergreen-tree", 186, 144, 96),
        item("snowman", 168, 204, 76),
    )
    scene = Scene("snow", "night", STYLE, things, 21)
    each = [{"harmonize": 0.0}, {"harmonize": 0.5}, {"harmonize": 0.45}]
    return compose("Keep the castle", scene, each=each, background_harmonize=0.45)


def spread() -> Preset:
    """Four pictures that differ: the images of one batch are pushed apart. By push, and stronger than the model's own
    default, so that it is plain to see; chosen on eight pictures of other seeds.
    """
    scene = Scene("beach", "sunset", STYLE, (item("umbrella", 128, 150, 150),), 5)
    more = {"images": 4, "spread": 1.5, "spread_by": "push", "spread_threshold": 0.5, "window": 0.5}
    return compose("Four umbrellas", scene, each={"harmonize": 0.9}, background_harmonize=0.85, **more)


def avoid() -> Preset:
    """Pulling away from a picture: a car, but not in that snow. The words leave the place open; the collage lies on
    snow, and the same scene is avoided by guidance in all of the steps. The car keeps its shape. Chosen on six
    pictures of other seeds.
    """
    scene = Scene("snow", "day", STYLE, (item("automobile", 128, 150, 150),), 3)
    kept = {"harmonize": 0.9, "keep_shape": 0.8}
    made = compose("Not in the snow", scene, each=kept, background_harmonize=0.85)
    reference = made.library.add(Image.fromarray(render(scene, drawer_store()).image))
    unwanted = Avoid(id="avoid-1", name="that snow", picture=reference, alpha=2.0, threshold=0.5, window=1.0)
    return Preset(made.collage.replace(prompt="a car by day", avoids=[unwanted]), made.library, made.truth)


def published(scene: Published) -> Preset:
    """One of the four published example scenes (`presets.recipes.published`), with their layers' strengths.

    Harmonize is `NOISE` times their noise. Cross-attention is scaled as `studio.suggest` does it, by what the model's
    own default is of every model's: what helps a large model is too much for this one. Their canny is keep shape.
    """
    library, own = Library(), card("embedded").own
    inside, outside = (own[word] / DEFAULTS[word] for word in ("attend_inside", "attend_outside"))
    layers = []
    for number, shown in enumerate(scene.layers):
        positive, negative, noise, canny = shown.strengths
        layers.append(
            Layer(
                id=f"layer-{number + 1}",
                name=f"{words(shown.art.label)} as {shown.was}"
                if isinstance(shown.art, Cutout)
                else shown.was,
                prompt=shown.words,
                harmonize=round(NOISE * noise, 2),
                attend_inside=round(positive * inside, 2),
                attend_outside=round(negative * outside, 2),
                keep_shape=canny,
                **_art(shown.art, library),
            )
        )
    made = Collage(name=scene.name, prompt=scene.prompt, seed=scene.seed, layers=tuple(layers))
    return Preset(made, library, None)


def _art(art: Cutout | Piece, library: Library) -> dict[str, Any]:
    """Picture, place and size of what a layer of a published scene shows."""
    more: dict[str, Any]
    if isinstance(art, Cutout):
        entry = drawer_index()[art.label]
        scale = art.size / max(entry["width"], entry["height"])
        picture, scales, more = library.add(DRAWER / entry["file"]), (scale, scale), {"flip_x": art.flip}
    else:
        left, top, right, bottom = art.box
        painted = np.rint(paint(art.place, art.time, art.seed)).astype(np.uint8)[top:bottom, left:right]
        picture, scales, more = library.add(Image.fromarray(painted)), art.scale, {}
        if art.oval:
            turns = np.linspace(0, 2 * np.pi, 48, endpoint=False)
            half = (right - left) / 2, (bottom - top) / 2
            corners = zip(half[0] * (1 + np.cos(turns)), half[1] * (1 + np.sin(turns)), strict=True)
            more = {"clip": tuple((round(float(x), 2), round(float(y), 2)) for x, y in corners)}
    return {"picture": picture, "x": art.x, "y": art.y, "scale_x": scales[0], "scale_y": scales[1], **more}


PRESETS: Mapping[str, Callable[[], Preset]] = {
    "evening": evening,
    "parade": parade,
    "keep": keep,
    "spread": spread,
    "avoid": avoid,
    **{name: partial(published, scene) for name, scene in SCENES.items()},
}


def read_truth(name: str) -> Scene:
    """The true scene of a preset as committed."""
    return Scene.from_json((HERE / "truth" / f"{name}.json").read_text())


def main() -> None:
    """Command line: write all presets, or those named."""
    from studio.formats.archive import write

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", default=[], help="presets to write (all where none is named)")
    parser.add_argument("--out", type=Path, default=HERE)
    options = parser.parse_args()
    (options.out / "truth").mkdir(parents=True, exist_ok=True)
    for name in options.names or PRESETS:
        made = PRESETS[name]()
        write(options.out / f"{name}.collage", made.collage, made.library)
        if made.truth is not None:
            (options.out / "truth" / f"{name}.json").write_text(made.truth.to_json() + "\n")
        print(f"{name}.collage: {made.collage.name}; {made.collage.prompt}")


if __name__ == "__main__":
    main()
