"""The page's pure JavaScript under Node's own test runner, and the vendored library."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
from pathlib import Path

import pytest

from studio.canvas.component import SCRIPTS, STATIC, head
from tests.needs import missing

HERE = Path(__file__).parent
NODE = shutil.which("node")


@pytest.mark.parametrize("file", sorted(HERE.glob("*.test.js")), ids=lambda file: file.name)
def test_javascript(file: Path) -> None:
    if NODE is None:
        missing("node is not installed")
    done = subprocess.run(
        [NODE, "--test", str(file)], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "fail 0" in done.stdout
    assert "pass 0" not in done.stdout


def test_every_script_is_loaded_after_what_it_needs() -> None:
    own = {path.name for path in STATIC.glob("*.js")}
    assert own == {name for name in SCRIPTS if "/" not in name}
    order = [name for name in SCRIPTS if name in head()]
    assert order == list(SCRIPTS)
    for name in ("sending.js", "adding.js"):
        assert order.index("bridge.js") < order.index(name)  # it extends the class made there


def test_addresses_are_relative_and_change_with_the_content() -> None:
    digest = hashlib.sha256((STATIC / "store.js").read_bytes()).hexdigest()
    assert f'src="gradio_api/file={(STATIC / "store.js").as_posix()}?v={digest[:12]}"' in head()
    assert "http" not in head().replace((STATIC.as_posix()), "")


def test_konva_is_the_released_file_with_its_licence() -> None:
    for line in (STATIC / "vendor" / "SHA256SUMS").read_text().splitlines():
        digest, name = line.split()
        assert hashlib.sha256((STATIC / "vendor" / name).read_bytes()).hexdigest() == digest
    assert "MIT" in (STATIC / "vendor" / "konva.LICENSE").read_text()
    assert "Konva JavaScript Framework v10" in (STATIC / "vendor" / "konva.min.js").read_text()[:400]
