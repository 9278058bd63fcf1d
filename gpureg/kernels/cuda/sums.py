"""Sums over many rows: CuPy's reduction along the first axis takes longer than the product that the rows came from."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any

from gpureg.kernels.cuda.ops import DeviceOps
from gpureg.types import Array

# Threads side by side read numbers side by side, whatever the number of models. Each sum has its own order, fixed by
# the shapes: the same bits on every run.
OPERATION = """
double total = 0;
#pragma unroll 4
for (ptrdiff_t j = i; j < size; j += _ind.size()) total += (double)v[j] * (double)weight[j / span];
s += total;
"""
PARTS = 512  # of a model: threads enough for a card even if there is one model, and few partial sums to add up


@functools.cache
def sum_kernel() -> Any:
    """The `cupy.ElementwiseKernel` that adds the rows of `v (rows, L)` to partial sums `s (P, L)`, row r to s[r % P].

    Call it as `kernel(v, weight, size, span, s)`: `size` is rows x L, and element j of v is multiplied by
    `weight[j / span]`.
    """
    import cupy

    return cupy.ElementwiseKernel(
        "raw T v, raw W weight, int64 size, int64 span", "float64 s", OPERATION, "sum_of_rows"
    )


@dataclass(frozen=True)
class Sums:
    """Several sums over the same rows, for each of L models, in float64: `partial (S, P, L)`, filled block by block."""

    partial: Array

    @classmethod
    def of(cls, ops: DeviceOps, count: int, rows: int, models: int) -> Sums:
        """Zeros for `count` sums over this number of rows in all."""
        return cls(ops.zeros((count, min(PARTS, max(rows, 1)), models), "float64"))

    def add(self, number: int, values: Array, weight: Array) -> None:
        """Add `values (rows, L)` to a sum, each times its weight: `(1, 1)` for all, `(rows, 1)` or `(rows, L)`."""
        span = values.size // weight.size
        sum_kernel()(values, weight, values.size, max(span, 1), self.partial[number])

    def total(self) -> Array:
        """The sums `(S, L)`."""
        return self.partial.sum(axis=1)
