"""The built wheel is whole: installed in a fresh environment outside the checkout, it renders a preset."""

from __future__ import annotations

import ast
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tomllib
import venv
import zipfile
from collections.abc import Iterator, Mapping
from functools import cache
from importlib.metadata import packages_distributions
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
        "studio/open_words.json",
        "presets/evening.collage",
    ):
        assert wanted in names
    assert not [
        name for name in names if "/training/" in name or "/judge/" in name or name.startswith("tests/")
    ]


def _imports(source: str) -> Iterator[tuple[str, bool]]:
    """Every name that a module imports, with its modules, and whether it waits until a function is called."""

    def walk(node: ast.AST, waits: bool) -> Iterator[tuple[str, bool]]:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.Import):
                yield from ((name.name, waits) for name in child.names)
            elif isinstance(child, ast.ImportFrom):
                assert child.level == 0 and child.module, "imports say the whole name"
                yield from ((f"{child.module}.{name.name}", waits) for name in child.names)
            yield from walk(child, waits or isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef))

    return walk(ast.parse(source), False)


def _sources(wheel: Path) -> dict[str, str]:
    """The wheel's modules by their dotted names."""
    with zipfile.ZipFile(wheel) as archive:
        return {
            name.removesuffix(".py").removesuffix("/__init__").replace("/", "."): archive.read(name).decode()
            for name in archive.namelist()
            if name.endswith(".py")
        }


def _left_out(source: str, there: set[str]) -> list[str]:
    """What a module imports of ours, in whatever place, that is not among the modules ``there``."""
    missing = []
    for name, _ in _imports(source):
        parts = name.split(".")
        if parts[0] not in ("pipelines", "studio", "presets", "app", "scripts", "tests"):
            continue
        folder = ROOT.joinpath(*parts)
        is_module = folder.is_dir() or folder.with_suffix(".py").exists()
        if (name if is_module else ".".join(parts[:-1])) not in there:
            missing.append(name)
    return missing


def _undeclared(source: str, needed: set[str], extras: set[str]) -> list[str]:
    """What a module imports of others that is not among the ``needed`` distributions.

    Those of an extra may be imported in a function, where the module looks first whether they are there.
    """
    found = []
    for name, waits in _imports(source):
        top = name.split(".")[0]
        if top in sys.stdlib_module_names or top in ("pipelines", "studio", "presets"):
            continue
        from_ = {_normal(one) for one in _owners().get(top, [top])}
        guarded = waits and "find_spec(" in source and from_ & extras
        if not from_ & needed and not guarded:
            found.append(name)
    return found


@cache
def _owners() -> Mapping[str, list[str]]:
    """Distributions by what is imported of them; slow to find."""
    return packages_distributions()


def _normal(requirement: str) -> str:
    """A distribution's name without extras and bounds, as package indexes compare names."""
    match = re.match(r"[A-Za-z0-9._-]+", requirement)
    assert match
    return re.sub(r"[-_.]+", "-", match[0]).lower()


def test_what_is_in_the_wheel_imports_only_what_is_in_it(wheel: Path) -> None:
    sources = _sources(wheel)
    assert "studio.cli" in sources and "presets" in sources and "presets.recipes.build" not in sources
    there = set(sources)
    missing = {module: _left_out(source, there) for module, source in sources.items()}
    assert {module: names for module, names in missing.items() if names} == {}
    recipe = _left_out((ROOT / "presets" / "recipes" / "build.py").read_text(), there)
    assert "pipelines.embedded.training.captions.prompt_for" in recipe, "what is left out is noticed"


def test_what_the_wheel_imports_is_declared(wheel: Path) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    needed = {_normal(one) for one in project["dependencies"]}
    optional = project["optional-dependencies"].items()
    extras = {_normal(one) for name, many in optional if name != "test" for one in many}
    found = {module: _undeclared(source, needed, extras) for module, source in _sources(wheel).items()}
    assert {module: names for module, names in found.items() if names} == {}
    for source in ("import peft", "def f():\n    import peft", "def f():\n    from scipy import stats"):
        assert _undeclared(source, needed, extras), "what is not declared is noticed"
    looks = "def f():\n    if find_spec('peft'):\n        import peft"
    assert _undeclared(looks, needed, extras) == []


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
