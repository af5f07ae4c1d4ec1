"""Models of transformers with all their weights: what a file lacks transformers makes up at random, and goes on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pipelines.errors import ModelError

NOT_READ = "lm_head"
"""How the weights begin that turn a text model's states into words: nothing here asks for words."""


def whole(kind: Any, source: str | Path, what: str, **given: Any) -> Any:
    """``kind.from_pretrained(source)``. Raises `ModelError`, which calls the model ``what``, where weights are missing,
    and what transformers raises.
    """
    model, told = kind.from_pretrained(str(source), output_loading_info=True, **given)
    missing = sorted(name for name in told["missing_keys"] if not name.startswith(NOT_READ))
    if missing:
        raise ModelError(f"{what} lacks {len(missing)} of its weights ({missing[0]}); download it again.")
    return model


def text_parts(model: str, folder: Path, **given: Any) -> dict[str, Any]:
    """By name, the parts of the pipeline in ``folder`` that are models of transformers. Raises as `whole` does.

    diffusers loads them just so, but does not say what was missing.
    """
    import transformers

    index = json.loads((folder / "model_index.json").read_text(encoding="utf-8"))
    found = {}
    for name, stated in index.items():
        if not (isinstance(stated, list) and stated[0] == "transformers"):
            continue
        kind = getattr(transformers, str(stated[1]), None)
        if isinstance(kind, type) and issubclass(kind, transformers.PreTrainedModel):
            found[name] = whole(kind, folder / name, f"the {name} of model {model!r}", **given)
    return found
