"""Loss, hits and gradient of a tile of rows whose samples are sorted by class. Scratch is allocated once per thread."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import numpy as np

from gpureg.kernels.cpu.rows import Runs
from gpureg.kernels.lines import Line
from gpureg.types import Array, Floats

SHORT_RUN = 128  # rows of a class in a tile, on average: with fewer, a maximum by class costs more than the products


class TileLoss(ABC):
    """Class-major logits `(M, K, rows)` of M models, their losses `(M, rows)` and hits; M = snapshots x models."""

    def __init__(self, models: int, K: int, rows: int, dtype: np.dtype[Any]) -> None:
        self.models, self.K = models, K
        self._logits = np.empty(models * K * rows, dtype)
        self._two = np.empty((2, models * rows), dtype)

    def logits(self, columns: Array, X: Array) -> Array:
        """`columns (M*K, D) @ X.T` as `(M, K, rows)` in the tile's own buffer."""
        flat = self._logits[: len(columns) * len(X)].reshape(len(columns), len(X))
        np.matmul(columns, X.T, out=flat)
        return flat.reshape(self.models, self.K, len(X))

    def scratch(self, rows: int) -> tuple[Array, Array]:
        """Two buffers `(M, rows)`."""
        size = self.models * rows
        return self._two[0, :size].reshape(self.models, rows), self._two[1, :size].reshape(self.models, rows)

    @abstractmethod
    def run(
        self, columns: Array, X: Array, runs: Runs, mass: Floats | None, loss_sum: Floats | None, hits: Floats
    ) -> None:
        """Add a tile's losses to `loss_sum (M,)` (skipped if None) and its hits to `hits (M,)`, each sample times its
        `mass (rows,)` (None: 1).
        """
        ...

    @abstractmethod
    def residual(self, z: Array, runs: Runs, hits: Floats | None) -> Array:
        """Turn logits `z (M, K, rows)` into residuals in place; returns the losses `(M, rows)` in nats, and adds to
        `hits (M,)` unless that is None.
        """
        ...

    def along(self, lines: Sequence[Line], start: int, stop: int) -> Array:
        """The logits of the models' lines, as `logits` has those of their weights."""
        z = self._logits[: self.models * self.K * (stop - start)].reshape(self.models, self.K, stop - start)
        for own, line in zip(z, lines, strict=True):
            line.write(start, stop, own)
        return z

    def gradient(
        self, z: Array, X: Array, runs: Runs, weight: Array | None, sums: tuple[Floats, Floats, Array], out: Array
    ) -> None:
        """Add one tile, whose logits `z` become residuals, to the `sums`: cost `(L,)`, hits `(L,)` and slope `(C, D)`;
        `weight (L, rows)` or None for ones, with weights no hits are counted.
        """
        cost, hits, slope = sums
        loss = self.residual(z, runs, hits if weight is None else None)
        if weight is None:
            cost += loss.sum(axis=1)
        else:
            cost += np.where(weight != 0, loss * weight, 0).sum(axis=1)
            z *= weight[:, None]
        np.matmul(z.reshape(len(out), len(X)), X, out=out)
        slope += out


class SoftmaxTile(TileLoss):
    """A tile of `losses.Softmax`."""

    def run(
        self, columns: Array, X: Array, runs: Runs, mass: Floats | None, loss_sum: Floats | None, hits: Floats
    ) -> None:
        """See `TileLoss`."""
        z = self.logits(columns, X)
        peak, own = self.scratch(len(X))
        peaks_and_hits(z, runs, peak, own, mass, hits)
        if loss_sum is None:
            return
        own -= peak
        z -= peak[:, None]  # log-sum-exp: never exponentiate a positive number
        np.exp(z, out=z)
        np.sum(z, axis=1, out=peak)
        np.log(peak, out=peak)
        peak -= own
        loss_sum += peak.sum(axis=1) if mass is None else peak @ mass

    def residual(self, z: Array, runs: Runs, hits: Floats | None) -> Array:
        """See `TileLoss`: softmax minus one-hot."""
        peak, own = self.scratch(z.shape[2])
        if hits is None:
            np.max(z, axis=1, out=peak)
            for label, a, b in runs:
                own[:, a:b] = z[:, label, a:b]
        else:
            peaks_and_hits(z, runs, peak, own, None, hits)
        own -= peak
        z -= peak[:, None]
        np.exp(z, out=z)
        np.sum(z, axis=1, out=peak)
        z /= peak[:, None]
        for label, a, b in runs:
            z[:, label, a:b] -= 1
        np.log(peak, out=peak)
        peak -= own
        return peak


