"""What ``decollage render`` writes and says of a run, whatever engine's events these are: no picture is lost."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import numpy as np
import pytest

from pipelines.errors import ArchiveError, Cancelled, EngineError
from pipelines.events import Downloading, Event, ImageDone, Learning, Started, Warned
from pipelines.pictures import PictureStore
from studio.cli.render import _Run
from studio.document import Collage
from studio.formats import open_any
from studio.pictures import Library, read_pixels
from studio.to_request import to_request


def test_pictures_finished_before_a_stop_are_kept(
    capsys: pytest.CaptureFixture[str], collage: Collage, library: Library, tmp_path: Path
) -> None:
    collage = collage.replace(images=2, seed=3)
    store = PictureStore()
    prepared = to_request(collage, library, store)
    picture = np.full((64, 64, 3), 9, np.uint8)

    def events() -> Iterator[Event]:
        yield Started("a beach, cat", 3, 2)
        yield ImageDone(0, 3, picture)
        raise Cancelled("the run was stopped.")

    with pytest.raises(Cancelled):
        _Run("evening", collage, library, prepared, store, tmp_path).follow(events())
    assert [path.name for path in tmp_path.iterdir()] == ["evening-3.png"]
    assert (read_pixels(tmp_path / "evening-3.png") == picture).all()
    assert open_any(tmp_path / "evening-3.png")[0] == collage.replace(images=1)
    assert capsys.readouterr().out == f"{tmp_path / 'evening-3.png'}\tseed 3\t64x64\t3 steps\n"


def test_pictures_are_there_before_anything_is_said_of_them(
    collage: Collage, library: Library, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lost(line: str) -> None:
        raise EngineError("the output cannot be written.")

    store = PictureStore()
    prepared = to_request(collage.replace(images=2, seed=3), library, store)
    pictures = [np.full((64, 64, 3), image, np.uint8) for image in range(2)]
    monkeypatch.setitem(_Run._write.__globals__, "say", lost)
    with pytest.raises(EngineError):
        _Run("evening", collage, library, prepared, store, tmp_path).follow(
            iter([ImageDone(image, 3 + image, picture) for image, picture in enumerate(pictures)])
        )
    assert len([*tmp_path.iterdir()]) == 2


def test_a_picture_that_cannot_be_written_is_the_only_one_lost(
    capsys: pytest.CaptureFixture[str],
    collage: Collage,
    library: Library,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    whole = Path.open

    def full(self: Path, mode: str = "r", *rest: Any) -> IO[Any]:
        if mode == "xb" and self.name == "evening-4.png":
            raise OSError(errno.ENOSPC, "No space left on device")
        return whole(self, mode, *rest)

    store = PictureStore()
    prepared = to_request(collage.replace(images=3, seed=3), library, store)
    pictures = [np.full((64, 64, 3), image, np.uint8) for image in range(3)]
    monkeypatch.setattr(Path, "open", full)
    with pytest.raises(ArchiveError, match=r"evening-4\.png' cannot be written \(No space"):
        _Run("evening", collage, library, prepared, store, tmp_path).follow(
            iter([ImageDone(image, 3 + image, picture) for image, picture in enumerate(pictures)])
        )
    names = ["evening-3.png", "evening-5.png"]
    assert sorted(path.name for path in tmp_path.iterdir()) == names
    lines = capsys.readouterr().out.splitlines()
    assert [line.split("\t")[:2] for line in lines] == [
        [str(tmp_path / name), f"seed {name[8]}"] for name in names
    ]


def test_a_terminal_sees_a_download(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    collage: Collage,
    library: Library,
    tmp_path: Path,
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "120")
    store = PictureStore()
    prepared = to_request(collage, library, store)
    _Run("evening", collage, library, prepared, store, tmp_path).follow(
        iter([Downloading("sdxl", 2_500_000_000, 6_900_000_000)])
    )
    said = capsys.readouterr()
    assert "downloading sdxl, 2.5 of 6.9 GB" in said.err and said.out == ""


def test_words_of_others_act_on_no_terminal(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    collage: Collage,
    library: Library,
    tmp_path: Path,
) -> None:
    collage = collage.replace(prompt="a {red\x1b[2J|blue} beach", images=2, seed=0, variants=True)
    store = PictureStore()
    prepared = to_request(collage, library, store)
    picture = np.zeros((64, 64, 3), np.uint8)
    run = _Run("evening [red]", collage, library, prepared, store, tmp_path)
    monkeypatch.setenv("FORCE_COLOR", "1")  # and no mark-up of theirs in the progress bar
    run.follow(iter([ImageDone(0, 0, picture), Warned("\x1b[4J"), Learning("[/b] \x1b[3J", 1, 2)]))
    said = capsys.readouterr()
    assert said.out.endswith("\ta red\\x1b[2J beach, cat\n") and said.out.count("\n") == 1
    assert "decollage: warning: \\x1b[4J" in said.err and "evening [red]" in said.err
    assert r"learning the look of [/b] \x1b[3J" in said.err and "\x1b[3J" not in said.err
