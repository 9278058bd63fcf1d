"""scikit-learn's callbacks: what a fit reports to those that `set_callbacks` has given an estimator.

The protocol is that of scikit-learn 1.9 and later: a tree of tasks, each of which begins and ends, and at each end an
estimator "as if the fit had stopped here" for a callback that asks for one. With an older scikit-learn nothing is
reported.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from gpureg.estimators.solve import Weights
from gpureg.events import Event, PathPoint

try:
    from sklearn.callback import CallbackSupportMixin, with_callbacks
except ImportError:  # scikit-learn before 1.9

    class CallbackSupportMixin:  # type: ignore[no-redef]
        """Nothing: there are no callbacks."""

    def with_callbacks(method: Callable[..., Any]) -> Callable[..., Any]:
        """The method as it is."""
        return method


class Tasks:
    """The tasks of one fit: the root, and below it, in turn, at most `max_subtasks` tasks called `name`.

    `data`: what the callbacks are shown, X, y and metadata as the caller gave them. Without callbacks nothing is done.
    """

    def __init__(self, estimator: Any, data: dict[str, Any], name: str, max_subtasks: int) -> None:
        self._estimator, self._data, self._name = estimator, data, name
        self._root: Any = None
        self._open: Any = None
        self.ended = 0
        if hasattr(estimator, "_init_callback_context"):
            self._root = estimator._init_callback_context(max_subtasks=max_subtasks)
            self._root.call_on_fit_task_begin(estimator=estimator, **data)

    @property
    def watched(self) -> bool:
        """Whether there is a callback to report to."""
        return self._root is not None and hasattr(self._estimator, "_skl_callbacks")

    def begin(self, attributes: Callable[[], dict[str, Any]] | None = None) -> None:
        """The next task below the root begins; `attributes` are those of an estimator that is fitted so far."""
        self._open = self._root.subcontext(task_name=self._name)
        self._open.call_on_fit_task_begin(estimator=self._estimator, **self._data, reconstruction_attributes=attributes)

    def end(self, attributes: Callable[[], dict[str, Any]] | None = None) -> None:
        """It ends."""
        self._open.call_on_fit_task_end(estimator=self._estimator, **self._data, reconstruction_attributes=attributes)
        self._open = None
        self.ended += 1

    def finish(self) -> None:
        """The fit is over: the estimator has its attributes."""
        if self._root is not None:
            self._root.call_on_fit_task_end(estimator=self._estimator, **self._data, reconstruction_attributes={})


class Iterations:
    """The tasks of a single model, one for each of its iterations, and an empty one at the end, as in scikit-learn.

    `attributes`: the function that makes the estimator's attributes from fitted weights.
    """

    def __init__(self, tasks: Tasks, start: Weights, attributes: Callable[[Weights], dict[str, Any]]) -> None:
        self._tasks, self._attributes = tasks, attributes
        self._tasks.begin(lambda: attributes(start))

    def tell(self, iterations: int, weights: Callable[[], Weights]) -> None:
        """An iteration is over. None is reported twice: another solver may start again from the first."""
        if iterations > self._tasks.ended:
            self._tasks.end(lambda: self._attributes(weights()))
            self._tasks.begin(lambda: self._attributes(weights()))

    def close(self, weights: Weights) -> None:
        """The model has its weights; there is always one iteration."""
        if not self._tasks.ended:
            self.tell(1, lambda: weights)
        self._tasks.end()


class Path:
    """The tasks of a path, one for each of its C."""

    def __init__(self, tasks: Tasks, count: int) -> None:
        self._tasks, self._count = tasks, count

    def observe(self, event: Event) -> None:
        """Every model is at its optimum for one more C. What a later part of the batch repeats is not reported."""
        if isinstance(event, PathPoint):
            self._reach(event.done)

    def close(self) -> None:
        """All models are fitted."""
        self._reach(self._count)

    def _reach(self, done: int) -> None:
        while self._tasks.ended < min(done, self._count):
            self._tasks.begin()
            self._tasks.end()
