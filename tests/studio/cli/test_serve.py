"""``decollage serve``: the page answers, an interrupt ends it, a taken port is an engine error.

Servers run in processes of their own: Gradio leaves sockets open behind a server that did not start.
"""

from __future__ import annotations

import http.client
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from studio.cli import main

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
