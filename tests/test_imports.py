"""Importing costs no torch: the page must open, edit, save and export before a model is loaded."""

from __future__ import annotations

import ast
import pkgutil
import subprocess
import sys
from pathlib import Path

import pytest

import studio
import studio.cli
import studio.formats

ROOT = Path(__file__).parents[1]
PURE = [
    "pipelines",
    "pipelines.errors",
    "pipelines.events",
    "pipelines.models",
    "pipelines.pictures",
    "pipelines.request",
    "presets",
    "studio",
    *(f"studio.{found.name}" for found in pkgutil.iter_modules(studio.__path__) if not found.ispkg),
    *(f"studio.formats.{found.name}" for found in pkgutil.iter_modules(studio.formats.__path__)),
    *(f"studio.cli.{found.name}" for found in pkgutil.iter_modules(studio.cli.__path__)),
]
HEAVY = ("torch", "diffusers", "transformers", "gradio")

PROBE = """
import importlib, sys
for name in sys.argv[1].split(","):
    importlib.import_module(name)
print(",".join(sorted(set(sys.argv[2].split(",")) & set(sys.modules))))
"""


def loaded(modules: list[str], watched: tuple[str, ...] = HEAVY) -> list[str]:
    """Which of the watched modules a fresh interpreter holds after importing these."""
    done = subprocess.run(
        [sys.executable, "-c", PROBE, ",".join(modules), ",".join(watched)],
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=True,
    )
    return [name for name in done.stdout.strip().split(",") if name]


def test_nothing_heavy_is_loaded() -> None:
    assert "studio.to_request" in PURE
    assert loaded(PURE) == []


def test_the_page_is_built_without_a_model() -> None:
    """Importing the entry of the Space builds the whole page."""
    assert loaded(["app"], ("torch", "diffusers", "transformers", "gradio")) == ["gradio"]


def test_the_probe_would_notice() -> None:
    assert loaded(["json", "numpy"], ("json", "numpy", "torch")) == ["json", "numpy"]


ABOVE = {
    "pipelines": {"studio", "presets", "app", "scripts", "tests", "gradio"},
    "studio": {"app", "scripts", "tests"},
}
"""What no module of a room imports, in a function neither. ``studio`` asks ``presets`` for its files."""


def imported(source: str) -> set[str]:
    """The packages that a module imports, wherever in it."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {name.name.split(".")[0] for name in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0 and node.module, "imports say the whole name"
            found.add(node.module.split(".")[0])
    return found


@pytest.mark.parametrize("room", ABOVE)
def test_the_rooms_know_only_what_lies_below(room: str) -> None:
    files = sorted((ROOT / room).rglob("*.py"))
    known = {str(file.relative_to(ROOT)): imported(file.read_text(encoding="utf-8")) for file in files}
    assert f"{room}/__init__.py" in known
    assert {file: names & ABOVE[room] for file, names in known.items() if names & ABOVE[room]} == {}


def test_imports_are_found_wherever_they_are() -> None:
    assert imported("import a.b as c, d\ndef f():\n    from e.g import h") == {"a", "d", "e"}
