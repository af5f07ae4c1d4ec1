"""ICC profiles: pictures of other colour spaces come in as sRGB; broken profiles are no reason to refuse one."""

from __future__ import annotations

import io
import struct

import numpy as np
import pytest
from PIL import Image, ImageCms

import studio.colour
from studio.pictures import Library

ADOBE = {"r": (0.60974, 0.31111, 0.01947), "g": (0.20528, 0.62567, 0.06087), "b": (0.14919, 0.06322, 0.74457)}
"""Adobe RGB (1998), section 4.3.5.3: its primaries, adapted to D50."""
SRGB = np.array([(0.43607, 0.22249, 0.01392), (0.38515, 0.71687, 0.09708), (0.14307, 0.06061, 0.71410)])
GAMMA = 563 / 256
WHITE = (0.9642, 1.0, 0.8249)


def xyz(values: tuple[float, ...]) -> bytes:
    return b"XYZ \0\0\0\0" + struct.pack(">3i", *(round(value * 65536) for value in values))


def gamma(value: float) -> bytes:
    return b"curv\0\0\0\0" + struct.pack(">IH", 1, round(value * 256))


def profile(space: bytes, tags: dict[bytes, bytes], kind: bytes = b"mntr", between: bytes = b"XYZ ") -> bytes:
    """An ICC profile of version 2 made by hand (ICC.1:2001-04): header, table of tags, tags."""
    text = b"text\0\0\0\0free\0"
    name = b"desc\0\0\0\0" + struct.pack(">I", 5) + b"made\0" + bytes(78)
    tags = {b"desc": name, b"cprt": text, b"wtpt": xyz(WHITE), **tags}
    at, table, body = 132 + 12 * len(tags), struct.pack(">I", len(tags)), b""
    for key, value in tags.items():
        table += key + struct.pack(">II", at + len(body), len(value))
        body += value + bytes(-len(value) % 4)
    header = struct.pack(
        ">I4sI4s4s4s12s4s28s", at + len(body), b"", 0x02400000, kind, space, between, b"", b"acsp", b""
    )
    return header + xyz(WHITE)[8:] + bytes(48) + table + body


def adobe_rgb() -> bytes:
    tags = {f"{name}XYZ".encode(): xyz(place) for name, place in ADOBE.items()}
    return profile(b"RGB ", tags | {f"{name}TRC".encode(): gamma(GAMMA) for name in ADOBE})


def grey_of(curve: float) -> bytes:
    return profile(b"GRAY", {b"kTRC": gamma(curve)})


def inks() -> bytes:
    """A printer without colours, its table an lut8 of two steps an ink: all cyan is L* 50, all black L* 0."""
    corners = [
        (round(255 * (1 - cyan / 2) * (1 - black)), 128, 128)
        for cyan in (0, 1)
        for _magenta in (0, 1)
        for _yellow in (0, 1)
        for black in (0, 1)
    ]
    same = struct.pack(">9i", *(65536 * one for one in (1, 0, 0, 0, 1, 0, 0, 0, 1)))
    table = b"mft1\0\0\0\0" + bytes([4, 3, 2, 0]) + same + bytes(range(256)) * 4
    table += bytes(value for corner in corners for value in corner) + bytes(range(256)) * 3
    return profile(b"CMYK", {b"A2B0": table}, b"prtr", b"Lab ")


def encoded(linear: np.ndarray) -> np.ndarray:
    """sRGB's curve (IEC 61966-2-1), 0..1 to 0..255."""
    clipped = np.clip(linear, 0, 1)
    return 255 * np.where(clipped <= 0.0031308, clipped * 12.92, 1.055 * clipped ** (1 / 2.4) - 0.055)


def opened(picture: Image.Image, icc: bytes | None, kind: str = "PNG", **options: object) -> np.ndarray:
    """The picture's pixels after it went through a file and a library."""
    buffer = io.BytesIO()
    picture.save(buffer, kind, icc_profile=icc, **options)
    library = Library()
    return np.asarray(library.open(library.add(buffer.getvalue())))


def colours(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (16, 16, 3), dtype=np.uint8)


