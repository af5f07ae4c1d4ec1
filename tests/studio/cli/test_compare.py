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
from pipelines.errors import ModelError, UnsupportedError
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
    assert {one["numbers"]["features"] for one in told.values()} == {manifest["features"]} == {"embedded"}
    assert said.err.count("similarity is measured by the embedded model's own CLIP") == 1


def test_a_collage_is_compared_at_another_size(file: Path, tiny_model: Path, tmp_path: Path) -> None:
    assert main([*asked(file, tmp_path, tiny_model), "--seed", "4", "--only", "off", "--size", "96"]) == 0
    assert max(read_pixels(tmp_path / "cats-off-4.png").shape[:2]) == 96


def test_what_is_avoided_is_measured_in_every_setting(
    capsys: pytest.CaptureFixture[str], file: Path, tiny_model: Path, tmp_path: Path
) -> None:
    out, reference = tmp_path / "out", tmp_path / "cat.png"
    Image.new("RGB", (32, 32), "orange").save(reference)
    command = [*asked(file, out, tiny_model), "--seed", "4"]
    command += ["--avoid", f"{reference}:3", "--set", "avoids.cat.threshold=0.5", "--set", "window=1"]
    assert main([*command, "--only", "off", "--only", "avoid"]) == 0
    lines = [line.split("\t") for line in capsys.readouterr().out.splitlines()]
    assert [line[0] for line in lines] == ["off", "avoid"]
    told = json.loads((out / "cats-compare.json").read_text())["settings"]
    near = {name: one["numbers"]["avoids"][0] for name, one in told.items()}
    assert near["off"]["name"] == near["avoid"]["name"] == "cat" and near["off"] != near["avoid"]
    assert f"near 'cat' {np.mean(near['off']['inside']):.3f}" in lines[0]
    assert [told[name]["changes"]["avoids"] for name in told] == [[], ["cat"]]
    assert told["avoid"]["request"]["avoids"][0]["alpha"] == 3
    again, _ = png.read_bytes((out / told["off"]["files"][0]).read_bytes())
    assert again.avoids == (), "a picture carries the collage that made it"


def test_the_manifest_alone_tells_what_was_run(file: Path, tiny_model: Path, tmp_path: Path) -> None:
    reference = tmp_path / "cat.png"
    Image.new("RGB", (32, 32), "orange").save(reference)
    out = tmp_path / "out"
    command = [*asked(file, out, tiny_model), "--seed", "4", "--avoid", str(reference)]
    command += ["--set", "avoid_by=push", "--set", "spread_every=2", "--set", "exact_match=true"]
    assert main([*command, "--only", "avoid+negtome"]) == 0
    manifest = json.loads((out / "cats-compare.json").read_text())
    (told,) = manifest["settings"].values()
    changes = {word: told["changes"][word] for word in ("avoid_by", "spread_every", "exact_match", "axis")}
    assert changes == {"avoid_by": "push", "spread_every": 2, "exact_match": True, "axis": "source"}
    assert told["changes"]["spread_parts"] == [] and told["changes"]["window"] is None, "left open"
    request = RenderRequest.from_json(json.dumps(told["request"]))
    assert (request.window, request.spread_threshold, request.cads_high) == (0.25, 0.7, 0.9)
    (avoid,) = request.avoids
    assert (avoid.name, avoid.alpha, avoid.threshold) == ("cat", 0.9, 0.7), "a push's own strength"
    assert manifest["card"] == {"negtome_blocks": ["up"], "smallest_grid": 8, "thin_from": 2048}
    report = png.read_report((out / told["files"][0]).read_bytes())
    assert report["request"] == told["request"]


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
    mine = tmp_path / "cats-compare.json"
    mine.write_text("mine")
    for number in ("-2", "-3"):
        assert main([*command, "--only", "off", "--only", "cads+variants"]) == 0
        assert [line.split("\t")[0] for line in capsys.readouterr().out.splitlines()] == [
            "off",
            "cads+variants",
        ]
        assert (tmp_path / f"cats-compare{number}.png").is_file()
        assert (tmp_path / f"cats-compare{number}.json").is_file()
    assert mine.read_text() == "mine" and not mine.with_suffix(".png").exists()
    assert main([*command, "--only", "vary"]) == 2
    assert "nothing is left to compare of vary" in capsys.readouterr().err
    assert main([*command, "--only", "magic"]) == 2
    assert "no way is called 'magic'" in capsys.readouterr().err
    assert main([*command[:-1], "1"]) == 2


def test_what_is_open_is_filled_in_for_variants_alone(
    capsys: pytest.CaptureFixture[str], file: Path, tiny_model: Path, tmp_path: Path
) -> None:
    command = asked(file, tmp_path, tiny_model)
    command += ["--seed", "0", "--only", "off", "--only", "variants", "--open", "--features", "embedded"]
    assert main([*command, "--set", "prompt=a cat on a beach"]) == 0
    told = json.loads((tmp_path / "cats-compare.json").read_text())["settings"]
    assert told["off"]["prompts"] == ["a cat on a beach"] * 2
    assert told["variants"]["prompts"] == ["a cat on a beach", "a kitten on a beach"]
    assert capsys.readouterr().err == ""
    assert main([*command, "--set", "prompt=a beach"]) == 2
    said = capsys.readouterr().err.splitlines()
    assert said[0].startswith("decollage: warning: nothing is left open")
    assert said[1].startswith("decollage: variants cannot be compared: there are no alternatives")


