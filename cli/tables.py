"""Tables for the terminal: every cell is shown whole; in a narrow terminal the least important columns are left out."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from rich.text import Text

GAPS = (3, 2, 1)  # spaces between two columns: the most that fit


@dataclass(frozen=True)
class Column:
    """A column: title (at most two lines), cells, and the order in which it is left out (highest first, 0: never)."""

    title: str
    cells: Sequence[str]
    drop: int = 0
    left: bool = False

    @property
    def width(self) -> int:
        """The width of its widest cell or line of the title."""
        return max(len(line) for line in (*self.title.split("\n"), *self.cells))


def table(columns: Sequence[Column], width: int, *, bold: Collection[int] = ()) -> Text:
    """`columns` as a table, at most `width` wide if leaving out columns achieves that; the rows `bold` are bold."""
    kept, gap = list(columns), GAPS[-1]
    while _width(kept, gap) > width and max(column.drop for column in kept):
        kept.remove(max(kept, key=lambda column: column.drop))
    gap = next((wider for wider in GAPS if _width(kept, wider) <= width), gap)
    lines = max(column.title.count("\n") for column in kept) + 1
    titles = [column.title.split("\n") for column in kept]
    text = Text()
    for line in range(lines):
        cells = [([""] * (lines - len(title)) + title)[line] for title in titles]
        text.append(_row(kept, cells, gap), "bold").append("\n")
    text.append("─" * _width(kept, gap), "dim")
    for row in range(len(kept[0].cells)):
        text.append("\n").append(_row(kept, [column.cells[row] for column in kept], gap), "bold" if row in bold else "")
    return text


def distinct(values: Sequence[float], digits: int = 4) -> list[str]:
    """Numbers with `digits` significant digits, or with more if different numbers would look alike."""
    while digits < 17 and len({f"{value:.{digits}g}" for value in values}) < len(set(values)):
        digits += 1
    return [f"{value:.{digits}g}" for value in values]


def _width(columns: Sequence[Column], gap: int) -> int:
    return sum(column.width for column in columns) + gap * (len(columns) - 1)


def _row(columns: Sequence[Column], cells: Sequence[str], gap: int) -> str:
    padded = [
        cell.ljust(column.width) if column.left else cell.rjust(column.width)
        for column, cell in zip(columns, cells, strict=True)
    ]
    return (" " * gap).join(padded).rstrip()
