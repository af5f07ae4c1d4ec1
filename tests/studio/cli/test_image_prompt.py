"""Picture as prompt from a `.collage` file to a PNG, on tiny models of both kinds in folders."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from studio.cli import main
from studio.document import Collage, Layer
from studio.formats import archive, open_any, png
from studio.pictures import Library
from tests.pipelines import tiny, tiny_adapter


@pytest.fixture
def file(library: Library, tmp_path: Path) -> Path:
    """Two layers on a canvas whose sides are halved unevenly: 9 by 8 cells, then 5 by 4."""
    pictures = [library.add(Image.new("RGBA", (24, 24), colour)) for colour in ("red", "blue")]
    layers = tuple(
        Layer(id=name, name=name, prompt=name, picture=picture, x=x, y=30.0)
        for name, picture, x in zip(("cat", "car"), pictures, (16.0, 56.0), strict=True)
    )
    collage = Collage(canvas={"width": 72, "height": 64}, prompt="the beach", steps=3, layers=layers)
    archive.write(tmp_path / "evening.collage", collage, library)
    return tmp_path / "evening.collage"


def pixels(path: Path) -> np.ndarray:
    with Image.open(path) as picture:
        return np.asarray(picture).astype(int)


@pytest.mark.parametrize("model", ["sd_noise", "sdxl"])
def test_from_a_collage_to_a_picture(
    capsys: pytest.CaptureFixture[str], file: Path, tmp_path: Path, model: str
) -> None:
    pipe = tiny.KINDS[model]()
    pipe.save_pretrained(tmp_path / "model")
    source = tiny_adapter.save(tmp_path / "adapter", pipe.unet)
    command = ["render", str(file), "--seed", "0", "--device", "cpu", "--model", str(tmp_path / "model")]
    asked = ["--set", "layers.cat.image_prompt=0.6", "--set", "layers.car.image_prompt=.9"]
    named = ["--ip-adapter", f"{source.source}:{source.weights}"]
    capsys.readouterr()
    assert main([*command, "-o", str(tmp_path / "off"), *named]) == 0
    assert main([*command, "-o", str(tmp_path / "on"), *named, *asked]) == 0
    assert "warning" not in capsys.readouterr().err
    off, on = (tmp_path / folder / "evening-0.png" for folder in ("off", "on"))
    assert np.abs(pixels(on) - pixels(off)).mean() > 1
    reports = [png.read_report(one.read_bytes()) for one in (off, on)]
    assert [report.get("ip_adapter") for report in reports] == [None, str(source)]
    carried, _ = open_any(on)
    assert [layer.image_prompt for layer in carried.layers] == [0.6, 0.9]
    assert main(["info", str(on)]) == 0
    assert "image_prompt 0.6" in capsys.readouterr().out
    assert main([*command, "-o", str(tmp_path / "none"), *asked]) == 1, "not as wide as a published one's"
    said = capsys.readouterr().err
    assert "'cat': image prompt cannot be used" in said and "--ip-adapter" in said


def test_the_embedded_model_says_what_else_there_is(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    asked = ["--set", "layers.car.image_prompt=.6", "--steps", "1"]
    assert main(["render", "evening", "-o", str(tmp_path), *asked]) == 1
    said = capsys.readouterr().err
    assert "'car': image prompt cannot be used with embedded" in said and "use learn look" in said


def test_an_adapter_is_named_with_its_file(
    capsys: pytest.CaptureFixture[str], file: Path, tmp_path: Path
) -> None:
    assert main(["render", str(file), "-o", str(tmp_path / "out"), "--ip-adapter", "some/where"]) == 2
    assert "SOURCE:WEIGHTS" in capsys.readouterr().err
