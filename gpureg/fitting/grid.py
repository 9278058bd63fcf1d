"""The model axis: λ x learning rates x folds x seeds as one `ModelTable`, and the choice of λ."""

from __future__ import annotations

import math
import re
from collections.abc import Collection
from dataclasses import replace

import numpy as np

from gpureg.config import FitConfig
from gpureg.errors import UsageError, named
from gpureg.fitting.results import CvRow
from gpureg.model.scores import cost
from gpureg.types import Floats, ModelTable

MOST = 1_000_000  # values of a grid
ROUNDING = 1e-12  # relatively: a mean of shares that lies on the limit of `1se` is within it


def lambda_grid(text: str) -> tuple[float, ...]:
    """`LOW:HIGH:COUNT` as COUNT λ from HIGH down to LOW, evenly spaced in their logarithm. Raises UsageError.

    >>> import gpureg
    >>> [round(l2, 6) for l2 in gpureg.lambda_grid("1e-3:10:5")]
    [10.0, 1.0, 0.1, 0.01, 0.001]
    """
    return log_grid(text, "lambda_grid")


def log_grid(text: str, option: str) -> tuple[float, ...]:
    """`LOW:HIGH:COUNT` as COUNT numbers from HIGH down to LOW, evenly spaced in their logarithm. Raises UsageError."""
    match = re.fullmatch(r"\s*([^:]+):([^:]+):\s*0*(\d{1,7})\s*", text)
    try:
        low, high, count = (float(match[1]), float(match[2]), int(match[3])) if match else (0.0, 0.0, 0)
    except ValueError:
        low, high, count = 0.0, 0.0, 0
    if not (0 < low < math.inf and 0 < high < math.inf and 1 <= count <= MOST and (count == 1 or low != high)):
        raise UsageError(
            f"{named(option)} is {text!r}; expected LOW:HIGH:COUNT with two different finite numbers above 0 and a "
            f"count of at most {MOST:,}, for example 1e-6:10:96."
        )
    low, high = min(low, high), max(low, high)
    if count == 1:
        return (high,)
    grid = np.exp(np.linspace(math.log(high), math.log(low), count))
    grid[0], grid[-1] = high, low  # exactly
    return tuple(grid.tolist())


def model_table(config: FitConfig) -> ModelTable:
    """One row per model: learning rates outermost, then λ, then seeds, then folds.

    With `cv`, seeds are N fold assignments under one shuffle; without, N shuffles (streams).
    """
    seeds, folds = config.seeds, config.cv or 1
    lr, l2, seed, fold = np.meshgrid(config.rates, config.lambdas, np.arange(seeds), np.arange(folds), indexing="ij")
    flat_seed, flat_fold = seed.reshape(-1), fold.reshape(-1)
    zero = np.zeros(flat_seed.size, np.int64)
    cv = config.cv is not None
    # a single seed is not an axis: it is the run's own, and the models belong to none
    named = flat_seed + config.seed if cv or seeds > 1 else zero - 1
    return ModelTable(
        l2=l2.reshape(-1).astype(float),
        lr=lr.reshape(-1).astype(float),
        fold=flat_fold if cv else zero - 1,
        seed=named,
        column=flat_seed * folds + flat_fold if cv else zero,
        stream=zero if cv else flat_seed,
    )


def with_refits(table: ModelTable, column: int) -> ModelTable:
    """The table of a cross-validation, and behind it the refit of every learning rate and λ, on the rows that weigh as
    `column` of the row-weight table says; a refit has no fold and no seed.
    """
    found = dict.fromkeys(zip(table.lr.tolist(), table.l2.tolist(), strict=True))
    lr, l2 = np.array(list(found)).T
    refits = ModelTable.plain(l2, lr)
    refits = replace(refits, column=refits.column + column)
    return ModelTable(
        *(np.concatenate([getattr(one, name) for one in (table, refits)]) for name in ModelTable.__dataclass_fields__)
    )


def cv_rows(
    table: ModelTable, held_out: Floats, score: str = "loss", undefined: Collection[int] = ()
) -> tuple[CvRow, ...]:
    """Mean and standard error (sd with ddof 1 over √K) of the held-out score `(L,)`, per learning rate and λ, over all
    folds and fold assignments but those whose columns of the row-weight table are in `undefined`; None where a fold's
    model diverged.
    """
    rows, defined = [], ~np.isin(table.column, list(undefined))
    for lr, l2 in dict.fromkeys(zip(table.lr.tolist(), table.l2.tolist(), strict=True)):
        scores = held_out[(table.lr == lr) & (table.l2 == l2) & defined]
        finite = len(scores) > 0 and bool(np.isfinite(scores).all())
        mean = float(scores.mean()) if finite else None
        se = float(scores.std(ddof=1) / math.sqrt(len(scores))) if finite and len(scores) > 1 else None
        rows.append(CvRow(l2, mean, se, len(scores), lr or None, score))
    return tuple(rows)


def select_row(rows: tuple[CvRow, ...], rule: str) -> int | None:
    """The chosen row: `min` the best mean (of a loss the lowest, of other scores the highest), `1se` the largest λ
    within one standard error of it (at its own learning rate).
    Ties go to the larger λ, then to the first. None if every row diverged.
    """
    finite = [i for i, row in enumerate(rows) if row.mean is not None]
    if not finite:
        return None
    costs = {i: cost(rows[i].score, float(rows[i].mean or 0.0)) for i in finite}
    best = min(finite, key=lambda i: (costs[i], -rows[i].l2, i))
    if rule == "min":
        return best
    limit = costs[best] + (rows[best].se or 0.0)
    within = [i for i in finite if costs[i] <= limit + ROUNDING * abs(limit) and rows[i].lr == rows[best].lr]
    return max(within, key=lambda i: (rows[i].l2, -i))
