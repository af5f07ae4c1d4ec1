"""What a page keeps on the server: how long it stays, and what is never touched.

That it stays over restarts has its test where servers run, `tests/studio/cli/test_serve.py`.
"""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path

import pytest

from pipelines.errors import EngineError
from studio.canvas.exchange import Uploads, file_data
from studio.ui import launch_options
from studio.ui.keeping import keep, kept_for, own_folder, sweep

NAME = "0123456789abcdef" * 4


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path))
    return own_folder()


def put(folder: Path, name: str = NAME, file: str = "cat.png") -> Path:
    path = folder / name / file
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"cat")
    return path


def test_uploads_stay_for_a_month_at_home_and_two_days_on_a_space(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SYSTEM", raising=False)
    assert kept_for() == 30 * 24 * 3600
    monkeypatch.setenv("SYSTEM", "spaces")
    monkeypatch.setenv("SPACE_ID", "somebody/decollage")
    assert kept_for() == 48 * 3600


def test_the_folder_is_the_studios_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Other Gradio apps of the same user keep their files in Gradio's folder too."""
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path))
    folder = own_folder()
    assert folder.is_dir() and folder.parent == tmp_path
    assert own_folder() == folder, "not another one inside"
    assert os.environ["GRADIO_TEMP_DIR"] == str(folder), "and Gradio's uploads go there"


def test_the_folder_is_swept_when_the_server_starts(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that was killed has told nobody what it left."""
    old = put(folder)
    monkeypatch.setattr("studio.ui.keeping.kept_for", lambda: -60)

    async def run() -> None:
        async with launch_options()["app_kwargs"]["lifespan"](None):
            while old.exists():
                await asyncio.sleep(0.01)

    asyncio.run(asyncio.wait_for(run(), 60))


def test_a_sweep_goes_by_age(folder: Path) -> None:
    path = put(folder)
    unfinished = folder / "tmpab_1cd2e"
    unfinished.write_bytes(b"half")
    now = time.time()
    sweep(folder, 100, now + 90)
    assert path.exists() and unfinished.exists()
    sweep(folder, 100, now + 110)
    assert not path.exists() and not unfinished.exists()


def test_a_sweep_leaves_no_more_bytes_than_there_is_room_for(folder: Path) -> None:
    """What was used longest ago goes first, wherever Gradio put it."""
    state = put(folder / "deep_links", "aB3-_6789xY", "state.json")
    first, second = put(folder), put(folder, NAME.replace("0", "1"))
    unfinished = folder / "tmpab_1cd2e"
    unfinished.write_bytes(b"four")
    ages = [state, first, second, unfinished]
    for path in ages:
        time.sleep(0.02)
        os.utime(path)
    sweep(folder, 100, most=13)
    assert [path.exists() for path in ages] == [True, True, True, True]
    sweep(folder, 100, most=12)
    assert [path.exists() for path in ages] == [False, True, True, True]
    Uploads(folder).path(file_data(str(first), "image/png"), "layer 'cat'")
    sweep(folder, 100, most=7)
    assert [path.exists() for path in ages] == [False, True, False, True]
    sweep(folder, 100, most=0)
    assert not any(path.exists() for path in ages)


def test_what_a_page_uses_is_not_old(folder: Path) -> None:
    path = put(folder)
    before = path.stat()
    time.sleep(0.05)
    Uploads(folder).path(file_data(str(path), "image/png"), "layer 'cat'")
    sweep(folder, 100, before.st_ctime + 100.02)
    assert path.exists()
    assert path.stat().st_mtime_ns == before.st_mtime_ns


def test_emptied_folders_go_once_they_are_old_themselves(folder: Path) -> None:
    path = put(folder)
    now = time.time()
    os.utime(path.parent, (now - 500, now - 500))
    sweep(folder, 100, now + 110)
    assert not path.parent.exists()
    (folder / NAME).mkdir()  # an upload that is about to come in
    sweep(folder, 100, now)
    assert (folder / NAME).is_dir()


def test_a_sweep_deletes_what_gradio_made_and_nothing_else(folder: Path, tmp_path: Path) -> None:
    outside = put(tmp_path / "mine", "pictures")
    theirs = [outside, put(tmp_path), put(folder, "pictures"), put(folder, NAME[:-1])]
    theirs += [put(folder, NAME + "/deeper"), put(folder, "tmpab_1cd2e"), put(folder, "deep_links/mine")]
    (folder / "notes.txt").write_text("mine")
    (folder / NAME / "link.png").symlink_to(outside)
    (folder / NAME.replace("0", "1")).symlink_to(outside.parent)
    os.utime(folder / NAME, (0, 0))
    sweep(folder, 0, time.time() + 10, most=0)
    assert all(path.exists() for path in theirs)
    assert (folder / "notes.txt").exists()
    assert (folder / NAME / "link.png").is_symlink()
    sweep(folder / "gone", 0)


def test_what_is_kept_lies_where_gradio_would_put_it(folder: Path) -> None:
    path = Path(keep(folder, "cat.png", b"cat"))
    assert (path.name, path.read_bytes()) == ("cat.png", b"cat")
    assert path.parent.parent == folder and len(path.parent.name) == len(NAME)
    assert keep(folder, "cat.png", b"dog") != keep(folder, "cat.png", b"cat") == str(path)


def test_what_is_kept_again_is_renewed_and_not_written(folder: Path) -> None:
    """Each page that is opened keeps the first preset's pictures, and all tabs read the same files of them.

    What was decoded of a file goes by its time of change, its age by that of its entry.
    """
    path = Path(keep(folder, "cat.png", b"cat"))
    os.utime(path, (5, 5))
    before = path.stat()
    time.sleep(0.05)
    keep(folder, "cat.png", b"cat")
    after = path.stat()
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    assert after.st_ctime_ns > before.st_ctime_ns


def test_what_was_kept_in_part_is_written_anew(folder: Path) -> None:
    path = Path(keep(folder, "cat.png", b"cat"))
    path.write_bytes(b"c")
    keep(folder, "cat.png", b"cat")
    assert path.read_bytes() == b"cat" and list(path.parent.iterdir()) == [path]


def test_what_cannot_be_kept_leaves_nothing(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("studio.ui.keeping.os.replace", full)
    with pytest.raises(
        EngineError, match=r"^the server's disk takes .* \(No space left on device\); make room .*\.$"
    ):
        keep(folder, "cat.png", b"cat")
    assert [path for path in folder.rglob("*") if path.is_file()] == []
