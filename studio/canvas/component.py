"""The Gradio component: constant markup, the JavaScript of ``static``, JSON in and out.

Nothing a user wrote goes into a template: Gradio evaluates templates as JavaScript. Document, settings and
reports travel as data, and the JavaScript puts them into the page as text.
"""

from __future__ import annotations

import dataclasses
import hashlib
from functools import cache
from pathlib import Path
from typing import Any

import gradio as gr

from pipelines.errors import DocumentError
from studio.canvas.exchange import sketch, without_addresses
from studio.document import Collage
from studio.field_errors import field_schema
from studio.opening import opened_texts
from studio.phrases import place_phrases
from studio.suggest import suggest as suggest_values

STATIC = Path(__file__).parent / "static"
SCRIPTS = (
    "vendor/konva.min.js",
    "store.js",
    "geometry.js",
    "icons.js",
    "dom.js",
    "pictures.js",
    "view.js",
    "drawer.js",
    "layers.js",
    "suggest.js",
    "inspector.js",
    "spread.js",
    "scene.js",
    "avoid.js",
    "results.js",
    "tools.js",
    "keys.js",
    "leaving.js",
    "draft.js",
    "bridge.js",
    "sending.js",
    "adding.js",
)

# Event names must stand quoted in this text: that is how Gradio learns of them.
_MOUNT = """
globalThis.Decollage.mount({ element, props, trigger, server, upload, watch });
/* events: 'dc_render' 'dc_stop' 'dc_open' 'dc_save' 'dc_preset' */
"""


def address(path: Path) -> str:
    """Where the page finds a file of a static folder; relative, so it holds under any mount path."""
    return f"gradio_api/file={path.as_posix()}"


@cache
def head() -> str:
    """Script and style tags, each with a version made of its content, since browsers keep them."""
    tags = [f'<link rel="stylesheet" href="{_versioned("canvas.css")}">']
    tags += [f'<script src="{_versioned(name)}"></script>' for name in SCRIPTS]
    return "\n".join(tags)


def _versioned(name: str) -> str:
    path = STATIC / name
    return f"{address(path)}?v={hashlib.sha256(path.read_bytes()).hexdigest()[:12]}"


def weave(data: dict[str, Any]) -> str:
    """The full prompt of a scene: ``data`` is {"prompt": text, "words": [text of each layer, …]}."""
    read = _scene(data)
    return "" if read is None else place_phrases(*read)[0]


def fill_in(data: dict[str, Any]) -> dict[str, Any] | None:
    """What a scene leaves open, filled in as alternatives (`studio.opening.opened_texts`); None where nothing is open.

    ``data`` is as in `weave`, and so is what comes back.
    """
    read = _scene(data)
    if read is None:
        return None
    prompt, words = opened_texts(*read)
    return None if (prompt, words) == read else {"prompt": prompt, "words": list(words)}


def _scene(data: dict[str, Any]) -> tuple[str, tuple[str, ...]] | None:
    """Prompt and layers' words that a page sent, None where there is no prompt or it is too long."""
    prompt, words = data.get("prompt"), data.get("words")
    most = field_schema(Collage, ("prompt",))["maxLength"]
    if not isinstance(prompt, str) or len(prompt) > most or not isinstance(words, list):
        return None
    longest = field_schema(Collage, ("layers", 0, "prompt"))["maxLength"]
    return prompt, tuple(one[:longest] for one in words[: most_of("layers")] if isinstance(one, str))


def suggest(data: Any) -> list[dict[str, Any]]:
    """Starting values for open fields of a page document's layers, whose pictures it need not have; none for nonsense.

    Each is {"layer": id, "word": field, "value": number, "reason": sentence}.
    """
    try:
        return [dataclasses.asdict(one) for one in suggest_values(*sketch(data))]
    except DocumentError:
        return []


def most_of(group: str) -> int:
    """How many layers or references a collage may have."""
    return int(field_schema(Collage, (group,))["maxItems"])


class _Facts(dict[str, Any]):
    """What Gradio's sessions keep of the component: all but its value.

    Gradio writes the document of each event here, refused ones too, and keeps it long after the tab was closed. It
    reads it for links to a tab's state, which the studio has none of; handlers get the document from the page.
    """

    def __setitem__(self, key: str, value: Any) -> None:
        if key != "value":
            super().__setitem__(key, value)


class CollageCanvas(gr.HTML):
    """The studio on the page. Its value is a page document (`studio.canvas.exchange`), None before the first.

    ``settings`` is data for the panels, ``run`` the report of the running or last render, ``saved`` a file to
    download. Gradio makes the component anew from its properties at every update, hence the plain signature.
    """

    def __init__(
        self,
        value: dict[str, Any] | None = None,
        *,
        settings: dict[str, Any] | None = None,
        run: dict[str, Any] | None = None,
        saved: dict[str, Any] | None = None,
        **rest: Any,
    ) -> None:
        fixed = {
            "html_template": '<div class="dc-root"></div>',
            "css_template": "",
            "js_on_load": _MOUNT,
            "apply_default_css": False,
            "head": head(),
            "server_functions": [weave, fill_in, suggest],
        }
        super().__init__(value=value, settings=settings, run=run, saved=saved, **{**rest, **fixed})

    def preprocess(self, payload: Any) -> dict[str, Any] | None:  # type: ignore[override]
        """The page's document as it came, after a look at its size; `to_collage` checks the rest."""
        if payload is None or payload == "":  # no document yet
            return None
        if not isinstance(payload, dict):
            raise gr.Error("The page sent something that is no collage; load the page again.")
        for group in ("layers", "avoids"):
            parts = payload.get(group)
            if isinstance(parts, list) and len(parts) > most_of(group):
                raise gr.Error(f"A collage has at most {most_of(group)} {group}; this one has {len(parts)}.")
        return payload

    def postprocess(self, value: Any) -> Any:
        """A page document without addresses: Gradio gives each file the right one for this visitor."""
        return without_addresses(value)

    def get_config(self) -> dict[str, Any]:  # type: ignore[override] # as Gradio's own HTML narrows it
        """What the page is told when it loads: the document comes by events alone."""
        return _Facts(super().get_config())

    def api_info(self) -> dict[str, Any]:
        return {"type": "object", "description": "a collage's JSON in which pictures are uploaded files"}

    def example_payload(self) -> Any:
        return None

    def example_value(self) -> Any:
        return None
