"""The .collage file: comes back equal, is written in one step, and believes nothing that a header claims."""

from __future__ import annotations

import hashlib
import io
import json
import struct
import zipfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

import studio.formats.archive as archive
from pipelines.errors import ArchiveError, FieldError, PictureError, VersionError
from studio.document import Collage, Layer
from studio.pictures import Library


@pytest.fixture
def collage(library: Library) -> Collage:
    digest = library.add(Image.new("RGB", (20, 20), "red"))
    library.add(Image.new("RGB", (20, 20), "blue"))  # of no use to the collage
    return Collage(name="one", seed=0, layers=(Layer(id="a", name="Käse", picture=digest, x=10.0, y=20.0),))


def pack(*members: tuple[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as file:
        for name, data in members:
            file.writestr(zipfile.ZipInfo(name), data, compress_type=method)
    return buffer.getvalue()


def members(collage: Collage, library: Library, **changes: Any) -> list[tuple[str, bytes]]:
    document = json.dumps({**collage.to_dict(), **changes}).encode()
    return [("collage.json", document)] + [
        (f"pictures/{digest}.png", library.bytes(digest)) for digest in collage.pictures()
    ]


@given(data=st.data())
def test_generated_documents_come_back_equal(
    collages: st.SearchStrategy[Collage], few_pictures: Library, data: st.DataObject
) -> None:
    collage = data.draw(collages)
    packed = archive.write_bytes(collage, few_pictures)
    again, library = archive.read_bytes(packed)
    assert again == collage
    assert sorted(library) == sorted(collage.pictures())
    assert all(library.bytes(digest) == few_pictures.bytes(digest) for digest in library)
    assert archive.write_bytes(again, library) == packed


def test_a_file_and_a_folder_hold_the_same(collage: Collage, library: Library, tmp_path: Path) -> None:
    file, folder = tmp_path / "one.collage", tmp_path / "folder"
    folder.mkdir()
    archive.write(file, collage, library)
    archive.write(folder, collage, library)
    for path in (file, folder):
        again, pictures = archive.read(path)
        assert again == collage
        assert list(pictures) == list(collage.pictures())
    with zipfile.ZipFile(file) as pack:
        assert sorted(pack.namelist()) == sorted(
            str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()
        )


def test_the_bytes_are_the_same_each_time_and_the_pictures_sorted(library: Library) -> None:
    digests = [library.add(Image.new("L", (2, 2), grey)) for grey in range(5)]
    layers = [Layer(id=f"n{n}", picture=digest, x=0.0, y=0.0) for n, digest in enumerate(digests)]
    packed = archive.write_bytes(Collage(layers=layers), library)
    assert packed == archive.write_bytes(Collage(layers=layers), library.copy(reversed(digests)))
    with zipfile.ZipFile(io.BytesIO(packed)) as file:
        assert file.namelist() == ["collage.json", *(f"pictures/{digest}.png" for digest in sorted(digests))]
        assert {entry.date_time for entry in file.infolist()} == {(1980, 1, 1, 0, 0, 0)}


def test_saving_replaces_the_old_file_in_one_step(
    collage: Collage, library: Library, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "one.collage"
    archive.write(path, collage, library)
    archive.write(path, collage.replace(seed=7), library)
    assert archive.read(path)[0].seed == 7
    before = path.read_bytes()

    def fail(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(archive.os, "fsync", fail)
    with pytest.raises(ArchiveError, match=r"'one.collage' cannot be saved \(No space left on device"):
        archive.write(path, collage, library)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_saving_where_there_is_no_folder_is_refused(
    collage: Collage, library: Library, tmp_path: Path
) -> None:
    with pytest.raises(ArchiveError, match="cannot be saved"):
        archive.write(tmp_path / "no" / "one.collage", collage, library)


def test_a_missing_picture_is_not_saved_over(collage: Collage, tmp_path: Path) -> None:
    with pytest.raises(PictureError, match="missing"):
        archive.write(tmp_path / "one.collage", collage, Library())
    assert list(tmp_path.iterdir()) == []


def test_a_future_version_is_refused_with_the_file_named(
    collage: Collage, library: Library, tmp_path: Path
) -> None:
    path = tmp_path / "new.collage"
    path.write_bytes(pack(*members(collage, library, version=2)))
    with pytest.raises(VersionError, match=r"'new.collage': the collage has version 2"):
        archive.read(path)


def test_a_bad_field_is_refused_with_the_file_named(
    collage: Collage, library: Library, tmp_path: Path
) -> None:
    path = tmp_path / "odd.collage"
    path.write_bytes(pack(*members(collage, library, sed=2)))
    with pytest.raises(FieldError, match=r"'odd.collage': unknown field 'sed'; did you mean 'seed'"):
        archive.read(path)


@pytest.mark.parametrize(
    "name", ["../collage.json", "/collage.json", "pictures/../../x.png", "pictures\\x.png", "C:x.png"]
)
def test_an_entry_that_leaves_the_folder_is_refused(collage: Collage, library: Library, name: str) -> None:
    with pytest.raises(ArchiveError, match="leaves the folder"):
        archive.read_bytes(pack(*members(collage, library), (name, b"x")))


@pytest.mark.parametrize("name", ["readme.txt", "pictures/cat.png", "deep/collage.json"])
def test_an_unexpected_file_is_refused(collage: Collage, library: Library, name: str) -> None:
    with pytest.raises(ArchiveError, match="unexpected file"):
        archive.read_bytes(pack(*members(collage, library), (name, b"x")))


def test_the_same_entry_twice_is_refused(collage: Collage, library: Library) -> None:
    with pytest.warns(UserWarning, match="Duplicate"):
        packed = pack(*members(collage, library), ("collage.json", b"{}"))
    with pytest.raises(ArchiveError, match=r"'collage.json' twice"):
        archive.read_bytes(packed)


def test_folder_entries_are_harmless(collage: Collage, library: Library) -> None:
    assert archive.read_bytes(pack(("pictures/", b""), *members(collage, library)))[0] == collage


def test_a_picture_that_is_not_what_its_name_says_is_refused(collage: Collage, library: Library) -> None:
    document, (name, _) = members(collage, library)
    other = library.bytes(library.add(Image.new("RGB", (3, 3), "lime")))
    with pytest.raises(ArchiveError, match="is not what its name says"):
        archive.read_bytes(pack(document, (name, other)))
    with pytest.raises(ArchiveError, match=r"the picture 'pictures/.*' is missing"):
        archive.read_bytes(pack(document))


def test_a_corrupt_picture_is_refused(tmp_path: Path) -> None:
    data = b"\x89PNG\r\n\x1a\nnonsense"
    digest = hashlib.sha256(data).hexdigest()
    collage = Collage(layers=(Layer(id="a", picture=digest, x=0.0, y=0.0),))
    packed = pack(("collage.json", collage.to_json().encode()), (f"pictures/{digest}.png", data))
    with pytest.raises(PictureError, match="is damaged"):
        archive.read_bytes(packed)


def test_an_archive_without_a_document_is_refused() -> None:
    with pytest.raises(ArchiveError, match=r"it holds no collage.json"):
        archive.read_bytes(pack())


@pytest.mark.parametrize("cut", [0.1, 0.5, 0.9, 0.99])
def test_a_cut_file_is_refused(collage: Collage, library: Library, cut: float) -> None:
    packed = archive.write_bytes(collage, library)
    with pytest.raises(ArchiveError, match="another copy"):
        archive.read_bytes(packed[: int(len(packed) * cut)])


@given(data=st.data())
def test_flipped_bytes_never_get_through_as_something_else(
    collages: st.SearchStrategy[Collage], few_pictures: Library, data: st.DataObject
) -> None:
    collage = Collage(layers=(Layer(id="a", picture=next(iter(few_pictures)), x=0.0, y=0.0),))
    packed = bytearray(archive.write_bytes(collage, few_pictures))
    packed[data.draw(st.integers(0, len(packed) - 1))] ^= data.draw(st.integers(1, 255))
    try:
        again, _ = archive.read_bytes(bytes(packed))
    except (ArchiveError, FieldError, PictureError, VersionError):
        return
    assert again == collage


def lying(packed: bytes, name: str, size: int) -> bytes:
    """The same zip, its headers claiming that ``name`` unpacks to ``size`` bytes."""
    changed = bytearray(packed)
    for signature, at in ((b"PK\3\4", 22), (b"PK\1\2", 24)):
        found = -1
        while (found := packed.find(signature, found + 1)) >= 0:
            head = 30 if signature == b"PK\3\4" else 46
            if packed[found + head : found + head + len(name)] == name.encode():
                changed[found + at : found + at + 4] = struct.pack("<I", size)
    return bytes(changed)


def test_a_bomb_is_counted_while_it_unpacks(collage: Collage, library: Library) -> None:
    name = f"pictures/{'0' * 64}.png"
    bomb = pack(*members(collage, library), (name, bytes(archive.MAX_FILE + 1)))
    assert len(bomb) < 10**6
    with pytest.raises(ArchiveError, match="unpacks to more than 128 MiB"):
        archive.read_bytes(bomb)


@pytest.mark.parametrize("claimed", [10, 2**32 - 2])
def test_headers_that_lie_about_the_size_are_not_believed(
    collage: Collage, library: Library, claimed: int
) -> None:
    name = f"pictures/{'0' * 64}.png"
    packed = pack(*members(collage, library), (name, bytes(3 * 2**20)))
    assert archive.read_bytes(packed)[0] == collage
    if claimed == 10:  # cut off at the claim, which the checksum then betrays
        with pytest.raises(ArchiveError, match="damaged"):
            archive.read_bytes(lying(packed, name, claimed))
    else:  # 4 GiB claimed, 3 MiB there: what counts is what comes
        assert archive.read_bytes(lying(packed, name, claimed))[0] == collage


def test_all_files_together_are_bounded(
    collage: Collage, library: Library, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archive, "MAX_TOTAL", 2**20)
    monkeypatch.setattr(archive, "MAX_JSON", 2**16)
    bombs = [(f"pictures/{n:064d}.png", bytes(2**19)) for n in range(4)]
    with pytest.raises(ArchiveError, match="or all files together do"):
        archive.read_bytes(pack(*members(collage, library), *bombs))


def test_a_document_that_unpacks_too_large_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ArchiveError, match=r"'collage.json' unpacks to more than 4 MiB"):
        archive.read_bytes(pack(("collage.json", b" " * (archive.MAX_JSON + 1))))


def test_a_file_over_the_limit_is_not_read(
    collage: Collage, library: Library, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "one.collage"
    archive.write(path, collage, library)
    monkeypatch.setattr(archive, "MAX_ARCHIVE", 100)
    with pytest.raises(ArchiveError, match=r"'one.collage': it is larger than"):
        archive.read(path)


def test_too_many_entries_are_refused(collage: Collage, library: Library) -> None:
    many = [(f"pictures/{n:064d}.png", b"") for n in range(archive.MAX_ENTRIES)]
    with pytest.raises(ArchiveError, match="more than 256 files"):
        archive.read_bytes(pack(*members(collage, library), *many))


def test_a_lying_count_of_entries_is_not_believed(collage: Collage, library: Library) -> None:
    many = [(f"pictures/{n:064d}.png", b"") for n in range(archive.MAX_ENTRIES)]
    packed = bytearray(pack(*members(collage, library), *many))
    end = packed.rfind(b"PK\5\6")
    packed[end + 8 : end + 12] = struct.pack("<HH", 2, 2)
    with pytest.raises(ArchiveError, match="more than 256 files"):
        archive.read_bytes(bytes(packed))


def test_a_64_bit_list_of_contents_is_refused(collage: Collage, library: Library) -> None:
    packed = archive.write_bytes(collage, library)
    end = packed.rfind(b"PK\5\6")
    locator = struct.pack("<4sIQI", b"PK\6\7", 0, 0, 1)
    with pytest.raises(ArchiveError, match="more than 256 files"):
        archive.read_bytes(packed[:end] + locator + packed[end:])


def test_other_ways_of_packing_and_locked_files_are_refused(collage: Collage, library: Library) -> None:
    with pytest.raises(ArchiveError, match="in a way that is not read"):
        archive.read_bytes(pack(*members(collage, library), method=zipfile.ZIP_LZMA))
    packed = bytearray(pack(*members(collage, library)))
    for signature, at in ((b"PK\3\4", 6), (b"PK\1\2", 8)):
        found = packed.find(signature)
        packed[found + at] |= 1  # "encrypted"
    with pytest.raises(ArchiveError, match="damaged"):
        archive.read_bytes(bytes(packed))


def test_a_folder_reads_only_what_lies_in_it(collage: Collage, library: Library, tmp_path: Path) -> None:
    folder, outside = tmp_path / "folder", tmp_path / "outside.png"
    folder.mkdir()
    archive.write(folder, collage, library)
    (folder / ".DS_Store").write_bytes(b"x")
    assert archive.read(folder)[0] == collage
    picture = next((folder / "pictures").iterdir())
    outside.write_bytes(picture.read_bytes())
    picture.unlink()
    with pytest.raises(ArchiveError, match=r"'folder': it holds no 'pictures/.*'; give a folder"):
        archive.read(folder)
    picture.symlink_to(outside)
    with pytest.raises(ArchiveError, match=r"'folder': its entry 'pictures/.*' leaves the folder"):
        archive.read(folder)


def test_a_folder_without_a_document_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path / "empty")
    for path in (Path.cwd(), "."):
        with pytest.raises(ArchiveError, match=r"^'empty': it holds no 'collage.json'"):
            archive.read(path)


def test_saving_into_a_folder_again_replaces_the_document(
    collage: Collage, library: Library, tmp_path: Path
) -> None:
    archive.write(tmp_path, collage, library)
    blue = library.add(Image.new("RGB", (20, 20), "blue"))
    archive.write(tmp_path, collage.replace_layer("a", picture=blue), library)
    assert next(archive.read(tmp_path)[0].pictures()) == blue
