"""What a Space reads is in step with pyproject.toml."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from scripts.sync_requirements import ROOT, main, wanted

NAMES = ("pyproject.toml", "README.md", "requirements.txt")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A copy of the files that are compared."""
    for name in NAMES:
        shutil.copy(ROOT / name, tmp_path)
    return tmp_path


GRADIO, TORCH, SDK = r'"gradio>=[^"]*"', r'"torch>=[^"]*"', r"(?m)^sdk_version: .*\n"


def change(root: Path, name: str, pattern: str, after: str) -> None:
    text, count = re.subn(pattern, after, (root / name).read_text())
    assert count == 1
    (root / name).write_text(text)


def test_all_is_in_step() -> None:
    assert main(["--check"]) == 0


def test_a_higher_gradio_is_missed_in_the_readme_alone(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = (root / "README.md").read_text()
    change(root, "pyproject.toml", GRADIO, '"gradio>=6.40.2,<7"')
    assert main(["--check"], root) == 1
    assert capsys.readouterr().err.split()[0] == "README.md"
    assert (root / "README.md").read_text() == before
    assert main([], root) == 0 and main(["--check"], root) == 0
    assert (root / "README.md").read_text() == re.sub(SDK, "sdk_version: 6.40.2\n", before)


def test_another_sdk_version_is_found(root: Path) -> None:
    change(root, "README.md", SDK, "sdk_version: 5.0.0\n")
    assert main(["--check"], root) == 1


def test_a_new_dependency_is_missed_in_requirements_alone(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    change(root, "pyproject.toml", TORCH, '"torch>=2.99"')
    assert main(["--check"], root) == 1
    assert capsys.readouterr().err.split()[0] == "requirements.txt"
    assert main([], root) == 0 and "torch>=2.99\n" in (root / "requirements.txt").read_text()


def test_what_cannot_be_compared_is_said(root: Path) -> None:
    change(root, "README.md", SDK, "body\n---\nsdk_version: 6\n")
    with pytest.raises(ValueError, match="no sdk_version"):
        wanted(root)
    change(root, "pyproject.toml", GRADIO, '"gradio<7"')
    with pytest.raises(ValueError, match="no lowest version"):
        wanted(root)
