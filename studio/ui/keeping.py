"""The folder of uploads and results: what pages used lately stays, over restarts too, as far as there is room.

Gradio's own cleaning (``delete_cache``) is not used: it deletes everything when the server stops, whatever age it is
given, and forgets what it would have deleted when the server is killed. So the age is kept here, by the files alone.
"""

from __future__ import annotations

import asyncio
import math
import os
import re
import tempfile
import time
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from gradio.processing_utils import hash_bytes
from gradio.utils import get_space, get_upload_folder

from pipelines.errors import EngineError

_HOUR = 3600
_DAY = 24 * _HOUR
_BETWEEN = 300  # seconds from sweep to sweep
MOST = 8 * 2**30
"""Bytes of all uploads and results: fifteen of the largest documents, and little of a Space's disk (50 GB), which
strangers could fill long before anything is old. The folder outgrows it by what comes in between two sweeps."""
_NAME = "decollage"
_DIGEST = re.compile(
    r"[0-9a-f]{64}"
)  # Gradio puts each file into a folder that is named by the file's content
_UNFINISHED = re.compile(r"tmp\w{8}")  # and an upload, while it comes in, beside those folders
_LINKS = "deep_links"  # of tabs' states: the studio offers none, but Gradio writes one for whoever asks
_LINK = re.compile(r"[\w-]{11}")


def own_folder() -> Path:
    """The studio's folder inside Gradio's, made where there is none; from then on it is Gradio's for this process.

    Gradio's own folder belongs to every Gradio app of the machine, and files of others are not the studio's to delete.
    """
    folder = Path(get_upload_folder())
    if folder.name != _NAME:
        folder = folder / _NAME
        os.environ["GRADIO_TEMP_DIR"] = str(folder)  # read again by all that asks for the folder
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def kept_for() -> int:
    """Seconds after which uploads and results that no page has used since are deleted.

    On a Space, which strangers fill, two days; on a machine of one's own a month, so that a tab may stay open.
    """
    return (2 if get_space() else 30) * _DAY


def keep(folder: Path, name: str, data: bytes) -> str:
    """Store a file in ``folder`` where Gradio would, by its content, whole or not at all; returns its path.

    All tabs share what is kept, so a file that is there is renewed for `sweep` and never written again: somebody may
    be reading it. Raises `EngineError` where the disk is full, or cannot be written for another cause.
    """
    path = folder / hash_bytes(data) / name
    try:
        if not _renewed(path, len(data)):
            _write(path, data)
    except OSError as error:
        raise EngineError(
            f"the server's disk takes no more files ({error.strerror}); make room on it, or try again later."
        ) from None
    return str(path.resolve())


def _renewed(path: Path, size: int) -> bool:
    """Whether the file is there, whole; from now on it is as young to `sweep` as a new one."""
    with suppress(FileNotFoundError):
        facts = path.stat()
        if facts.st_size == size:
            with suppress(PermissionError):  # somebody else's file can be read still
                os.utime(path, ns=(facts.st_atime_ns, facts.st_mtime_ns))  # the content is as old as it was
            return True
    return False


def _write(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, unfinished = tempfile.mkstemp(dir=path.parent)  # swept, where this process is killed
    try:
        with open(handle, "wb") as file:
            file.write(data)
        os.replace(unfinished, path)
    except BaseException:
        with suppress(OSError):
            os.unlink(unfinished)
        raise


@asynccontextmanager
async def swept(app: object) -> AsyncIterator[None]:
    """While the server runs its folder is swept: when it starts, and every five minutes. ``app`` is not looked at."""
    task = asyncio.create_task(_sweep_often(own_folder()))
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def _sweep_often(folder: Path) -> None:
    while True:
        await asyncio.to_thread(sweep, folder, kept_for())
        await asyncio.sleep(_BETWEEN)


def sweep(folder: Path, age: float, now: float | None = None, most: int = MOST) -> None:
    """Delete what is old in ``folder``, then the oldest of what is left while there is too much.

    Old are files that have not changed for ``age`` seconds (`st_ctime`), too much are more than ``most`` bytes.
    Files that are not of Gradio's making, and links, are left alone. What cannot be deleted stays for the next time.
    """
    now = time.time() if now is None else now
    places = list(_places(folder))
    waiting = now - min(age, _HOUR)  # a folder that was made just now waits for its file
    settled = [place for place in places if _changed(place) < waiting]
    young = []
    for file in _files(folder, places):
        with suppress(OSError):
            facts = file.stat(follow_symlinks=False)
            if facts.st_ctime < now - age:
                os.unlink(file)
            else:
                young.append((facts.st_ctime, facts.st_size, file.path))
    total = 0
    for _, size, path in sorted(young, reverse=True):
        total += size
        if total > most:
            with suppress(OSError):
                os.unlink(path)
    for place in settled:
        with suppress(OSError):
            os.rmdir(place)  # refused where something is left


def _changed(place: os.DirEntry[str]) -> float:
    with suppress(OSError):
        return place.stat(follow_symlinks=False).st_mtime
    return math.inf


def _places(folder: Path) -> Iterator[os.DirEntry[str]]:
    """The folders that Gradio puts files into."""
    for entry in _entries(folder):
        if not entry.is_dir(follow_symlinks=False):
            continue
        if _DIGEST.fullmatch(entry.name):
            yield entry
        elif entry.name == _LINKS:
            for link in _entries(entry):
                if _LINK.fullmatch(link.name) and link.is_dir(follow_symlinks=False):
                    yield link


def _files(folder: Path, places: Iterable[os.DirEntry[str]]) -> Iterator[os.DirEntry[str]]:
    """The files that Gradio put there, unfinished ones too."""
    for entry in _entries(folder):
        if _UNFINISHED.fullmatch(entry.name) and entry.is_file(follow_symlinks=False):
            yield entry
    for place in places:
        yield from (entry for entry in _entries(place) if entry.is_file(follow_symlinks=False))


def _entries(folder: Path | os.DirEntry[str]) -> Iterator[os.DirEntry[str]]:
    """What is in a folder; nothing where it cannot be read."""
    with suppress(OSError), os.scandir(folder) as entries:
        yield from entries
