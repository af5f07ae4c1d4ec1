"""Between the page's documents and collages.

A page document is a collage's JSON in which every picture is an uploaded file (Gradio's ``FileData``) instead of
a digest. Layers also carry their picture's natural ``width`` and ``height``, and the document its ``rev`` and which
of the tab's documents it is (``opened``); none of these is part of a collage, nor is what an event is about:
``incoming``, an uploaded file to open, and ``edit``, a layer to render alone and the result to do it on. What comes
from a page is not trusted: `to_collage` checks everything before it reads a file.
"""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from pipelines.errors import FieldError, PictureError
from studio.document import Collage
from studio.pictures import MAX_SIDE, Library

PAGE_ONLY = ("rev", "opened", "incoming", "edit")
LAYER_ONLY = ("width", "height")
MAX_KEPT = 256 * 2**20  # bytes of decoded and packed pictures kept between two sends of the same page
_UNREAD = "0" * 64  # stands for a picture while everything else is checked

File = dict[str, Any]


class Uploads:
    """Reads pictures from the folder that uploads go to; what was read lately is not decoded again."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._read: OrderedDict[tuple[str, int, int], tuple[str, Library]] = OrderedDict()
        self._lock = threading.Lock()

    def path(self, file: object, where: str) -> Path:
        """Where an uploaded file lies; `PictureError` for anything that was not uploaded.

        What has not changed for long is deleted (`studio.ui.keeping`), so what a page still uses is renewed here.
        """
        path = file.get("path") if isinstance(file, Mapping) else None
        if not isinstance(path, str) or not path or "\0" in path:
            raise PictureError(f"{where} names no uploaded picture; add the picture again.")
        try:
            resolved = Path(path).resolve()
            there = resolved.is_relative_to(self.folder.resolve()) and resolved.is_file()
            facts = resolved.stat() if there else None
        except (OSError, ValueError):  # a name that no file can have, or deleted just now
            facts = None
        if facts is None:
            raise PictureError(f"{where} names a picture that is no longer on the server; add it again.")
        with suppress(OSError):  # somebody else's file can be read still
            os.utime(resolved, ns=(facts.st_atime_ns, facts.st_mtime_ns))  # the content is as old as it was
        return resolved

    def add(self, library: Library, file: object, where: str) -> str:
        """Put the picture into ``library``; returns its digest. `PictureError` when it cannot be read."""
        path = self.path(file, where)
        facts = path.stat()
        key = (str(path), facts.st_mtime_ns, facts.st_size)
        with self._lock:
            known = self._read.get(key)
            if known:
                self._read.move_to_end(key)
        if known is None:
            single = Library()
            try:
                known = single.add(path), single
            except PictureError as error:
                raise PictureError(f"{where}: {error}") from None
            self._keep(key, known)
        library.update(known[1])
        return known[0]

    def _keep(self, key: tuple[str, int, int], read: tuple[str, Library]) -> None:
        with self._lock:
            self._read[key] = read
            total = sum(len(library.bytes(digest)) for digest, library in self._read.values())
            while total > MAX_KEPT and len(self._read) > 1:
                digest, library = self._read.popitem(last=False)[1]
                total -= len(library.bytes(digest))


def to_collage(page: object, uploads: Uploads) -> tuple[Collage, Library]:
    """The collage and pictures of a page document.

    Raises the errors of `Collage.from_dict`, and `PictureError` for a picture that was not uploaded or cannot
    be read. No file is opened before every other field has been checked.
    """
    if not isinstance(page, Mapping):
        raise FieldError("the page sent no collage; load the page again.")
    plain: dict[str, Any] = {key: value for key, value in page.items() if key not in PAGE_ONLY}
    for group in ("layers", "avoids"):
        if isinstance(plain.get(group), list):
            plain[group] = [_without(part, LAYER_ONLY if group == "layers" else ()) for part in plain[group]]
    files = list(_files(plain))
    for holder, field, _, _ in files:
        holder[field] = _UNREAD
    Collage.from_dict(plain)
    library = Library()
    for holder, field, file, where in files:
        holder[field] = uploads.add(library, file, where)
    return Collage.from_dict(plain), library


def sketch(page: object) -> tuple[Collage, dict[str, tuple[int, int]]]:
    """What decides starting values, of a page document whose pictures may be missing, and their sizes by layer id.

    Raises `FieldError` for what is no document or out of bounds.
    """
    if not isinstance(page, Mapping) or not isinstance(page.get("layers"), list):
        raise FieldError("the page sent no collage; load the page again.")
    sizes: dict[str, tuple[int, int]] = {}
    layers: list[object] = []
    for layer in page["layers"]:
        if not isinstance(layer, Mapping):
            raise FieldError("the page sent a layer that is none; load the page again.")
        sides = (layer.get("width"), layer.get("height"))
        if not all(type(side) is int and 0 < side <= MAX_SIDE for side in sides):
            raise FieldError("the page sent a layer without a size; load the page again.")
        sizes[str(layer.get("id"))] = (int(sides[0]), int(sides[1]))  # type: ignore[arg-type]
        layers.append({**_without(layer, (*LAYER_ONLY, "mask")), "picture": _UNREAD})  # type: ignore[dict-item]
    kept = {field: page[field] for field in ("canvas", "model", "edges") if field in page}
    return Collage.from_dict({**kept, "layers": layers}), sizes


def _without(part: object, fields: tuple[str, ...]) -> object:
    if not isinstance(part, Mapping):
        return part
    return {key: value for key, value in part.items() if key not in fields}


def _files(plain: dict[str, Any]) -> Iterator[tuple[dict[str, Any], str, object, str]]:
    """Every place that names a picture: the holder, its field, what stands there, and the place in words."""
    if isinstance(plain.get("background"), Mapping):
        background = plain["background"] = dict(plain["background"])
        if background.get("picture") is not None:
            yield background, "picture", background["picture"], "background"
    for group in ("layers", "avoids"):
        parts = plain.get(group)
        for number, part in enumerate(parts if isinstance(parts, list) else (), start=1):
            if not isinstance(part, dict):
                continue
            name = part.get("name") or part.get("prompt") or number
            for field in ("picture", "mask"):
                if part.get(field) is not None:
                    yield part, field, part[field], f"{group[:-1]} {str(name)[:60]!r}"


def to_page(collage: Collage, library: Library, keep: Callable[[str, bytes], str]) -> dict[str, Any]:
    """The page document of a collage.

    ``keep`` stores a file (name, PNG bytes) where the page may read it, and returns its path.
    """
    files: dict[str, File] = {}

    def file(digest: str | None) -> File | None:
        if digest is None:
            return None
        if digest not in files:
            files[digest] = file_data(keep(f"{digest[:16]}.png", library.bytes(digest)), "image/png")
        return dict(files[digest])

    page = collage.to_dict()
    page["background"]["picture"] = file(collage.background.picture)
    for layer in page["layers"]:
        layer["width"], layer["height"] = library.size(layer["picture"])
    for part in (*page["layers"], *page["avoids"]):
        part["picture"], part["mask"] = file(part["picture"]), file(part["mask"])
    return page


def file_data(path: str, kind: str, name: str | None = None) -> File:
    """A file as the page's documents hold it; the page's address is left for Gradio to fill in."""
    return {
        "path": path,
        "url": None,
        "size": None,
        "orig_name": name or Path(path).name,
        "mime_type": kind,
        "is_stream": False,
        "meta": {"_type": "gradio.FileData"},
    }


def without_addresses(value: Any) -> Any:
    """A copy in which no file has an address: Gradio would fetch a file from an absolute one instead of its path."""
    if isinstance(value, Mapping):
        copy = {key: without_addresses(one) for key, one in value.items()}
        if "path" in copy and "url" in copy:
            copy["url"] = None
        return copy
    if isinstance(value, list | tuple):
        return [without_addresses(one) for one in value]
    return value
