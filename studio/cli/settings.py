"""``--set KEY=VALUE``: changing one field of a collage from the command line."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel

from pipelines.errors import DocumentError, FieldError
from studio.document import Avoid, Collage, Layer
from studio.field_errors import field_schema
from studio.pictures import Library
from studio.resizing import canvas_of, resized

Part = TypeVar("Part", bound=Layer | Avoid)
PICTURES = ("picture", "mask")
"""Fields that name pictures."""
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
            collage = _apply(collage, setting, library)
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
    if text == "null":
        return None
    if field in PICTURES and field in model.model_fields and not _DIGEST.fullmatch(text):
        return library.add(Path(text))
    if field_schema(model, (field,)).get("type") == "string":
        return text
    try:
        return json.loads(_BARE_POINT.sub(r"\g<1>0.", text))
    except (ValueError, RecursionError):
        return text
