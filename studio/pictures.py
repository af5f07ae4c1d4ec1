"""The picture files of a document: bounded before they are decoded, kept as PNG under their sha256."""

from __future__ import annotations

import hashlib
import io
import struct
import threading
import warnings
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from pipelines.errors import PictureError
from studio.colour import to_srgb

MAX_SIDE = 16384
MAX_PIXELS = 64_000_000
MAX_FILE = 128 * 2**20  # bytes of one picture file, as given and as kept
MAX_TOTAL = 512 * 2**20  # bytes of all kept files
MAX_TOTAL_PIXELS = 1_000_000_000
_PNG = b"\x89PNG\r\n\x1a\n"
_DECODING = threading.BoundedSemaphore(2)
"""A picture of 64 million pixels takes three quarters of a GB while it is decoded, and a page has many visitors: two
at a time in a process. Nothing inside asks for another."""
FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF")

# What Pillow warns of, a large picture or damaged notes, is looked at here or does not matter. This is said once, as
# filters set for the time of one picture are those of all threads, and two that overlap may stay for good.
warnings.filterwarnings("ignore", module=r"PIL\.")

# What Pillow's decoders raise on damaged files.
_BROKEN = (
    OSError,
    SyntaxError,
    ValueError,
    ArithmeticError,
    LookupError,
    TypeError,
    AttributeError,
    NotImplementedError,
    MemoryError,
    Warning,  # where warnings are errors
    EOFError,
    struct.error,
    zlib.error,
)


class Library:
    """Picture files by digest (sha256 of the PNG file's bytes); adding never changes what is there."""

    def __init__(self) -> None:
        self._files: dict[str, bytes] = {}
        self._sizes: dict[str, tuple[int, int]] = {}

    def add(self, source: str | Path | bytes | Image.Image) -> str:
        """Take a picture in and return its digest.

        ``source`` is a file's path, a file's bytes (PNG, JPEG, WebP, GIF, BMP or TIFF; the first frame
        counts) or an open picture. It is turned upright as its EXIF data says, brought to 8 bit RGBA, and to
        sRGB from the colours of an ICC profile, and kept as PNG. Raises `PictureError` when it is damaged,
        of another kind, longer than 16,384 pixels on a side, over 64 million pixels (both checked before
        decoding), or over 128 MiB as a file, where a collage that a PNG carries does not count.
        """
        with _DECODING:
            if isinstance(source, Image.Image):
                upright = _decode(source, "the picture")
            elif isinstance(source, bytes):
                upright = _read_bytes(source)
            else:
                upright = _read_path(Path(source))
            buffer = io.BytesIO()
            upright.save(buffer, "PNG", compress_level=6)
        return self._keep(buffer.getvalue(), upright.size)

    def adopt(self, data: bytes, what: str = "the picture") -> str:
        """Keep a PNG file exactly as it is, after the same checks as `add`; returns its digest."""
        with _DECODING:
            size = _decode(_open(io.BytesIO(data), len(data), what, ("PNG",)), what).size
        return self._keep(data, size)

    def _keep(self, data: bytes, size: tuple[int, int]) -> str:
        digest = hashlib.sha256(data).hexdigest()
        if digest in self._files:
            return digest
        if len(data) > MAX_FILE:
            raise PictureError(f"the picture takes more than {MAX_FILE >> 20} MiB as PNG; make it smaller.")
        if sum(map(len, self._files.values())) + len(data) > MAX_TOTAL:
            raise PictureError(
                f"all pictures together take more than {MAX_TOTAL >> 20} MiB; make some smaller."
            )
        if sum(w * h for w, h in self._sizes.values()) + size[0] * size[1] > MAX_TOTAL_PIXELS:
            raise PictureError(
                f"all pictures together have more than {MAX_TOTAL_PIXELS // 10**6} million pixels; "
                "make some smaller."
            )
        self._files[digest], self._sizes[digest] = data, size
        return digest

    def bytes(self, digest: str) -> bytes:
        """The PNG file; `PictureError` when the library does not have it."""
        try:
            return self._files[digest]
        except KeyError:
            raise PictureError(f"picture {digest[:12]} is missing; add it to the collage again.") from None

    def open(self, digest: str) -> Image.Image:
        """The decoded picture, mode RGBA; a fresh one each time. `PictureError` when it is missing."""
        data = self.bytes(digest)
        return _decode(_open(io.BytesIO(data), len(data), "the picture", ("PNG",)), "the picture")

    def size(self, digest: str) -> tuple[int, int]:
        """Natural (width, height) in pixels; `PictureError` when the picture is missing."""
        self.bytes(digest)
        return self._sizes[digest]

    def copy(self, digests: Iterable[str] | None = None) -> Library:
        """A new library with these pictures, or with all; `PictureError` when one is missing."""
        other = Library()
        for digest in self._files if digests is None else digests:
            other._files[digest], other._sizes[digest] = self.bytes(digest), self._sizes[digest]
        return other

    def update(self, other: Library) -> None:
        """Take in all pictures of another library."""
        for digest in other:
            self._keep(other._files[digest], other._sizes[digest])

    def __contains__(self, digest: object) -> bool:
        return digest in self._files

    def __iter__(self) -> Iterator[str]:
        return iter(tuple(self._files))

    def __len__(self) -> int:
        return len(self._files)


