"""Cross-validation on few samples on the CPU: each fold's models one after the other, from the largest penalty on.

A batch reads samples once for all of its models. Where a pass takes microseconds that saves little, and the short way
of a single model (`alone`) saves more: what it prepares, the samples in float32 and the span of few of them, serves all
C of a fold, and each model begins where the last two lead, on a straight line in log λ. Measured on 2 cores, 10 C and 5
folds with their scores: 1,000 x 300 with 3 classes take 0.10 to 0.37 s, and 0.31 to 1.03 s in a batch; 100 x 4 with 2
classes 20 ms and 11 ms, 10,000 x 300 with 3 classes 1.3 s and 0.7 s.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from gpureg.backend import Backend
from gpureg.estimators.alone import Alone, Reached, Way, making, worth_it
from gpureg.kernels.cpu.one_model import WORTH_THREADS, NumpyOneModel, one_after_the_other
from gpureg.kernels.cpu.workers import Workers
from gpureg.solvers.path.members import reach, secant
from gpureg.types import Floats

LEAST_WORK, MOST_WORK = 1400, 1 << 24  # n F K of models that go one by one: at least for each path, and at most
MOST_ELEMENTS, MOST_LOGITS = 1 << 21, 3 << 14  # n F and n K (all measured)
LARGEST = 1e12  # C: beyond, penalties hold so little that a batch's Hessians are the shorter way
FARTHEST = 2.0  # times the last step in log λ, the next one for which the last two models are worth a line


@dataclass(frozen=True)
class Path:
    """The samples of a `task`, and the `Cs (C,)` of its models, which must not fall."""

    task: Alone
    Cs: Floats


def is_worth_it(backend: Backend, tolerance: float, Cs: Floats, shape: tuple[int, int], K: int, paths: int) -> bool:
    """Whether the models of a number of paths on samples of a shape `(n, F)` go this way, K columns each."""
    (n, F), C = shape, float(Cs.max())
    small = n * F <= MOST_ELEMENTS and n * K <= MOST_LOGITS and LEAST_WORK * paths <= n * F * K <= MOST_WORK
    return small and C <= LARGEST and worth_it(backend, tolerance, C, shape, K)


def fit_paths(backend: Backend, paths: Sequence[Callable[[], Path]], work: int) -> list[list[Reached]]:
    """The models of each path, as many as have finite numbers. A path is made when its turn comes; where a product
    takes `work` multiply-adds or more, threads take the next one in turn, with the same results.
    """
    if work < WORTH_THREADS:
        return [fit_path(backend, make()) for make in paths]
    found: list[list[Reached]] = [[] for _ in paths]
    turns = iter(range(len(paths)))  # each number is taken by one thread
    one = partial(NumpyOneModel, lanes=1, share=one_after_the_other)

    def task(_: int) -> None:
        try:
            with np.errstate(all="ignore"):
                for turn in turns:
                    found[turn] = list(_along(paths[turn](), one))
        except BaseException:
            deque(turns, 0)  # the others end soon
            raise

    Workers().run(task)
    return found


def fit_path(backend: Backend, path: Path) -> list[Reached]:
    """The models of one path."""
    with making(backend, path.task) as make:
        return list(_along(path, make))


def _along(path: Path, make: Callable[..., NumpyOneModel]) -> Iterator[Reached]:
    way, Cs = Way.of(path.task, make, len(path.Cs)), path.Cs
    found: list[Reached] = []
    for place, C in enumerate(Cs):
        start = way.task.start if not found else _ahead(found, Cs[max(0, place - 2) : place + 1])
        reached = way.at(float(C), start).run(None)
        if reached is None and len(found) > 1:
            reached = way.at(float(C), found[-1].weights).run(None)
        if reached is None:
            return
        yield reached
        found = [*found[-1:], reached]


def _ahead(found: Sequence[Reached], Cs: Floats) -> Floats:
    """Where a model of the last of `Cs (2,)` or `(3,)` begins, given those of the ones before it."""
    l2, last = (1.0 / Cs[::-1]).tolist(), found[-1].weights  # λ, but for a factor
    if not 0.0 < reach(*l2) <= FARTHEST:
        return last
    return secant(l2[0], (l2[1], last), (l2[2], found[-2].weights))
