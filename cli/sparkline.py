"""A curve as one line of text, for the terminal."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

BLOCKS = "▁▂▃▄▅▆▇█"
ASCII = "_.-=+*#@"  # for an encoding without blocks


def sparkline(values: Sequence[float], width: int = 40, blocks: str = BLOCKS) -> str:
    """`values` as at most `width` characters, each the mean of its share of the values; infinite values and NaN are
    left out.

    The scale ignores the first twentieth of the curve, since its plunge would flatten the rest; what exceeds the scale
    is drawn at full height. A constant curve is drawn in the lowest block. Without values the result is "".
    """
    finite = [float(value) for value in values if math.isfinite(value)]
    if not finite or width < 1:
        return ""
    count = min(width, len(finite))
    edges = [len(finite) * i // count for i in range(count + 1)]
    means = [sum(finite[a:b]) / (b - a) for a, b in pairwise(edges)]
    settled = means[count // 20 :]
    low, high = min(settled), max(settled)
    top = len(blocks) - 1
    scale = top / (high - low) if high > low else 0.0
    return "".join(blocks[max(0, min(top, round((mean - low) * scale)))] for mean in means)


def blocks_for(encoding: str | None) -> str:
    """The characters that a stream of this encoding can print."""
    try:
        BLOCKS.encode(encoding or "ascii")
    except (LookupError, UnicodeEncodeError):
        return ASCII
    return BLOCKS
