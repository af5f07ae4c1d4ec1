"""What some tests need beside the test extra: without it they are skipped; in CI, which installs it, they fail."""

from __future__ import annotations

import importlib
import os
from typing import Any, NoReturn

import pytest


def missing(reason: str) -> NoReturn:
    """Skip this test, one sentence that says what to install; in CI fail it."""
    if os.environ.get("CI", "").lower() in ("true", "1"):
        pytest.fail(f"{reason}: CI must run this test")
    pytest.skip(reason)


def library(name: str) -> Any:
    """Library ``name``, imported; where it is not installed the test ends as in `missing`.

    One that is installed and cannot be imported fails the test everywhere: `pytest.importorskip` would hide it.
    """
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name != name:
            raise
    missing(f"{name} is not installed")
