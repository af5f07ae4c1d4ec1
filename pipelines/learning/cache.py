"""Learned looks on disk: one safetensors file each, named by the hash of all that decides it.

Files are small and take minutes to make again; past `MOST` bytes in all, those go that were used longest ago.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from pipelines.learning.tokens import Rows
from pipelines.loading.weights import inner

VERSION = 2
"""Raised when learning changes, so that what was learned before is learned anew."""
SAMPLES = 64
"""Numbers of each weight tensor that its fingerprint reads: any training moves all of a tensor."""

MOST = 256 * 2**20
"""Bytes of all kept looks: thousands of them, as one takes some 10 kB."""


def folder() -> Path:
    """``$DECOLLAGE_CACHE``, else the system's place for caches, in it ``decollage``; in that, ``looks``."""
    if given := os.environ.get("DECOLLAGE_CACHE"):
        return Path(given) / "looks"
    if sys.platform == "win32":
        base = Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
    elif sys.platform == "darwin":
        base = Path.home() / "Library" / "Caches"
    else:
        base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return base / "decollage" / "looks"


def fingerprint(parts: Sequence[torch.nn.Module]) -> str:
    """sha256 over names, shapes, types and `SAMPLES` numbers of every weight, and the strengths of LoRAs."""
    found = hashlib.sha256()
    for part in parts:
        for name, weight in part.state_dict().items():
            found.update(f"{name} {tuple(weight.shape)} {weight.dtype}".encode())
            for held in inner(weight):  # a quantized weight cannot be picked from
                flat = held.detach().reshape(-1)
                some = flat[:: max(1, len(flat) // SAMPLES)][:SAMPLES].cpu()
                found.update(some.contiguous().view(torch.uint8).numpy().tobytes())
        for name, module in part.named_modules():
            strengths = getattr(module, "scaling", None)
            if isinstance(strengths, dict):
                found.update(f"{name} {sorted(strengths.items())} {module.active_adapters}".encode())
    return found.hexdigest()


def key(facts: Mapping[str, object]) -> str:
    """sha256 of the canonical JSON of all that decides a look."""
    text = json.dumps({"version": VERSION, **facts}, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def read(path: Path, names: Sequence[str], like: Rows) -> Rows | None:
    """The vectors in a file, of the shapes of ``like``; None where there is no such file or it is damaged.

    Reading is using: it puts off the file's deletion.
    """
    if not path.is_file():
        return None
    try:
        found = load_file(path)
    except (OSError, SafetensorError):
        return None
    with suppress(OSError):  # a folder that can only be read
        os.utime(path, ns=(time.time_ns(), path.stat().st_mtime_ns))
    rows = tuple(found[name] for name in names if name in found)
    shapes = [one.shape for one in rows] == [one.shape for one in like]
    return rows if shapes and all(bool(one.isfinite().all()) for one in rows) else None


def write(path: Path, names: Sequence[str], rows: Rows, facts: Mapping[str, Any]) -> str | None:
    """Keep vectors in a file, whole or not at all, and make room for it; what went wrong, or None."""
    tensors = {name: one.contiguous() for name, one in zip(names, rows, strict=True)}
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=path.parent) as near:  # the same disk, so that moving is one act
            whole = Path(near) / path.name
            save_file(tensors, whole, metadata={name: json.dumps(value) for name, value in facts.items()})
            whole.replace(path)
        _make_room(path)
    except OSError as error:
        return error.strerror or str(error)
    return None


def _make_room(kept: Path) -> None:
    """Delete looks beside ``kept``, the longest unused first, until all take at most `MOST` bytes."""
    found = []
    for path in kept.parent.glob("*.safetensors"):
        with suppress(OSError):  # another process makes room, too
            state = path.stat()
            found.append((path != kept, state.st_atime_ns, state.st_size, path))
    total = 0
    for _, _, size, path in sorted(found, key=lambda one: (one[0], -one[1])):
        total += size
        if total > MOST and path != kept:
            with suppress(OSError):
                path.unlink()
