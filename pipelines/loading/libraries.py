"""Whether what a model's parts need is installed; looked at before its weights are fetched and read."""

from __future__ import annotations

import importlib
import importlib.util
import json
from collections.abc import Sequence
from pathlib import Path

from pipelines.errors import ModelError

LIBRARIES = ("diffusers", "transformers")
"""Both put a placeholder in the place of a class whose own libraries are missing."""
PACKAGES = {
    "PIL": "pillow",
    "cv2": "opencv-python",
    "google": "protobuf",
    "k_diffusion": "k-diffusion",
    "opencv": "opencv-python",
    "sklearn": "scikit-learn",
    "yaml": "pyyaml",
}
"""What is installed, where it is not called what is imported."""


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
            raise ModelError(not_installed(f"model {name!r}", *absent(found._backends)))


def absent(modules: Sequence[str]) -> list[str]:
    """Those that cannot be imported; all of them where that cannot be told by their names."""
    return [one for one in modules if importlib.util.find_spec(one) is None] or list(modules)


def missing(error: BaseException) -> str | None:
    """The module whose import made ``error``, None where none is missing.

    An import that was tried, and done without, is no cause of what came later.
    """
    link: BaseException | None = error
    while link is not None:
        if isinstance(link, ModuleNotFoundError) and link.name:
            module = link.name.partition(".")[0]
            return module if importlib.util.find_spec(module) is None else None
        link = link.__cause__
    return None


def not_installed(where: str, *modules: str) -> str:
    """Libraries that one model needs and the others do not."""
    packages = [PACKAGES.get(one, one) for one in modules]
    named = (
        f"the library {packages[0]}, which is" if len(packages) == 1 else f"{', '.join(packages)}, which are"
    )
    return f"{where} needs {named} not installed; install with `pip install {' '.join(packages)}`."
