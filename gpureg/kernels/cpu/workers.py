"""`Workers`: a few threads that each run a single-threaded BLAS.

The small products of a minibatch lose by a BLAS's own threads (measured on 2 cores, Zen 4: a step of the report's
softmax job takes 285 µs with two BLAS threads and 160 µs with one, and a hundred times that where another process is
busy), and large ones gain nothing over threads that each take rows or models of their own: those also share the
elementwise work. NumPy releases the interpreter's lock in both.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

from threadpoolctl import ThreadpoolController


class Workers:
    """`count` threads, the caller's among them; by default as many as the BLAS uses now, which is what `--threads`
    bounds."""

    def __init__(self, count: int | None = None) -> None:
        self._blas = ThreadpoolController().select(user_api="blas")
        threads = [int(library["num_threads"]) for library in self._blas.info()]
        self.count = count or max(threads, default=1)
        self._pool: ThreadPoolExecutor | None = None
        self._holds = 0
        self._limit: Any = None

    def hold(self) -> None:
        """The BLAS is single-threaded from here until as many `release`s."""
        if self._holds == 0:
            self._limit = self._blas.limit(limits=1)
        self._holds += 1

    def release(self) -> None:
        """The end of one `hold`."""
        self._holds -= 1
        if self._holds == 0:
            self._limit.restore_original_limits()

    @contextmanager
    def single(self) -> Iterator[None]:
        """Hold while the block runs."""
        self.hold()
        try:
            yield
        finally:
            self.release()

    def submit(self, work: Callable[[], None]) -> Future[None]:
        """`work` in a thread of the pool, which is made when it is first wanted."""
        if self._pool is None:
            self._pool = ThreadPoolExecutor(self.count - 1, thread_name_prefix="gpureg")
        return self._pool.submit(work)

    def run(self, work: Callable[[int], None]) -> None:
        """`work(0) ... work(count - 1)` at the same time, and wait; an error in one is raised here."""
        with self.single():
            others = [self.submit(lambda worker=worker: work(worker)) for worker in range(1, self.count)]  # type: ignore[misc]
            try:
                work(0)
            finally:
                for future in others:
                    future.exception()  # wait for all of them before the buffers they write to may go
            for future in others:
                future.result()
