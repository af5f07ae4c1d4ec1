"""What the loader chose is on stderr, once."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from studio.log import to_stderr


def test_a_line_a_choice(capsys: pytest.CaptureFixture[str]) -> None:
    for _ in range(2):
        to_stderr()
    logger = logging.getLogger("pipelines.loading.load")
    logger.info("model %s: device cuda", "sdxl")
    logger.debug("not worth it")
    assert capsys.readouterr().err == "decollage: model sdxl: device cuda\n"


def test_the_page_of_a_space_says_it_too() -> None:
    app = Path(__file__).parents[2] / "app.py"
    assert "\nto_stderr()\n" in app.read_text(encoding="utf-8")
