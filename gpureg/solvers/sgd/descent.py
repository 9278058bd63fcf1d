"""Minibatch gradient descent with the report's evaluation rule and early stopping, for a batch of models.

After the update of global step s an evaluation is due if `s % max(1, b // evals_per_epoch) == 0`. Its weights are
copied and several evaluations are made in one product later (the biggest single gain on a CPU); a model that should
have stopped earlier is rolled back to its copy. So results are exactly those of the rule.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from gpureg.config import FitConfig
from gpureg.events import EpochEnded, Evaluated, Event, ModelStopped
from gpureg.history import History
from gpureg.kernels.protocol import Kernels
from gpureg.solvers.problem import Measurement, Outcome, Problem, start_measure
from gpureg.solvers.sgd.batches import Shuffler, shuffled_in
from gpureg.solvers.sgd.early_stopping import Stopping
from gpureg.solvers.sgd.finish import finished
from gpureg.solvers.sgd.packing import pack, unpack
from gpureg.solvers.sgd.state import NEVER, SgdState, Stream
from gpureg.types import Array, Floats, HostArrays, Ints, StepPlan, StopReason

MOST_QUEUED = 10  # evaluations: a stop is known at most two epochs late, four if they are made alongside the steps


@dataclass(frozen=True)
class _Made:
    """An evaluation that was made: `step`; validation loss, validation and training accuracy `values (3, A)` of
    `active (A,)`, whose weights are those from number `first` on of all that were evaluated together. `best` and
    `finals` get the numbers of a model's weights that are kept.
    """

    step: int
    active: Ints
    values: Floats
    first: int
    best: dict[int, int]
    finals: dict[int, int]


class SgdDescent:
    """Minibatch gradient descent on a problem; see `gpureg.solvers.protocol.Descent`."""

    def __init__(self, problem: Problem, kernels: Kernels, config: FitConfig) -> None:
        self.problem, self.kernels, self.config = problem, kernels, config
        self.table = problem.table
        size = min(config.batch_size, problem.n)
        count = int(self.table.stream.max()) + 1
        self.shufflers = [
            Shuffler(problem.n, size, shuffle=config.shuffle, seed=config.seed + number, block_rows=shuffled_in(config))
            for number in range(count)
        ]
        self.steps_per_epoch = self.shufflers[0].batches
        self.interval = max(1, self.steps_per_epoch // config.evals_per_epoch)
        self.last = config.epochs * self.steps_per_epoch if problem.limit is None else problem.limit.steps
        # the evaluations of a state's `in_flight` while they go on: not part of the state, since they can be asked
        # for again
        self._measurement: Measurement | None = None
        self._stacked: Array = None

    @property
    def limit(self) -> int:
        """See the protocol: epochs."""
        return -(-self.last // self.steps_per_epoch)

    def start(self) -> SgdState:
        """See the protocol: nothing seen; weights 0 or the problem's."""
        L, D, K = len(self.table), self.problem.D, self.kernels.n_columns
        at = np.zeros((L, D, K)) if self.problem.start is None else self.problem.start.weights
        streams = []
        for number in range(len(self.shufflers)):
            models = np.flatnonzero(self.table.stream == number)
            if len(models):
                host = np.moveaxis(at[models], 0, 1).reshape(D, -1)
                streams.append(Stream(models, self.kernels.weights(host)))
        steps, bad = np.zeros(L, np.int64), np.full(L, NEVER)
        return SgdState(0, streams, Stopping.start(L), steps, bad, [None] * L)

    def reached(self, state: SgdState) -> int:
        """See the protocol: epochs."""
        return state.epoch

    def so_far(self, state: SgdState) -> Iterator[Event]:
        """See the protocol: the evaluations, and which models have stopped."""
        for step, models, values in state.evaluations:
            yield Evaluated(step, models, values[0], values[1], values[2])
        for model, reason in enumerate(state.reasons):
            if reason is not None:
                yield self._stop_event(model, int(state.steps[model]), reason)

    def done(self, state: SgdState) -> bool:
        """See the protocol: the last epoch is over or every model has stopped."""
        return state.epoch >= self.limit or not state.streams

    def pack(self, state: SgdState) -> tuple[HostArrays, dict[str, Any]]:
        """See the protocol."""
        return pack(self.kernels, self.shufflers, state)

    def unpack(self, arrays: HostArrays, meta: dict[str, Any]) -> SgdState:
        """See the protocol; the random streams continue where they were."""
        sizes = len(self.table), self.problem.D, max(self.last, self.config.epochs * self.steps_per_epoch)
        return unpack(self.kernels, self.shufflers, sizes, arrays, meta)

    def advance(self, state: SgdState) -> Iterator[Event]:
        """See the protocol: one epoch."""
        b = min(self.steps_per_epoch, self.last - state.epoch * self.steps_per_epoch)
        drawn = {number: self.shufflers[number].epoch() for number in map(self._number, state.streams)}
        first = state.epoch * self.steps_per_epoch
        due = [i for i in range(b) if (first + i) % self.interval == 0]
        start, read = 0, len(state.losses)
        while start < b and state.streams:
            room = self._capacity(state) - len(state.queued)
            taken = [i for i in due if i >= start][:room]
            full = len(taken) == room
            stop = taken[-1] + 1 if full else b
            self._advance(state, drawn, first, start, stop, taken)
            if full:
                yield from self._settle(state)
            start = stop
        state.epoch += 1
        if state.epoch >= self.limit:
            yield from self._settle(state, last=True)
        state.read_losses()
        state.read_weights()
        yield EpochEnded(state.epoch - 1, state.active, state.mean_losses(read, len(self.table)))

    def finish(self, state: SgdState, *, interrupted: bool = False) -> tuple[Outcome, History]:
        """See the protocol."""
        for _ in self._settle(state, last=True):  # interrupted: what is due is evaluated all the same
            pass
        full: StopReason = "max_epochs" if self.problem.limit is None else self.problem.limit.reason
        self._stop_running(state, "interrupted" if interrupted else full)
        return finished(state, self.problem, self.kernels, self.config.keep, self.steps_per_epoch)

    def _capacity(self, state: SgdState) -> int:
        """Evaluations that are stacked: by the number of active models alone, so that a resumed run stacks alike."""
        width = max(1, len(state.active) * self.kernels.n_columns)
        return max(1, min(MOST_QUEUED, self.kernels.stack_columns // width))

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
                self.config.penalizes_bias,
                beside_evaluation=self._overlaps(state),
            )
            stream.W, losses, snapshots = self.problem.train.steps(stream.W, plan)
            state.unread.append((first + start, stream.models, self.kernels.read_later(losses)))
            for copy, snapshot in zip(copies, snapshots, strict=True):
                copy.append(snapshot)
        state.queued += [(first + i, copy) for i, copy in zip(taken, copies, strict=True)]

    def _number(self, stream: Stream) -> int:
        return int(self.table.stream[stream.models[0]])

    def _settle(self, state: SgdState, *, last: bool = False) -> Iterator[Event]:
        """Decide on the evaluations in flight, and send off the queued ones, which are decided on at once unless they
        run alongside the next steps.
        """
        yield from self._land(state)
        state.in_flight, state.queued = state.queued, []
        if last or not self._overlaps(state):
            yield from self._land(state)
        elif state.in_flight:
            self._send(state)

    def _overlaps(self, state: SgdState) -> bool:
        """By the number of active models alone, so that a resumed run goes the same way."""
        columns = len(state.active) * self.kernels.n_columns
        rows = self.problem.train.n + (self.problem.val.n if self.problem.val is not None else 0)
        if self.problem.held_out:
            rows = self.problem.n // len(self.problem.held_out)
        step_rows = 2 * self.interval * self.shufflers[0].batch_size
        if not self.problem.train.alongside:
            return False
        return len(state.streams) == 1 and self.kernels.overlaps(columns, step_rows, rows)

    def _send(self, state: SgdState) -> None:
        """Begin the evaluations in flight, all in one product."""
        self._stacked = self.kernels.concat([W for _, copies in state.in_flight for W in copies])
        models = np.tile(state.active, len(state.in_flight))
        self._measurement = start_measure(
            self.kernels, self.problem, self._stacked, models, train_loss=False, now=self._overlaps(state)
        )

    def _land(self, state: SgdState) -> Iterator[Event]:
        """Wait for the evaluations in flight, decide which models have stopped, and take them out of the streams."""
        if not state.in_flight:
            return
        if self._measurement is None:
            self._send(state)
        assert self._measurement is not None
        measured, stacked = self._measurement.result(), self._stacked
        self._measurement = self._stacked = None
        active, in_flight = state.active, state.in_flight
        state.in_flight = []
        state.read_losses(in_flight[-1][0])  # no later ones, which the device may still be making
        state.read_weights()
        shape = (len(in_flight), len(active))
        values = np.stack([measured.val_loss, measured.val_accuracy, measured.train_accuracy]).reshape(3, *shape)
        running = np.ones(len(active), bool)
        best: dict[int, int] = {}
        finals: dict[int, int] = {}
        for row, (step, _) in enumerate(in_flight):
            unmeasurable = ~np.isfinite(values[0, row]) & self._has_validation(active)
            lost = running & ((state.bad_step[active] <= step) | unmeasurable)
            for place in np.flatnonzero(lost):
                model = int(active[place])
                yield self._stop(state, model, int(min(state.bad_step[model], step + 1)), "diverged", None)
            running &= ~lost
            if not running.any():
                break
            made = _Made(step, active, values[:, row], row * len(active), best, finals)
            yield from self._observe(state, made, running)
        self._keep(state, stacked, best, finals)
        state.compact(self.kernels, running)

    def _observe(self, state: SgdState, made: _Made, running: Array) -> Iterator[Event]:
        """One evaluation of the `running (A,)` models, by the rule; clears `running` for those that stop."""
        places = np.flatnonzero(running)
        models, mine = made.active[places], made.values[:, places]
        state.evaluations.append((made.step, models, mine))
        yield Evaluated(made.step, models, mine[0], mine[1], mine[2])
        state.stopping, improved, stops = state.stopping.observe(
            models, mine[0], self.config.patience, self.config.min_delta
        )
        stops &= self._has_validation(models)
        if self.config.keep == "best":
            made.best.update(zip(models[improved].tolist(), (made.first + places[improved]).tolist(), strict=True))
        made.finals.update(zip(models[stops].tolist(), (made.first + places[stops]).tolist(), strict=True))
        running[places[stops]] = False
        for model in models[stops].tolist():
            yield self._stop(state, model, made.step + 1, "patience", None)

    def _has_validation(self, models: Ints) -> Array:
        return (self.table.fold[models] >= 0) | (self.problem.val is not None)

    def _keep(self, state: SgdState, stacked: Array, best: dict[int, int], finals: dict[int, int]) -> None:
        """Start copying the weights of some models to the host, by their numbers in `stacked`: one transfer."""
        whose = [(state.best, model) for model in best] + [(state.finals, model) for model in finals]
        if whose:
            chosen = self.kernels.select(stacked, np.array([*best.values(), *finals.values()]))
            state.unread_weights.append((whose, self.kernels.read_later(chosen)))

    def _stop(self, state: SgdState, model: int, steps: int, reason: StopReason, final: Floats | None) -> ModelStopped:
        state.steps[model], state.reasons[model] = steps, reason
        shape = (self.problem.D, self.kernels.n_columns)
        state.finals[model] = np.full(shape, np.nan) if final is None else final
        return self._stop_event(model, steps, reason)

    def _stop_event(self, model: int, steps: int, reason: StopReason) -> ModelStopped:
        return ModelStopped(model, steps, max(steps - 1, 0) // self.steps_per_epoch, reason)

    def _stop_running(self, state: SgdState, reason: StopReason) -> None:
        state.read_losses()
        state.read_weights()
        K = self.kernels.n_columns
        for stream in state.streams:
            host = self.kernels.to_host(stream.W).reshape(self.problem.D, -1, K)
            for place, model in enumerate(stream.models.tolist()):
                bad = int(state.bad_step[model])
                if bad != NEVER:
                    self._stop(state, model, bad, "diverged", None)
                else:
                    steps = min(state.epoch * self.steps_per_epoch, self.last)
                    self._stop(state, model, steps, reason, host[:, place])
        state.streams = []