class LogisticTile(TileLoss):
    """A tile of `losses.Logistic`."""

    def run(
        self, columns: Array, X: Array, runs: Runs, mass: Floats | None, loss_sum: Floats | None, hits: Floats
    ) -> None:
        """See `TileLoss`: class 0 is positive, where z > 0."""
        z = self.logits(columns, X)[:, 0]
        count_positive(z, runs, mass, hits)
        if loss_sum is not None:
            loss = logistic_losses(z, runs, self.scratch(len(X))[0])
            loss_sum += loss.sum(axis=1) if mass is None else loss @ mass

    def residual(self, z: Array, runs: Runs, hits: Floats | None) -> Array:
        """See `TileLoss`: σ(z) minus target, `σ(z) = (1 + tanh(z / 2)) / 2`, which overflows nowhere."""
        z = z[:, 0]
        if hits is not None:
            count_positive(z, runs, None, hits)
        loss = logistic_losses(z, runs, self.scratch(z.shape[1])[0])
        np.multiply(z, 0.5, out=z)
        np.tanh(z, out=z)
        z += 1
        z *= 0.5
        for label, a, b in runs:
            if label == 0:
                z[:, a:b] -= 1
        return loss


def peaks_and_hits(z: Array, runs: Runs, peak: Array, own: Array, mass: Floats | None, hits: Floats) -> None:
    """Maximum `peak` and own logit `own`, both `(M, rows)`, of softmax logits `z (M, K, rows)`; adds the hits.

    First on a tie: class c is predicted where z_c is above every earlier class and not below any later one. A NaN
    compares false: no hit.
    """
    K = z.shape[1]
    if z.shape[2] < SHORT_RUN * len(runs):
        _of_short_runs(z, runs, peak, own, mass, hits)
        return
    for label, a, b in runs:
        mine, top = z[:, label, a:b], peak[:, a:b]
        own[:, a:b] = mine
        hit = np.ones(mine.shape, bool)
        if label > 0:
            np.max(z[:, :label, a:b], axis=1, out=top)
            hit = mine > top
        if label < K - 1:
            later = np.max(z[:, label + 1 :, a:b], axis=1)
            hit &= mine >= later
            if label > 0:
                np.maximum(top, later, out=top)
            else:
                top[...] = later
        np.maximum(top, mine, out=top)
        hits += _count(hit, mass, a, b)


def _of_short_runs(z: Array, runs: Runs, peak: Array, own: Array, mass: Floats | None, hits: Floats) -> None:
    """`peaks_and_hits` of runs of few rows: one maximum of all, and earlier classes are only looked at if there are
    ties.
    """
    np.max(z, axis=1, out=peak)
    for label, a, b in runs:
        own[:, a:b] = z[:, label, a:b]
    hit = own >= peak
    if (np.count_nonzero(z == peak[:, None], axis=1) > 1)[hit].any():
        for label, a, b in runs:
            hit[:, a:b] &= ~(z[:, :label, a:b] == peak[:, None, a:b]).any(axis=1)
    hits += _count(hit, mass, 0, hit.shape[1])


def _count(hit: Array, mass: Floats | None, a: int, b: int) -> Floats:
    """The hits of rows a to b, each times its mass."""
    return np.asarray(np.count_nonzero(hit, axis=1) if mass is None else hit @ mass[a:b], np.float64)


def count_positive(z: Array, runs: Runs, mass: Floats | None, hits: Floats) -> None:
    """Add to `hits (M,)` those of logits `z (M, rows)`: the positive class is predicted where z > 0."""
    for label, a, b in runs:
        hits += _count(z[:, a:b] > 0 if label == 0 else z[:, a:b] <= 0, mass, a, b)


def logistic_losses(z: Array, runs: Runs, out: Array) -> Array:
    """`max(m, 0) + log(1 + exp(-|m|))` with `m = -z` for the positive class and `z` for the other; `(M, rows)`."""
    np.abs(z, out=out)
    np.negative(out, out=out)
    np.exp(out, out=out)
    np.log1p(out, out=out)
    for label, a, b in runs:
        margin = np.negative(z[:, a:b]) if label == 0 else z[:, a:b]
        out[:, a:b] += np.maximum(margin, 0)
    return out
