"""``--set KEY=VALUE``: changing one field of a collage from the command line."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel

from pipelines.errors import DocumentError, FieldError, PictureError
from studio.document import Avoid, Background, Canvas, Collage, Layer
from studio.field_errors import field_schema
from studio.pictures import Library
from studio.resizing import canvas_of, resized

Part = TypeVar("Part", bound=Layer | Avoid)
PICTURES = ("picture", "mask")
"""Fields that name pictures."""
HOMES: dict[str, type[BaseModel]] = {
    "": Collage,
    "canvas.": Canvas,
    "background.": Background,
    "layers.NAME.": Layer,
    "avoids.NAME.": Avoid,
}
"""What stands before a field of each part."""
LABELS = (
    ("Insist", "layers.NAME.attend_inside"),
    ("Stay inside", "layers.NAME.attend_outside"),
    ("Without", "layers.NAME.negative"),
    ("Say which layers were lost", "watch"),
    ("Words look at", "attend_both_ways"),
    ("Keep shape by", "edges"),
    ("Learn look", "layers.NAME.look"),
    ("Learned words", "layers.NAME.look_vectors"),
    ("Steps of learning", "layers.NAME.look_steps"),
    ("Picture as prompt", "layers.NAME.image_prompt"),
    ("Likeness", "spread_threshold"),
    ("From which", "spread_match"),
    ("In which part", "spread_parts"),
    ("Every n-th part", "spread_every"),
    ("Compare every part", "exact_match"),
    ("Noise on the words", "cads"),
    ("Full above", "cads_high"),
    ("None below", "cads_low"),
    ("Brought back", "cads_mix"),
    ("Guidance in an interval", "guidance_interval"),
    ("Avoid", "avoids.NAME.alpha"),
    ("Likeness", "avoids.NAME.threshold"),
    ("Reference", "avoids.NAME.made"),
    ("Where", "avoids.NAME.layer"),
    ("First part of the run", "window"),
    ("First part of the run", "avoids.NAME.window"),
    ("Matching", "axis"),
)
"""What the page calls fields by quite other names: those of the table in `docs/architecture.md`."""
_DIGEST = re.compile(r"[0-9a-f]{64}")
_BARE_POINT = re.compile(r"^(-?)\.(?=\d)")
"""Numbers as people write them: JSON wants a 0 before the point."""


def apply_settings(collage: Collage, settings: Iterable[str], library: Library) -> Collage:
    """The collage with all settings applied, in order.

    A setting is ``FIELD=VALUE``, ``canvas.FIELD=VALUE``, ``background.FIELD=VALUE``,
    ``layers.NAME.FIELD=VALUE`` or ``avoids.NAME.FIELD=VALUE``; NAME is an id, a name or words, and ``null`` brings
    the default back. Where a field holds a picture, VALUE is a file, which goes into ``library``, or the sha256 of one
    that is there; the ``layer`` of a reference is one by name or id. Raises `FieldError`, `PictureError`.
    """
    for setting in settings:
        try:
            changed = _apply(collage, setting, library)
            missing = {*changed.pictures()} - {*collage.pictures(), *library}
            if missing:
                raise PictureError(f"the collage holds no picture {min(missing)[:12]}; give a file.")
            collage = changed
        except DocumentError as error:
            raise type(error)(f"--set {setting}: {error}") from None
    return collage


def at_size(collage: Collage, size: str | None) -> Collage:
    """The collage, layers and all, at the size of ``--size`` (`canvas_of`); None leaves it. Raises `FieldError`."""
    if size is None:
        return collage
    try:
        return resized(collage, canvas_of(size, collage.canvas))
    except DocumentError as error:
        raise type(error)(f"--size {size}: {error}") from None


def _apply(collage: Collage, setting: str, library: Library) -> Collage:
    key, equals, text = setting.partition("=")
    group, dot, rest = key.strip().partition(".")
    if not equals or not group:
        raise FieldError("it is not of the form FIELD=VALUE; write for example steps=20.")
    if not dot:
        return collage.replace(**{group: _value(Collage, group, text, library)})
    if group in ("canvas", "background"):
        part = getattr(collage, group)
        return collage.replace(**{group: part.replace(**{rest: _value(type(part), rest, text, library)})})
    if group in ("layers", "avoids"):
        name, _, field = rest.rpartition(".")
        parts: tuple[Layer | Avoid, ...] = getattr(collage, group)
        chosen = named(parts, name, group)
        value = _value(type(chosen), field, text, library)
        if group == "avoids" and field == "layer" and value is not None:
            value = named(collage.layers, value, "layers").id
        changed = chosen.replace(**{field: value})
        return collage.replace(**{group: [changed if part is chosen else part for part in parts]})
    raise FieldError(
        f"there is no {group!r} to set; use canvas, background, layers, avoids or a field's name."
    )


def named(parts: Sequence[Part], name: str, group: str) -> Part:
    """The one part that has this id, else this name, else these words; `FieldError` where none or several have."""
    found: list[Part] = []
    for field in ("id", "name", "prompt"):  # references have no words
        found = found or [part for part in parts if name and getattr(part, field, None) == name]
    if len(found) == 1:
        return found[0]
    if found:
        ids = ", ".join(part.id for part in found)
        raise FieldError(f"{len(found)} {group} are called {name!r}; use one of their ids: {ids}.")
    names = ", ".join(repr(part.label) for part in parts) or "none"
    raise FieldError(f"no {group[:-1]} is called {name!r}; there are: {names}.")


def _value(model: type[BaseModel], field: str, text: str, library: Library) -> Any:
    """JSON, except for fields that hold text: those take it as it stands, and those of pictures a file's digest."""
    _look_elsewhere(model, field)
    if text == "null":
        info = model.model_fields.get(field)
        return None if info is None or info.is_required() else info.default
    if field in PICTURES and field in model.model_fields and not _DIGEST.fullmatch(text):
        return library.add(Path(text))
    if field_schema(model, (field,)).get("type") == "string":
        return text
    try:
        return json.loads(_BARE_POINT.sub(r"\g<1>0.", text))
    except (ValueError, RecursionError):
        return text


def _look_elsewhere(model: type[BaseModel], field: str) -> None:
    """`FieldError` for what is no field of ``model`` but one of another part, or what the page calls a field."""
    name = field.lower().replace(" ", "_")
    if name in model.model_fields:
        return
    keys = [key for label, key in LABELS if label.lower() == field.lower()]
    keys += [home + name for home, part in HOMES.items() if name in part.model_fields]
    if keys:
        raise FieldError(f"unknown field; did you mean {' or '.join(map(repr, keys))}?")
