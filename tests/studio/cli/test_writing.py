"""Where results go: what cannot be written is said before a run, and takes nothing else with it."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipelines.errors import ArchiveError
from studio.cli.writing import MAX_STEM, cut, make_folder, size_of, stem_of, write_each, write_new


def test_new_files_are_numbered(tmp_path: Path) -> None:
    names = [write_new(tmp_path, "a", bytes([n])).name for n in range(3)]
    assert names == ["a.png", "a-2.png", "a-3.png"]
    assert [(tmp_path / name).read_bytes() for name in names] == [b"\0", b"\1", b"\2"]


def test_two_files_have_one_number_that_is_free_for_both(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_bytes(b"mine")
    (tmp_path / "a-2.png").write_bytes(b"mine")
    assert write_new(tmp_path, "a", b"1", beside=b"2") == tmp_path / "a-3.png"
    found = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert found == {"a.json": b"mine", "a-2.png": b"mine", "a-3.png": b"1", "a-3.json": b"2"}
    long = "b" * 251  # with .png it is as long as a name may be
    with pytest.raises(ArchiveError, match=r"b{251}\.json' cannot be written \(File name too long\)"):
        write_new(tmp_path, long, b"1", beside=b"2")
    assert len([*tmp_path.iterdir()]) == 4, "not one without the other"


def test_long_names_are_cut_between_characters_and_keep_their_end() -> None:
    assert stem_of("evening", 7) == "evening-7" and stem_of("evening", "off", 7) == "evening-off-7"
    for name in ("x" * 243, "夕暮れ" * 27, "🐈" * 60, "e\u0301" * 80):
        made = stem_of(name, "cads", 2**53 - 1)
        assert MAX_STEM - 4 < size_of(made) <= MAX_STEM
        assert made.endswith("-cads-9007199254740991") and name.startswith(made[:-22])
    assert cut("夕暮れ", 8) == "夕暮" and cut("夕", 2) == ""
    assert size_of("caf\udce9") == 4, "a name that is no UTF-8 has its bytes"


def test_a_folder_is_tried_with_the_longest_name(tmp_path: Path) -> None:
    folder = make_folder(str(tmp_path / "new" / "out"), [stem_of("x" * 243, 7), "a"])
    assert folder == tmp_path / "new" / "out" and list(folder.iterdir()) == []
    with pytest.raises(
        ArchiveError, match=r"nothing can be written to the folder '.*' \(File name too long\);"
    ):
        make_folder(str(folder), ["a", "x" * 260])


def test_a_folder_that_takes_no_files_is_one_sentence() -> None:
    if not Path("/proc/self").is_dir():
        pytest.skip("no folder here takes no files of the superuser's")
    with pytest.raises(ArchiveError, match=r"nothing can be written to the folder '/proc/self' \("):
        make_folder("/proc/self", ["a"])


def test_a_picture_that_cannot_be_written_takes_no_other_with_it(tmp_path: Path) -> None:
    found = []
    with pytest.raises(ArchiveError, match=r"b{260}\.png' cannot be written \(File name too long\)"):
        for path in write_each(tmp_path, [("a", b"1"), ("b" * 260, b"2"), ("c", b"3")]):
            found.append(path)
    assert found == [tmp_path / "a.png", None, tmp_path / "c.png"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.png", "c.png"]
