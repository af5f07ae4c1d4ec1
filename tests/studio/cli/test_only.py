"""``decollage render --only LAYER --on PICTURE`` on a real, tiny model."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipelines.errors import FieldError
from studio.cli import main
from studio.cli.only import name_of, sources
from studio.document import Collage, Layer
from studio.formats import archive, open_any, png
from studio.pictures import Library, read_pixels


@pytest.fixture
def file(tmp_path: Path, tiny_model: Path, library: Library) -> Path:
    picture = library.add(Image.new("RGB", (20, 20), "red"))
    layer = Layer(id="a", name="the cat", prompt="cat", picture=picture, x=44.0, y=40.0, feather=2.0)
    collage = Collage(
        canvas={"width": 192, "height": 96}, prompt="a beach", steps=3, model=str(tiny_model), layers=(layer,)
    )
    path = tmp_path / "evening.collage"
    archive.write(path, collage, library)
    return path


def test_one_layer_on_a_result(capsys: pytest.CaptureFixture[str], file: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert main(["render", str(file), "-o", str(out), "--seed", "7"]) == 0
    result = out / "evening-7.png"
    capsys.readouterr()
    assert (
        main(["render", str(file), "-o", str(out), "--only", "the cat", "--on", str(result), "--seed", "8"])
        == 0
    )
    said = capsys.readouterr()
    made = out / "evening-7-the-cat-8.png"
    cells = said.out.strip().split("\t")
    assert cells[:4] == [str(made), "seed 8", "192x96", "3 steps"]
    assert cells[5].startswith("changed ") and cells[6] == "outside 'the cat' at most 0 of 255"
    assert said.err == ""
    before, after = read_pixels(result).astype(int), read_pixels(made).astype(int)
    assert before.shape == after.shape and (before != after).any()
    assert np.array_equal(before[:, 96:], after[:, 96:])
    assert open_any(made)[0] == open_any(result)[0].replace(seed=8)
    report = png.read_report(made.read_bytes())
    assert (report["edit"]["layer"], report["numbers"]["outside"]["largest"]) == ("the cat", [0])
    assert report["edit"]["box"][2] <= 96 and report["request"]["width"] < 192

    assert main(["info", str(made)]) == 0
    assert (
        f"only         'the cat' was rendered, on picture {report['edit']['on'][:12]}"
        in capsys.readouterr().out
    )
    # the same once more, by a collage that the picture carries; and the whole of an edited picture's collage
    assert main(["render", "-o", str(out), "--only", "dog", "--on", str(result), "--seed", "8"]) == 2
    assert "no layer is called 'dog'; there are: 'the cat'" in capsys.readouterr().err
    assert main(["render", str(result), "-o", str(out), "--only", "cat", "--seed", "8"]) == 0  # by its words
    assert np.array_equal(read_pixels(out / "evening-7-the-cat-8-2.png"), after)
    assert main(["render", str(made), "-o", str(out)]) == 0
    assert "'evening-7-the-cat-8.png' had 'the cat' rendered on another picture" in capsys.readouterr().err


def test_numbers_are_of_the_features_that_are_named(file: Path, blind: Path, tmp_path: Path) -> None:
    """Of the crop's pictures, which differ: alike only to what was named."""
    on = tmp_path / "on.png"
    Image.new("RGB", (192, 96), "blue").save(on)
    shared = ["render", str(file), "--only", "a", "--on", str(on), "--seed", "3", "--images", "2"]
    spread = {}
    for name, more in {"usual": [], "embedded": ["embedded"], "blind": [str(blind)]}.items():
        out = tmp_path / name
        given = [text for one in more for text in ("--features", one)]
        assert main([*shared, "-o", str(out), *given]) == 0
        report = png.read_report((out / "on-the-cat-3.png").read_bytes())
        spread[name] = report["numbers"]["spread"]
        assert report["numbers"]["features"] == (str(blind) if name == "blind" else "embedded")
    assert spread["blind"] == {"distance": 0, "vendi": 1}
    assert spread["usual"] == spread["embedded"] and spread["usual"]["distance"] > 0


def test_a_picture_of_another_size_is_one_line(
    capsys: pytest.CaptureFixture[str], file: Path, tmp_path: Path
) -> None:
    other = tmp_path / "other.jpg"
    Image.new("RGB", (64, 64)).save(other)
    assert main(["render", str(file), "-o", str(tmp_path), "--only", "a", "--on", str(other)]) == 2
    said = capsys.readouterr()
    assert said.err.startswith("decollage: the picture underneath is 64 × 64 and the canvas 192 × 96")
    assert said.err.count("\n") == 1 and said.out == ""


def test_what_is_rendered_on_what(file: Path, tmp_path: Path) -> None:
    picture = tmp_path / "picture.png"
    Image.new("RGB", (64, 64)).save(picture)
    assert sources(["a", "b"], None, None) == [("a", None), ("b", None)]
    assert sources([str(file)], "cat", picture) == [(str(file), picture)]
    assert sources([], "cat", picture) == [(str(picture), picture)]
    assert sources([str(picture)], "cat", None) == [(str(picture), picture)]
    for files, only, on, message in (
        ([], None, None, "no collage is named"),
        (["a"], None, picture, "name one with --only"),
        (["a", "b"], "cat", picture, "2 files are named"),
        ([], "cat", None, "name one with --on"),
        ([str(file)], "cat", None, "is no picture to render 'cat' on"),
    ):
        with pytest.raises(FieldError, match=message):
            sources(files, only, on)


def test_names_of_results() -> None:
    layer = Layer(id="a", name="Ünter / den ../Linden", picture="0" * 64, x=0, y=0)
    assert name_of(Path("x/evening-7.png"), layer) == "evening-7-Ünter-den-Linden"
    assert name_of(Path("x.png"), layer.replace(name="??")) == "x-a"


def test_names_of_results_do_not_grow_from_edit_to_edit() -> None:
    layer = Layer(id="a", name="the cat", picture="0" * 64, x=0, y=0)
    for name in ("evening-7-the-cat-8", "evening-7-the-cat-8-2"):
        assert name_of(Path(f"{name}.png"), layer) == "evening-7-the-cat"
    for name in ("evening-7-the-cat-8-dog-3", "evening-the-cat", "the-cat-8", "bathe-cat-8"):
        assert name_of(Path(f"{name}.png"), layer) == f"{name}-the-cat"
    two, name = [layer.replace(name="夕暮れの海辺に立つ赤い傘" * 4), layer.replace(name="犬")], "夏の思い出"
    for seed in range(12):
        name = f"{name_of(Path(f'{name}.png'), two[seed % 2])}-{seed}"
        assert len(name.encode()) <= 200 and two[seed % 2].name[:40] in name
