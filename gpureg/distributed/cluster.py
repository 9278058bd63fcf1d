"""`Cluster`: tasks that stay on the workers they are sent to, and what is seen when a worker or the scheduler is lost.

A task may only run on the worker that it names: what a worker has placed never travels. So a task whose worker is lost
never ends, and a wait for one looks now and then whether its workers are still there.
"""

from __future__ import annotations

import pickle
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import CancelledError
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

from gpureg.distributed.work import Seat, called
from gpureg.errors import EngineError, names_flags

Future = Any  # distributed.Future; Dask has no types
LOOK = 0.5  # seconds after which a wait looks whether its workers are still there
PATIENCE = 60.0  # seconds that a fit without workers waits for one
LOSSES = 8  # losses without a pass in between, after which a fit gives up
SMALL = 1 << 18  # bytes of arguments that travel with the task; more go to one worker, from which the others take them


class Lost:
    """What is found in place of a result if a worker that it needs is lost."""


LOST = Lost()


@dataclass
class Cluster:
    """The workers of a client; see `connecting`.

    `in_process`: they are threads of this process, whose kernels have its threads.
    """

    client: Any
    in_process: bool
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _kernels: dict[Any, Future] = field(default_factory=dict)
    _losses: int = 0

    def workers(self) -> dict[str, int]:
        """The workers that are there, by address, with the threads of each. Raises EngineError without a scheduler."""
        with self.reaching():
            return dict(sorted(self.client.nthreads().items()))

    def some_workers(self) -> dict[str, int]:
        """The same, once there is one. Raises EngineError if there is none for a minute."""
        end = time.monotonic() + PATIENCE
        while True:
            found = self.workers()
            if found:
                return found
            if time.monotonic() > end:
                raise EngineError(
                    f"No Dask worker is left at {self.address}, and none has come for {PATIENCE:.0f} s. Start workers "
                    "(`dask worker`), then resume the run or start it again."
                )
            time.sleep(LOOK)

    @property
    def address(self) -> str:
        """The scheduler's."""
        return str(self.client.scheduler.address) if self.client.scheduler else "an unknown address"

    def seat(self, worker: str) -> Seat:
        """Where a worker works."""
        workers = self.workers()
        host = worker.rpartition(":")[0]
        peers = [one for one in workers if one.rpartition(":")[0] == host]
        return Seat(peers.index(worker) if worker in peers else 0, None if self.in_process else workers.get(worker, 1))

    def submit(self, function: Callable[..., Any], *args: Any, at: str) -> Future:
        """The result of a function on a worker, where it stays."""
        with self.reaching():
            return self.client.submit(
                called,
                names_flags(),
                function,
                *args,
                workers=[at],
                allow_other_workers=False,
                pure=False,
                key=_key(function),
            )

    def send(self, value: Any, at: str) -> Any:
        """A value as tasks of a worker take it: itself if it is small, else sent ahead; LOST if the worker is."""
        buffers: list[pickle.PickleBuffer] = []
        size = len(pickle.dumps(value, 5, buffer_callback=buffers.append))
        if size + sum(buffer.raw().nbytes for buffer in buffers) <= SMALL or self.in_process:
            return value
        try:
            with self.reaching():
                return self.client.scatter([value], workers=[at], hash=False)[0]
        except Exception:
            if at in self.workers():
                raise
            return LOST

    def kernels(self, like: Any, worker: str, make: Callable[[Any, Seat], Any]) -> Future:
        """A worker's kernels of a kind, made once."""
        with self._lock:
            found = self._kernels.get((like, worker))
            if found is None or not usable(found):
                found = self.submit(make, like, self.seat(worker), at=worker)
                self._kernels[like, worker] = found
            return found

    def fetch(self, future: Future, needs: Iterable[str]) -> Any:
        """The result of a future, or LOST if one of the workers that it `needs` is lost before.

        Raises EngineError without a scheduler, and what the task raised.
        """
        from distributed import KilledWorker
        from distributed.comm import CommClosedError

        needed = set(needs)
        while True:
            try:
                found = future.result(timeout=LOOK)
            except (KilledWorker, CancelledError, CommClosedError):
                self.workers()  # says so if it is the scheduler that is lost
                return LOST
            except TimeoutError:
                if future.status == "error":
                    raise
                if future.status in ("lost", "cancelled") or not needed <= set(self.workers()):
                    return LOST
            else:
                self._losses = 0
                return found

    def settle(self, futures: Sequence[Future], needs: Iterable[str]) -> Lost | None:
        """Wait until the values of futures are there, where they stay; LOST if a worker is. Raises as `fetch`."""
        from distributed import wait

        needed = set(needs)
        while True:
            with suppress(TimeoutError, CancelledError), self.client.as_current():
                wait(futures, timeout=LOOK)
            states = {future.status for future in futures}
            if states <= {"finished"}:
                return None
            for future in futures:
                if future.status == "error":
                    return LOST if self.fetch(future, needed) is LOST else None
            if states & {"lost", "cancelled"} or ("pending" in states and not needed <= set(self.workers())):
                self.workers()  # says so if it is the scheduler that is lost
                return LOST

    def fetch_all(self, futures: Sequence[Future], needs: Iterable[str]) -> list[Any] | Lost:
        """The results of futures, or LOST."""
        found = []
        for future in futures:
            one = self.fetch(future, needs)
            if one is LOST:
                return LOST
            found.append(one)
        return found

    def until_found(self, attempt: Callable[[], Any]) -> Any:
        """What `attempt` finds, tried again after each loss of a worker. Raises EngineError after too many."""
        while True:
            found = attempt()
            if found is not LOST:
                return found
            self._losses += 1
            if self._losses >= LOSSES:
                raise EngineError(
                    f"Dask workers at {self.address} were lost {LOSSES} times, and nothing was done in between. Do "
                    "they run out of memory? Give them more of it, or start more workers."
                )

    @contextmanager
    def reaching(self) -> Iterator[None]:
        """What goes wrong on the way to the scheduler becomes an EngineError."""
        if self.client.status in ("connecting", "closing", "closed"):
            raise self.gone()
        try:
            yield
        except (OSError, TimeoutError, CancelledError) as error:
            raise self.gone() from error
        except RuntimeError as error:
            if self.client.status in ("running", "newly-created"):
                raise
            raise self.gone() from error

    def gone(self) -> EngineError:
        """The error for a scheduler that is not there any more."""
        return EngineError(
            "The Dask scheduler can't be reached any more. Start one again with its workers (`dask scheduler`, `dask "
            "worker`), then resume the run or start it again."
        )


def usable(future: Future) -> bool:
    """Whether a future's value is there, or is on its way."""
    return future.status in ("pending", "finished")


def _key(function: Callable[..., Any]) -> str:
    from dask.base import tokenize

    return f"gpureg-{function.__name__}-{tokenize(time.monotonic_ns(), threading.get_ident())}"
