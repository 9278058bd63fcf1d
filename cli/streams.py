"""stdout and stderr that can be lost: a write that fails costs the display, never the run.

A write that fails (a full disk, a reader that has gone, a terminal that was closed) is remembered, and it and all later
ones are dropped; a stream that was closed from the start goes nowhere. A character that the encoding lacks is spelled
out, and a file name that is not UTF-8 comes out as its own bytes.
"""

from __future__ import annotations

import codecs
import errno
import io
import os
import select
import sys
from typing import Any, TextIO

SPELLED = {
    "λ": "lambda", "Σ": "sum", "²": "^2", "×": "x", "★": "*", "·": ".", "■": "#", "✗": "x", "∇": "grad", "−": "-",
    "…": "...", "╭": "+", "╮": "+", "╰": "+", "╯": "+", "│": "|", "─": "-", "━": "-", "╸": "-", "╺": "-", "—": "-",
}  # fmt: skip
HANDLER = "gpureg.spelled"
GONE = (errno.EPIPE, errno.EIO, errno.ENXIO, errno.EBADF)  # the reader has gone: not an error of the command


class Output(io.FileIO):
    """The descriptor 1 or 2; `lost` is the error of the first write that failed, after which nothing is written."""

    lost: OSError | None = None

    def write(self, data: Any) -> int:
        """As FileIO does, but complete and without raising."""
        size = memoryview(data).nbytes
        if self.lost is None:
            try:
                written = super().write(data)
                # a terminal that another program has set to non-blocking
                while written is None:
                    select.select([], [self.fileno()], [])
                    written = super().write(data)
                return written
            except OSError as error:
                self.lost = error
        return size


def spelled(error: UnicodeError) -> tuple[str | bytes, int]:
    """A codec's error handler: spells out characters that the encoding lacks; keeps the bytes of file names."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    missing = error.object[error.start : error.end]
    parts = [
        bytes([ord(one) - 0xDC00]) if "\udc80" <= one <= "\udcff" else SPELLED.get(one, "?").encode("ascii")
        for one in missing
    ]
    return b"".join(parts), error.end


def take_streams() -> None:
    """Make stdout and stderr streams that can be lost, in the whole process."""
    codecs.register_error(HANDLER, spelled)
    for descriptor in (0, 1, 2):
        try:
            os.fstat(descriptor)
        except OSError:  # closed: otherwise the next file to be opened would be "stdout"
            os.open(os.devnull, os.O_RDWR)
    sys.stdout, sys.stderr = _stream(1, sys.stdout), _stream(2, sys.stderr)


def screen() -> TextIO:
    """stdout for output that only reports what was done: `loss` does not count it if it can't be written."""
    return _stream(1, sys.stdout) if _raw(sys.stdout) is not None else sys.stdout


def loss(stream: TextIO) -> OSError | None:
    """Why output to the stream was lost; None if it arrived, or if the reader has gone."""
    stream.flush()
    raw = _raw(stream)
    lost = None if raw is None else raw.lost
    return None if lost is None or lost.errno in GONE else lost


def is_lost(stream: TextIO) -> bool:
    """Whether what is written to the stream no longer arrives anywhere."""
    stream.flush()
    raw = _raw(stream)
    return raw is not None and raw.lost is not None


def _stream(descriptor: int, like: TextIO | None) -> TextIO:
    raw = Output(descriptor, "wb", closefd=False)
    encoding = "utf-8" if like is None else like.encoding
    return io.TextIOWrapper(io.BufferedWriter(raw), encoding, HANDLER, line_buffering=descriptor == 2 or raw.isatty())


def _raw(stream: TextIO) -> Output | None:
    raw = getattr(getattr(stream, "buffer", None), "raw", None)
    return raw if isinstance(raw, Output) else None


def shows_unicode(encoding: str | None) -> bool:
    """Whether every character can be written."""
    return (encoding or "").lower().replace("-", "").startswith("utf")
