"""The .collage file: a zip of collage.json and pictures/<sha256>.png; a folder of the same content works too.

Nothing is ever unpacked to disk, and nothing a header claims is believed: bytes are counted as they come.
"""

from __future__ import annotations

import io
import os
import re
import struct
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pipelines.errors import ArchiveError, DocumentError
from studio.document import MAX_JSON, Collage
from studio.pictures import MAX_FILE, MAX_TOTAL, Library

DOCUMENT = "collage.json"
MAX_ENTRIES = 256
MAX_ARCHIVE = MAX_TOTAL + 16 * 2**20
_MAX_DIRECTORY = MAX_ENTRIES * 512  # bytes of the zip's own list of contents
_PICTURE = re.compile(r"pictures/([0-9a-f]{64})\.png")
_CHUNK = 2**20
_BROKEN = (
    zipfile.BadZipFile,
    zlib.error,
    OSError,
    EOFError,
    RuntimeError,
    ValueError,
    struct.error,
    LookupError,
)


def read(path: str | Path) -> tuple[Collage, Library]:
    """Open a .collage file or a folder of the same content.

    Raises `ArchiveError` when it is damaged, too large, holds anything else, or leaves its folder;
    `VersionError`, `FieldError` and `PictureError` for what is inside. The library holds the pictures the
    collage names.
    """
    path = Path(path).absolute()  # "." has no name of its own
    with named(path):
        if path.is_dir():
            return _read_folder(path)
        if path.stat().st_size > MAX_ARCHIVE:
            raise ArchiveError(f"it is larger than {MAX_ARCHIVE >> 20} MiB; use smaller pictures.")
        return read_bytes(path.read_bytes())


@contextmanager
def named(path: Path) -> Iterator[None]:
    """Errors of what is read inside say which file it was."""
    try:
        yield
    except OSError as error:
        raise ArchiveError(f"{path.name!r} cannot be opened ({error.strerror}); check the path.") from None
    except DocumentError as error:
        raise type(error)(f"{path.name!r}: {error}") from None


def read_bytes(data: bytes) -> tuple[Collage, Library]:
    """Open the bytes of a .collage file; errors as in `read`."""
    if len(data) > MAX_ARCHIVE:
        raise ArchiveError(f"it is larger than {MAX_ARCHIVE >> 20} MiB; use smaller pictures.")
    _check_directory(data)
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as pack:
            members = _unpack(pack)
    except _BROKEN as error:
        raise ArchiveError(f"it is damaged ({error}); use another copy.") from None
    if DOCUMENT not in members:
        raise ArchiveError(f"it holds no {DOCUMENT}; give a file that Decollage saved.")
    collage = Collage.from_json(members[DOCUMENT])
    library = Library()
    for digest in collage.pictures():
        _adopt(library, digest, members.get(f"pictures/{digest}.png"))
    return collage, library


def write(path: str | Path, collage: Collage, library: Library) -> None:
    """Save as a .collage file, or into ``path`` when that is a folder; never leaves half a file.

    Equal collages give equal bytes. Only pictures that the collage names are saved; `PictureError` when one
    is missing.
    """
    path = Path(path)
    if path.is_dir():
        _write_folder(path, collage, library)
    else:
        replace_file(path, write_bytes(collage, library))


