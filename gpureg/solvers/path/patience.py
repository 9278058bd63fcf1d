"""When a path ends early: the score of held-out rows has become worse several times in a row."""

from __future__ import annotations

import math
from collections.abc import Sequence


def points_kept(scores: Sequence[float], patience: int) -> int | None:
    """How many of a path's points to keep, or None if it goes on; `scores` are mean scores of held-out rows in falling
    order of λ, the lowest the best. A point is worse if its score is above the last one's; after `patience` worse ones
    in a row (0: never) the rest is left out. A score that is not finite is worse than any finite one.
    """
    row = 0
    for number in range(1, len(scores)):
        last, score = scores[number - 1], scores[number]
        row = row + 1 if math.isfinite(last) and not score <= last else 0
        if patience and row == patience:
            return number + 1
    return None
