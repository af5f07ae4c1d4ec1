"""What the page's JavaScript is told once: words with their bounds, limits, models, cut-outs, presets."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import presets
from pipelines.families import LOOK_FAMILIES
from pipelines.loading import LoadOptions, no_shape
from pipelines.models import CARDS, ModelCard, card
from pipelines.request import EDGES, MAX_LEVEL
from studio import pictures
from studio.canvas.component import address, most_of
from studio.defaults import FEATHER, RANGES, defaults
from studio.document import Avoid, Canvas, Collage, Layer
from studio.field_errors import bounds, field_schema
from studio.formats import archive, open_any, png
from studio.references import READY
from studio.rivals import INTERVAL
from studio.ui.words import words

DRAWER = Path(__file__).parents[1] / "drawer"
FIRST_PRESET = "evening"
_TYPES = (
    "image/png",
    "image/jpeg",
    "image/webp",
    "image/gif",
    "image/bmp",
)  # what the library and browsers read


def settings(models: Sequence[ModelCard], options: LoadOptions | None = None) -> dict[str, Any]:
    """All of it, JSON-ready. ``models`` are those offered; the first is that of a new collage."""
    return {
        "words": words(),
        "limits": limits(),
        "models": [_model(one, options or LoadOptions()) for one in models],
        "empty": Collage(model=models[0].name).to_dict(),
        "layer": _blank(Layer(id="new", picture="0" * 64, x=0, y=0)),
        "avoid": _blank(Avoid(id="new", picture="0" * 64)),
        "ready": {name: dict(fields) for name, fields in READY.items()},
        "interval": list(INTERVAL),
        "feather": FEATHER,
        "drawer": {"base": f"{address(DRAWER)}/", "cutouts": cutouts()},
        "presets": [{"name": name, "title": preset_title(name)} for name in preset_names()],
    }


def limits() -> dict[str, Any]:
    """Bounds that the page keeps to, so that a refusal comes before the work; the server checks them again."""

    def length(*field: str | int) -> int:
        return int(field_schema(Collage, field)["maxLength"])

    canvas = field_schema(Collage, ("canvas", "width"))
    return {
        "layers": most_of("layers"),
        "avoids": most_of("avoids"),
        "name": length("name"),
        "prompt": length("prompt"),
        "words": length("layers", 0, "prompt"),
        "canvas": [canvas["minimum"], canvas["maximum"]],
        "level": MAX_LEVEL,
        "x": RANGES["x"],
        "y": RANGES["y"],
        "rotation": RANGES["rotation"],
        "scale": bounds(Layer, "scale_x"),
        "feather": RANGES["feather"],
        "grow": RANGES["grow"],
        "side": pictures.MAX_SIDE,
        "pixels": pictures.MAX_PIXELS,
        "bytes": pictures.MAX_FILE,
        "archive": archive.MAX_ARCHIVE,
        "result": png.MAX_PNG,
        "types": _TYPES,
    }


def offered_models(names: Sequence[str] = ("embedded",)) -> list[ModelCard]:
    """Cards of the models the page offers: those named, then all others that this machine already has.

    Nothing is downloaded, and no model is loaded.
    """
    from huggingface_hub import try_to_load_from_cache

    named = [card(name) for name in names]
    here = [
        known
        for known in CARDS.values()
        if known.source not in {one.source for one in named}
        and isinstance(try_to_load_from_cache(known.source, known.file or "model_index.json"), str)
    ]
    return [*named, *here]


def cutouts() -> list[dict[str, Any]]:
    """The drawer's entries: name, words to search for, file, size in pixels."""
    index = DRAWER / "index.json"
    if not index.is_file():
        return []
    entries = json.loads(index.read_text(encoding="utf-8"))["cutouts"]
    return [{key: entry[key] for key in ("name", "words", "file", "width", "height")} for entry in entries]


def preset_names() -> list[str]:
    """Names of all presets; the one that a fresh page shows stands first."""
    return sorted(presets.names(), key=lambda name: (name != FIRST_PRESET, name))


def preset_title(name: str) -> str:
    """What the preset calls itself."""
    return open_any(presets.path(name))[0].name or name


def _model(one: ModelCard, options: LoadOptions) -> dict[str, Any]:
    unet = one.family in ("sd", "sdxl")
    return {
        "name": one.name,
        "hub": None if one.folder else one.source,
        "schedulers": one.schedulers,
        "scheduler": one.scheduler,
        "steps": one.steps,
        "guidance": one.guidance,
        "steers_above": one.steers_above,
        "usual": defaults(one, Canvas()),
        "side": one.side,
        "least_side": one.least_side,
        "most_side": one.most_side,
        "look": one.family in LOOK_FAMILIES,
        "look_steps": one.look_steps,
        "unet": unet,
        "image_prompt": one.ip_adapter is not None or (options.ip_adapter is not None and unet),
        "no_shape": {edges: no_shape(one, options, edges) for edges in EDGES},
    }


def _blank(part: Layer | Avoid) -> dict[str, Any]:
    """A part with the document's defaults, without what each has for itself."""
    plain = part.model_dump(mode="json")
    return {key: value for key, value in plain.items() if key not in ("id", "picture", "x", "y")}
