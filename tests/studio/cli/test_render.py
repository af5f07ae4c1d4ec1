"""``decollage render`` on a real, tiny model: pictures that carry their collage, never one over another."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from PIL import Image

from studio.cli import main
from studio.compositing import compose
from studio.document import Collage
from studio.formats import archive, open_any, png
from studio.pictures import Library, read_pixels

ROOT = Path(__file__).parents[3]


@pytest.fixture
def file(collage: Collage, library: Library, tmp_path: Path) -> Path:
    path = tmp_path / "evening.collage"
    archive.write(path, collage, library)
    return path


def test_rendering_writes_pictures_that_render_again(
    capsys: pytest.CaptureFixture[str],
    collage: Collage,
    library: Library,
    file: Path,
    tiny_model: Path,
    tmp_path: Path,
) -> None:
    out = tmp_path / "new" / "out"
    command = ["render", str(file), "-o", str(out), "--model", str(tiny_model)]
    assert main([*command, "--seed", "7", "--images", "2", "--set", "layers.cat.harmonize=0.9"]) == 0
    said = capsys.readouterr()
    first, second = out / "evening-7.png", out / "evening-8.png"
    assert sorted(out.iterdir()) == [first, second]
    lines = [line.split("\t") for line in said.out.splitlines()]
    assert [line[:4] for line in lines] == [
        [str(first), "seed 7", "64x64", "3 steps"],
        [str(second), "seed 8", "64x64", "3 steps"],
    ]
    assert all(line[4].endswith(" s") for line in lines)
    told_of = [[word.split()[0] for word in line[5:]] for line in lines]
    assert told_of == [["changed", "spread", "by"]] * 2
    assert lines[0][7] == "by features of the embedded CLIP"
    assert said.err.startswith("decollage: warning: similarity is measured by") and said.err.count("\n") == 1
    numbers = png.read_report(second.read_bytes())["numbers"]
    assert f"changed {100 * numbers['changed'][1]:.0f} %" == lines[1][5]
    assert numbers["spread"]["distance"] > 0 and 1 < numbers["spread"]["vendi"] < 2
    assert main(["info", str(second)]) == 0
    assert "; ".join(lines[1][5:]) in capsys.readouterr().out

    carried, _ = open_any(second)
    expected = collage.replace(seed=8, model=str(tiny_model)).replace_layer("a", harmonize=0.9)
    assert carried == expected
    flat = compose(collage, library).flat
    assert (read_pixels(first) != flat).any()
    assert (read_pixels(first) != read_pixels(second)).any()

    assert main(["render", str(second), "-o", str(out)]) == 0
    assert (read_pixels(out / "evening-8-8.png") == read_pixels(second)).all()


def quick(file: Path, out: Path, model: Path, steps: int) -> list[str]:
    """The command that renders a file in a few steps from seed 0."""
    return ["render", str(file), "-o", str(out), "--model", str(model), "--seed", "0", "--steps", str(steps)]


def test_an_existing_picture_is_never_overwritten(
    capsys: pytest.CaptureFixture[str], file: Path, tiny_model: Path, tmp_path: Path
) -> None:
    (tmp_path / "evening-0.png").write_bytes(b"mine")
    command = quick(file, tmp_path, tiny_model, steps=1)
    assert main(command) == 0
    assert main(command) == 0
    assert (tmp_path / "evening-0.png").read_bytes() == b"mine"
    assert (read_pixels(tmp_path / "evening-0-2.png") == read_pixels(tmp_path / "evening-0-3.png")).all()


def test_a_collage_is_rendered_at_another_size(file: Path, tiny_model: Path, tmp_path: Path) -> None:
    assert main([*quick(file, tmp_path, tiny_model, steps=1), "--size", "96"]) == 0
    (made,) = tmp_path.glob("*.png")
    assert read_pixels(made).shape[:2] == (96, 96)
    assert open_any(made)[0].canvas.width == 96


def test_warnings_go_to_stderr_one_a_line(
    capsys: pytest.CaptureFixture[str],
    collage: Collage,
    library: Library,
    file: Path,
    tiny_model: Path,
    tmp_path: Path,
) -> None:
    collage = collage.replace_layer("a", scale_x=0.05, scale_y=0.05)
    archive.write(file, collage, library)
    assert main(["render", str(file), "-o", str(tmp_path), "--model", str(tiny_model), "--seed", "0"]) == 0
    said = capsys.readouterr()
    assert said.err.startswith("decollage: warning: layer 'cat' shows only 1 pixels")
    assert said.err.count("\n") == 1


def test_a_long_name_is_cut_and_what_cannot_be_written_is_said_before_the_run(
    capsys: pytest.CaptureFixture[str], file: Path, tiny_model: Path, tmp_path: Path
) -> None:
    long, out = file.with_name(f"{'n' * 243}.collage"), tmp_path / "out"
    file.rename(long)
    assert main([*quick(long, out, tiny_model, steps=1), "--save-edges"]) == 0
    assert {path.name.strip("n") for path in out.iterdir()} == {"-0.png", "-edges.png"}
    capsys.readouterr()
    for folder, why in (("/proc/self", "nothing can be written to the folder"), ("", "has no name")):
        assert main(["render", str(long), "-o", folder, "--model", "embedded"]) == 2
        said = capsys.readouterr()
        assert why in said.err and said.err.count("\n") == 1 and said.out == ""


@pytest.mark.parametrize("setting", ["scheduler=nonsense", "layers.cat.keep_shape=0.5"])
def test_what_the_engine_cannot_do_is_1_by_name(
    capsys: pytest.CaptureFixture[str], file: Path, tiny_model: Path, tmp_path: Path, setting: str
) -> None:
    out = tmp_path / "out"
    assert main(["render", str(file), "-o", str(out), "--model", str(tiny_model), "--set", setting]) == 1
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith("decollage: ")
    assert said.err.count("\n") == 1
    word = setting.split("=")[1 if setting.startswith("scheduler") else 0].split(".")[-1]
    assert word.replace("_", " ") in said.err.replace("_", " ")
    assert list(out.iterdir()) == []


def test_a_look_is_learned_once_and_says_nothing_then(
    capsys: pytest.CaptureFixture[str], file: Path, tiny_model: Path, tmp_path: Path
) -> None:
    """From a collage to a picture that tells of it, twice: the second time from the cache."""
    command = ["render", str(file), "--model", str(tiny_model), "--seed", "0", "-o"]
    asked = ["--set", "layers.cat.look=true", "--set", "layers.cat.look_steps=2"]
    told = []
    for number in ("plain", "first", "second"):
        assert main([*command, str(tmp_path / number), *(asked if number != "plain" else [])]) == 0
        told.append(png.read_report((tmp_path / number / "evening-0.png").read_bytes()).get("looks"))
    assert capsys.readouterr().err == ""
    assert told[0] is None and [found[0]["cached"] for found in told[1:]] == [False, True]
    first, second = (read_pixels(tmp_path / number / "evening-0.png") for number in ("first", "second"))
    assert (first == second).all()
    carried, _ = open_any(tmp_path / "second" / "evening-0.png")
    assert carried.layers[0].look and carried.layers[0].look_steps == 2
    assert main(["info", str(tmp_path / "second" / "evening-0.png")]) == 0
    assert "look learned" in capsys.readouterr().out


def test_a_look_on_the_embedded_model(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """A preset whose car has its look learned, in one step: only that it runs is told."""
    command = ["render", "evening", "-o", str(tmp_path), "--seed", "0", "--steps", "4"]
    assert main([*command, "--set", "layers.car.look=true", "--set", "layers.car.look_steps=1"]) == 0
    assert capsys.readouterr().err == ""
    (fact,) = png.read_report((tmp_path / "evening-0.png").read_bytes())["looks"]
    assert (fact["layer"], fact["words"], fact["model"], fact["steps"]) == ("car", "car", "embedded", 1)
    assert read_pixels(tmp_path / "evening-0.png").shape == (256, 256, 3)


def test_an_interrupt_is_130_and_stops_the_run(
    capsys: pytest.CaptureFixture[str], file: Path, tiny_model: Path, tmp_path: Path
) -> None:
    def press() -> None:
        while not any(thread.name == "render" for thread in threading.enumerate()):
            time.sleep(0.01)
        time.sleep(0.2)
        signal.raise_signal(signal.SIGINT)

    finger = threading.Thread(target=press)
    finger.start()
    out = tmp_path / "out"
    command = [
        "render",
        str(file),
        "-o",
        str(out),
        "--model",
        str(tiny_model),
        "--steps",
        "200",
        "--images",
        "16",
    ]
    assert main(command) == 130
    finger.join()
    assert capsys.readouterr().err.endswith("decollage: interrupted.\n")
    assert not any(thread.name == "render" for thread in threading.enumerate())


def test_all_collages_are_rendered_where_nobody_reads(file: Path, tiny_model: Path, tmp_path: Path) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    out = tmp_path / "out"
    try:
        done = run(*quick(file, out, tiny_model, steps=1), str(file), "--images", "2", stdout=writer)
    finally:
        os.close(writer)
    assert done.returncode == 0 and "Traceback" not in done.stderr
    names = ["evening-0-2.png", "evening-0.png", "evening-1-2.png", "evening-1.png"]
    assert sorted(path.name for path in out.iterdir()) == names


def test_a_terminal_sees_a_progress_bar(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    file: Path,
    tiny_model: Path,
    tmp_path: Path,
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert main(["render", str(file), "-o", str(tmp_path), "--model", str(tiny_model), "--seed", "0"]) == 0
    said = capsys.readouterr()
    assert "evening" in said.err
    assert "1/1 images" in said.err
    assert "\x1b" not in said.out


def test_options_of_loading_reach_the_model(
    capsys: pytest.CaptureFixture[str], file: Path, tiny_model: Path, tmp_path: Path
) -> None:
    arguments = ["render", str(file), "-o", str(tmp_path), "--model", str(tiny_model), "--seed", "0"]
    done = run(*arguments, "--dtype", "bfloat16")
    assert done.returncode == 0
    assert f"decollage: model {tiny_model}: device cpu, bfloat16, offload none" in done.stderr
    capsys.readouterr()
    assert main([*arguments, "--dtype", "int7"]) == 2
    assert capsys.readouterr().err == "decollage: dtype is 'int7'; give one of float32, float16, bfloat16.\n"


def run(*arguments: str, stdout: int = subprocess.PIPE) -> subprocess.CompletedProcess[str]:
    """In a process of its own: libraries that load for the first time talk most."""
    start = "import sys; from studio.cli import main; sys.exit(main(sys.argv[1:]))"
    return subprocess.run(
        [sys.executable, "-c", start, *arguments],
        stdout=stdout,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        check=False,
    )


def test_a_script_sees_nothing_but_the_lines(file: Path, tiny_model: Path, tmp_path: Path) -> None:
    done = run("render", str(file), "-o", str(tmp_path), "--model", str(tiny_model), "--seed", "0")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(f"{tmp_path / 'evening-0.png'}\tseed 0\t64x64\t3 steps\t")
    assert done.stdout.count("\n") == 1


def test_a_long_prompt_needs_no_word(file: Path, tiny_model: Path, tmp_path: Path) -> None:
    long = "prompt=" + "a beach " * 60
    done = run("render", str(file), "-o", str(tmp_path), "--model", str(tiny_model), "--set", long)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.count("\n") == 1


def test_the_edges_that_keep_shape_is_shown_are_saved(file: Path, tiny_model: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    given = ["render", str(file), "-o", str(out), "--model", str(tiny_model), "--steps", "2", "--save-edges"]
    assert main(given) == 0
    with Image.open(next(out.glob("*-edges.png"))) as shown:
        assert shown.mode == "L" and shown.getextrema() == (0, 255)


def test_what_is_open_is_filled_in(
    capsys: pytest.CaptureFixture[str], file: Path, tiny_model: Path, tmp_path: Path
) -> None:
    command = quick(file, tmp_path, tiny_model, steps=2)
    assert main([*command, "--images", "2", "--open"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split("\t")[-1] for line in lines] == ["a beach, cat", "a beach, kitten"]
    carried = open_any(tmp_path / "evening-1.png")[0]
    assert (carried.prompt, carried.layers[0].prompt, carried.variants) == ("a beach", "{cat|kitten}", True)
    assert main([*command, "--open", "--set", "layers.cat.prompt="]) == 0
    assert "nothing is left open" in capsys.readouterr().err
