"""`Workers`: a few threads that each run a single-threaded BLAS.

A BLAS's own threads make the small products of a minibatch slower (measured on 2 cores, Zen 4: a step of the report's
softmax job takes 285 µs with two BLAS threads and 160 µs with one, and a hundred times that if another process is
busy), and large ones gain nothing over threads that each take their own rows or models: those also share the
elementwise work. NumPy releases the interpreter's lock in both.
"""

from __future__ import annotations

import contextvars
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

from threadpoolctl import ThreadpoolController

BRING_A_BLAS = ("scipy", "torch")  # packages whose import loads a BLAS of their own


class _Blas:
    """The thread count of the process's BLAS libraries: a single one, however many fits run in the caller's threads.
    The first hold makes it 1, the last release restores it.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._found: list[Any] = []
        self._loaded: tuple[bool, ...] = ()
        self._holds = 0
        self._before: list[tuple[Any, int]] = []
        self._threads = 1

    def threads(self) -> int:
        """The number of threads that the BLAS uses, or used before it was held."""
        with self._lock:
            return self._threads if self._holds else self._count()

    def hold(self) -> None:
        """The BLAS is single-threaded from here until the matching `release`."""
        with self._lock:
            if self._holds == 0:
                self._threads = self._count()
                self._before = [(library, library.num_threads) for library in self._libraries()]
                for library, _ in self._before:
                    library.set_num_threads(1)
            self._holds += 1

    def release(self) -> None:
        """The end of one `hold`."""
        with self._lock:
            self._holds -= 1
            if self._holds == 0:
                for library, threads in self._before:
                    library.set_num_threads(threads)

    def _count(self) -> int:
        return max((int(library.num_threads) for library in self._libraries()), default=1)

    def _libraries(self) -> list[Any]:
        """The controllers of those that are loaded. Looking for them takes milliseconds: only when there are more."""
        loaded = tuple(name in sys.modules for name in BRING_A_BLAS)
        if loaded != self._loaded:
            self._found, self._loaded = ThreadpoolController().select(user_api="blas").lib_controllers, loaded
        return self._found


_BLAS = _Blas()  # one for the process, as what it counts


class Workers:
    """`count` threads, the caller's among them; by default as many as the BLAS uses now, which is what `--threads`
    bounds."""

    def __init__(self, count: int | None = None) -> None:
        self.count = count or _BLAS.threads()
        self._pool: ThreadPoolExecutor | None = None

    def hold(self) -> None:
        """The process's BLAS is single-threaded until every `hold`, of any workers, has its `release`."""
        _BLAS.hold()

    def release(self) -> None:
        """The end of one `hold`."""
        _BLAS.release()

    @contextmanager
    def single(self) -> Iterator[None]:
        """Hold while the block runs."""
        self.hold()
        try:
            yield
        finally:
            self.release()

    def submit(self, work: Callable[[], None]) -> Future[None]:
        """`work` in a thread of the pool, which is made when it is first needed."""
        if self._pool is None:
            self._pool = ThreadPoolExecutor(self.count - 1, thread_name_prefix="gpureg")
        return self._pool.submit(contextvars.copy_context().run, work)  # messages speak the caller's language

    def run(self, work: Callable[[int], None]) -> None:
        """Run `work(0) ... work(count - 1)` in parallel, and wait; an error in one is raised here."""
        with self.single():
            others = [self.submit(lambda worker=worker: work(worker)) for worker in range(1, self.count)]  # type: ignore[misc]
            try:
                work(0)
            finally:
                for future in others:
                    future.exception()  # wait for all of them before the buffers they write to may go
            for future in others:
                future.result()
