"""``decollage compare`` on a real, tiny model: one seed, every way, and the numbers with the pictures."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pipelines.engine import Engine
from pipelines.errors import ModelError
from pipelines.events import Event
from pipelines.request import RenderRequest
from studio.cli import main
from studio.document import Canvas, Collage
from studio.formats import archive, png
from studio.pictures import Library, read_pixels
from studio.rivals import DEFAULT

BETWEEN = [name for name in DEFAULT if name not in ("avoid", "vary")]


def asked(file: Path, out: Path, model: Path) -> list[str]:
    """Two images a setting of a tiny model."""
    return ["compare", str(file), "-o", str(out), "--model", str(model), "--images", "2"]


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
    assert [line[0] for line in lines] == BETWEEN
    assert [word.split()[0] for word in lines[0][1:3]] == ["similarity", "vendi"] and len(lines[0]) == 4
    assert all(line[-1].endswith(" %") for line in lines[1:])
    manifest = json.loads((out / "cats-compare.json").read_text())
    assert manifest["seeds"] == [4, 5] and list(manifest["settings"]) == BETWEEN
    told = manifest["settings"]
    assert told["off"]["prompts"] == ["a cat on a beach"] * 2
    assert told["variants"]["prompts"] == ["a cat on a beach", "a beach on a beach"]
    assert told["negtome"]["changes"]["spread"] == 3 and told["off"]["changes"]["spread"] == 0
    assert f"similarity {1 - told['off']['numbers']['spread']['distance']:.3f}" == lines[0][1]
    shown = {name: [read_pixels(out / file) for file in told[name]["files"]] for name in told}
    for name in ("cads", "negtome"):
        assert all(not np.array_equal(a, b) for a, b in zip(shown[name], shown["off"], strict=True))
    assert np.array_equal(shown["variants"][0], shown["off"][0])
    assert not np.array_equal(shown["variants"][1], shown["off"][1])
    again, _ = png.read_bytes((out / told["variants"]["files"][1]).read_bytes())
    assert (again.seed, again.variants, again.prompt) == (5, True, "a {cat|beach} on a beach")
    assert read_pixels(out / "cats-compare.png").shape[0] == len(BETWEEN) * 194


def test_what_is_avoided_is_measured_in_every_setting(
    capsys: pytest.CaptureFixture[str], file: Path, tiny_model: Path, tmp_path: Path
) -> None:
    out, reference = tmp_path / "out", tmp_path / "cat.png"
    Image.new("RGB", (32, 32), "orange").save(reference)
    command = [*asked(file, out, tiny_model), "--seed", "4"]
    command += ["--avoid", f"{reference}:3", "--set", "avoids.cat.threshold=0.5", "--set", "window=1"]
    assert main([*command, "--only", "off", "--only", "avoid", "--only", "vary"]) == 0
    lines = [line.split("\t") for line in capsys.readouterr().out.splitlines()]
    assert [line[0] for line in lines] == ["off", "avoid"], "no layer varies"
    told = json.loads((out / "cats-compare.json").read_text())["settings"]
    near = {name: one["numbers"]["avoids"][0] for name, one in told.items()}
    assert near["off"]["name"] == near["avoid"]["name"] == "cat" and near["off"] != near["avoid"]
    assert f"near 'cat' {np.mean(near['off']['inside']):.3f}" in lines[0]
    assert [told[name]["changes"]["avoids"] for name in told] == [[], ["cat"]]
    again, _ = png.read_bytes((out / told["off"]["files"][0]).read_bytes())
    assert again.avoids == (), "a picture carries the collage that made it"


def test_what_is_finished_is_kept_when_a_later_setting_fails(
    file: Path, tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = [*asked(file, tmp_path, tiny_model), "--seed", "4"]
    whole, calls = Engine.render, []

    def failing(self: Engine, request: RenderRequest, *given: Any) -> Iterator[Event]:
        calls.append(request)
        if len(calls) > 1:
            raise ModelError("the model has had enough")
        return whole(self, request, *given)

    monkeypatch.setattr(Engine, "render", failing)
    assert main([*command, "--only", "off", "--only", "cads"]) == 1
    assert list(json.loads((tmp_path / "cats-compare.json").read_text())["settings"]) == ["off"]
    assert (tmp_path / "cats-off-4.png").is_file() and (tmp_path / "cats-compare.png").is_file()


def test_chosen_settings_and_nothing_overwritten(
    capsys: pytest.CaptureFixture[str], file: Path, tiny_model: Path, tmp_path: Path
) -> None:
    command = asked(file, tmp_path, tiny_model)
    for number in ("", "-2"):
        assert main([*command, "--only", "off", "--only", "cads+variants"]) == 0
        assert [line.split("\t")[0] for line in capsys.readouterr().out.splitlines()] == [
            "off",
            "cads+variants",
        ]
        assert (tmp_path / f"cats-compare{number}.png").is_file()
        assert (tmp_path / f"cats-compare{number}.json").is_file()
    assert main([*command, "--only", "vary"]) == 2
    assert "nothing is left to compare of vary" in capsys.readouterr().err
    assert main([*command, "--only", "magic"]) == 2
    assert "no way is called 'magic'" in capsys.readouterr().err
    assert main([*command[:-1], "1"]) == 2


def test_what_is_open_is_filled_in_for_variants_alone(
    capsys: pytest.CaptureFixture[str], file: Path, tiny_model: Path, tmp_path: Path
) -> None:
    command = asked(file, tmp_path, tiny_model)
    command += ["--seed", "0", "--only", "off", "--only", "variants", "--open"]
    assert main([*command, "--set", "prompt=a cat on a beach"]) == 0
    told = json.loads((tmp_path / "cats-compare.json").read_text())["settings"]
    assert told["off"]["prompts"] == ["a cat on a beach"] * 2
    assert told["variants"]["prompts"] == ["a cat on a beach", "a kitten on a beach"]
    assert capsys.readouterr().err == ""
    assert main([*command, "--set", "prompt=a beach"]) == 0
    said = capsys.readouterr()
    assert said.err.startswith("decollage: warning: nothing is left open") and said.out.startswith("off\t")
