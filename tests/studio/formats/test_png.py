"""A rendered PNG: every viewer shows it, and it opens as the collage that made it."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipelines.errors import ArchiveError
from pipelines.events import RenderResult
from pipelines.pictures import PictureStore
from studio.document import MAX_SEED, Collage, Layer
from studio.formats import archive, png
from studio.pictures import Library
from studio.to_request import to_request

PIXELS = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)


@pytest.fixture
def collage(library: Library) -> Collage:
    digest = library.add(Image.new("RGB", (20, 20), "red"))
    layer = Layer(id="a", name="Käse", prompt="cheese", picture=digest, x=30.0, y=20.0)
    return Collage(
        canvas={"width": 64, "height": 64}, prompt="a table", negative_prompt="rain", layers=(layer,)
    )


def result(collage: Collage, library: Library) -> RenderResult:
    request = to_request(collage, library, PictureStore()).request
    return RenderResult(request, tuple(PIXELS + image for image in range(request.images)), {"seconds": 2.5})


def test_the_picture_is_what_it_was_and_the_collage_comes_back(
    collage: Collage, library: Library, tmp_path: Path
) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(png.embed(PIXELS, collage, library, {"seconds": 1.5, "machine": "Käse"}))
    with Image.open(path) as picture:
        picture.load()
        assert (picture.format, picture.mode) == ("PNG", "RGB")
        assert (np.asarray(picture) == PIXELS).all()
    again, pictures = png.read(path)
    assert again == collage
    assert list(pictures) == list(collage.pictures())
    assert png.read_report(path.read_bytes()) == {"seconds": 1.5, "machine": "Käse"}


def test_the_chunk_is_ancillary_private_and_safe_to_copy() -> None:
    assert [letter & 0x20 > 0 for letter in png.CHUNK] == [True, True, False, True]


def test_the_bytes_are_the_same_each_time(collage: Collage, library: Library) -> None:
    assert png.embed(PIXELS, collage, library, {}) == png.embed(PIXELS, collage, library, {})


def test_the_parameters_text_tells_what_was_used(collage: Collage, library: Library) -> None:
    done = result(collage.replace(seed=7, steps=9, images=2), library)
    data = png.embed_result(done, 1, collage, library)
    with Image.open(io.BytesIO(data)) as picture:
        picture.load()
        text = picture.info["parameters"]
    assert text.splitlines() == [
        "a table, cheese",
        "Negative prompt: rain",
        f"Steps: 9, Sampler: {done.request.scheduler}, CFG scale: {done.request.guidance}, Seed: 8, "
        "Size: 64x64, Model: embedded, Version: Decollage",
    ]


def test_the_parameters_text_without_a_request(library: Library) -> None:
    data = png.embed(PIXELS, Collage(prompt="sea"), library, {})
    with Image.open(io.BytesIO(data)) as picture:
        picture.load()
        assert picture.info["parameters"] == "sea\nSize: 256x256, Model: embedded, Version: Decollage"


def test_an_image_of_a_batch_carries_the_collage_that_makes_it_alone(
    collage: Collage, library: Library
) -> None:
    done = result(collage.replace(images=3), library)  # a random seed is recorded
    for image in range(3):
        again, _ = png.read_bytes(png.embed_result(done, image, collage, library))
        assert again == collage.replace(seed=done.request.seed + image, images=1)
        alone = result(again, library).request
        assert alone == done.request.replace(seed=done.request.seed + image, images=1)


def test_the_largest_seeds_come_back_too(collage: Collage, library: Library) -> None:
    done = result(collage.replace(images=16, seed=MAX_SEED - 15), library)
    again, _ = png.read_bytes(png.embed_result(done, 15, collage, library))
    assert again == collage.replace(seed=MAX_SEED, images=1)


def test_the_report_holds_the_request(collage: Collage, library: Library) -> None:
    done = result(collage.replace(seed=3), library)
    report = png.read_report(png.embed_result(done, 0, collage, library))
    assert (report["seconds"], report["seed"], report["image"]) == (2.5, 3, 0)
    assert report["request"]["prompt"] == "a table, cheese"


@pytest.mark.parametrize("tie", [{"spread": 1.0}, {"vary": 1.0}])
def test_images_that_depend_on_each_other_carry_the_whole_batch(
    collage: Collage, library: Library, tie: dict[str, float]
) -> None:
    tied = collage.replace(seed=5, images=3)
    tied = tied.replace(**tie) if "spread" in tie else tied.replace_layer("a", **tie)
    done = result(tied, library)
    assert png.is_joint(done.request)
    assert png.read_bytes(png.embed_result(done, 2, tied, library))[0] == tied
    assert not png.is_joint(done.request.replace(images=1))


def test_a_png_without_a_collage_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "plain.png"
    Image.fromarray(PIXELS).save(path)
    with pytest.raises(ArchiveError, match=r"'plain.png': it carries no collage; add it as a picture"):
        png.read(path)
    assert png.read_report(path.read_bytes()) == {}


def test_damage_is_refused(collage: Collage, library: Library) -> None:
    data = png.embed(PIXELS, collage, library, {"seconds": 1})
    with pytest.raises(ArchiveError, match="not a PNG"):
        png.read_bytes(b"GIF89a" + data)
    at = data.index(png.CHUNK) + 40
    with pytest.raises(ArchiveError, match="damaged"):
        png.read_bytes(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])
    with pytest.raises(ArchiveError, match="damaged"):
        png.read_bytes(data[:at])


def test_a_chunk_that_claims_to_be_huge_is_refused() -> None:
    data = png.SIGNATURE + struct.pack(">I", 2**31 - 1) + png.CHUNK + b"PK"
    with pytest.raises(ArchiveError, match="damaged"):
        png.read_bytes(data + bytes(12))


def test_a_report_that_is_a_bomb_is_refused() -> None:
    body = png.REPORT.encode() + b"\0\1\0\0\0" + zlib.compress(b" " * (2 * archive.MAX_FILE))
    chunk = struct.pack(">I", len(body)) + b"iTXt" + body + struct.pack(">I", zlib.crc32(b"iTXt" + body))
    with pytest.raises(ArchiveError, match="report is damaged"):
        png.read_report(png.SIGNATURE + chunk)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ArchiveError, match=r"'no.png' cannot be opened"):
        png.read(tmp_path / "no.png")
