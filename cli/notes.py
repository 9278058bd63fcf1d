"""What stderr shows in addition to the progress: errors, and gpureg's own warnings, each as one line."""

from __future__ import annotations

import re
import warnings
from typing import TYPE_CHECKING, TextIO

from gpureg.errors import GpuregWarning

CONTROLS = re.compile(r"[\x00-\x09\x0b-\x1f\x7f-\x9f]")  # all but the line feed

if TYPE_CHECKING:
    from rich.console import Console


def complain(message: str) -> None:
    """One error on stderr; the terminal wraps long lines, so that paths can be copied."""
    from rich.console import Console  # where it is used: most of rich's time to load

    say(Console(stderr=True, highlight=False), "error: ", "bold red", message)


def say(console: Console, mark: str, style: str, message: str) -> None:
    """`mark` in its style, and the message; control characters, in a file's name for example, are spelled out."""
    console.print(mark, style=style, end="")
    console.print(CONTROLS.sub(lambda found: ascii(found[0])[1:-1], message), markup=False, soft_wrap=True)


def show_warnings(console: Console) -> None:
    """From now on: gpureg's own warnings as one line each on `console`; others as Python shows them."""
    usual = warnings.showwarning

    def show_one(
        message: Warning | str,
        category: type[Warning],
        filename: str,
        lineno: int,
        file: TextIO | None = None,
        line: str | None = None,
    ) -> None:
        if issubclass(category, GpuregWarning):
            say(console, "warning: ", "bold yellow", str(message))
        else:
            usual(message, category, filename, lineno, file, line)

    warnings.showwarning = show_one
    warnings.simplefilter("always", GpuregWarning)