def read_pixels(source: Path | bytes) -> NDArray[np.uint8]:
    """The colours of a picture file, uint8 (height, width, 3), upright; what is clear in it is not told apart.

    Raises `PictureError` as `Library.add` does.
    """
    with _DECODING:
        read = _read_bytes(source) if isinstance(source, bytes) else _read_path(source)
        return np.asarray(read.convert("RGB"))


def _read_bytes(data: bytes) -> Image.Image:
    return _decode(_open(io.BytesIO(data), len(data), "the picture", FORMATS), "the picture")


def _read_path(path: Path) -> Image.Image:
    what = f"the picture {path.name!r}"
    try:
        with path.open("rb") as file:
            size = path.stat().st_size
            if size > MAX_FILE and (bare := _without_private(file)) is not None:
                return _decode(_open(io.BytesIO(bare), len(bare), what, FORMATS), what)
            return _decode(_open(file, size, what, FORMATS), what)
    except OSError as error:
        raise PictureError(f"{what} cannot be read ({error.strerror}); check the path.") from None


def _without_private(file: BinaryIO) -> bytes | None:
    """A PNG without its private chunks, such as the collage that a result carries; None where that is too large, too.

    Of what is left out not a byte is read.
    """
    kept, left = [file.read(len(_PNG))], MAX_FILE - len(_PNG)
    while kept[0] == _PNG and len(head := file.read(8)) == 8:
        length, kind = struct.unpack(">I4s", head)
        if kind[1:2].islower():  # how the format marks what is private
            file.seek(length + 4, io.SEEK_CUR)
        elif (left := left - length - 12) < 0:
            break
        else:
            kept.append(head + file.read(length + 4))
            if kind == b"IEND":
                return b"".join(kept)
    file.seek(0)
    return None


def _open(file: BinaryIO, size: int, what: str, formats: tuple[str, ...]) -> Image.Image:
    """Read the header only, and refuse what is too large."""
    if size > MAX_FILE:
        raise PictureError(f"{what} is a file of more than {MAX_FILE >> 20} MiB; make it smaller.")
    try:
        picture = Image.open(file, formats=formats)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise PictureError(
            f"{what} has more than {MAX_PIXELS // 10**6} million pixels; make it smaller."
        ) from None
    except _BROKEN:
        names = formats[0] if len(formats) == 1 else ", ".join(formats[:-1]) + f" or {formats[-1]}"
        raise PictureError(f"{what} is damaged or not a {names} file; give another.") from None
    return picture


def _decode(picture: Image.Image, what: str) -> Image.Image:
    """Upright 8 bit RGBA, after the header's size has been checked."""
    width, height = picture.size
    if width * height > MAX_PIXELS or max(width, height) > MAX_SIDE or min(width, height) < 1:
        raise PictureError(
            f"{what} is {width} x {height} pixels; give at most {MAX_SIDE} a side and "
            f"{MAX_PIXELS // 10**6} million in all."
        )
    try:
        picture.load()
        rgba = to_srgb(picture, _to_rgba(picture))
    except _BROKEN:
        raise PictureError(f"{what} is damaged; give another file.") from None
    try:
        orientation = picture.getexif().get(0x0112)
    except _BROKEN:  # the picture is fine, only its notes are not
        orientation = None
    if orientation in (2, 3, 4, 5, 6, 7, 8):
        rgba.getexif()[0x0112] = orientation
        rgba = ImageOps.exif_transpose(rgba)
    clean = Image.new("RGBA", rgba.size)  # without the file's notes, so that equal pixels make equal files
    clean.paste(rgba)
    return clean


def _to_rgba(picture: Image.Image) -> Image.Image:
    mode = picture.mode
    if mode in ("I", "F") or mode.startswith("I;16"):
        return _from_deep_grey(picture)
    if mode in ("RGBA", "RGB", "L", "LA", "P", "PA", "1", "RGBa", "La"):
        return picture.convert("RGBA")
    return picture.convert("RGB").convert("RGBA")


def _from_deep_grey(picture: Image.Image) -> Image.Image:
    """16-bit grey to 8 bit, 65535 becoming 255; Pillow's own conversion clips at 255 instead."""
    values = np.asarray(picture).astype(np.float64)
    if not np.isfinite(values).all() or values.min(initial=0) < 0 or values.max(initial=0) > 65535:
        raise ValueError("not a 16-bit picture")
    if picture.mode == "F" and values.max(initial=0) <= 1:
        values = values * 65535
    grey = np.rint(values / 257).astype(np.uint8)
    clear = picture.info.get("transparency")
    alpha = (
        np.where(values == clear, 0, 255).astype(np.uint8)
        if isinstance(clear, int)
        else np.full_like(grey, 255)
    )
    return Image.fromarray(np.dstack((grey, grey, grey, alpha)))
