"""Write ``requirements.txt`` (for Hugging Face Spaces alone) from ``pyproject.toml``; ``--check`` only compares.

A Space installs Gradio itself at the version named in the README's front matter, so Gradio is left out.
"""

from __future__ import annotations

import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
HEAD = "# Generated from pyproject.toml by scripts/sync_requirements.py, for Hugging Face Spaces alone.\n"


def wanted() -> str:
    """The text that ``requirements.txt`` must have."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    lines = [line for line in project["dependencies"] if not line.startswith("gradio")]
    return HEAD + "".join(f"{line}\n" for line in lines)


def main() -> int:
    """0 when the file is as it should be (or has been written), 1 when ``--check`` finds a difference."""
    path = ROOT / "requirements.txt"
    if "--check" in sys.argv[1:]:
        if path.exists() and path.read_text() == wanted():
            return 0
        print(
            "requirements.txt differs from pyproject.toml: run python scripts/sync_requirements.py",
            file=sys.stderr,
        )
        return 1
    path.write_text(wanted())
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
