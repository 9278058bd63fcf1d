"""Values as plain arrays and back: what the solvers' states have in common when they are packed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, get_args

import numpy as np
import numpy.typing as npt

from gpureg.types import Floats, HostArrays, Ints, StopReason

Host = npt.NDArray[Any]
MOST = 2**63 - 1
Entry = tuple[int, Ints, Floats]  # a step, models, and numbers of theirs


def ragged(name: str, values: Sequence[Host], dtype: str = "float64") -> HostArrays:
    """Arrays of one dtype and several shapes as two: all values in a row, and the shapes."""
    flat = np.concatenate([np.zeros(0, dtype), *(value.reshape(-1) for value in values)])
    shapes = np.array([value.shape for value in values], np.int64).reshape(len(values), -1 if values else 0)
    return {f"{name}.values": flat, f"{name}.shapes": shapes}


def by_model(name: str, weights: Mapping[int, Floats]) -> HostArrays:
    """One model's weights each, under its number."""
    return {f"{name}.models": np.array(list(weights), np.int64)} | ragged(name, list(weights.values()))


def entries(name: str, rows: Sequence[Entry]) -> HostArrays:
    """What was noted in the course of a fit."""
    steps = {f"{name}.step": np.array([step for step, _, _ in rows], np.int64)}
    models = ragged(f"{name}.models", [models for _, models, _ in rows], "int64")
    return steps | models | ragged(name, [values for _, _, values in rows])


def count_of(meta: Mapping[str, Any], name: str) -> int:
    """A whole number of at least 0. Raises KeyError or ValueError."""
    return counted(name, meta[name], MOST)


def counted(name: str, value: Any, most: int) -> int:
    """A value that is a whole number from 0 to `most`. Raises ValueError."""
    if type(value) is not int or not 0 <= value <= most:
        raise ValueError(f"{name} is {value!r}, expected a whole number from 0 to {most}")
    return value


def stop_reasons(meta: Mapping[str, Any], L: int) -> list[StopReason | None]:
    """Those of L models, None for one that runs. Raises KeyError or ValueError."""
    reasons: list[StopReason | None] = list(meta["reasons"])
    if len(reasons) != L:
        raise ValueError(f"{len(reasons)} models, expected {L}")
    for reason in reasons:
        if reason is not None and reason not in get_args(StopReason):
            raise ValueError(f"a model stopped by {reason!r}, expected one of {', '.join(get_args(StopReason))}")
    return reasons


def check_running(reasons: Sequence[StopReason | None], running: Iterable[int], finals: Iterable[int]) -> None:
    """Every model either runs or has stopped, with a reason and final weights. Raises ValueError."""
    expected = [model for model, reason in enumerate(reasons) if reason is None]
    if sorted(running) != expected or sorted([*finals, *expected]) != list(range(len(reasons))):
        raise ValueError("the models that run and those that have stopped are not all models, each once")


class Unpacker:
    """Reads packed arrays by name, and holds each against the shape and the kind that it has to have.

    Every method raises KeyError for a name that is not there, and ValueError for what does not fit.
    """

    def __init__(self, arrays: Mapping[str, Host]) -> None:
        self.arrays = arrays

    def floats(self, name: str, *shape: int | None, dtype: str = "float64") -> Any:
        """A copy of an array of `dtype` whose sizes are `shape`; None for any size."""
        return self._array(name, dtype, shape)

    def ints(self, name: str, *shape: int | None, below: int | None = None) -> Ints:
        """A copy of an array of whole numbers, each at least 0 and less than `below`, if that is given."""
        array: Ints = self._array(name, "int64", shape)
        if below is not None and array.size and not (array.min() >= 0 and array.max() < below):
            raise ValueError(f"{name} has numbers from {array.min()} to {array.max()}, expected 0 to {below - 1}")
        return array

    def ragged(self, name: str, dtype: str = "float64") -> list[Host]:
        """The inverse of `ragged`."""
        values, shapes = self._array(f"{name}.values", dtype, (None,)), self.ints(f"{name}.shapes", None, None)
        if (shapes < 0).any() or shapes.prod(axis=1).sum() != len(values):
            raise ValueError(f"{name} has {len(values)} numbers, which do not fit its shapes")
        ends = np.cumsum(shapes.prod(axis=1))[:-1]
        if not len(shapes):
            return []
        return [part.reshape(shape) for part, shape in zip(np.split(values, ends), shapes.tolist(), strict=True)]

    def by_model(self, name: str, L: int, *shape: int) -> dict[int, Floats]:
        """The inverse of `by_model`, for weights of one shape."""
        models, weights = self.ints(f"{name}.models", None, below=L).tolist(), self.ragged(name)
        for each in weights:
            if each.shape != shape:
                raise ValueError(f"{name} has weights {each.shape}, expected {shape}")
        return dict(zip(models, weights, strict=True))

    def entries(self, name: str, L: int, limit: int) -> Iterator[Entry]:
        """The inverse of `entries`, of steps below `limit`; the last axis of each one's numbers is that of its
        models.
        """
        steps, models = self.ints(f"{name}.step", None, below=limit), self.ragged(f"{name}.models", "int64")
        for step, mine, found in zip(steps.tolist(), models, self.ragged(name), strict=True):
            if mine.ndim != 1 or (len(mine) and not 0 <= mine.min() <= mine.max() < L):
                raise ValueError(f"{name} names models that are not among the {L}")
            if found.shape[-1:] != mine.shape:
                raise ValueError(f"{name} has numbers {found.shape} for {len(mine)} models")
            yield step, mine, found

    def _array(self, name: str, dtype: str, shape: tuple[int | None, ...]) -> Host:
        array = self.arrays[name]
        fits = array.ndim == len(shape) and all(a in (None, b) for a, b in zip(shape, array.shape, strict=True))
        if not fits or array.dtype != dtype:
            sizes = "x".join("any" if size is None else str(size) for size in shape)
            raise ValueError(f"{name} is {array.shape} of {array.dtype}, expected {sizes} of {dtype}")
        return array.copy()
