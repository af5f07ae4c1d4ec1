"""From the engine's events to reports for the page.

A report tells the whole run so far, so the page needs only the newest and may miss any other.
"""

from __future__ import annotations

import base64
import io
import re
import unicodedata
from collections.abc import Callable, Mapping
from typing import Any

from PIL import Image

from pipelines.events import (
    Downloading,
    Event,
    Finished,
    ImageDone,
    Learning,
    Preview,
    Progress,
    RenderResult,
    Started,
    Warned,
)
from pipelines.measure.layers import layer_lines, lost_sentences
from pipelines.pictures import Pixels
from pipelines.request import RenderRequest
from studio.canvas.exchange import file_data
from studio.document import Collage
from studio.formats import png
from studio.pictures import Library
from studio.sizes import size

Keep = Callable[[str, bytes], str]


class Report:
    """What the page knows of one run. ``keep`` stores a result's file (name, bytes) and returns its path.

    ``made_on`` is given where one layer was rendered on a picture (`png.embed`).
    """

    def __init__(
        self,
        number: int,
        collage: Collage,
        library: Library,
        request: RenderRequest,
        keep: Keep,
        made_on: tuple[str, Pixels] | None = None,
    ) -> None:
        self._collage, self._library, self._request, self._keep = collage, library, request, keep
        self._made_on = made_on
        self._pictures: list[Pixels] = []
        self._rounds = 1 if png.is_joint(request) else request.images
        self.plain: dict[str, Any] = {
            "id": number,
            "state": "running",
            "text": "Loading the model…",
            "share": 0.0,
            "prompt": request.prompt,
            "preview": None,
            "warnings": [],
            "results": [],
        }

    def take(self, event: Event) -> None:
        """Bring the report up to date with an event."""
        plain = self.plain
        match event:
            case Downloading(model=model, done=here, total=total):
                plain["text"] = f"Downloading {model}: {size(here, total)}"
                plain["share"] = round(min(1.0, here / max(1, total)), 4)
            case Learning(layer=layer, step=step, steps=steps):
                plain["text"] = f"Learning the look of {layer}: {step} of {steps} steps"
                plain["share"] = round(step / steps, 4)
            case Started(steps=steps):
                plain["share"] = 0.0
                plain["text"] = f"0 of {steps} steps" if steps else "Nothing may change."
            case Progress(step=step, steps=steps, image=image, images=images):
                done = (image * steps + step) / max(1, steps * self._rounds)
                plain["share"] = round(min(1.0, done), 4)
                which = f" of picture {image + 1} of {images}" if self._rounds > 1 else ""
                plain["text"] = f"{step} of {steps} steps{which}"
            case Preview(picture=picture):
                plain["preview"] = preview_url(picture)
            case ImageDone(picture=picture):
                self._pictures.append(picture)
                if len(self._pictures) < self._request.images:  # the last one waits for what Finished tells
                    self._write({})
            case Warned(message=message):
                self.warn(message)
            case Finished(result=result):
                self._write(result.report)
                self._tell_lost(result.report)
                self._finish(result.report)

    def warn(self, message: str) -> None:
        """Add a warning, once."""
        sentence = as_sentence(message)
        if sentence not in self.plain["warnings"]:
            self.plain["warnings"].append(sentence)

    def _write(self, facts: dict[str, object]) -> None:
        """Files for all pictures so far, with the collage inside; those with ``facts`` replace those without."""
        result = RenderResult(self._request, tuple(self._pictures), facts)
        first = 0 if facts else len(self._pictures) - 1
        entries = self.plain["results"][:first]
        for image in range(first, len(self._pictures)):
            entries.append(self._entry(result, image))
        self.plain["results"] = entries

    def _entry(self, result: RenderResult, image: int) -> dict[str, Any]:
        canvas = self._collage.canvas
        seed = self._request.seed + image
        name = f"{file_stem(self._collage.name)}-{seed}.png"
        request = self._request
        said = f" · {request.of_image(image).prompt}" if request.variants else ""
        path = self._keep(name, png.embed_result(result, image, self._collage, self._library, self._made_on))
        return {
            "image": image,
            "seed": seed,
            "again": png.remade(self._collage, result, image).seed,
            "name": name,
            "file": file_data(path, "image/png", name),
            "about": f"Seed {seed} · {canvas.width} × {canvas.height}{said}{_outside(result.report, image)}",
        }

    def _tell_lost(self, facts: dict[str, object]) -> None:
        """Where the run was watched: what of each layer is there, and a warning for each that was lost."""
        numbers = facts.get("numbers")
        found = numbers.get("layers") if isinstance(numbers, dict) else None
        if not found:
            return
        assert isinstance(numbers, dict)
        self.plain["layers"] = {"lines": layer_lines(found), "by": f"Measured by {numbers['layers_by']}."}
        for sentence in lost_sentences(found, len(self._pictures)):
            self.warn(sentence)

    def _finish(self, facts: dict[str, object]) -> None:
        seconds = facts.get("seconds")
        count = len(self._pictures)
        made = "1 picture" if count == 1 else f"{count} pictures"
        took = f" in {seconds:.1f} s" if isinstance(seconds, int | float) else ""
        self.plain.update(state="done", text=f"Made {made}{took}.", share=1.0, preview=None)


def _outside(facts: Mapping[str, Any], image: int) -> str:
    """Of a layer that was rendered alone: its name, and the largest difference outside it."""
    found = facts.get("numbers", {}).get("outside")
    if found is None:
        return ""
    return f" · {found['layer']} alone, largest change outside it: {found['largest'][image]} of 255"


def preview_url(picture: Pixels) -> str:
    """A preview as a data address: it lives for half a second and is worth no file.

    Without loss, because frozen pixels are promised exactly in previews too; packed quickly rather than tightly.
    """
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "PNG", compress_level=1)
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"


def as_sentence(text: str) -> str:
    """One line that begins with a capital letter and ends with a full stop."""
    line = " ".join(text.split())
    if not line:
        return line
    return line[0].upper() + line[1:] + ("" if line[-1] in ".!?" else ".")


def file_stem(name: str) -> str:
    """A file name made of a collage's name: letters, digits and hyphens, "collage" when nothing is left."""
    plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode().lower()
    return re.sub(r"[^a-z0-9]+", "-", plain).strip("-")[:60] or "collage"
