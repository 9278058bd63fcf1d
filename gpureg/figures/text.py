"""Names of the user's (classes, runs) as text in a figure."""

from __future__ import annotations

from gpureg.errors import printable

MOST = 24  # characters of a name


def plain(name: object, most: int = MOST) -> str:
    """A name as text that is drawn as it is: control characters as escapes, nothing that mathtext would read, and a
    name of more than `most` characters without its middle.
    """
    text = shortened(printable(str(name)), most).replace("$", r"\$")
    return f" {text}" if text.startswith("_") else text  # matplotlib leaves such a label out of the legend


def shortened(text: str, most: int) -> str:
    """At most `most` characters of `text`: its beginning and its end, which tell names apart."""
    if len(text) <= most:
        return text
    tail = (most - 1) // 2
    return f"{text[: most - 1 - tail]}…{text[len(text) - tail :]}"
