"""A function of many parts of a data set, on the workers that are free; its results come in the order of the parts."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

from gpureg.distributed.cluster import Cluster
from gpureg.distributed.work import called
from gpureg.errors import names_flags

A = TypeVar("A")
B = TypeVar("B")
AHEAD = 2  # parts of each worker that are under way, or wait here for their turn


def in_order(cluster: Cluster, function: Callable[[A], B], parts: Sequence[A]) -> Iterator[B]:
    """`function(part)` for every part, each in a task of its own; a few at a time are on their way.

    A part whose worker is lost is done again on another. Raises what the function raises, and EngineError.
    """
    most = AHEAD * len(cluster.some_workers())
    waiting: deque[tuple[A, Any]] = deque()
    for part in parts:
        if len(waiting) == most:
            yield _found(cluster, function, *waiting.popleft())
        waiting.append((part, _started(cluster, function, part)))
    while waiting:
        yield _found(cluster, function, *waiting.popleft())


def _started(cluster: Cluster, function: Callable[[A], B], part: A) -> Any:
    with cluster.reaching():
        return cluster.client.submit(called, names_flags(), function, part, pure=False)


def _found(cluster: Cluster, function: Callable[[A], B], part: A, started: Any) -> B:
    tried = [started]

    def attempt() -> Any:
        future = tried.pop() if tried else _started(cluster, function, part)
        return cluster.fetch(future, ())

    result: B = cluster.until_found(attempt)
    return result
