"""The map names what is there: its dependencies are the project's, and what it cites can be read."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
MAP = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")


def bare(requirement: str) -> str:
    """A package's name without versions and extras."""
    return re.split(r"[^A-Za-z0-9-]", requirement)[0].lower()


def test_dependencies_are_the_projects() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    told = re.search(r"^\* Dependencies: (.*?)\. Not\s+there yet: ", MAP, re.MULTILINE | re.DOTALL)
    assert told
    words = {word.lower() for word in re.findall(r"[A-Za-z][\w-]*", told[1])}
    extras = project["optional-dependencies"]
    assert {bare(one) for one in project["dependencies"]} <= words
    assert {bare(one) for extra in ("lora", "quantize") for one in extras[extra]} <= words
    assert set(re.findall(r"extra `(\w+)`", MAP)) <= extras.keys()


def test_documents_it_cites_are_in_the_repository() -> None:
    cited = re.findall(r"[\w./-]+/[\w-]+\.md", MAP)
    missing = [path for path in cited if not ((ROOT / path).is_file() or (ROOT / "docs" / path).is_file())]
    assert cited and missing == []
