"""The command line: ``decollage render``, ``compare``, ``info`` and ``serve``; no model is loaded to import it."""

from __future__ import annotations

import sys
from collections.abc import Sequence

import typer

from pipelines.errors import DecollageError, DocumentError
from studio.cli import saying
from studio.cli.compare import compare
from studio.cli.info import info
from studio.cli.render import render
from studio.cli.serve import serve

__all__ = ["main"]

OK, ENGINE_FAILED, BAD_INPUT, INTERRUPTED = 0, 1, 2, 130

app = typer.Typer(
    name="decollage",
    help="Build pictures from cut-outs, and pull them away from others.",
    epilog="Exit codes: 0 done; 1 the model or this machine cannot do it; 2 bad input or usage; "
    "130 interrupted. An error is one line on stderr. A reader that stops early (| head) changes neither "
    "the files nor the code.",
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.command()(render)
app.command()(compare)
app.command()(info)
app.command()(serve)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code; without arguments it prints its help."""
    saying.prepare()
    given = None if arguments is None else list(arguments)
    if not (sys.argv[1:] if given is None else given):
        given = ["--help"]  # typer's own switch for it ends with 0 or 2, by version
    try:
        code = app(args=given, prog_name="decollage", standalone_mode=False)
        saying.finish()
    except DecollageError as error:
        return _fail(str(error), BAD_INPUT if isinstance(error, DocumentError) else ENGINE_FAILED)
    except (typer.Abort, KeyboardInterrupt):
        code = INTERRUPTED
    except SystemExit as error:  # how typer and rich end where nobody reads their help to its end
        if not isinstance(error.__context__, BrokenPipeError):
            raise
        code = OK
    except Exception as error:
        # The parser's own errors: typer brings them along from click, under names that differ by version.
        sentence = getattr(error, "format_message", None)
        if sentence is None:
            raise
        return _fail(sentence(), BAD_INPUT)
    if code == INTERRUPTED:  # what newer versions of typer return by themselves
        return _fail("interrupted.", INTERRUPTED)
    return code if isinstance(code, int) else OK


def _fail(sentence: str, code: int) -> int:
    saying.fail(sentence)
    return code
