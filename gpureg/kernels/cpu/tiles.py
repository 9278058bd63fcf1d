"""Loss, hits and gradient of a tile of rows. Scratch is allocated once per thread."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import numpy as np

from gpureg.kernels.cpu.labels import Labels
from gpureg.kernels.lines import Line
from gpureg.types import Array, Floats

TOGETHER = 4  # columns that a BLAS works on at the same time


def width_of(columns: int, itemsize: int) -> int:
    """The columns of a product that stands for one of this many: a multiple of `TOGETHER` if that is quicker.

    Measured (1,000 x 385 in float32, OpenBLAS): 0.13 and 0.11 ms for 10 and 12 columns, 0.243 and 0.229 ms for 30 and
    32; in float64 0.51 and 0.44 ms for these, but 0.19 and 0.26 ms for 9 and 12.
    """
    lacking = -columns % TOGETHER
    return columns + lacking if columns > 1 and lacking <= (3 if itemsize == 4 else 2) else columns


def padded(W: Array) -> Array:
    """Weights `W (D, C)` as the rows `(width, D)` of a product, those after the C being 0."""
    D, C = W.shape
    columns = np.zeros((width_of(C, W.itemsize), D), W.dtype)
    columns[:C] = W.T
    return columns


class TileLoss(ABC):
    """Class-major logits `(M, K, rows)` of M models, their losses `(M, rows)` and hits; M = snapshots x models."""

    def __init__(self, models: int, K: int, rows: int, dtype: np.dtype[Any]) -> None:
        self.models, self.K = models, K
        self.width = width_of(models * K, dtype.itemsize)
        self._logits = np.empty(self.width * rows, dtype)
        self._two = np.empty((2, models * rows), dtype)

    def logits(self, columns: Array, X: Array) -> Array:
        """`columns (width, D) @ X.T` as `(M, K, rows)` in the tile's own buffer; samples `X (rows, D - 1)` lack the
        column of ones.
        """
        flat, features = self._rows(len(X)), X.shape[1]
        np.matmul(columns[:, :features], X.T, out=flat)
        if features < columns.shape[1]:
            flat += columns[:, features:]
        return flat[: self.models * self.K].reshape(self.models, self.K, len(X))

    def _rows(self, rows: int) -> Array:
        """The buffer `(width, rows)`."""
        return self._logits[: self.width * rows].reshape(self.width, rows)

    def scratch(self, rows: int) -> tuple[Array, Array]:
        """Two buffers `(M, rows)`."""
        size = self.models * rows
        return self._two[0, :size].reshape(self.models, rows), self._two[1, :size].reshape(self.models, rows)

    @abstractmethod
    def run(
        self, columns: Array, X: Array, labels: Labels, mass: Floats | None, loss_sum: Floats | None, hits: Floats
    ) -> None:
        """Add a tile's losses to `loss_sum (M,)` (skipped if None) and its hits to `hits (M,)`, each sample times its
        `mass (rows,)` (None: 1).
        """
        ...

    @abstractmethod
    def residual(self, z: Array, labels: Labels, hits: Floats | None) -> Array:
        """Turn logits `z (M, K, rows)` into residuals in place; returns the losses `(M, rows)` in nats, and adds to
        `hits (M,)` unless that is None.
        """
        ...

    def along(self, lines: Sequence[Line], start: int, stop: int) -> Array:
        """The logits of the models' lines, as `logits` has those of their weights."""
        flat, own = self._rows(stop - start), self.models * self.K
        flat[own:] = 0.0
        z = flat[:own].reshape(self.models, self.K, stop - start)
        for out, line in zip(z, lines, strict=True):
            line.write(start, stop, out)
        return z

    def gradient(
        self, z: Array, X: Array, labels: Labels, weight: Array | None, sums: tuple[Floats, Floats, Array], out: Array
    ) -> None:
        """Add one tile, whose logits `z` in its own buffer become residuals, to the `sums`: cost `(L,)`, hits `(L,)`
        and slope `(C, D)`; `weight (L, rows)` or None for ones, with weights no hits are counted. `out (width, D)`.
        """
        cost, hits, slope = sums
        loss = self.residual(z, labels, hits if weight is None else None)
        if weight is None:
            cost += loss.sum(axis=1)
        else:
            cost += np.where(weight != 0, loss * weight, 0).sum(axis=1)
            z *= weight[:, None]
        flat, features = self._rows(len(X)), X.shape[1]
        np.matmul(flat, X, out=out[:, :features])
        if features < out.shape[1]:
            np.sum(flat, axis=1, out=out[:, features])
        slope += out[: len(slope)]


class SoftmaxTile(TileLoss):
    """A tile of `losses.Softmax`."""

    def run(
        self, columns: Array, X: Array, labels: Labels, mass: Floats | None, loss_sum: Floats | None, hits: Floats
    ) -> None:
        """See `TileLoss`."""
        z = self.logits(columns, X)
        peak, own = self.scratch(len(X))
        labels.peaks_and_hits(z, peak, own, mass, hits)
        if loss_sum is None:
            return
        own -= peak
        z -= peak[:, None]  # log-sum-exp: never exponentiate a positive number
        np.exp(z, out=z)
        np.sum(z, axis=1, out=peak)
        np.log(peak, out=peak)
        peak -= own
        loss_sum += peak.sum(axis=1) if mass is None else peak @ mass

    def residual(self, z: Array, labels: Labels, hits: Floats | None) -> Array:
        """See `TileLoss`: softmax minus one-hot."""
        peak, own = self.scratch(z.shape[2])
        if hits is None:
            np.max(z, axis=1, out=peak)
            labels.own(z, own)
        else:
            labels.peaks_and_hits(z, peak, own, None, hits)
        own -= peak
        z -= peak[:, None]
        np.exp(z, out=z)
        np.sum(z, axis=1, out=peak)
        z /= peak[:, None]
        labels.lower(z)
        np.log(peak, out=peak)
        peak -= own
        return peak


class LogisticTile(TileLoss):
    """A tile of `losses.Logistic`."""

    def run(
        self, columns: Array, X: Array, labels: Labels, mass: Floats | None, loss_sum: Floats | None, hits: Floats
    ) -> None:
        """See `TileLoss`: class 0 is positive, where z > 0."""
        z = self.logits(columns, X)[:, 0]
        labels.count_positive(z, mass, hits)
        if loss_sum is not None:
            loss = logistic_losses(z, labels, self.scratch(len(X))[0])
            loss_sum += loss.sum(axis=1) if mass is None else loss @ mass

    def residual(self, z: Array, labels: Labels, hits: Floats | None) -> Array:
        """See `TileLoss`: σ(z) minus target, `σ(z) = (1 + tanh(z / 2)) / 2`, which overflows nowhere."""
        z = z[:, 0]
        if hits is not None:
            labels.count_positive(z, None, hits)
        loss = logistic_losses(z, labels, self.scratch(z.shape[1])[0])
        np.multiply(z, 0.5, out=z)
        np.tanh(z, out=z)
        z += 1
        z *= 0.5
        labels.lower_positive(z)
        return loss


def logistic_losses(z: Array, labels: Labels, out: Array) -> Array:
    """`max(m, 0) + log(1 + exp(-|m|))` with `m = -z` for the positive class and `z` for the other; `(M, rows)`."""
    np.abs(z, out=out)
    np.negative(out, out=out)
    np.exp(out, out=out)
    np.log1p(out, out=out)
    labels.add_margins(z, out)
    return out
