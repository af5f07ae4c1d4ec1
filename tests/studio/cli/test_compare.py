"""``decollage compare`` on a real, tiny model: one seed, every way, and the numbers with the pictures."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from studio.cli import main
from studio.document import Canvas, Collage
from studio.formats import archive, png
from studio.pictures import Library, read_pixels
from studio.rivals import DEFAULT


@pytest.fixture
def file(library: Library, tmp_path: Path) -> Path:
    path = tmp_path / "cats.collage"
    collage = Collage(canvas=Canvas(width=64, height=64), prompt="a {cat|beach} on a beach", steps=2)
    archive.write(path, collage, library)
    return path


def test_every_way_with_one_seed(
    capsys: pytest.CaptureFixture[str], file: Path, tiny_model: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    own = ["--model", str(tiny_model), "--images", "2", "--seed", "4", "--set", "spread_threshold=0"]
    assert main(["compare", str(file), "-o", str(out), *own]) == 0
    said = capsys.readouterr()
    lines = [line.split("\t") for line in said.out.splitlines()]
    assert [line[0] for line in lines] == list(DEFAULT)
    assert [word.split()[0] for word in lines[0][1:3]] == ["similarity", "vendi"] and len(lines[0]) == 4
    assert all(line[-1].endswith(" %") for line in lines[1:])
    manifest = json.loads((out / "cats-compare.json").read_text())
    assert manifest["seeds"] == [4, 5] and list(manifest["settings"]) == list(DEFAULT)
    told = manifest["settings"]
    assert told["off"]["prompts"] == ["a cat on a beach"] * 2
    assert told["variants"]["prompts"] == ["a cat on a beach", "a beach on a beach"]
    assert told["negtome"]["changes"]["spread"] == 0.9 and told["off"]["changes"]["spread"] == 0
    assert f"similarity {1 - told['off']['numbers']['spread']['distance']:.3f}" == lines[0][1]
    shown = {name: [read_pixels(out / file) for file in told[name]["files"]] for name in told}
    for name in ("cads", "negtome"):
        assert all(not np.array_equal(a, b) for a, b in zip(shown[name], shown["off"], strict=True))
    assert np.array_equal(shown["variants"][0], shown["off"][0])
    assert not np.array_equal(shown["variants"][1], shown["off"][1])
    again, _ = png.read_bytes((out / told["variants"]["files"][1]).read_bytes())
    assert (again.seed, again.variants, again.prompt) == (5, True, "a {cat|beach} on a beach")
    assert read_pixels(out / "cats-compare.png").shape[0] == len(DEFAULT) * 194


def test_chosen_settings_and_nothing_overwritten(
    capsys: pytest.CaptureFixture[str], file: Path, tiny_model: Path, tmp_path: Path
) -> None:
    command = ["compare", str(file), "-o", str(tmp_path), "--model", str(tiny_model), "--images", "2"]
    for number in ("", "-2"):
        assert main([*command, "--only", "off", "--only", "cads+variants"]) == 0
        assert [line.split("\t")[0] for line in capsys.readouterr().out.splitlines()] == [
            "off",
            "cads+variants",
        ]
        assert (tmp_path / f"cats-compare{number}.png").is_file()
        assert (tmp_path / f"cats-compare{number}.json").is_file()
    assert main([*command, "--only", "magic"]) == 2
    assert "no way is called 'magic'" in capsys.readouterr().err
    assert main([*command[:-1], "1"]) == 2


def test_what_is_open_is_filled_in_for_variants_alone(
    capsys: pytest.CaptureFixture[str], file: Path, tiny_model: Path, tmp_path: Path
) -> None:
    command = ["compare", str(file), "-o", str(tmp_path), "--model", str(tiny_model), "--images", "2"]
    command += ["--seed", "0", "--only", "off", "--only", "variants", "--open"]
    assert main([*command, "--set", "prompt=a cat on a beach"]) == 0
    told = json.loads((tmp_path / "cats-compare.json").read_text())["settings"]
    assert told["off"]["prompts"] == ["a cat on a beach"] * 2
    assert told["variants"]["prompts"] == ["a cat on a beach", "a kitten on a beach"]
    assert capsys.readouterr().err == ""
    assert main([*command, "--set", "prompt=a beach"]) == 0
    said = capsys.readouterr()
    assert said.err.startswith("decollage: warning: nothing is left open") and said.out.startswith("off\t")
