"""What the screen says about rows that are read while a fit runs."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from gpureg.errors import size_text

if TYPE_CHECKING:
    from gpureg.events import RowsRead, StreamBegun

WINDOW = 2.0  # seconds over which the rate is measured, at least


class Reading:
    """The rows that have been read, and how fast."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self.rows, self.rate = 0, 0.0
        self._marks: list[tuple[float, int]] = []

    def see(self, event: RowsRead) -> None:
        """Take in how much has been read by now."""
        now = self._clock()
        self.rows = event.rows
        self._marks.append((now, event.size))
        while len(self._marks) > 2 and now - self._marks[1][0] >= WINDOW:
            del self._marks[0]
        seconds = now - self._marks[0][0]
        if seconds > 0:
            self.rate = (event.size - self._marks[0][1]) / seconds

    def phrases(self) -> list[str]:
        """For a line of the progress; nothing if nothing has been read."""
        return [f"{self.rows:,} rows read, {self.rate / 1e6:,.0f} MB/s"] if self.rate else []


def opening(event: StreamBegun) -> str:
    """The line that says what streaming takes."""
    return (
        f"streaming {event.rows:,} rows in blocks of {event.block_rows:,}: two blocks take "
        f"{size_text(event.block_bytes)}, the fit at most about {size_text(event.peak)}"
    )
