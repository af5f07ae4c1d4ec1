"""Picture files: refused before they are decoded when too large, read right whatever their kind."""

from __future__ import annotations

import hashlib
import io
import struct
import subprocess
import sys
import threading
import time
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

import studio.pictures
from pipelines.errors import PictureError
from studio.pictures import Library, read_pixels


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png(width: int, height: int, depth: int, kind: int, rows: bytes = b"", extra: bytes = b"") -> bytes:
    """A PNG file made by hand; ``kind`` 0 is grey, 2 RGB, 4 grey with alpha, 6 RGBA."""
    header = struct.pack(">IIBBBBB", width, height, depth, kind, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + extra
        + chunk(b"IDAT", zlib.compress(rows))
        + chunk(b"IEND", b"")
    )


def file(picture: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return buffer.getvalue()


def pixels(library: Library, source: bytes | Image.Image) -> np.ndarray:
    picture = library.open(library.add(source))
    assert picture.mode == "RGBA"
    return np.asarray(picture)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (png(30000, 30000, 8, 6), "more than 64 million pixels"),
        (
            png(30000, 1, 8, 6),
            "the picture is 30000 x 1 pixels; give at most 16384 a side and 64 million in all.",
        ),
        (png(8001, 8001, 8, 6), "the picture is 8001 x 8001 pixels"),
        (png(0, 5, 8, 6), "damaged"),
        (png(5, 5, 8, 6, b"\0short"), "the picture is damaged; give another file."),
        (b"", "damaged or not a PNG, JPEG, WEBP, GIF, BMP or TIFF file"),
        (b"%PDF-1.4", "damaged or not a PNG"),
    ],
)  # the large ones hold no pixels: decoding them would say "damaged"
def test_bad_pictures_are_refused_and_nothing_is_kept(library: Library, data: bytes, message: str) -> None:
    with pytest.raises(PictureError, match=message):
        library.add(data)
    assert len(library) == 0


def test_pillow_warns_of_nothing(tmp_path: Path) -> None:
    """A large picture is refused in our words alone, and damaged notes are no news. As a program has it: the tests'
    own filters make errors of warnings.
    """
    (tmp_path / "large.png").write_bytes(png(10000, 10000, 8, 6))
    notes = b"Exif\0\0II*\0\x08\0\0\0\xff\xff\x12\x01\x03\0\x01\0\0\0"
    (tmp_path / "noted.jpg").write_bytes(file(Image.new("RGB", (20, 20)), "JPEG", exif=notes))
    start = """
import sys, warnings
from PIL import Image
from studio.pictures import Library, PictureError
Library().add(sys.argv[2])
try:
    Library().add(sys.argv[1])
except PictureError as error:
    print(error)
warnings.warn("of another's")
"""
    command = [sys.executable, "-c", start, str(tmp_path / "large.png"), str(tmp_path / "noted.jpg")]
    done = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parents[2], check=True)
    assert done.stdout.startswith("the picture 'large.png' is 10000 x 10000 pixels; give at most")
    assert done.stderr.splitlines() == ["<string>:10: UserWarning: of another's"]


def test_a_missing_file_is_a_picture_error(library: Library, tmp_path: Path) -> None:
    with pytest.raises(PictureError, match=r"the picture 'no.png' cannot be read \(No such file"):
        library.add(tmp_path / "no.png")


def test_a_file_over_the_limit_is_refused(library: Library, monkeypatch: pytest.MonkeyPatch) -> None:
    data = file(Image.new("RGB", (20, 20)))
    monkeypatch.setattr(studio.pictures, "MAX_FILE", len(data) - 1)
    with pytest.raises(PictureError, match="a file of more than"):
        library.add(data)


