"""Second moments of placed samples, in float64 and the plain array API: what a full-batch solver conditions itself
with.

One implementation for all kernels: these run once per fit (`mean_row`, `scatter`) or on small problems (`curvature`),
where a fused kernel would gain nothing. They are computed in float64 whatever the samples' type: features whose scales
differ by 1e6 have second moments that differ by 1e12, which float32 can't hold side by side.
"""

from __future__ import annotations

import functools
import itertools
import operator
from collections.abc import Callable, Iterator

import numpy as np

from gpureg.kernels.protocol import Block, Kernels
from gpureg.types import Array, Floats, Ints

LEAST_ROWS = 4096  # below that, the threads are not worth starting
ELEMENTS_AT_ONCE = 1 << 21  # of float64 in a block: 16 MiB in addition to the samples
FEW_ELEMENTS = 1 << 18  # of a block of one pass: memory that is fresh costs as much as the sums of so few features do

Weighed = tuple[Array, Array | float]  # a weighted sum over samples and the sum of the weights


def mean_row(kernels: Kernels, rows: Block) -> Floats:
    """The weighted mean of the samples `(D,)`, `Σ v_i x_i / Σ v_i`, on the host; the bias column's is 1.

    `v_i` is sample i's weight averaged over the columns of the row-weight table (1 without a table), so that a
    weight of 2 is the same as the sample given twice, and every fold of a batch sees the same mean.
    """
    return mean_of(kernels, mean_sums(kernels, rows))


def mean_sums(kernels: Kernels, rows: Block) -> Weighed:
    """`Σ v_i x_i` `(D,)` and `Σ v_i`; those of several blocks add up."""
    xp = kernels.backend.xp

    def part(X: Array, y: Array, weight: Array | None) -> Array:
        return xp.sum(X if weight is None else weight[:, None] * X, axis=0)

    return _summed(kernels, rows, part), _mass(kernels, rows)


def mean_of(kernels: Kernels, sums: Weighed) -> Floats:
    """The mean `(D,)` of its sums, on the host."""
    return np.array(kernels.to_host(sums[0] / sums[1]))  # sync; the caller may write


def scatter(kernels: Kernels, rows: Block, centre: Floats, *, diagonal: bool = False) -> Array:
    """`Σ v_i (x_i - c)(x_i - c)' / Σ v_i`, `(D, D)` float64 on the device, or only its `diagonal (D,)`.

    `v` as in `mean_row`; `centre c (D,)`. Subtracting before multiplying keeps the digits that E[xx'] - mm' loses.
    """
    return scatter_of(scatter_sums(kernels, rows, centre, diagonal=diagonal))


def scatter_sums(kernels: Kernels, rows: Block, centre: Floats, *, diagonal: bool = False) -> Weighed:
    """`Σ v_i (x_i - c)(x_i - c)'` and `Σ v_i`; those of several blocks about the same centre add up."""
    xp = kernels.backend.xp
    shift = kernels.backend.from_host(np.asarray(centre, np.float64))

    def part(X: Array, y: Array, weight: Array | None) -> Array:
        X = X - shift
        X = X if weight is None else X * xp.sqrt(weight)[:, None]
        return xp.sum(X * X, axis=0) if diagonal else xp.matmul(xp.matrix_transpose(X), X)

    return _summed(kernels, rows, part), _mass(kernels, rows)


def scatter_of(sums: Weighed) -> Array:
    """The second moments of their sums."""
    return sums[0] / sums[1]


def moments_bytes(rows: int, features: int) -> int:
    """Bytes that `mean_row`, `scatter` and its eigendecomposition take: three blocks, and four matrices `(D, D)`."""
    blocks = 3 * 8 * min(rows * features, max(ELEMENTS_AT_ONCE, features))
    return blocks + 4 * 8 * features**2


def curvature(kernels: Kernels, rows: Block, W: Array, column: Ints | None, centre: Floats | None) -> Array:
    """The Hessian of `Σ_i s_il loss_il` in a model's weights, `(L, K*D, K*D)` float64 on the device; row `k*D + d` is
    class k, feature d.

    `H_l = Σ_i s_il (diag(d_i) - f_i f_i') ⊗ x_i x_i'`, d and f from the loss (`Loss.second`). `W (D, L*K)` in the
    samples' own coordinates; the x in the outer product have `centre (D,)` subtracted (None: nothing). The second term
    is one symmetric product, `Z'Z` with `z_i = f_i ⊗ x_i`; so is the first for K = 1, with `z_i = sqrt(d_i) x_i`.
    """
    backend, K = kernels.backend, kernels.n_columns
    xp, D = backend.xp, W.shape[0]
    models = W.shape[1] // K
    picked = None if column is None else backend.from_host(np.asarray(column, np.int64))
    shift = None if centre is None else backend.from_host(np.asarray(centre, np.float64))
    W = xp.astype(W, xp.float64)
    own: Array = 0.0
    outer: Array = 0.0
    for X, y, table in blocks_of(kernels, rows, per_row=2 * models * K * D, table=True):
        d, f = kernels.loss.second(xp, xp.reshape(xp.matmul(X, W), (X.shape[0], models, K)), y)
        X = X if shift is None else X - shift
        weight = None
        if table is not None and picked is not None:
            weight = xp.matrix_transpose(xp.take(table, picked, axis=1))[:, None, :]
        own = own + _diagonal_part(xp, _rows_last(xp, d, weight), X)
        if f is not None:
            f = xp.matrix_transpose(_rows_last(xp, f, None if weight is None else xp.sqrt(weight)))
            Z = xp.reshape(f[:, :, :, None] * X[None, :, None, :], (models, X.shape[0], K * D))
            outer = outer + xp.matmul(xp.matrix_transpose(Z), Z)
    own = xp.reshape(own, (models, K, D, D))
    if K == 1:
        return own[:, 0, :, :] - outer
    eye = backend.from_host(np.eye(K)[None, :, None, :, None])
    return xp.reshape(own[:, :, :, None, :] * eye, (models, K * D, K * D)) - outer


