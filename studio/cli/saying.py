"""What commands print: in any encoding, and to the end of the work even where nobody reads any more."""

from __future__ import annotations

import contextlib
import io
import os
import re
import sys
from collections.abc import Iterator
from typing import TextIO

from pipelines.errors import EngineError

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]")
"""What moves a terminal's cursor, ends a line or turns the direction of writing."""


def plain(text: str) -> str:
    """``text`` with control characters as escapes: what files of others hold shall act on no terminal."""
    return _CONTROL.sub(lambda found: repr(found[0])[1:-1], text)


def prepare() -> None:
    """Characters that an output's encoding lacks are printed as escapes, instead of ending the command."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def say(line: str) -> None:
    """Print a line on stdout; `EngineError` where it cannot be written. Where nobody reads, nothing is said."""
    with _kept_up(sys.stdout):
        print(line, flush=True)


def warn(message: str) -> None:
    """Print a warning on stderr, as `say` does."""
    with _kept_up(sys.stderr):
        print(f"decollage: warning: {plain(message)}", file=sys.stderr, flush=True)


def fail(sentence: str) -> None:
    """Print an error as one line on stderr, where that can be written."""
    with contextlib.suppress(EngineError), _kept_up(sys.stderr):
        print("decollage: " + plain(" ".join(sentence.split())), file=sys.stderr, flush=True)


def finish() -> None:
    """Write what others than these functions printed, help for instance, before the interpreter tries to."""
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:  # as where both were closed from the start
            with _kept_up(stream):
                stream.flush()


@contextlib.contextmanager
def _kept_up(stream: TextIO) -> Iterator[None]:
    """Once a stream cannot be written to, what is printed there goes nowhere, so that the work is done all the same."""
    try:
        yield
    except OSError as error:
        with contextlib.suppress(OSError):
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, stream.fileno())
            os.close(nowhere)
        if not isinstance(error, BrokenPipeError):
            raise EngineError(
                f"the output cannot be written ({error.strerror}); send it elsewhere."
            ) from None
