"""Remarks on import that nobody can act on stay unsaid; everything else is said."""

from __future__ import annotations

import logging
import subprocess
import sys

import pytest

from pipelines.remarks import silence
from tests.needs import library


def test_remarks_alone_are_dropped(caplog: pytest.LogCaptureFixture) -> None:
    silence()
    silence()
    torchao, pytree = (logging.getLogger(name) for name in ("torchao", "torch.utils._pytree"))
    assert len(torchao.filters) == 1, "calling it again changes nothing"
    with caplog.at_level(logging.WARNING):
        torchao.warning("Failed to load _C.so: no such device")
        pytree.warning("%s is an Enum subclass and is now natively supported by torch.compile", int)
        assert not caplog.messages
        torchao.warning("this quantizer loses precision")
        logging.getLogger("torchao.quantization").warning("Failed to load the weights")
    assert caplog.messages == ["this quantizer loses precision", "Failed to load the weights"]


def test_importing_torchao_says_nothing() -> None:
    library("torchao")
    lines = "import pipelines; import torchao.quantization"
    ran = subprocess.run([sys.executable, "-c", lines], capture_output=True, text=True, check=True)
    assert ran.stderr == ""


def test_whatever_module_comes_first() -> None:
    """The features import transformers, which imports torchao, before any model is loaded."""
    ran = subprocess.run(
        [sys.executable, "-c", "import pipelines.measure.features"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert ran.stderr == ""
