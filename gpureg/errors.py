"""What can go wrong, and the exit code the command line gives it.

Every message says what was given, what was expected and what to do, and uses its caller's name for an option
(`named`). Errors are raised once, at the edge: no loop uses them for control flow.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

IN_PYTHON = {"out": "directory"}  # options whose parameter has another name
_FLAGS: ContextVar[bool] = ContextVar("options are named as flags", default=False)


class GpuregError(Exception):
    """Base of every error that gpureg raises on purpose; `exit_code` is the exit code of the command line."""

    exit_code = 1


class UsageError(GpuregError, ValueError):
    """An option, a configuration or data can't be used as given (exit code 2)."""

    exit_code = 2


class DataError(UsageError):
    """A data set is not available or can't be read (exit code 2)."""


class TooLargeError(DataError):
    """The rows of a data set take more memory than they may (exit code 2)."""


class RunError(UsageError):
    """A run directory is missing, damaged, or already there (exit code 2)."""


class DeviceError(GpuregError, RuntimeError):
    """A device that `strict_device` requires is not available (exit code 3)."""

    exit_code = 3


class EngineError(GpuregError, RuntimeError):
    """The workers that a fit runs on, or their scheduler, are gone (exit code 2). `saved`: as in `OutOfMemoryError`."""

    saved = False
    exit_code = 2


class OutOfMemoryError(GpuregError, MemoryError):
    """A run does not fit in memory; the message says how much is needed, how much there is and what to change.

    `saved` says whether the training so far is kept in a checkpoint.
    """

    saved = False
    exit_code = 2

    def with_advice(self, advice: str) -> OutOfMemoryError:
        """The same error, with a sentence that says what would need less memory."""
        error = OutOfMemoryError(f"{self} {advice}")
        error.saved = self.saved
        return error


class GpuregWarning(UserWarning):
    """Base of gpureg's own warnings: a fallback to another device, a fit that is not to be trusted, ..."""


def size_text(size: int) -> str:
    """Bytes as people read them, in the units of `--memory`."""
    for unit, name in ((2**30, "GiB"), (2**20, "MiB"), (2**10, "KiB")):
        if size >= unit:
            return f"{size / unit:,.{1 if size < 100 * unit else 0}f} {name}"
    return f"{size} bytes"


def printable(text: str) -> str:
    """`text` with an escape for every character that does not print: control characters of a terminal, marks that turn
    the direction of the text, and bytes of a file's name that are not UTF-8.
    """
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


@contextmanager
def naming_flags() -> Iterator[None]:
    """Within the block, messages name options as the command line does."""
    token = _FLAGS.set(True)
    try:
        yield
    finally:
        _FLAGS.reset(token)


def names_flags() -> bool:
    """Whether messages name options as the command line does."""
    return _FLAGS.get()


def named(option: str, value: object = None) -> str:
    """An option in its caller's words, for a message: `val_size=10` in Python, `--val-size 10` on the command line.

    Without a value, only the name; a bool's flag takes no value.
    """
    if not _FLAGS.get():
        option = IN_PYTHON.get(option, option)
        return option if value is None else f"{option}={value!r}"
    flag = option.replace("_", "-")
    if isinstance(value, bool):
        return f"--{flag}" if value else f"--no-{flag}"
    return f"--{flag}" if value is None else f"--{flag} {value}"
