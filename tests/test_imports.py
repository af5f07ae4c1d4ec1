"""Importing costs no torch: the page must open, edit, save and export before a model is loaded."""

from __future__ import annotations

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


@pytest.mark.parametrize("module", ["pipelines", "studio"])
def test_the_rooms_know_only_what_lies_below(module: str) -> None:
    above = {"pipelines": ("studio", "app", "presets"), "studio": ("app",)}[module]
    assert loaded([name for name in PURE if name.split(".")[0] == module], above) == []
