"""Ctrl-C and SIGTERM: the first ends the fit at the next epoch boundary, with a run directory; the second at once."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType


class Interrupt:
    """Whether a signal has come."""

    def __init__(self, tell: Callable[[str], None]) -> None:
        self._tell = tell
        self.requested = False

    def handle(self, number: int, frame: FrameType | None) -> None:
        """The signal handler."""
        if self.requested:
            raise KeyboardInterrupt
        self.requested = True
        self._tell("stopping after this epoch, with what there is (once more: at once)")


@contextmanager
def interruptible(tell: Callable[[str], None]) -> Iterator[Interrupt]:
    """Handle SIGINT and SIGTERM while the block runs; `tell` shows a line to the user."""
    interrupt = Interrupt(tell)
    before = {number: signal.signal(number, interrupt.handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield interrupt
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
