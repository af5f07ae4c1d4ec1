"""The command line's promises to a script: exit codes, one line an error, output that can be read back."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import presets
from studio.cli import main
from studio.cli.only import made_alone
from studio.document import Avoid, Collage, Layer
from studio.formats import archive, png
from studio.pictures import Library

ROOT = Path(__file__).parents[3]


@pytest.fixture
def collage(library: Library) -> Collage:
    digest = library.add(Image.new("RGB", (20, 20), "red"))
    return Collage(
        name="An evening",
        prompt="a beach",
        layers=(
            Layer(id="a", name="cat", prompt="cat", picture=digest, x=30.0, y=20.0, harmonize=0.25),
            Layer(id="b", name="kite", picture=digest, x=60.0, y=20.0, visible=False),
        ),
        avoids=(Avoid(id="far", name="rain", picture=digest, layer="a"),),
    )


@pytest.fixture
def file(collage: Collage, library: Library, tmp_path: Path) -> Path:
    path = tmp_path / "evening.collage"
    archive.write(path, collage, library)
    return path


def fails(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str]:
    """Exit code and error of a command that must say one line on stderr and nothing on stdout."""
    code = main([str(argument) for argument in arguments])
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.count("\n") == 1
    assert said.err.startswith("decollage: ")
    return code, said.err.removeprefix("decollage: ").strip()


@pytest.mark.parametrize("command", [(), ("render",), ("info",), ("serve",)])
def test_help_is_printed_and_tells_the_exit_codes(
    capsys: pytest.CaptureFixture[str], command: tuple[str, ...]
) -> None:
    assert main([*command, "--help"]) == 0
    said = capsys.readouterr()
    assert "Exit codes:" in said.out
    assert said.err == ""


def test_alone_it_prints_its_help(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.argv", ["decollage"])
    for arguments in ((), None, ("--help",)):
        assert main(arguments) == 0
    said = capsys.readouterr()
    assert said.err == "" and said.out.count("Exit codes:") == 3


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (("paint",), "paint"),
        (("render",), "Missing"),
        (("render", "x.collage"), "Missing option"),
        (("render", "x.collage", "-o", "out", "--steps", "many"), "--steps"),
        (("info",), "Missing"),
        (("info", "x", "--bogus"), "--bogus"),
        (("serve", "--port", "0"), "--port"),
        (("serve", "--dtype", "int3"), "dtype is 'int3'"),
    ],
)
def test_wrong_usage_is_2(capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], why: str) -> None:
    code, error = fails(capsys, *arguments)
    assert code == 2
    assert why in error


def test_what_is_no_collage_is_2(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    plain = tmp_path / "plain.png"
    Image.new("RGB", (4, 4)).save(plain)
    for command in (("info", plain), ("render", plain, "-o", tmp_path / "out")):
        code, error = fails(capsys, *command)
        assert (code, error) == (
            2,
            "'plain.png': it carries no collage; add it as a picture, or give a PNG that Decollage rendered.",
        )
    code, error = fails(capsys, "render", "nonsense", "-o", tmp_path / "out")
    assert code == 2
    assert error.startswith("'nonsense' is neither a file nor a preset; the presets are: ")
    assert not (tmp_path / "out").exists()


def test_a_bad_value_is_2_and_nothing_is_made(
    capsys: pytest.CaptureFixture[str], file: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    for options, why in (
        (("--images", 17), "images is 17; give a whole number from 1 to 16."),
        (("--seed", -1), "seed is -1; give a whole number"),
        (
            ("--set", "layers.cat.harmonize=nan"),
            "--set layers.cat.harmonize=nan: layer 'cat': harmonize is 'nan'",
        ),
    ):
        code, error = fails(capsys, "render", file, "-o", out, *options)
        assert code == 2
        assert why in error
    assert not out.exists()


def test_all_files_are_checked_before_the_first_is_rendered(
    capsys: pytest.CaptureFixture[str], file: Path, tmp_path: Path
) -> None:
    broken = tmp_path / "broken.collage"
    broken.write_bytes(b"PK")
    code, error = fails(capsys, "render", file, broken, "-o", tmp_path / "out")
    assert code == 2
    assert "'broken.collage'" in error
    assert not (tmp_path / "out").exists()


def test_an_unknown_model_is_1(capsys: pytest.CaptureFixture[str], file: Path, tmp_path: Path) -> None:
    code, error = fails(capsys, "render", file, "-o", tmp_path / "out", "--model", "nonsense")
    assert code == 1
    assert "'nonsense'" in error


def test_an_output_folder_that_cannot_be_made_is_2(
    capsys: pytest.CaptureFixture[str], file: Path, tmp_path: Path
) -> None:
    code, error = fails(capsys, "render", file, "-o", file / "out")
    assert code == 2
    assert "cannot be made" in error


def test_info_reads_like_the_page(capsys: pytest.CaptureFixture[str], file: Path) -> None:
    assert main(["info", str(file)]) == 0
    said = capsys.readouterr()
    assert said.err == ""
    lines = said.out.splitlines()
    assert lines[0] == "evening.collage: An evening"
    assert "  canvas       256 x 256" in lines
    assert "  prompt       a beach, cat" in lines  # with the words of the layers that are shown
    assert "  background   #c8d4e0, harmonize 0.8*" in lines
    assert "  seed         random" in lines
    assert (
        "  layer 1      'cat', at 30, 20, scale 1 x 1, harmonize 0.25, attend_inside 0.2*, "
        "attend_outside 0.4*" in lines
    )
    assert lines[-2].endswith("no words, hidden")
    assert lines[-1] == (
        "  avoid        'rain' in layer 'cat', alpha 1.5* by guidance, likeness 0.5*, window 0.3*"
    )


def test_info_of_a_rendered_picture_tells_how_long_it_took(
    capsys: pytest.CaptureFixture[str], collage: Collage, library: Library, tmp_path: Path
) -> None:
    path = tmp_path / "evening-0.png"
    path.write_bytes(png.embed(np.zeros((256, 256, 3), np.uint8), collage, library, {"seconds": 2.5}))
    assert main(["info", str(path)]) == 0
    assert "  rendered in  2.5 s" in capsys.readouterr().out.splitlines()


@pytest.mark.parametrize(
    "numbers",
    [
        [],
        {"changed": []},
        {"changed": ["x"]},
        {"changed": 1},
        {"spread": 1},
        {"avoids": [1]},
        {"avoids": [{}]},
        {"changed": [10**400]},
        {"outside": {"layer": "cat", "largest": [float("inf")]}},
    ],
)
def test_info_leaves_out_numbers_it_does_not_understand(
    capsys: pytest.CaptureFixture[str], collage: Collage, library: Library, tmp_path: Path, numbers: object
) -> None:
    path = tmp_path / "evening-0.png"
    report = {"seconds": 2.5, "numbers": numbers, "image": 0}
    path.write_bytes(png.embed(np.zeros((256, 256, 3), np.uint8), collage, library, report))
    assert main(["info", str(path)]) == 0
    said = capsys.readouterr().out
    assert "rendered in" in said and "shows" not in said


def test_what_others_wrote_acts_on_no_terminal(
    capsys: pytest.CaptureFixture[str], collage: Collage, library: Library, tmp_path: Path
) -> None:
    path, evil = tmp_path / "evening-0.png", "a\x1b[2J\nb\r\x07\x9b\u202e"
    layers = [collage.layers[0].replace(name=evil, prompt=evil), *collage.layers[1:]]
    collage = collage.replace(name=evil, prompt=evil, negative_prompt=evil, layers=layers)
    report = {"edit": {"layer": evil, "on": "\x1b[2J"}, "numbers": {"outside": 1}, "image": 0}
    path.write_bytes(png.embed(np.zeros((256, 256, 3), np.uint8), collage, library, report))
    for options in ((), ("--suggest",)):
        assert main(["info", str(path), *options]) == 0
        said = capsys.readouterr()
        assert said.err == "" and all(character >= " " or character in "\n\t" for character in said.out)
        assert not {*"\x9b\u202e"} & {*said.out}
    assert main(["info", str(path)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == r"evening-0.png: a\x1b[2J\nb\r\x07\x9b\u202e"
    assert r"  negative     a\x1b[2J\nb\r\x07\x9b\u202e" in lines
    assert any(line.endswith(r"on picture \x1b[2J") for line in lines)


@pytest.mark.parametrize("report", ['{"seconds":', '{"edit": {"layer": "cat"}'])
def test_a_damaged_report_is_said_and_stops_nothing(
    capsys: pytest.CaptureFixture[str], collage: Collage, library: Library, tmp_path: Path, report: str
) -> None:
    path = tmp_path / "evening-0.png"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(png.json, "dumps", lambda *_, **__: report)
        path.write_bytes(png.embed(np.zeros((256, 256, 3), np.uint8), collage, library, {}))
    assert main(["info", str(path)]) == 0
    said = capsys.readouterr()
    assert "  report       damaged, so how it was rendered is not told" in said.out.splitlines()
    assert said.out.splitlines()[-1].startswith("  avoid ") and said.err == ""
    assert made_alone(path) is None


def test_seconds_beyond_all_numbers_are_left_out(
    capsys: pytest.CaptureFixture[str], collage: Collage, library: Library, tmp_path: Path
) -> None:
    path = tmp_path / "evening-0.png"
    path.write_bytes(png.embed(np.zeros((256, 256, 3), np.uint8), collage, library, {"seconds": 10**400}))
    assert main(["info", str(path)]) == 0
    assert "rendered in" not in capsys.readouterr().out


def test_info_tells_kinds_of_files_by_their_content(
    capsys: pytest.CaptureFixture[str], file: Path, collage: Collage, library: Library, tmp_path: Path
) -> None:
    rendered = tmp_path / "rendered"
    rendered.write_bytes(png.embed(np.zeros((256, 256, 3), np.uint8), collage, library, {"seconds": 2.5}))
    named = tmp_path / "archive.png"
    named.write_bytes(file.read_bytes())
    for path, timed in ((rendered, True), (named, False)):
        assert main(["info", str(path)]) == 0
        assert ("  rendered in  2.5 s" in capsys.readouterr().out.splitlines()) == timed


def test_info_as_json_is_the_document(
    capsys: pytest.CaptureFixture[str], file: Path, collage: Collage
) -> None:
    assert main(["info", str(file), "--json"]) == 0
    assert Collage.from_json(capsys.readouterr().out) == collage


def run(*arguments: object, encoding: str = "utf-8", **options: Any) -> subprocess.CompletedProcess[str]:
    """In a process of its own, whose stdout is a pipe."""
    start = "import sys; from studio.cli import main; sys.exit(main(sys.argv[1:]))"
    command = [sys.executable, "-c", start, *map(str, arguments)]
    asked = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "check": False, **options}
    env = {**os.environ, "PYTHONIOENCODING": encoding}
    return subprocess.run(command, encoding=encoding, cwd=ROOT, env=env, **asked)


def test_what_an_encoding_lacks_is_escaped(file: Path, collage: Collage, library: Library) -> None:
    cat = file.with_name("猫.collage")
    archive.write(cat, collage.replace(name="🐈 é"), library)
    done = run("info", cat, encoding="ascii")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[0] == r"\u732b.collage: \U0001f408 \xe9"
    done = run("info", cat, "--json", encoding="ascii")
    assert Collage.from_json(done.stdout) == collage.replace(name="🐈 é"), "with JSON's own escapes"


@pytest.mark.parametrize("what", ["info", "help"])
def test_nobody_reads_to_the_end(file: Path, what: str) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    try:
        done = run(*(["info", file] if what == "info" else ["--help"]), stdout=writer)
    finally:
        os.close(writer)
    assert (done.returncode, done.stderr) == (0, "")


def test_an_output_that_is_full_is_1(file: Path) -> None:
    full = Path("/dev/full")
    if not full.exists():
        pytest.skip("nothing here is always full")
    with full.open("wb") as out:
        done = run("info", file, stdout=out)
    assert done.returncode == 1
    assert done.stderr == (
        "decollage: the output cannot be written (No space left on device); send it elsewhere.\n"
    )


def test_presets_answer_to_their_names(capsys: pytest.CaptureFixture[str]) -> None:
    names = presets.names()
    for given in (names[0], f"{names[0]}.collage", f"presets/{names[0]}.collage"):
        assert main(["info", given]) == 0
        assert capsys.readouterr().out.startswith(f"{names[0]}.collage")
