"""The built wheel is whole: installed in a fresh environment outside the checkout, it renders a preset."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest

from studio.formats import open_any

ROOT = Path(__file__).resolve().parent.parent


def _run(*command: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    clean = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run([str(part) for part in command], cwd=cwd, env=clean, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    return done


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from a copy of the sources so that the checkout gets no build folder."""
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    source.mkdir()
    for name in ("pipelines", "studio", "presets"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE", "NOTICE"):
        shutil.copy(ROOT / name, source)
    _run(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", folder, source, cwd=folder)
    (built,) = folder.glob("*.whl")
    return built


def test_wheel_carries_data_and_no_training(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    for wanted in (
        "pipelines/embedded/weights/model_index.json",
        "studio/canvas/static/vendor/konva.min.js",
        "studio/drawer/index.json",
        "presets/evening.collage",
    ):
        assert wanted in names
    assert not [
        name for name in names if "/training/" in name or "/judge/" in name or name.startswith("tests/")
    ]


def test_fresh_environment_renders_a_preset(wheel: Path, tmp_path: Path) -> None:
    venv.create(tmp_path / "env", with_pip=False)
    python = tmp_path / "env" / ("Scripts" if os.name == "nt" else "bin") / "python"
    site = Path(
        _run(python, "-c", "import site; print(site.getsitepackages()[0])", cwd=tmp_path).stdout.strip()
    )
    # the dependencies of this environment, but not its editable installs: those need .pth files of their own
    (site / "dependencies.pth").write_text(sysconfig.get_paths()["purelib"] + "\n")
    _run(sys.executable, "-m", "pip", "install", "--no-deps", "--target", site, wheel, cwd=tmp_path)
    where = _run(python, "-c", "import pipelines; print(pipelines.__file__)", cwd=tmp_path).stdout
    assert str(site) in where
    command = site / "bin" / "decollage"  # where pip puts it when it installs into a folder
    _run(python, command, "render", "evening", "-o", "out", "--steps", "3", "--seed", "5", cwd=tmp_path)
    collage, _ = open_any(tmp_path / "out" / "evening-5.png")
    assert collage.steps == 3
