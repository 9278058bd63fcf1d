"""Output in an encoding that lacks λ: what it can't show is spelled out, never an error."""

from __future__ import annotations

import codecs
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from io import TextIOWrapper

SPELLED = {
    "λ": "lambda", "Σ": "sum", "²": "^2", "×": "x", "★": "*", "·": ".", "■": "#", "✗": "x", "∇": "grad", "−": "-",
    "…": "...", "╭": "+", "╮": "+", "╰": "+", "╯": "+", "│": "|", "─": "-", "━": "-", "╸": "-", "╺": "-", "—": "-",
}  # fmt: skip
HANDLER = "gpureg.spelled"


def spelled(error: UnicodeError) -> tuple[str | bytes, int]:
    """A codec's error handler: characters that the encoding lacks, in others."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    missing = error.object[error.start : error.end]
    return "".join(SPELLED.get(character, "?") for character in missing), error.end


def forgive() -> None:
    """Make stdout and stderr spell out what their encoding lacks."""
    codecs.register_error(HANDLER, spelled)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors=HANDLER)


def drop_output() -> None:
    """Send what stdout still holds, and is yet to get, nowhere: its reader has gone, and a flush at the end would fail
    again."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


@contextmanager
def unread_is_fine() -> Iterator[None]:
    """Output that a pipe's reader no longer wants, as `| head` does, is dropped; the exit code stays the run's own."""
    try:
        yield
        sys.stdout.flush()
    except BrokenPipeError:
        drop_output()
    except SystemExit:  # what rich makes of it, after the same
        pass


def shows_unicode(encoding: str | None) -> bool:
    """Whether every character can be written."""
    return (encoding or "").lower().replace("-", "").startswith("utf")
