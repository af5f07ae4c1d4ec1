"""From the engine's events to reports for the page.

A report tells the whole run so far, so the page needs only the newest and may miss any other. Of each picture there are
two files: one to look at, which holds nothing but the picture and is there as soon as it is done, and one to download,
which carries the collage with all that it is made of, and is written once, when the run has ended.
"""

from __future__ import annotations

import base64
import io
import re
import threading
import unicodedata
from collections.abc import Callable, Mapping
from typing import Any

from PIL import Image

from pipelines.errors import EngineError
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
"""Stores a file (name, content) where pages can load it, and returns its path; `EngineError` where it cannot."""


class Report:
    """What the page knows of one run. ``keep`` stores a result's file.

    ``made_on`` is given where one layer was rendered on a picture (`png.embed`). Events come from one thread; `so_far`
    may be called from another.
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
        self._writing = threading.Lock()
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
                self._show(picture)
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

    def so_far(self) -> dict[str, Any]:
        """The report of a run that has ended early: what is finished of it can be downloaded."""
        try:
            self._write({})
        except EngineError as error:  # the pictures are shown still
            self.warn(f"the finished pictures cannot be kept for download: {error}")
        return self.plain

    def _show(self, picture: Pixels) -> None:
        """A file of the picture alone: tiles and stage load it, and references are made of it."""
        canvas, request = self._collage.canvas, self._request
        image = len(self._pictures)
        seed = request.seed + image
        stem = f"{file_stem(self._collage.name)}-{seed}"
        said = f" · {request.of_image(image).prompt}" if request.variants else ""
        bare = f"{stem}-bare.png"
        entry = {
            "image": image,
            "seed": seed,
            "again": png.remade(self._collage, RenderResult(request, ()), image).seed,
            "name": f"{stem}.png",
            "file": file_data(self._keep(bare, _packed(picture)), "image/png", bare),
            "download": None,
            "about": f"Seed {seed} · {canvas.width} × {canvas.height}{said}",
        }
        with self._writing:
            self._pictures.append(picture)
            self.plain["results"] = [*self.plain["results"], entry]

    def _write(self, facts: Mapping[str, object]) -> None:
        """Files with the collage inside, of the pictures that have none yet; ``facts`` are the run's report."""
        with self._writing:
            result = RenderResult(self._request, tuple(self._pictures), dict(facts))
            self.plain["results"] = [
                one if one["download"] else self._written(one, result) for one in self.plain["results"]
            ]

    def _written(self, entry: dict[str, Any], result: RenderResult) -> dict[str, Any]:
        image, name = entry["image"], entry["name"]
        path = self._keep(name, png.embed_result(result, image, self._collage, self._library, self._made_on))
        about = entry["about"] + _outside(result.report, image)
        return {**entry, "download": file_data(path, "image/png", name), "about": about}

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
    return f"data:image/png;base64,{base64.b64encode(_packed(picture)).decode()}"


def _packed(picture: Pixels) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()


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
