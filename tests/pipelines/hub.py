"""A hub on this machine: serves folders as models, and says no to what it has not, as the real one does."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

ROOT = Path(__file__).parents[2]
COMMIT = "0" * 40


class Hub(ThreadingHTTPServer):
    """``models`` are folders by id; ids with "gated" in them are gated, with "slow" take their time;
    ``given`` are ids and paths of files given away."""

    daemon_threads = True

    def __init__(self, models: dict[str, Path]) -> None:
        super().__init__(("127.0.0.1", 0), _Answer)
        self.models = models
        self.given: list[tuple[str, str]] = []

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class _Answer(BaseHTTPRequestHandler):
    server: Hub

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        if "gated" in path:
            return self._refuse(403, "GatedRepo")
        repo = next((name for name in self.server.models if f"/{name}" in path), None)
        if repo is None:
            return self._refuse(404, "RepoNotFound")
        folder = self.server.models[repo]
        rest = path.split(repo, 1)[1]
        if rest.startswith("/resolve/"):
            return self._file(repo, rest.split("/", 3)[3])
        if rest.startswith("/tree/"):
            files = [file for file in folder.rglob("*") if file.is_file()]
            tree = [
                {
                    "type": "file",
                    "path": str(file.relative_to(folder)),
                    "size": file.stat().st_size,
                    "oid": _sign(file),
                }
                for file in files
            ]
            return self._send(json.dumps(tree).encode(), {"Content-Type": "application/json"})
        return self._send(
            json.dumps({"id": repo, "sha": COMMIT}).encode(), {"Content-Type": "application/json"}
        )

    do_HEAD = do_GET

    def _file(self, repo: str, name: str) -> None:
        file = self.server.models[repo] / name
        if not file.is_file():
            return self._refuse(404, "EntryNotFound")
        if self.command == "GET":
            self.server.given.append((repo, name))
            if "slow" in repo:
                time.sleep(0.5)
        return self._send(file.read_bytes(), {"ETag": f'"{_sign(file)}"', "X-Repo-Commit": COMMIT})

    def _refuse(self, status: int, code: str) -> None:
        self.send_response(status)
        self.send_header("X-Error-Code", code)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def _send(self, body: bytes, headers: dict[str, str]) -> None:
        self.send_response(200)
        for key, value in headers.items():
            self.send_header(key, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


def _sign(file: Path) -> str:
    return hashlib.sha1(file.read_bytes()).hexdigest()


@contextmanager
def served(models: dict[str, Path]) -> Iterator[Hub]:
    server = Hub(models)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def run(hub: Hub, home: Path, program: str, *arguments: str, offline: bool = False) -> str:
    """What a program prints that has this hub; in a process of its own, because the hub's library reads its address
    and offline switch when it is imported."""
    done = subprocess.run(
        [sys.executable, "-c", program, *arguments],
        env={
            **os.environ,
            "HF_ENDPOINT": hub.address,
            "HF_HOME": str(home),
            "HF_HUB_OFFLINE": str(int(offline)),
            "HF_HUB_DISABLE_XET": "1",
        },
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout
