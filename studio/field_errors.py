"""Turns pydantic's findings into one sentence: which layer, which field, what was given, what to give."""

from __future__ import annotations

import difflib
import functools
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ValidationError

from pipelines.errors import FieldError

Location = tuple[int | str, ...]


@functools.cache
def _schema(model: type[BaseModel]) -> dict[str, Any]:
    return model.model_json_schema()


def field_schema(model: type[BaseModel], location: Location) -> dict[str, Any]:
    """JSON schema of the field at ``location`` in ``model``; empty where there is no such field."""
    root = _schema(model)
    node = root
    for step in (*location, None):
        while "$ref" in node or "anyOf" in node:
            if "$ref" in node:
                node = root["$defs"][node["$ref"].rsplit("/", 1)[1]]
            else:
                node = next(one for one in node["anyOf"] if one.get("type") != "null")
        if step is None:
            break
        if isinstance(step, int):
            either = node.get("prefixItems") or [node.get("items", {})]
            node = either[min(step, len(either) - 1)]
        else:
            node = node.get("properties", {}).get(step, {})
    return node


def bounds(model: type[BaseModel], field: str) -> tuple[float, float]:
    """Least and greatest number that ``field`` of ``model`` takes."""
    schema = field_schema(model, (field,))
    return schema["minimum"], schema["maximum"]


def _wanted(schema: Mapping[str, Any]) -> str:
    if "enum" in schema:
        return "one of " + ", ".join(repr(value) for value in schema["enum"])
    if "const" in schema:
        return repr(schema["const"])
    kind = schema.get("type")
    if kind in ("number", "integer"):
        if schema["minimum"] == schema["maximum"]:
            return str(schema["minimum"])
        number = "a whole number" if kind == "integer" else "a number"
        step = f" that is a multiple of {schema['multipleOf']}" if "multipleOf" in schema else ""
        return f"{number} from {schema['minimum']} to {schema['maximum']}{step}"
    if kind == "boolean":
        return "true or false"
    if kind == "string":
        return str(schema.get("description") or f"a text of at most {schema['maxLength']} characters")
    if kind == "array":
        return f"a list of {schema.get('minItems', 0)} to {schema['maxItems']} items"
    return "an object with named fields"


def _short(value: object) -> str:
    if isinstance(value, list | tuple) and len(value) > 4:
        return f"a list of {len(value)} items"
    text = repr(value)
    return text if len(text) <= 40 else text[:37] + "..."


def _label(kind: str, number: int | None, data: object) -> str:
    name = data.get("name") if isinstance(data, Mapping) else None
    parts = [kind]
    if number is not None:
        parts.append(str(number + 1))
    if isinstance(name, str) and name:
        parts.append(_short(name))
    return " ".join(parts)


def _place(model: type[BaseModel], location: Location, data: object) -> str:
    """Where the field sits in words, ending with a colon; layers are counted from 1, bottom to top."""
    if location[:1] in (("layers",), ("avoids",)) and len(location) > 1 and isinstance(location[1], int):
        number = location[1]
        items = data.get(location[0]) if isinstance(data, Mapping) else None
        item = items[number] if isinstance(items, list | tuple) and number < len(items) else None
        if isinstance(item, BaseModel):
            item = item.model_dump()
        return _label(str(location[0]).rstrip("s"), number, item) + ": "
    if model.__name__ in ("Layer", "Avoid"):
        return _label(model.__name__.lower(), None, data) + ": "
    if model.__name__ in ("Canvas", "Background"):
        return f"{model.__name__.lower()}: "
    return ""


def _field(location: Location) -> str:
    inner = location[2:] if location[:1] in (("layers",), ("avoids",)) and len(location) > 1 else location
    return " ".join(f"item {step + 1}" if isinstance(step, int) else step for step in inner)


def field_error(error: ValidationError, model: type[BaseModel], data: object) -> FieldError:
    """One sentence for the first finding of ``error``, raised while ``data`` was read as ``model``.

    Unknown fields come first: a misspelt name is the cause, a missing field its consequence.
    """
    found = error.errors(include_url=False)
    first = next((one for one in found if one["type"] == "extra_forbidden"), found[0])
    location: Location = first["loc"]
    place, field = _place(model, location, data), _field(location)
    if first["type"] == "value_error":
        return FieldError(f"{place}{first['ctx']['error']}")
    if first["type"] == "extra_forbidden":
        name = str(location[-1])
        known = field_schema(model, location[:-1]).get("properties", {})
        close = difflib.get_close_matches(name, known, n=1)
        advice = f"did you mean {close[0]!r}?" if close else "remove it."
        inside = f" in {_field(location[:-1])}" if _field(location[:-1]) else ""
        return FieldError(f"{place}unknown field {_short(name)}{inside}; {advice}")
    if first["type"] == "missing":
        return FieldError(f"{place}{field} is missing; give {_wanted(field_schema(model, location))}.")
    shown = _short(first["input"])
    wanted = _wanted(field_schema(model, location))
    subject = field or ("it" if place else "the collage")
    return FieldError(f"{place}{subject} is {shown}; give {wanted}.")
