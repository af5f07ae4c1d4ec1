"""The folder of uploads and results: what is in it stays until no page has used it for long, over restarts too.

Gradio's own cleaning (``delete_cache``) is not used: it deletes everything when the server stops, whatever age it is
given, and forgets what it would have deleted when the server is killed. So the age is kept here, by the files alone.
"""

from __future__ import annotations

import asyncio
import os
import re
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from gradio.processing_utils import hash_bytes
from gradio.utils import get_space, get_upload_folder

from pipelines.errors import EngineError

_HOUR = 3600
_DAY = 24 * _HOUR
_NAME = "decollage"
_DIGEST = re.compile(
    r"[0-9a-f]{64}"
)  # Gradio puts each file into a folder that is named by the file's content
_UNFINISHED = re.compile(r"tmp\w{8}")  # and an upload, while it comes in, beside those folders


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
    """While the server runs its folder is swept: when it starts, and every hour. ``app`` is not looked at."""
    task = asyncio.create_task(_sweep_hourly(own_folder()))
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def _sweep_hourly(folder: Path) -> None:
    while True:
        await asyncio.to_thread(sweep, folder, kept_for())
        await asyncio.sleep(_HOUR)


def sweep(folder: Path, age: float, now: float | None = None) -> None:
    """Delete files in ``folder`` that have not changed for ``age`` seconds (`st_ctime`), and what they leave empty.

    Files that are not of Gradio's making, and links, are left alone. What cannot be deleted stays for the next time.
    """
    limit = (time.time() if now is None else now) - age
    with suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            if _UNFINISHED.fullmatch(entry.name):
                _delete(entry, limit)
            elif _DIGEST.fullmatch(entry.name) and entry.is_dir(follow_symlinks=False):
                _sweep_one(Path(entry), limit)


def _sweep_one(folder: Path, limit: float) -> None:
    with suppress(OSError):
        old = folder.stat().st_mtime < limit  # one that was made just now waits for its file
        with os.scandir(folder) as entries:
            for entry in entries:
                _delete(entry, limit)
        if old:
            folder.rmdir()  # refused where something is left


def _delete(entry: os.DirEntry[str], limit: float) -> None:
    with suppress(OSError):
        if entry.is_file(follow_symlinks=False) and entry.stat(follow_symlinks=False).st_ctime < limit:
            os.unlink(entry)
