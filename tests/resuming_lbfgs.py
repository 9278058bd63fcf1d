"""Problems of the full-batch solver that are killed after any pass and go on: what is compared is bits."""

from __future__ import annotations

import io
import json
from dataclasses import fields, replace
from typing import Any

import numpy as np
from full_batch import WAYS, config, place
from small_problems import blobs

from gpureg.history import History
from gpureg.solvers.lbfgs.solver import Lbfgs
from gpureg.solvers.problem import Outcome, Start
from gpureg.storage.encoding import npz_bytes
from gpureg.types import HostArrays

L2 = [10.0, 1e-2, 1e-4, 0.0]


class Case:
    """A problem, placed anew for every run, as in a process of its own."""

    def __init__(self, way: str, task: str, free: bool = True, more: str = "", backend: Any = None) -> None:
        self.way, self.task, self.free, self.more, self.backend = way, task, free, more, backend

    def descent(self) -> Any:
        n, features, classes = 130, 5, 2 if self.task == "logistic" else 3
        if self.more in ("wide", "reference"):
            features = 40  # long sums, whose order would show
        if self.more == "groups":
            n, features, classes = 700, 300, 5  # a device holds three of these Hessians at once
        data = blobs(n=n, features=features, classes=classes, spread=2.0)
        weights = np.stack([np.where(np.arange(n) % 4 == fold, 0.0, 1.0) for fold in range(4)], axis=1)
        folds = self.more in ("folds", "groups")
        problem, kernels = place(
            data.X_train * np.logspace(-1, 1, features),
            data.y_train,
            L2,
            self.task,
            weights=weights if folds else None,
            column=[0, 1, 2, 3] if folds else None,
            backend=self.backend,
            which="reference" if self.more == "reference" else "auto",
        )
        if self.more in ("warm", "wide", "reference"):
            at = 0.1 * np.random.default_rng(0).normal(size=(len(L2), problem.D, kernels.n_columns))
            problem = replace(problem, start=Start(at, np.array([3, 0, 1, 2])))
        made = config(problem, kernels, free=self.free, max_iter=12 if self.more == "groups" else 25)
        return Lbfgs(made, hessians=WAYS[self.way]).on(problem, kernels)


def through_files(packed: tuple[HostArrays, dict[str, Any]]) -> tuple[HostArrays, dict[str, Any]]:
    arrays, meta = packed
    with np.load(io.BytesIO(npz_bytes(arrays)), allow_pickle=False) as read:
        return {name: read[name] for name in read.files}, json.loads(json.dumps(meta))


def bits(outcome: Outcome, history: History) -> list[Any]:
    found: list[Any] = [outcome.weights.tobytes(), outcome.steps.tobytes(), outcome.reasons, repr(outcome.certificates)]
    found += [getattr(history, field.name).tobytes() for field in fields(history)]
    return found


def check(case: Case, *, every: int = 1) -> list[tuple[HostArrays, dict[str, Any]]]:
    """Interrupts after every pass (or every so many); the checkpoints of all passes."""
    descent = case.descent()
    state, boundaries = descent.start(), [through_files(descent.pack(descent.start()))]
    with descent.kernels.steady():
        while not descent.done(state):
            list(descent.advance(state))
            boundaries.append(through_files(descent.pack(state)))
        expected = bits(*descent.finish(state))
    assert len(boundaries) > 5
    for arrays, meta in boundaries[::every]:
        again = case.descent()
        with again.kernels.steady():
            state = again.unpack(arrays, meta)
            while not again.done(state):
                list(again.advance(state))
            assert bits(*again.finish(state)) == expected
    return boundaries


def groups_of(boundaries: list[tuple[HostArrays, dict[str, Any]]]) -> list[list[int]]:
    """The sizes of the groups in which Hessians were made, at the boundaries where there are some."""
    name = "batch.whitened_sizes"
    return [arrays[name].tolist() for arrays, _ in boundaries if name in arrays]
