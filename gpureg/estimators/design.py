"""The caller's samples as they are placed: less their centre, and with the bias's column."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from gpureg.data.sparse import is_sparse
from gpureg.distributed import spread
from gpureg.distributed.spread import Spread
from gpureg.estimators.arrays import HostArray
from gpureg.fitting.prepare import Placeable
from gpureg.rows.samples import CsrSamples
from gpureg.types import Ints

ELEMENTS_AT_ONCE = 1 << 16  # that are copied: they stay in a core's cache


def design_of(X: Any, centre: HostArray | None, dtype: np.dtype[Any]) -> Placeable:
    """X as `place` takes it."""
    if isinstance(X, Spread):
        return spread.Placeable(X, partial(held, centre=centre, dtype=dtype))
    if is_sparse(X):
        return CsrSamples(X.astype(dtype, copy=False), bias=centre is not None)
    return held(X, centre, dtype)


def held(X: HostArray, centre: HostArray | None, dtype: np.dtype[Any]) -> Callable[[Ints | None], HostArray]:
    """The same of samples `X (N, F)` that are held, in `dtype`, less a `centre (F,)` if there is one."""
    return partial(_columns, X, centre, dtype)


def _columns(X: HostArray, centre: HostArray | None, dtype: np.dtype[Any], order: Ints | None) -> HostArray:
    """X as it is placed: in storage order, and with a centre less that and a column of ones after it."""
    if centre is None:
        return (X if order is None else X[order]).astype(dtype, copy=False)
    D = np.empty((len(X), X.shape[1] + 1), dtype)
    D[:, -1] = 1
    step = max(1, ELEMENTS_AT_ONCE // D.shape[1])
    with np.errstate(over="ignore", invalid="ignore"):
        for start in range(0, len(X), step):
            rows = slice(start, start + step)
            np.subtract(X[rows] if order is None else X[order[rows]], centre, out=D[rows, :-1], casting="same_kind")
    return D