def test_a_collage_that_a_png_carries_does_not_count(
    library: Library, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    notes = PngInfo()
    notes.add(b"clLg", bytes(50_000))
    picture, path = Image.new("RGB", (20, 20), "red"), tmp_path / "result.png"
    picture.save(path, pnginfo=notes)
    plain = len(file(picture))
    monkeypatch.setattr(studio.pictures, "MAX_FILE", plain + 200)
    assert library.open(library.add(path)).getpixel((3, 3)) == (255, 0, 0, 255)
    assert (read_pixels(path) == (255, 0, 0)).all()
    monkeypatch.setattr(studio.pictures, "MAX_FILE", plain - 1)
    with pytest.raises(PictureError, match=r"'result.png' is a file of more than"):
        library.add(path)
    (tmp_path / "no.jpg").write_bytes(bytes(plain))
    with pytest.raises(PictureError, match=r"'no.jpg' is a file of more than"):
        library.add(tmp_path / "no.jpg")
    path.write_bytes(path.read_bytes()[:-20])
    monkeypatch.setattr(studio.pictures, "MAX_FILE", plain + 200)
    with pytest.raises(PictureError, match=r"'result.png' is a file of more than"):
        library.add(path)


def test_two_pictures_are_decoded_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where eight visitors ask at once: what is decoded takes far more memory than its file."""
    decode, lock, now, most = studio.pictures._decode, threading.Lock(), 0, 0

    def slowly(picture: Image.Image, what: str) -> Image.Image:
        nonlocal now, most
        with lock:
            now, most = now + 1, max(most, now + 1)
        time.sleep(0.02)
        with lock:
            now -= 1
        return decode(picture, what)

    monkeypatch.setattr(studio.pictures, "_decode", slowly)
    data = file(Image.new("RGB", (20, 20)))
    ways: list[Callable[[], object]] = [
        lambda: Library().add(data),
        lambda: Library().adopt(data),
        lambda: read_pixels(data),
    ]
    with ThreadPoolExecutor(9) as pool:
        for done in [pool.submit(way) for way in 3 * ways]:
            done.result()
    assert most == 2


def test_the_library_as_a_whole_is_bounded(library: Library, monkeypatch: pytest.MonkeyPatch) -> None:
    first = library.add(Image.new("RGB", (20, 20)))
    monkeypatch.setattr(studio.pictures, "MAX_TOTAL_PIXELS", 700)
    with pytest.raises(PictureError, match="all pictures together have more than"):
        library.add(Image.new("RGB", (20, 20), "red"))
    monkeypatch.setattr(studio.pictures, "MAX_TOTAL_PIXELS", 800)
    monkeypatch.setattr(studio.pictures, "MAX_TOTAL", len(library.bytes(first)) + 10)
    with pytest.raises(PictureError, match="all pictures together take more than"):
        library.add(Image.new("RGB", (20, 20), "red"))
    assert list(library) == [first]
    assert library.add(Image.new("RGB", (20, 20))) == first  # what is there already costs nothing


def test_a_digest_is_the_sha256_of_the_kept_file(library: Library) -> None:
    digest = library.add(Image.new("RGB", (3, 2), "red"))
    assert hashlib.sha256(library.bytes(digest)).hexdigest() == digest
    assert library.size(digest) == (3, 2)
    assert digest in library


def test_equal_pixels_make_equal_files(library: Library, tmp_path: Path) -> None:
    picture = Image.effect_noise((9, 7), 80).convert("RGB")
    path = tmp_path / "noted.png"
    path.write_bytes(file(picture, dpi=(300, 300)))
    digest = library.add(picture)
    assert library.add(path) == digest
    assert library.add(str(path)) == digest
    assert library.add(library.bytes(digest)) == digest
    assert library.adopt(library.bytes(digest)) == digest


def test_adopting_keeps_the_file_as_it_is_and_takes_png_only(library: Library) -> None:
    grey = file(Image.new("L", (4, 4), 7))
    digest = library.adopt(grey)
    assert library.bytes(digest) == grey
    assert library.open(digest).getpixel((0, 0)) == (7, 7, 7, 255)
    with pytest.raises(PictureError, match="not a PNG file"):
        library.adopt(file(Image.new("L", (4, 4)), "JPEG"))
    with pytest.raises(PictureError, match="damaged"):
        library.adopt(grey[: len(grey) // 2])


def test_a_missing_picture_is_named(library: Library) -> None:
    for ask in (library.open, library.bytes, library.size):
        with pytest.raises(PictureError, match="picture aaaaaaaaaaaa is missing"):
            ask("a" * 64)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(library: Library, orientation: int) -> None:
    upright = np.arange(6, dtype=np.uint8).reshape(2, 3) * 40
    # How each kind of camera stores an upright picture (EXIF 2.3, tag 0x0112).
    stored = {
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.T,
        6: np.rot90(upright),
        7: upright[::-1, ::-1].T,
        8: np.rot90(upright, -1),
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    found = pixels(library, file(Image.fromarray(np.ascontiguousarray(stored)), exif=exif))
    assert (found[..., 0] == upright).all()


def test_16_bit_grey_keeps_its_range(library: Library) -> None:
    values = np.array([0, 257, 32896, 65535], dtype=">u2")
    found = pixels(library, png(4, 1, 16, 0, b"\0" + values.tobytes()))
    assert found[0, :, 0].tolist() == [0, 1, 128, 255]
    assert (found[..., 3] == 255).all()


def test_16_bit_grey_with_a_transparent_value(library: Library) -> None:
    values = np.array([0, 257, 65535], dtype=">u2")
    found = pixels(
        library, png(3, 1, 16, 0, b"\0" + values.tobytes(), chunk(b"tRNS", struct.pack(">H", 257)))
    )
    assert found[0, :, 3].tolist() == [255, 0, 255]


def test_16_bit_colour_with_alpha(library: Library) -> None:
    values = np.array([0, 257, 65535, 32896], dtype=">u2")
    assert pixels(library, png(1, 1, 16, 6, b"\0" + values.tobytes())).tolist() == [[[0, 1, 255, 128]]]


def test_a_16_bit_tiff_keeps_its_range(library: Library) -> None:
    picture = Image.fromarray(np.array([[0, 65535]], dtype=np.uint16))
    assert pixels(library, file(picture, "TIFF"))[0, :, 0].tolist() == [0, 255]


def test_a_picture_of_numbers_that_are_no_colours_is_refused(library: Library) -> None:
    for value in (np.nan, -1.0, 1e9):
        with pytest.raises(PictureError, match="damaged"):
            library.add(Image.fromarray(np.full((2, 2), value, dtype=np.float32)))


def test_palette_with_transparency(library: Library) -> None:
    picture = Image.new("P", (2, 1))
    picture.putpalette([255, 0, 0, 0, 255, 0])
    picture.putpixel((1, 0), 1)
    found = pixels(library, file(picture, transparency=bytes([255, 7])))
    assert found.tolist() == [[[255, 0, 0, 255], [0, 255, 0, 7]]]


def test_a_transparent_gif(library: Library) -> None:
    picture = Image.new("P", (2, 1))
    picture.putpalette([255, 0, 0, 0, 255, 0])
    picture.putpixel((1, 0), 1)
    found = pixels(library, file(picture, "GIF", transparency=1))
    assert found[0, :, 3].tolist() == [255, 0]


@pytest.mark.parametrize(
    ("picture", "expected"),
    [
        (Image.new("1", (1, 1), 1), (255, 255, 255, 255)),
        (Image.new("L", (1, 1), 9), (9, 9, 9, 255)),
        (Image.new("LA", (1, 1), (9, 100)), (9, 9, 9, 100)),
        (Image.new("RGB", (1, 1), (1, 2, 3)), (1, 2, 3, 255)),
        (Image.new("RGBA", (1, 1), (1, 2, 3, 4)), (1, 2, 3, 4)),
        (Image.new("CMYK", (1, 1), (0, 255, 255, 0)), (255, 0, 0, 255)),
        (Image.new("HSV", (1, 1), (0, 255, 255)), (255, 0, 0, 255)),
    ],
    ids=lambda value: getattr(value, "mode", ""),
)
def test_every_mode_becomes_rgba(
    library: Library, picture: Image.Image, expected: tuple[int, int, int, int]
) -> None:
    assert tuple(pixels(library, picture)[0, 0]) == expected


def test_a_cmyk_jpeg_keeps_its_colour(library: Library) -> None:
    found = pixels(library, file(Image.new("CMYK", (8, 8), (0, 255, 255, 0)), "JPEG"))
    assert np.abs(found[0, 0].astype(int) - (255, 0, 0, 255)).max() <= 3


def test_open_gives_a_fresh_picture_each_time(library: Library) -> None:
    digest = library.add(Image.new("RGB", (2, 2), "red"))
    library.open(digest).putpixel((0, 0), (0, 0, 0, 0))
    assert library.open(digest).getpixel((0, 0)) == (255, 0, 0, 255)


def test_copies_are_independent(library: Library) -> None:
    red = library.add(Image.new("RGB", (2, 2), "red"))
    blue = library.add(Image.new("RGB", (2, 2), "blue"))
    some, every = library.copy([red]), library.copy()
    assert (list(some), list(every)) == ([red], [red, blue])
    green = some.add(Image.new("RGB", (2, 2), "green"))
    assert green not in library
    library.update(some)
    assert set(library) == {red, blue, green}
    with pytest.raises(PictureError, match="missing"):
        library.copy(["b" * 64])