def curvature_bytes(rows: int, features: int, columns: int, models: int) -> int:
    """Bytes of work arrays that `curvature` takes for models of `columns` K each, its result not counted: of a block
    its samples, their `f_i ⊗ x_i` with the copy that a product makes of them, and arrays as large as the logits.
    """
    outer = models * columns * features
    block = min(rows, max(1, ELEMENTS_AT_ONCE // max(features, 2 * outer)))
    return 8 * block * (2 * features + 3 * outer + 8 * models * columns)


def _rows_last(xp: Array, values: Array, weight: Array | None) -> Array:
    """`values (n, L, K)` times `weight (L, 1, n)`, as `(L, K, n)`."""
    values = xp.permute_dims(values, (1, 2, 0))
    return values if weight is None else values * weight


def _diagonal_part(xp: Array, d: Array, X: Array) -> Array:
    """`Σ_i d_ilk x_i x_i'`, `(L, K, D, D)` or a reshape of it, from `d (L, K, n)`."""
    if d.shape[1] == 1:
        Z = xp.sqrt(d[:, 0, :])[:, :, None] * X[None, :, :]
        return xp.matmul(xp.matrix_transpose(Z), Z)
    return xp.matmul(xp.reshape(d[:, :, None, :] * xp.matrix_transpose(X)[None, None, :, :], (-1, X.shape[0])), X)


def _mass(kernels: Kernels, rows: Block) -> Array | float:
    """`Σ v_i`, a scalar on the device if there are weights."""
    xp = kernels.backend.xp
    if rows.weights is None:
        return float(rows.n)
    return xp.sum(xp.mean(xp.astype(rows.weights, xp.float64), axis=1))


def _summed(kernels: Kernels, rows: Block, part: Callable[[Array, Array, Array | None], Array]) -> Array:
    """The sum of `part(X, y, weight)` over the blocks; each of the kernels' threads has its own stretch."""
    cuts = stretches(kernels, rows)
    sums: list[Array] = [0.0 for _ in cuts]
    few = max(FEW_ELEMENTS, rows.X.shape[1] ** 2)  # at least D rows, or the sum of the products costs more

    def task(number: int) -> None:
        for X, y, weight in blocks_of(kernels, rows, span=cuts[number], most=few):
            sums[number] = sums[number] + part(X, y, weight)

    kernels.share_out(len(cuts), task)
    return functools.reduce(operator.add, sums)


def stretches(kernels: Kernels, rows: Block) -> list[tuple[int, int]]:
    """A stretch of the rows for each of the kernels' threads."""
    count = kernels.lanes if rows.n >= LEAST_ROWS else 1
    bounds = [rows.n * number // count for number in range(count + 1)]
    return list(itertools.pairwise(bounds))


def blocks_of(
    kernels: Kernels,
    rows: Block,
    per_row: int = 0,
    *,
    table: bool = False,
    as_stored: bool = False,
    span: tuple[int, int] | None = None,
    most: int = ELEMENTS_AT_ONCE,
) -> Iterator[tuple[Array, Array, Array | None]]:
    """Samples `(b, D)` of the rows of `span` (default all) in float64 (or `as_stored`), their labels, and their mean
    weights `(b,)` (with `table` their rows of the table) or None; at most `most` elements in a block.
    """
    xp = kernels.backend.xp
    size = max(1, min(most, ELEMENTS_AT_ONCE) // max(rows.X.shape[1], per_row, 1))
    first, last = span or (0, rows.n)
    for start in range(first, last, size):
        stop = min(start + size, last)
        weight = rows.weights
        if weight is not None:
            weight = xp.astype(weight[start:stop, :], xp.float64)
            weight = weight if table else xp.mean(weight, axis=1)
        X = rows.X[start:stop, :]
        yield X if as_stored else xp.astype(X, xp.float64, copy=False), rows.y[start:stop], weight
