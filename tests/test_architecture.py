"""The map names what is there: its dependencies are the project's, and what it cites can be read."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

from studio.canvas.component import STATIC
from studio.cli.settings import HOMES, LABELS
from studio.ui.words import WORDS

ROOT = Path(__file__).resolve().parent.parent
MAP = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
README = (ROOT / "README.md").read_text(encoding="utf-8")
HOME = re.compile(r"(layers\.NAME\.|avoids\.NAME\.|background\.|)(\w+)")
OTHERWISE = {
    "background.harmonize": "background_harmonize",
    "avoids.NAME.alpha": "avoid_alpha",
    "avoids.NAME.threshold": "avoid_threshold",
}
"""Fields that the page's words have under another name."""
PLAIN = {"seed", "steps", "guidance", "images"}
"""Words that every such program has."""


def bare(requirement: str) -> str:
    """A package's name without versions and extras."""
    return re.split(r"[^A-Za-z0-9-]", requirement)[0].lower()


def table(text: str) -> list[tuple[str, str]]:
    """A page's words and their fields, as a document's table has them."""
    return re.findall(r"^\| ([^|`]+) \| `([\w.]+)` \| ", text, re.MULTILINE)


@pytest.mark.parametrize("text", [MAP, README], ids=["map", "readme"])
def test_words_are_the_pages_and_fields_the_documents(text: str) -> None:
    page = "".join(path.read_text(encoding="utf-8") for path in sorted(STATIC.glob("*.js")))
    page += (ROOT / "studio" / "ui" / "words.py").read_text(encoding="utf-8")
    rows = table(text)
    assert len(rows) >= 12 and [label for label, _ in rows if f'"{label}"' not in page] == []
    for label, key in rows:
        home = HOME.fullmatch(key)
        assert home and home[2] in HOMES[home[1]].model_fields, key
        name = OTHERWISE.get(key, home[2])
        assert name not in WORDS or WORDS[name].label == label


def test_the_table_has_every_word() -> None:
    rows = table(MAP)
    told = {OTHERWISE.get(key, key.rpartition(".")[2]) for _, key in rows}
    assert set(WORDS) - told == PLAIN
    assert set(table(README)) <= set(rows) and f"({anchor()})" in README


def anchor() -> str:
    """Where the table is, as GitHub names its heading."""
    heading = re.search(r"^## (4\. .*)$", MAP, re.MULTILINE)
    assert heading
    return "docs/architecture.md#" + re.sub(r"[^\w -]", "", heading[1].lower()).replace(" ", "-")


def test_the_command_line_knows_what_the_page_calls_otherwise() -> None:
    other = [
        (label, key) for label, key in table(MAP) if label.lower().replace(" ", "_") != key.rpartition(".")[2]
    ]
    assert set(LABELS) == set(other)


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
