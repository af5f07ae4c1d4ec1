"""The README's commands are those that continuous integration runs and that contributors are told."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def commands(heading: str) -> list[str]:
    """The commands of the first block under a heading of the README, one an entry."""
    block = re.search(rf"^## {heading}\n+```bash\n(.*)\n```", (ROOT / "README.md").read_text(), re.MULTILINE)
    assert block, f"{heading} begins with one line of commands"
    return block[1].split(" && ")


def test_continuous_integration_runs_the_test_command() -> None:
    run = (ROOT / ".ci" / "run").read_text().replace("pip install -q", "pip install").splitlines()
    places = [run.index(command) for command in commands("Test")]
    assert places == sorted(places) and commands("Test")[-1] == "scripts/check"


def test_contributors_install_the_same() -> None:
    told = (ROOT / "CONTRIBUTING.md").read_text()
    installs = [command for command in commands("Test") if command.startswith("pip install")]
    assert len(installs) == 2 and all(f"`{command}`" in told for command in installs)


def test_pip_is_that_of_an_environment() -> None:
    """Debian, Ubuntu and Homebrew refuse to install into their own Python."""
    for heading in ("Start", "Test"):
        assert commands(heading)[0] == "python3 -m venv .venv"
    assert [command for command in commands("Start") if not command.startswith(".venv/bin/")] == [
        "python3 -m venv .venv"
    ]
