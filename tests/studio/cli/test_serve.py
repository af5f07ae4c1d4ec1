"""``decollage serve``: the page answers, an interrupt ends it, a taken port is an engine error.

Servers run in processes of their own: Gradio leaves sockets open behind a server that did not start.
"""

from __future__ import annotations

import http.client
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest

from studio.canvas.exchange import Uploads
from studio.cli import main
from studio.ui.keeping import sweep

ROOT = Path(__file__).parents[3]
COMMAND = [
    sys.executable,
    "-c",
    "import sys; from studio.cli import main; sys.exit(main(sys.argv[1:]))",
    "serve",
]


def test_a_taken_port_is_1() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = subprocess.run(
            [*COMMAND, "--port", str(port), "--no-browser"],
            capture_output=True,
            text=True,
            cwd=ROOT,
            check=False,
        )
    assert done.returncode == 1
    assert done.stderr.startswith(f"decollage: the page cannot be served on 127.0.0.1:{port}")
    assert done.stderr.count("\n") == 1


def test_an_unknown_model_is_1() -> None:
    done = subprocess.run(
        [*COMMAND, "--model", "nonesuch", "--no-browser"],
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=False,
    )
    assert done.returncode == 1 and done.stdout == ""
    assert done.stderr.startswith("decollage: model 'nonesuch' is not known") and done.stderr.count("\n") == 1


def test_unknown_features_are_1_before_the_page_opens(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert main(["serve", "--features", str(tmp_path / "nothing"), "--no-browser"]) == 1
    said = capsys.readouterr()
    assert said.out == "" and said.err.startswith("decollage: features '") and said.err.count("\n") == 1


def test_the_page_answers_until_interrupted() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    arguments = [*COMMAND, "--port", str(port), "--no-browser"]
    with subprocess.Popen(
        arguments, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as server:
        try:
            assert _status(server, port) == 200
            server.send_signal(signal.SIGINT)
            assert server.wait(timeout=120) == 130
        finally:
            server.kill()


def test_uploads_outlive_the_server_and_age(tmp_path: Path) -> None:
    """A tab that is still open when the server comes back has its pictures; what a server left long ago goes."""
    picture = ROOT / "studio" / "drawer" / "cat.png"
    old = tmp_path / "decollage" / ("0123456789abcdef" * 4) / "old.png"
    old.parent.mkdir(parents=True)
    old.write_bytes(b"old")
    # no file can be made to look old to the system, so everything that is there at the start is old to this server
    impatient = "import studio.ui.keeping; studio.ui.keeping.kept_for = lambda: -60; "
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with subprocess.Popen(
        [*COMMAND[:2], impatient + COMMAND[2], "serve", "--port", str(port), "--no-browser"],
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "GRADIO_TEMP_DIR": str(tmp_path)},
    ) as server:
        try:
            assert _status(server, port) == 200
            end = time.monotonic() + 60
            while old.exists():
                assert time.monotonic() < end, "it was never deleted"
                time.sleep(0.1)
            address = f"http://127.0.0.1:{port}/gradio_api/upload"
            answer = httpx.post(
                address, files={"files": ("cat.png", picture.read_bytes())}, timeout=120, trust_env=False
            )
            server.send_signal(signal.SIGINT)
            assert server.wait(timeout=120) == 130
        finally:
            server.kill()
    (path,) = answer.json()
    kept = Uploads(tmp_path / "decollage").path({"path": path}, "layer 'cat'")
    assert kept.read_bytes() == picture.read_bytes()
    sweep(tmp_path / "decollage", 100, time.time() + 110)
    assert not kept.exists(), "it is one of those that age"


def _status(server: subprocess.Popen[bytes], port: int) -> int:
    """HTTP status of the page, once the server answers."""
    end = time.monotonic() + 300
    while True:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
        try:
            connection.request("GET", "/")
            return connection.getresponse().status
        except ConnectionRefusedError:
            assert server.poll() is None, "the server ended before it answered"
            assert time.monotonic() < end, "the server never answered"
            time.sleep(0.2)
        finally:
            connection.close()
