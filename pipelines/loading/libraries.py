"""Whether what a model's parts need is installed; looked at before its weights are fetched and read."""

from __future__ import annotations

import importlib
import importlib.util
import json
from pathlib import Path

from pipelines.errors import ModelError
from pipelines.loading.failures import not_installed

LIBRARIES = ("diffusers", "transformers")
"""Both put a placeholder in the place of a class whose own libraries are missing."""


def check_libraries(name: str, index: Path) -> None:
    """`ModelError` where model ``name`` has a part, by its ``model_index.json``, that wants a library more.

    Else the pipeline would say of the placeholder that it knows no such kind of part.
    """
    stated = json.loads(index.read_text(encoding="utf-8"))
    for library, kind in (part for part in stated.values() if isinstance(part, list) and len(part) == 2):
        if library not in LIBRARIES:
            continue
        placeholder = importlib.import_module(f"{library}.utils").DummyObject
        found = getattr(importlib.import_module(library), kind, None)
        if isinstance(found, placeholder):
            raise ModelError(not_installed(f"model {name!r}", _absent(found._backends)))


def _absent(libraries: list[str]) -> str:
    """The first of them that is not there."""
    return next((one for one in libraries if importlib.util.find_spec(one) is None), libraries[0])
