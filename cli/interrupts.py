"""Ctrl-C, SIGTERM and a terminal that closes (SIGHUP): the first signal ends the fit at the next epoch boundary, with a
run directory; a second Ctrl-C or SIGTERM ends it at once.

A signal that was ignored when the program began, as SIGHUP by nohup and Ctrl-C by a shell in the background, stays so.
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType

NAMES = ("SIGINT", "SIGTERM", "SIGHUP")  # the last is not everywhere
SIGNALS = tuple(getattr(signal, name) for name in NAMES if hasattr(signal, name))


class Interrupt:
    """Whether a signal has come."""

    def __init__(self, tell: Callable[[str], None]) -> None:
        self._tell = tell
        self.requested = False

    def handle(self, number: int, frame: FrameType | None) -> None:
        """The signal handler."""
        if not self.requested:
            self.requested = True
            with suppress(RuntimeError):  # it came while a line was written to the same stream
                self._tell(
                    "stopping after this epoch; what is trained so far is kept (interrupt again to stop at once)"
                )
        elif number in SIGNALS[:2]:  # a terminal that closes may send several SIGHUPs
            raise KeyboardInterrupt


def heeded() -> list[int]:
    """The signals that were not ignored when the program began."""
    return [number for number in SIGNALS if signal.getsignal(number) is not signal.SIG_IGN]


def at_once(number: int, frame: FrameType | None) -> None:
    """The signal handler when nothing has to be finished first: what was begun is cleared away."""
    raise KeyboardInterrupt


@contextmanager
def interruptible(tell: Callable[[str], None]) -> Iterator[Interrupt]:
    """Handle the signals while the block runs; `tell` shows a line to the user."""
    interrupt = Interrupt(tell)
    before = {number: signal.signal(number, interrupt.handle) for number in heeded()}
    try:
        yield interrupt
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