@pytest.fixture(scope="session")
def distilled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny FLUX.1 dev, into which guidance is distilled: it refuses an interval of it."""
    from tests.pipelines.tiny_transformers import flux

    folder = tmp_path_factory.mktemp("distilled")
    flux().save_pretrained(folder)
    return folder


def settings_of(folder: Path) -> dict[str, Any]:
    """The manifest of a comparison."""
    told: dict[str, Any] = json.loads((folder / "cats-compare.json").read_text())
    return told


def test_what_the_model_refuses_is_left_out_and_said_once(
    capsys: pytest.CaptureFixture[str], file: Path, distilled: Path, tmp_path: Path
) -> None:
    command = [*asked(file, tmp_path, distilled), "--seed", "4", "--set", "prompt=a cat"]
    assert main(command) == 0
    said = capsys.readouterr()
    assert [line.split("\t")[0] for line in said.out.splitlines()] == [
        "off",
        "cads",
        "negtome",
        "negtome+cads",
    ]
    (line,) = [one for one in said.err.splitlines() if "interval" in one]
    assert line.startswith(
        "decollage: warning: interval, negtome+interval are left out: guidance interval cannot"
    )
    told = settings_of(tmp_path)
    left = told["left_out"]
    assert {*told["settings"], *left} == {*DEFAULT} and "distilled" in left["interval"]
    assert left["vary"].startswith("no layer varies") and left["negtome+variants"].startswith(
        "there are no alt"
    )


def test_what_is_named_and_refused_is_an_error_before_anything_is_loaded(
    capsys: pytest.CaptureFixture[str],
    file: Path,
    distilled: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def loaded(*_: object) -> None:
        raise AssertionError("it is loaded")

    monkeypatch.setattr(Engine, "load", loaded)
    command = asked(file, tmp_path / "out", distilled)
    assert main([*command, "--only", "off", "--only", "cads+interval"]) == 1
    said = capsys.readouterr()
    assert said.err.startswith(
        "decollage: cads+interval cannot be compared: guidance interval cannot be used"
    )
    assert said.err.count("\n") == 1 and said.out == "" and not [*(tmp_path / "out").iterdir()]
    assert main([*command, "--set", "scheduler=nonsense"]) == 1, "what off cannot have, none can"
    said = capsys.readouterr()
    assert "'nonsense'" in said.err and said.err.count("\n") == 1 and said.out == ""


def test_what_is_named_and_has_nothing_to_act_on_is_an_error(
    capsys: pytest.CaptureFixture[str], file: Path, tiny_model: Path, tmp_path: Path
) -> None:
    command = asked(file, tmp_path / "out", tiny_model)
    assert main([*command, "--only", "off", "--only", "negtome+vary"]) == 2
    said = capsys.readouterr()
    assert said.err == "decollage: negtome+vary cannot be compared: no layer varies; raise vary of one.\n"
    assert said.out == "" and not (tmp_path / "out").exists()


def test_images_that_cannot_be_made_together_are_left_out_before_anything_is_drawn(
    capsys: pytest.CaptureFixture[str], file: Path, tiny_model: Path, tmp_path: Path
) -> None:
    """Prompts of their own in more than one chunk need a call each, and NegToMe needs one for all."""
    command = [*asked(file, tmp_path, tiny_model), "--seed", "4"]
    command += ["--set", "prompt=a {cat|beach} on a beach " + 40 * "on a beach "]
    assert main([*command, "--only", "off", "--only", "negtome+variants"]) == 1
    said = capsys.readouterr()
    assert said.err.startswith(
        "decollage: negtome+variants cannot be compared: images with prompts of their own"
    )
    assert said.out == "" and not [*tmp_path.glob("*.png")]
    assert main(command) == 0
    said = capsys.readouterr()
    names = [line.split("\t")[0] for line in said.out.splitlines()]
    assert names == [name for name in BETWEEN if not {"negtome", "variants"} <= {*name.split("+")}]
    (line,) = [one for one in said.err.splitlines() if "left out" in one]
    assert "warning: negtome+variants, negtome+cads+interval+variants are left out: images with" in line
    assert list(settings_of(tmp_path)["left_out"])[:2] == ["avoid", "vary"]


@pytest.mark.parametrize("named", [False, True])
def test_what_only_the_run_refuses_does_not_stop_the_others(
    capsys: pytest.CaptureFixture[str],
    file: Path,
    tiny_model: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    named: bool,
) -> None:
    whole = Engine.render

    def failing(self: Engine, request: RenderRequest, *given: Any) -> Iterator[Event]:
        if request.cads:
            raise UnsupportedError("the model cannot do that; do something else.")
        return whole(self, request, *given)

    monkeypatch.setattr(Engine, "render", failing)
    command = [*asked(file, tmp_path, tiny_model), "--seed", "4", "--set", "prompt=a cat"]
    command += [text for name in ("off", "cads", "negtome") for text in ("--only", name)] if named else []
    assert main(command) == (1 if named else 0), "what was named is missing"
    said = capsys.readouterr()
    drawn = ["off", "negtome"] if named else ["off", "interval", "negtome", "negtome+interval"]
    assert [line.split("\t")[0] for line in said.out.splitlines()] == drawn
    assert "decollage: warning: cads is left out: the model cannot do that" in said.err
    assert ("decollage: cads cannot be compared: the model cannot do that" in said.err) == named
    told = settings_of(tmp_path)
    assert list(told["settings"]) == drawn and told["left_out"]["cads"].startswith("the model cannot do that")
