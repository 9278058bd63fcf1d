"""Minibatch gradient descent with the report's evaluation rule and early stopping, for a batch of models.

After the update of global step s an evaluation is due if `s % max(1, b // evals_per_epoch) == 0`. Its weights are
copied and several evaluations are made in one product later (the biggest single gain on a CPU); whoever should have
stopped meanwhile is cut back to the copy. So results are exactly those of the rule.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from gpureg.config import FitConfig
from gpureg.events import EpochEnded, Evaluated, Event, ModelStopped
from gpureg.history import History
from gpureg.kernels.protocol import Kernels
from gpureg.solvers.problem import Measurement, Outcome, Problem, measure_final, start_measure
from gpureg.solvers.sgd.batches import Shuffler
from gpureg.solvers.sgd.early_stopping import Stopping
from gpureg.solvers.sgd.state import NEVER, SgdState, Stream, build_history
from gpureg.types import Array, Floats, Ints, StepPlan, StopReason

MOST_PENDING = 10  # evaluations: a stop is known two epochs late at the most, four where they are made beside the steps


class SgdSolver:
    """The solver bound to a problem; its state is a value of its own (`SgdState`)."""

    def __init__(self, problem: Problem, kernels: Kernels, config: FitConfig) -> None:
        self.problem, self.kernels, self.config = problem, kernels, config
        self.table = problem.table
        size = min(config.batch_size, problem.n)
        count = int(self.table.stream.max()) + 1
        self.shufflers = [
            Shuffler(problem.n, size, shuffle=config.shuffle, seed=config.seed + number) for number in range(count)
        ]
        self.steps_per_epoch = self.shufflers[0].batches
        self.interval = max(1, self.steps_per_epoch // config.evals_per_epoch)
        # the evaluations of a state's `flying` while they go on: no part of the state, since they can be asked for
        # again
        self._measurement: Measurement | None = None
        self._stacked: Array = None

    def start(self) -> SgdState:
        """Zero weights, nothing seen."""
        L, K = len(self.table), self.kernels.n_columns
        streams = []
        for number in range(len(self.shufflers)):
            models = np.flatnonzero(self.table.stream == number)
            if len(models):
                streams.append(Stream(models, self.kernels.weights(np.zeros((self.problem.D, len(models) * K)))))
        steps, bad = np.zeros(L, np.int64), np.full(L, NEVER)
        return SgdState(0, streams, Stopping.start(L), steps, bad, [None] * L)

    def done(self, state: SgdState) -> bool:
        """Whether the last epoch is over or every model has stopped."""
        return state.epoch >= self.config.epochs or not state.streams

    def run_epoch(self, state: SgdState) -> Iterator[Event]:
        """One epoch: mutates the state, which is a boundary's again when the iterator is exhausted."""
        b = self.steps_per_epoch
        drawn = {number: self.shufflers[number].epoch() for number in map(self._number, state.streams)}
        first = state.epoch * b
        due = [i for i in range(b) if (first + i) % self.interval == 0]
        start, read = 0, len(state.losses)
        while start < b and state.streams:
            room = self._capacity(state) - len(state.pending)
            taken = [i for i in due if i >= start][:room]
            full = len(taken) == room
            stop = taken[-1] + 1 if full else b
            self._advance(state, drawn, first, start, stop, taken)
            if full:
                yield from self._settle(state)
            start = stop
        state.epoch += 1
        if state.epoch >= self.config.epochs:
            yield from self._settle(state, last=True)
        yield self._epoch_event(state, read)

    def finish(self, state: SgdState, reason: StopReason = "max_epochs") -> tuple[Outcome, History]:
        """Measure every model at its final weights. `reason` is that of the models still running."""
        for _ in self._settle(state, last=True):  # interrupted: what is due is evaluated all the same
            pass
        self._stop_running(state, reason)
        L, D, K = len(self.table), self.problem.D, self.kernels.n_columns
        weights = np.empty((L, D, K))
        for model in range(L):
            chosen = state.best.get(model) if self.config.keep == "best" else None
            weights[model] = state.finals[model] if chosen is None else chosen
            if state.reasons[model] == "diverged":
                weights[model] = np.nan
        measured = measure_final(self.kernels, self.problem, weights)
        reasons = self._last_divergences(state, measured.train_loss, weights)
        early = [r in ("patience", "diverged") for r in reasons]
        last = np.maximum(state.steps - 1, 0) // self.steps_per_epoch
        epochs = tuple(int(epoch) if stopped else None for epoch, stopped in zip(last, early, strict=True))
        outcome = Outcome(weights, state.steps.copy(), reasons, epochs, measured)
        return outcome, build_history(state, self.table)

    def _capacity(self, state: SgdState) -> int:
        """Evaluations that are stacked: by the number of active models alone, so that a resumed run stacks alike."""
        width = max(1, len(state.active) * self.kernels.n_columns)
        return max(1, min(MOST_PENDING, self.kernels.stack_columns // width))

    def _advance(
        self, state: SgdState, drawn: dict[int, Ints], first: int, start: int, stop: int, taken: list[int]
    ) -> None:
        """Run the steps `start ... stop - 1` of the epoch in every stream, and keep losses and snapshots."""
        copies: list[list[Array]] = [[] for _ in taken]
        for stream in state.streams:
            table = self.table.take(stream.models)
            plan = StepPlan(
                drawn[self._number(stream)][start:stop],
                table.lr,
                table.l2,
                table.column if self.problem.weighted else None,
                tuple(i - start for i in taken),
                self.config.penalize_bias,
                beside_evaluation=self._overlaps(state),
            )
            stream.W, losses, snapshots = self.problem.train.steps(stream.W, plan)
            state.unread.append((first + start, stream.models, losses))
            for copy, snapshot in zip(copies, snapshots, strict=True):
                copy.append(snapshot)
        state.pending += [(first + i, copy) for i, copy in zip(taken, copies, strict=True)]

    def _number(self, stream: Stream) -> int:
        return int(self.table.stream[stream.models[0]])

    def _read_losses(self, state: SgdState) -> None:
        """Bring step losses to the host and note the first that is not finite, per model."""
        for first, models, block in state.unread:
            host = self.kernels.to_host(block)  # sync
            state.losses.append((first, models, host))
            bad = ~np.isfinite(host)
            step = np.where(bad.any(axis=0), first + bad.argmax(axis=0), NEVER)
            state.bad_step[models] = np.minimum(state.bad_step[models], step)
        state.unread = []

    def _settle(self, state: SgdState, *, last: bool = False) -> Iterator[Event]:
        """Decide on the evaluations that were asked for, and ask for the pending ones, which are decided on at once
        unless they go on beside the next steps.
        """
        self._read_losses(state)
        yield from self._land(state)
        state.flying, state.pending = state.pending, []
        if last or not self._overlaps(state):
            yield from self._land(state)
        elif state.flying:
            self._take_off(state)

    def _overlaps(self, state: SgdState) -> bool:
        """By the number of active models alone, so that a resumed run goes the same way."""
        columns = len(state.active) * self.kernels.n_columns
        rows = self.problem.train.n + (self.problem.val.n if self.problem.val is not None else 0)
        if self.problem.held_out:
            rows = self.problem.n // len(self.problem.held_out)
        step_rows = 2 * self.interval * self.shufflers[0].batch_size
        return len(state.streams) == 1 and self.kernels.overlaps(columns, step_rows, rows)

    def _take_off(self, state: SgdState) -> None:
        """Begin the evaluations of `flying`, all in one product."""
        self._stacked = self.kernels.concat([W for _, parts in state.flying for W in parts])
        models = np.tile(state.active, len(state.flying))
        self._measurement = start_measure(
            self.kernels, self.problem, self._stacked, models, train_loss=False, now=self._overlaps(state)
        )

    def _land(self, state: SgdState) -> Iterator[Event]:
        """Wait for the evaluations of `flying`, decide who has stopped, and take them out of the streams."""
        if not state.flying:
            return
        if self._measurement is None:
            self._take_off(state)
        assert self._measurement is not None
        measured, stacked = self._measurement.result(), self._stacked
        self._measurement = self._stacked = None
        active, flying = state.active, state.flying
        state.flying = []
        shape = (len(flying), len(active))
        values = np.stack([measured.val_loss, measured.val_accuracy, measured.train_accuracy]).reshape(3, *shape)
        running = np.ones(len(active), bool)
        for row, (step, _) in enumerate(flying):
            unmeasurable = ~np.isfinite(values[0, row]) & self._has_validation(active)
            lost = running & ((state.bad_step[active] <= step) | unmeasurable)
            for place in np.flatnonzero(lost):
                model = int(active[place])
                yield self._stop(state, model, int(min(state.bad_step[model], step + 1)), "diverged", None)
            running &= ~lost
            places = np.flatnonzero(running)
            if not len(places):
                break
            yield from self._observe(state, step, active, places, values[:, row], stacked, row, running)
        self._compact(state, running)

    def _observe(
        self,
        state: SgdState,
        step: int,
        active: Ints,
        places: Ints,
        values: Floats,
        stacked: Array,
        row: int,
        running: Array,
    ) -> Iterator[Event]:
        """One evaluation of the models at `places`, by the rule; clears `running` where one stops."""
        models = active[places]
        mine = values[:, places]
        state.evaluations.append((step, models, mine))
        yield Evaluated(step, models, mine[0], mine[1], mine[2])
        state.stopping, improved, stops = state.stopping.observe(
            models, mine[0], self.config.patience, self.config.min_delta
        )
        stops &= self._has_validation(models)
        if self.config.keep == "best" and improved.any():
            for place in places[improved]:
                state.best[int(active[place])] = self._snapshot(stacked, row * len(active) + place)
        for place in places[stops]:
            final = self._snapshot(stacked, row * len(active) + place)
            running[place] = False
            yield self._stop(state, int(active[place]), step + 1, "patience", final)

    def _has_validation(self, models: Ints) -> Array:
        return (self.table.fold[models] >= 0) | (self.problem.val is not None)

    def _snapshot(self, stacked: Array, place: int) -> Floats:
        """One model's weights `(D, K)` out of a product's columns, on the host."""
        return self.kernels.to_host(self.kernels.select(stacked, np.array([place])))  # sync

    def _stop(self, state: SgdState, model: int, steps: int, reason: StopReason, final: Floats | None) -> ModelStopped:
        state.steps[model], state.reasons[model] = steps, reason
        shape = (self.problem.D, self.kernels.n_columns)
        state.finals[model] = np.full(shape, np.nan) if final is None else final
        return ModelStopped(model, steps, max(steps - 1, 0) // self.steps_per_epoch, reason)

    def _compact(self, state: SgdState, running: Array) -> None:
        """Take the stopped models' columns out of every stream's product, and out of the snapshots that wait."""
        if running.all():
            return
        start, kept, places = 0, [], []
        for number, stream in enumerate(state.streams):
            keep = np.flatnonzero(running[start : start + len(stream.models)])
            start += len(stream.models)
            if len(keep):
                kept.append(Stream(stream.models[keep], self.kernels.select(stream.W, keep)))
                places.append((number, keep))
        state.streams = kept
        state.pending = [
            (step, [self.kernels.select(parts[number], keep) for number, keep in places])
            for step, parts in state.pending
            if kept
        ]

    def _stop_running(self, state: SgdState, reason: StopReason) -> None:
        self._read_losses(state)
        K = self.kernels.n_columns
        for stream in state.streams:
            host = self.kernels.to_host(stream.W).reshape(self.problem.D, -1, K)
            for place, model in enumerate(stream.models.tolist()):
                bad = int(state.bad_step[model])
                if bad != NEVER:
                    self._stop(state, model, bad, "diverged", None)
                else:
                    self._stop(state, model, state.epoch * self.steps_per_epoch, reason, host[:, place])
        state.streams = []

    def _last_divergences(self, state: SgdState, train_loss: Floats, weights: Floats) -> tuple[StopReason, ...]:
        """The reasons, with the models whose very last update overflowed among the diverged."""
        reasons: list[StopReason] = []
        for model, reason in enumerate(state.reasons):
            assert reason is not None
            if not np.isfinite(train_loss[model]):
                weights[model] = np.nan
                reason = "diverged"
            reasons.append(reason)
        return tuple(reasons)

    def _epoch_event(self, state: SgdState, read: int) -> EpochEnded:
        self._read_losses(state)
        models = state.active
        sums, counts = np.zeros(len(self.table)), np.zeros(len(self.table))
        for _, present, block in state.losses[read:]:
            sums[present] += block.sum(axis=0)
            counts[present] += len(block)
        with np.errstate(all="ignore"):
            mean = sums / counts
        return EpochEnded(state.epoch - 1, models, mean[models])
