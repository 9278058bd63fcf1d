"""The labels of a tile of rows, as a loss asks for them: of rows that are sorted by class, or in any order."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from gpureg.types import Array, Floats, Ints


class Labels(ABC):
    """The classes of the rows of a tile. Logits are `z (M, K, rows)`, of the logistic loss `z (M, rows)`."""

    @abstractmethod
    def own(self, z: Array, out: Array) -> None:
        """Each row's own logit, `out (M, rows)`."""
        ...

    @abstractmethod
    def lower(self, z: Array) -> None:
        """Subtract 1 where the own logits are."""
        ...

    def peaks_and_hits(self, z: Array, peak: Array, own: Array, mass: Floats | None, hits: Floats) -> None:
        """Maximum `peak` and own logit `own`, both `(M, rows)`; adds the hits, each times its `mass (rows,)`, to `hits
        (M,)`.

        First on a tie: class c is predicted if z_c is above every earlier class and not below any later one. A NaN
        compares false: no hit.
        """
        np.max(z, axis=1, out=peak)
        self.own(z, own)
        hit = own >= peak
        if _ties(z, peak):
            self.keep(hit, np.argmax(z, axis=1))
        hits += _count(hit, mass)

    @abstractmethod
    def keep(self, hit: Array, predicted: Ints) -> None:
        """Leave of `hit (M, rows)` the rows whose class is `predicted (M, rows)`."""
        ...

    @abstractmethod
    def count_positive(self, z: Array, mass: Floats | None, hits: Floats) -> None:
        """Add to `hits (M,)` those of the logistic loss: the positive class, 0, is predicted if z > 0."""
        ...

    @abstractmethod
    def add_margins(self, z: Array, out: Array) -> None:
        """Add `max(m, 0)` to `out (M, rows)`: m = -z for the positive class and z for the other."""
        ...

    @abstractmethod
    def lower_positive(self, z: Array) -> None:
        """Subtract 1 from `z (M, rows)` for the positive class."""
        ...


@dataclass(frozen=True)
class SortedLabels(Labels):
    """Stretches of one class, `runs` of (class, start, stop)."""

    runs: Sequence[tuple[int, int, int]]

    def own(self, z: Array, out: Array) -> None:
        """See `Labels`."""
        for label, a, b in self.runs:
            out[:, a:b] = z[:, label, a:b]

    def lower(self, z: Array) -> None:
        """See `Labels`."""
        for label, a, b in self.runs:
            z[:, label, a:b] -= 1

    def keep(self, hit: Array, predicted: Ints) -> None:
        """See `Labels`."""
        for label, a, b in self.runs:
            hit[:, a:b] &= predicted[:, a:b] == label

    def count_positive(self, z: Array, mass: Floats | None, hits: Floats) -> None:
        """See `Labels`."""
        for label, a, b in self.runs:
            part = z[:, a:b]
            hits += _count(part > 0 if label == 0 else part <= 0, None if mass is None else mass[a:b])

    def add_margins(self, z: Array, out: Array) -> None:
        """See `Labels`."""
        for label, a, b in self.runs:
            margin = np.negative(z[:, a:b]) if label == 0 else z[:, a:b]
            out[:, a:b] += np.maximum(margin, 0)

    def lower_positive(self, z: Array) -> None:
        """See `Labels`."""
        for label, a, b in self.runs:
            if label == 0:
                z[:, a:b] -= 1


@dataclass(frozen=True)
class MixedLabels(Labels):
    """The classes `y (rows,)` of rows in any order: own logits are gathered."""

    y: Ints

    @cached_property
    def _places(self) -> Ints:
        """Where the own logits are in `(K * rows,)`."""
        return np.asarray(self.y, np.intp) * len(self.y) + np.arange(len(self.y))

    @cached_property
    def _positive(self) -> Array:
        return self.y == 0

    def own(self, z: Array, out: Array) -> None:
        """See `Labels`."""
        np.take(z.reshape(len(z), -1), self._places, axis=1, out=out, mode="clip")

    def lower(self, z: Array) -> None:
        """See `Labels`."""
        z.reshape(len(z), -1)[:, self._places] -= 1

    def keep(self, hit: Array, predicted: Ints) -> None:
        """See `Labels`."""
        hit &= predicted == self.y

    def count_positive(self, z: Array, mass: Floats | None, hits: Floats) -> None:
        """See `Labels`."""
        hits += _count(np.where(self._positive, z > 0, z <= 0), mass)

    def add_margins(self, z: Array, out: Array) -> None:
        """See `Labels`."""
        out += np.maximum(np.where(self._positive, -z, z), 0)

    def lower_positive(self, z: Array) -> None:
        """See `Labels`."""
        z -= self._positive


def _ties(z: Array, peak: Array) -> bool:
    """Whether a row has its maximum twice; one with a NaN has none."""
    return bool(np.count_nonzero(z == peak[:, None]) > np.count_nonzero(peak == peak))


def _count(hit: Array, mass: Floats | None) -> Floats:
    """The hits, each times its mass."""
    return np.asarray(np.count_nonzero(hit, axis=1) if mass is None else hit @ mass, np.float64)
