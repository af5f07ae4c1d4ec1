"""What a FILE on the command line means."""

from __future__ import annotations

from pathlib import Path

import pytest

import presets
from pipelines.errors import ArchiveError
from studio.cli.files import find
from studio.formats import archive


def test_a_folder_of_results_does_not_take_a_presets_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert find("evening") == presets.path("evening")
    folder = tmp_path / "evening"
    folder.mkdir()  # as `decollage render evening -o evening` leaves it
    assert find("evening") == presets.path("evening")
    assert find(str(folder)) == folder  # said with its place, and refused with its name
    (folder / archive.DOCUMENT).write_text("{}")
    assert find("evening") == Path("evening")


def test_a_name_that_no_file_can_have_is_one_sentence() -> None:
    with pytest.raises(ArchiveError, match=r"^'x{79}…' is neither a file nor a preset; the presets are: "):
        find("x" * 5000)