def test_adobe_rgb_becomes_srgb_as_its_formulas_say() -> None:
    given = colours()
    found = opened(Image.fromarray(given), adobe_rgb())
    linear = (given / 255.0) ** GAMMA @ np.array(list(ADOBE.values())) @ np.linalg.inv(SRGB)
    expected = encoded(linear)
    inside = ((linear > 0.002) & (linear < 0.998)).all(-1)  # sRGB has no name for the others
    assert inside.mean() > 0.3
    assert np.abs(found[..., :3] - expected)[inside].max() <= 2
    assert np.abs(expected - given)[inside].max() > 15, "read as sRGB it would be another picture"


@pytest.mark.parametrize("kind", ["JPEG", "WEBP", "TIFF"])
def test_every_format_that_carries_profiles(kind: str) -> None:
    flat = Image.new("RGB", (16, 16), (60, 160, 90))
    options = {"lossless": True} if kind == "WEBP" else {}
    (expected,) = {tuple(map(int, colour)) for colour in opened(flat, adobe_rgb()).reshape(-1, 4)}
    found = opened(flat, adobe_rgb(), kind, **options)
    assert np.abs(found.astype(int) - expected).max() <= 2
    assert expected[0] < 40, "as red as sRGB can tell it"


def test_alpha_and_palette_keep_their_places() -> None:
    given = np.dstack((colours(), colours(1)[..., 0]))
    found = opened(Image.fromarray(given), adobe_rgb())
    assert (found[..., 3] == given[..., 3]).all()
    assert (found[..., :3] == opened(Image.fromarray(given[..., :3]), adobe_rgb())[..., :3]).all()
    palette = Image.fromarray(given[..., :3]).quantize(8)
    assert (opened(palette, adobe_rgb()) == opened(palette.convert("RGB"), adobe_rgb())).all()


@pytest.mark.parametrize("mode", ["L", "LA"])
def test_grey_profiles(mode: str) -> None:
    values = np.arange(256, dtype=np.uint8)[None]
    found = opened(Image.fromarray(values).convert(mode), grey_of(1.75))
    assert (found[..., 0] == found[..., 1]).all() and (found[..., 3] == 255).all()
    assert np.abs(found[..., 0] - encoded((values / 255.0) ** 1.75)).max() <= 2
    assert int(found[0, 128, 0]) > 145, "darker than it was meant"


def test_srgb_leaves_every_pixel_alone() -> None:
    given = colours()
    data = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    assert (opened(Image.fromarray(given), data)[..., :3] == given).all()


@pytest.mark.parametrize(
    "data",
    [b"no profile", adobe_rgb()[:200], adobe_rgb()[:132] + bytes(300), grey_of(1.75)],
    ids=["words", "cut off", "empty", "grey on colours"],
)
def test_profiles_that_cannot_serve_are_ignored(data: bytes) -> None:
    given = colours()
    assert (opened(Image.fromarray(given), data)[..., :3] == given).all()


@pytest.mark.parametrize(
    ("colour", "lightness"), [((0, 0, 0, 0), 100), ((255, 0, 0, 0), 50), ((0, 0, 0, 102), 60)]
)
def test_inks_are_read_by_their_profile(colour: tuple[int, int, int, int], lightness: float) -> None:
    found = opened(Image.new("CMYK", (4, 4), colour), inks(), "TIFF")[0, 0]
    expected = encoded(np.array(((lightness + 16) / 116) ** 3))
    assert np.abs(found[:3] - expected).max() <= 2 and found[3] == 255
    if colour[0]:
        assert tuple(opened(Image.new("CMYK", (4, 4), colour), None, "TIFF")[0, 0, :3]) == (0, 255, 255)


def test_a_colour_profile_on_inks_is_ignored() -> None:
    red = Image.new("CMYK", (4, 4), (0, 255, 255, 0))
    assert (opened(red, adobe_rgb(), "TIFF") == opened(red, None, "TIFF")).all()


def test_profiles_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    given = colours()
    monkeypatch.setattr(studio.colour, "MAX_PROFILE", len(adobe_rgb()) - 1)
    assert (opened(Image.fromarray(given), adobe_rgb())[..., :3] == given).all()
