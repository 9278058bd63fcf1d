"""`Workers`: a few threads that each run single-threaded BLAS.

Measured on 2 cores (Zen 4, `bench/products.py`): two threads with a product and its elementwise work each keep 190 GFLOP/s
where one product spread over both BLAS threads, then elementwise work on one, keeps 155. NumPy releases the interpreter's
lock in both.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

from threadpoolctl import ThreadpoolController


class Workers:
    """`count` threads; `count` defaults to what the BLAS uses now, which is what `--threads` bounds."""

    def __init__(self, count: int | None = None) -> None:
        self._blas = ThreadpoolController().select(user_api="blas")
        threads = [int(library["num_threads"]) for library in self._blas.info()]
        self.count = count or max(threads, default=1)
        self._pool = ThreadPoolExecutor(self.count, thread_name_prefix="gpureg") if self.count > 1 else None

    def run(self, work: Callable[[int], None]) -> None:
        """`work(0) ... work(count - 1)` at the same time, and wait; an error in one is raised here."""
        if self._pool is None:
            work(0)
            return
        with self._single_threaded_blas():
            for future in [self._pool.submit(work, worker) for worker in range(self.count)]:
                future.result()

    @contextmanager
    def _single_threaded_blas(self) -> Iterator[None]:
        with self._blas.limit(limits=1):
            yield
