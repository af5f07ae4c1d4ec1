"""Open, Save and presets."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Any

import gradio as gr

import presets
from pipelines.errors import ArchiveError, DecollageError
from studio.canvas.exchange import Uploads, file_data, to_collage, to_page
from studio.formats import archive, open_any
from studio.session import Jobs
from studio.ui.report import Keep, as_sentence, file_stem

Update = dict[str, Any]
_OPENING = threading.BoundedSemaphore(2)
"""Half a GB is in memory twice while the largest file is read, and all visitors share it."""


class Files:
    """Documents in and out. A refused file leaves the page's document as it was."""

    def __init__(self, jobs: Jobs, uploads: Uploads, keep: Keep) -> None:
        self.jobs, self.uploads, self.keep = jobs, uploads, keep

    def open(self, page: dict[str, Any] | None) -> Update:
        """The document in the file that the page just uploaded (``incoming``)."""
        try:
            path = self.uploads.path((page or {}).get("incoming"), "the file")
            with _OPENING:
                collage, library = open_any(path)
            return gr.update(value=to_page(collage, library, self.keep))
        except DecollageError as error:
            return self.refused(error)

    def preset(self, event: gr.EventData) -> Update:
        """The preset whose name the page sent."""
        try:
            name = event._data.get("name") if isinstance(event._data, Mapping) else None
            if name not in presets.names():
                raise ArchiveError("there is no preset of this name; choose one from the list.")
            return gr.update(value=self.preset_page(name))
        except DecollageError as error:
            return self.refused(error)

    def preset_page(self, name: str) -> dict[str, Any]:
        """The page document of a preset."""
        return to_page(*open_any(presets.path(name)), self.keep)

    def save(self, page: dict[str, Any] | None) -> Update:
        """A .collage file of the page's document, to download, with the document's ``rev``: what was saved."""
        rev = (page or {}).get("rev")
        which = {
            "rev": rev if isinstance(rev, int) else None
        }  # of what a page sends, a number alone goes back
        try:
            collage, library = to_collage(page, self.uploads)
            name = f"{file_stem(collage.name)}.collage"
            path = self.keep(name, archive.write_bytes(collage, library))
        except DecollageError as error:
            return self.refused(error, which)
        file = file_data(path, "application/zip", name)
        return gr.update(saved={"seq": self.jobs.number(), "file": file, "name": name, **which})

    def refused(self, error: DecollageError, more: Mapping[str, Any] | None = None) -> Update:
        """The error's sentence, for the page to show."""
        return gr.update(saved={"seq": self.jobs.number(), "error": as_sentence(str(error)), **(more or {})})
