"""What the loader chose by itself, on stderr: one line a model, for the command line and for ``app.py``."""

from __future__ import annotations

import logging
import sys


def to_stderr() -> None:
    """From here on the loader's lines go to stderr; calling it again changes nothing."""
    logger = logging.getLogger("pipelines.loading")
    if not any(isinstance(one, _Stderr) for one in logger.handlers):
        logger.addHandler(_Stderr())
        logger.setLevel(logging.INFO)


class _Stderr(logging.Handler):
    """Writes to what ``sys.stderr`` is at the time; a ``StreamHandler`` would keep the one it was made with."""

    def emit(self, record: logging.LogRecord) -> None:
        print(f"decollage: {record.getMessage()}", file=sys.stderr)
