"""Bring what a Hugging Face Space reads in step with ``pyproject.toml``; ``--check`` only compares.

That is ``requirements.txt``, and the version of Gradio in the README's front matter: a Space installs Gradio itself at
that version, so Gradio is left out of the file. It is the lowest that ``pyproject.toml`` allows.
"""

from __future__ import annotations

import re
import sys
import tomllib
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
HEAD = "# Generated from pyproject.toml by scripts/sync_requirements.py, for Hugging Face Spaces alone.\n"


def wanted(root: Path = ROOT) -> dict[str, str]:
    """The texts that ``requirements.txt`` and ``README.md`` must have.

    Raises `ValueError` where Gradio has no lowest version, or the README's front matter names none.
    """
    needed = tomllib.loads((root / "pyproject.toml").read_text())["project"]["dependencies"]
    lowest = re.search(r"^gradio\b.*>=([\d.]+)", "\n".join(needed), re.MULTILINE)
    if lowest is None:
        raise ValueError("pyproject.toml gives gradio no lowest version (gradio>=…).")
    version = ".".join([*lowest[1].split("."), "0", "0"][:3])
    readme, found = re.subn(
        r"\A(---\n(?:(?!---).*\n)*?sdk_version: ).*", rf"\g<1>{version}", (root / "README.md").read_text()
    )
    if not found:
        raise ValueError("README.md has no sdk_version in its front matter.")
    lines = [line for line in needed if not line.startswith("gradio")]
    return {"requirements.txt": HEAD + "".join(f"{line}\n" for line in lines), "README.md": readme}


def main(arguments: Sequence[str] = sys.argv[1:], root: Path = ROOT) -> int:
    """0 when the files are as they should be (or have been written), 1 when ``--check`` finds a difference."""
    differing = {
        name: text
        for name, text in wanted(root).items()
        if not (root / name).exists() or (root / name).read_text() != text
    }
    if "--check" in arguments:
        for name in differing:
            print(
                f"{name} differs from pyproject.toml: run python scripts/sync_requirements.py",
                file=sys.stderr,
            )
        return 1 if differing else 0
    for name, text in differing.items():
        (root / name).write_text(text)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
