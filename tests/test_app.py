"""The entry of a Space and of ``python app.py``: the page is served, and on a Space renders borrow a GPU."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import httpx

ROOT = Path(__file__).parents[1]

SPACES = """
def GPU(duration):
    def lent(run):
        print("lent for", duration, "seconds to", run.__name__, flush=True)
        return run
    return lent
"""
"""Stands for the library of that name, which is on Spaces alone."""


def _answer(address: str, server: subprocess.Popen[str]) -> httpx.Response:
    patience = time.monotonic() + 120
    while server.poll() is None and time.monotonic() < patience:
        try:
            return httpx.get(address, timeout=30).raise_for_status()
        except httpx.HTTPError:
            time.sleep(0.2)
    server.kill()
    raise AssertionError(f"no page at {address}: {server.communicate()}")


def test_the_page_is_served() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with subprocess.Popen(
        [sys.executable, "app.py"],
        cwd=ROOT,
        env={**os.environ, "GRADIO_SERVER_PORT": str(port)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as server:
        try:
            page = _answer(f"http://127.0.0.1:{port}/", server)
            config = _answer(f"http://127.0.0.1:{port}/config", server).json()
            server.send_signal(signal.SIGINT)
            said, complaints = server.communicate(timeout=120)
        finally:
            server.kill()
    assert "<html" in page.text
    (canvas,) = (part for part in config["components"] if part["props"].get("elem_id") == "studio")
    assert config["title"] == "Décollage"
    assert "embedded" in str(canvas["props"]), "the models it offers"
    assert f"127.0.0.1:{port}" in said
    assert "Error" not in complaints


def test_on_a_space_renders_borrow_a_gpu_and_the_loader_is_heard(tmp_path: Path) -> None:
    (tmp_path / "spaces.py").write_text(SPACES, encoding="utf-8")
    lines = "import logging, app; logging.getLogger('pipelines.loading.load').info('device chosen')"
    ran = subprocess.run(
        [sys.executable, "-c", lines],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), str(ROOT)])},
        capture_output=True,
        text=True,
        check=True,
    )
    assert ran.stdout == "lent for 120 seconds to _render_elsewhere\n"
    assert ran.stderr == "decollage: device chosen\n"