def write_bytes(collage: Collage, library: Library) -> bytes:
    """The bytes of a .collage file."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as pack:
        _put(pack, DOCUMENT, collage.to_json().encode(), zipfile.ZIP_DEFLATED)
        for digest in sorted(collage.pictures()):
            _put(
                pack, f"pictures/{digest}.png", library.bytes(digest), zipfile.ZIP_STORED
            )  # PNG is packed already
    return buffer.getvalue()


def replace_file(path: Path, data: bytes) -> None:
    """Write a file in one step, so that it is the old one or the new one; `ArchiveError` on failure."""
    try:
        descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            Path(name).chmod(0o666 & ~_umask())
            os.replace(name, path)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise
    except OSError as error:
        raise ArchiveError(
            f"{path.name!r} cannot be saved ({error.strerror}); choose another place."
        ) from None


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _put(pack: zipfile.ZipFile, name: str, data: bytes, method: int) -> None:
    entry = zipfile.ZipInfo(name, date_time=(1980, 1, 1, 0, 0, 0))
    entry.external_attr = 0o644 << 16
    entry.create_system = 3
    pack.writestr(entry, data, compress_type=method, compresslevel=9)


def _check_directory(data: bytes) -> None:
    """Refuse a zip whose list of contents is long before `zipfile` reads all of it."""
    end = data.rfind(b"PK\5\6", max(0, len(data) - 65557))
    if end < 0 or len(data) < end + 22:
        raise ArchiveError("it is not a whole .collage file; use another copy.")
    entries, size = struct.unpack_from("<HI", data, end + 10)
    big = (
        data[max(0, end - 20) : max(0, end - 16)] == b"PK\6\7"
    )  # a 64-bit list, which `zipfile` would follow
    if big or entries > MAX_ENTRIES or size > _MAX_DIRECTORY:
        raise ArchiveError(f"it holds more than {MAX_ENTRIES} files; give a file that Decollage saved.")


def _unpack(pack: zipfile.ZipFile) -> dict[str, bytes]:
    entries = [entry for entry in pack.infolist() if not entry.is_dir()]
    if len(entries) > MAX_ENTRIES:
        raise ArchiveError(f"it holds more than {MAX_ENTRIES} files; give a file that Decollage saved.")
    members: dict[str, bytes] = {}
    left = MAX_TOTAL + MAX_JSON
    for entry in entries:
        name = _checked_name(entry.filename)
        if name in members:
            raise ArchiveError(f"it holds {name!r} twice; use another copy.")
        if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise ArchiveError(f"it packs {name!r} in a way that is not read; pack it as plain zip.")
        limit = MAX_JSON if name == DOCUMENT else MAX_FILE
        members[name] = _counted(pack, entry, min(limit, left))
        left -= len(members[name])
    return members


def _checked_name(name: str) -> str:
    if name.startswith(("/", "\\")) or "\\" in name or ":" in name or ".." in name.split("/"):
        raise ArchiveError(f"its entry {name[:80]!r} leaves the folder; give a file that Decollage saved.")
    if name != DOCUMENT and not _PICTURE.fullmatch(name):
        raise ArchiveError(f"it holds an unexpected file {name[:80]!r}; give a file that Decollage saved.")
    return name


def _counted(pack: zipfile.ZipFile, entry: zipfile.ZipInfo, limit: int) -> bytes:
    parts, size = [], 0
    with pack.open(entry) as file:
        while part := file.read(_CHUNK):
            size += len(part)
            if size > limit:
                raise ArchiveError(
                    f"{entry.filename!r} unpacks to more than {limit >> 20} MiB, or all files together do; "
                    "use smaller pictures."
                )
            parts.append(part)
    return b"".join(parts)


def _adopt(library: Library, digest: str, data: bytes | None) -> None:
    name = f"pictures/{digest}.png"
    if data is None:
        raise ArchiveError(f"the picture {name!r} is missing; use another copy.")
    probe = Library()
    if probe.adopt(data, f"the picture {name!r}") != digest:
        raise ArchiveError(f"the picture {name!r} is not what its name says; use another copy.")
    library.update(probe)


def _read_folder(folder: Path) -> tuple[Collage, Library]:
    collage = Collage.from_json(_read_inside(folder, DOCUMENT, MAX_JSON))
    library = Library()
    for digest in collage.pictures():
        _adopt(library, digest, _read_inside(folder, f"pictures/{digest}.png", MAX_FILE))
    return collage, library


def _read_inside(folder: Path, name: str, limit: int) -> bytes:
    path = folder / name
    if not path.resolve().is_relative_to(folder.resolve()):
        raise ArchiveError(f"its entry {name!r} leaves the folder; put the file itself there.")
    if not path.is_file():
        raise ArchiveError(f"it holds no {name!r}; give a folder that Decollage saved.")
    with path.open("rb") as file:
        data = file.read(limit + 1)
    if len(data) > limit:
        raise ArchiveError(f"{name!r} is larger than {limit >> 20} MiB; use smaller pictures.")
    return data


def _write_folder(folder: Path, collage: Collage, library: Library) -> None:
    files = {f"{digest}.png": library.bytes(digest) for digest in collage.pictures()}
    pictures = folder / "pictures"
    try:
        pictures.mkdir(exist_ok=True)
    except OSError as error:
        raise ArchiveError(
            f"{folder.name!r} cannot be saved into ({error.strerror}); choose another."
        ) from None
    for name, data in sorted(files.items()):
        if not (pictures / name).is_file():
            replace_file(pictures / name, data)
    replace_file(folder / DOCUMENT, collage.to_json().encode())  # last: it names only what is there by now
