"""`CsrSamples`: sparse samples with what is implicit about them, and the products that they have a part in."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from gpureg.types import Array, Floats, Ints

Csr = Any  # scipy.sparse.csr_array; SciPy has no types
AT_ONCE = 1024  # rows of a matrix that is transposed: they stay in a core's cache


@dataclass(frozen=True)
class CsrSamples:
    """N samples of D features: `X - shift`, with a column of ones after it if there is a `bias`. Neither is made.

    `X (N, F)` in CSR, canonical, in the type of the arithmetic; `shift (F,)` float64, None for 0.
    """

    X: Csr
    shift: Floats | None = None
    bias: bool = True

    @property
    def n(self) -> int:
        """N."""
        return int(self.X.shape[0])

    @property
    def features(self) -> int:
        """D = F + 1 with a bias, else F."""
        return int(self.X.shape[1]) + self.bias

    @property
    def nbytes(self) -> int:
        """The bytes of its arrays."""
        return int(self.X.data.nbytes + self.X.indices.nbytes + self.X.indptr.nbytes)

    def take(self, index: Ints) -> CsrSamples:
        """The samples `index`, a copy."""
        return CsrSamples(self.X[index], self.shift, self.bias)

    def part(self, start: int, stop: int) -> Csr:
        """The rows `start ... stop - 1` of X, sharing its memory."""
        from scipy import sparse

        first, last = self.X.indptr[start], self.X.indptr[stop]
        arrays = (self.X.data[first:last], self.X.indices[first:last], self.X.indptr[start : stop + 1] - first)
        found = sparse.csr_array(arrays, shape=(stop - start, self.X.shape[1]), copy=False)
        found.has_canonical_format = True
        return found

    def cuts(self, columns: int, item: int, lanes: int, most: int) -> list[tuple[int, int]]:
        """Stretches of the rows, about the same number of stored values in each: a multiple of `lanes`, of which logits
        of `columns` of `item` bytes take about `most` bytes in all lanes together.
        """
        count = max(1, min(self.n, -(-self.n * columns * item * lanes // most)))
        count = min(self.n, -(-count // lanes) * lanes)
        work = self.X.indptr + np.arange(self.n + 1) * 4  # a row without values has logits too
        ends = np.searchsorted(work, work[-1] * np.arange(1, count) // count)
        bounds = [0, *np.maximum.accumulate(ends).tolist(), self.n]
        return [(a, b) for a, b in itertools.pairwise(bounds) if b > a]

    def weights(self, W: Array) -> Product:
        """`W (D, C)` as products take them."""
        F = self.X.shape[1]
        at = row_major(W[:F])
        bias = W[F] if self.bias else np.zeros(W.shape[1], W.dtype)
        if self.shift is not None:
            bias = bias - (self.shift @ at).astype(W.dtype)
        return Product(at, bias)

    def gradient(self, own: Array, total: Floats) -> Array:
        """`(D, C)` of `X' R`, `own (F, C)`, and the sums of R's columns, `total (C,)`: that of the samples as they are
        meant. Transposed in memory.
        """
        F = self.X.shape[1]
        found = np.empty((own.shape[1], self.features), own.dtype)
        for start in range(0, F, AT_ONCE):
            some = slice(start, min(start + AT_ONCE, F))
            found[:, some] = own[some].T
        if self.shift is not None:
            found[:, :F] -= (total[:, None] * self.shift).astype(own.dtype)
        if self.bias:
            found[:, F] = total
        return found.T

    def dense(self, start: int, stop: int) -> Floats:
        """Some samples as they are meant, `(b, D)` float64."""
        F = self.X.shape[1]
        found = np.ones((stop - start, self.features))
        found[:, :F] = self.part(start, stop).toarray()
        if self.shift is not None:
            found[:, :F] -= self.shift
        return found


@dataclass(frozen=True)
class Product:
    """Weights of F features `at (F, C)`, C-contiguous, and of the bias, `bias (C,)`, what is shifted with it."""

    at: Array
    bias: Array

    def logits(self, part: Csr) -> Array:
        """`(b, C)` of some rows."""
        z = part @ self.at
        z += self.bias
        return z


@dataclass(frozen=True)
class CsrPart:
    """Some samples and their products; see `sampled.Part`."""

    samples: CsrSamples
    y: Ints
    weights: Array | None

    def logits(self, W: Array) -> Array:
        """See the protocol."""
        return self.samples.weights(W).logits(self.samples.X)

    def combined(self, R: Array) -> Array:
        """See the protocol."""
        X = self.samples.X
        R = np.ascontiguousarray(R, X.dtype)
        total = R.sum(axis=0, dtype=np.float64)
        return self.samples.gradient(X.T @ R, total).T.astype(np.float64)


@dataclass(frozen=True)
class DenseBlocks:
    """Sparse samples in the place of a dense array: a slice of the rows is made dense when it is asked for, for what
    few features are worth (second moments `(D, D)`)."""

    samples: CsrSamples

    @property
    def shape(self) -> tuple[int, int]:
        """(N, D)."""
        return self.samples.n, self.samples.features

    def __getitem__(self, where: tuple[slice, slice]) -> Floats:
        rows, columns = where
        start, stop, _ = rows.indices(self.samples.n)
        return self.samples.dense(start, stop)[:, columns]


@dataclass(frozen=True)
class DenseBlock:
    """`kernels.protocol.Block` of sparse samples, for `rows.moments`."""

    X: DenseBlocks
    y: Ints
    weights: Array | None
    sample_weight: Array | None

    @property
    def n(self) -> int:
        """N."""
        return len(self.y)


def row_major(W: Array) -> npt.NDArray[Any]:
    """`W (F, C)` with its rows one after the other in memory; itself if it is so."""
    if W.flags.c_contiguous:
        return np.asarray(W)
    found = np.empty(W.shape, W.dtype)
    for start in range(0, len(W), AT_ONCE):
        found[start : start + AT_ONCE] = W[start : start + AT_ONCE]
    return found


def pieces(models: int, columns: int, item: int, width: int) -> Iterator[slice]:
    """The models, as many at once as have `width` bytes of a row of weights, one at the least."""
    at_once = max(1, width // (columns * item))
    for start in range(0, models, at_once):
        yield slice(start, min(start + at_once, models))
