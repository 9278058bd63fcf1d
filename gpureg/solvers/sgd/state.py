"""`SgdState`: all that a run of minibatch gradient descent is, at an epoch boundary, as one value."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from gpureg.kernels.protocol import Kernels
from gpureg.solvers.sgd.early_stopping import Stopping
from gpureg.types import Array, Floats, Ints, StopReason

NEVER = np.iinfo(np.int64).max


@dataclass
class Stream:
    """The running models of one shuffle: `models (A,)` and their weights `W (D, A*K)` on the device."""

    models: Ints
    W: Array


@dataclass
class SgdState:
    """The state between two epochs. Arrays `(L,)`: `steps` updates made by stopped models, `bad_step` the first step
    whose loss was not finite. `unread` are step losses that are on their way to the host, `unread_weights` weights for
    `finals` or `best` (none of either at a boundary). `queued` holds the snapshots of evaluations that are not made
    yet, per stream, as (step, weights); `in_flight` those of evaluations that were asked for and not decided on.
    """

    epoch: int
    streams: list[Stream]
    stopping: Stopping
    steps: Ints
    bad_step: Ints
    reasons: list[StopReason | None]
    queued: list[tuple[int, list[Array]]] = field(default_factory=list)
    in_flight: list[tuple[int, list[Array]]] = field(default_factory=list)
    finals: dict[int, Floats] = field(default_factory=dict)
    best: dict[int, Floats] = field(default_factory=dict)
    unread: list[tuple[int, Ints, Callable[[], Floats]]] = field(default_factory=list)
    unread_weights: list[tuple[list[tuple[dict[int, Floats], int]], Callable[[], Floats]]] = field(default_factory=list)
    losses: list[tuple[int, Ints, Floats]] = field(default_factory=list)
    evaluations: list[tuple[int, Ints, Floats]] = field(default_factory=list)

    @property
    def active(self) -> Ints:
        """The models still running, in the order of the product's columns."""
        return np.concatenate([stream.models for stream in self.streams]) if self.streams else np.zeros(0, np.int64)

    def read_losses(self, last: int = NEVER) -> None:
        """Wait for the losses of the runs of steps that begin at `last` or before, and note the first that is not
        finite, per model.
        """
        for first, models, block in self.unread:
            if first > last:
                continue
            host = block()  # sync
            self.losses.append((first, models, host))
            bad = ~np.isfinite(host)
            step = np.where(bad.any(axis=0), first + bad.argmax(axis=0), NEVER)
            self.bad_step[models] = np.minimum(self.bad_step[models], step)
        self.unread = [block for block in self.unread if block[0] > last]

    def read_weights(self) -> None:
        """Wait for the weights that are on their way."""
        for whose, columns in self.unread_weights:
            host = columns()  # sync
            host = host.reshape(len(host), len(whose), -1)
            for number, (kept, model) in enumerate(whose):
                kept[model] = np.ascontiguousarray(host[:, number])
        self.unread_weights = []

    def mean_losses(self, start: int, L: int) -> Floats:
        """The mean step loss of the active of L models, `(A,)`, over the runs of steps from number `start` on."""
        sums, counts = np.zeros(L), np.zeros(L)
        for _, models, block in self.losses[start:]:
            sums[models] += block.sum(axis=0)
            counts[models] += len(block)
        with np.errstate(all="ignore"):
            mean: Floats = (sums / counts)[self.active]
        return mean

    def compact(self, kernels: Kernels, running: npt.NDArray[np.bool_]) -> None:
        """Take the models that are not `running (A,)` out of every stream's product, and out of queued snapshots."""
        if running.all():
            return
        start, kept, places = 0, [], []
        for number, stream in enumerate(self.streams):
            keep = np.flatnonzero(running[start : start + len(stream.models)])
            start += len(stream.models)
            if len(keep):
                kept.append(Stream(stream.models[keep], kernels.select(stream.W, keep)))
                places.append((number, keep))
        self.streams = kept
        self.queued = [
            (step, [kernels.select(copies[number], keep) for number, keep in places])
            for step, copies in self.queued
            if kept
        ]
