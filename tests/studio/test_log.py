"""What the loader chose is on stderr, once."""

from __future__ import annotations

import logging

import pytest

from studio.log import to_stderr


def test_a_line_a_choice(capsys: pytest.CaptureFixture[str]) -> None:
    for _ in range(2):
        to_stderr()
    logger = logging.getLogger("pipelines.loading.load")
    logger.info("model %s: device cuda", "sdxl")
    logger.debug("not worth it")
    assert capsys.readouterr().err == "decollage: model sdxl: device cuda\n"
