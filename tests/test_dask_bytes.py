"""The bytes that a pass moves between processes are those of the cost model."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
from dask_problems import problem

from gpureg.backend import numpy_backend
from gpureg.data.scaling import Scaling
from gpureg.distributed.connecting import connected
from gpureg.distributed.cost import Pass
from gpureg.distributed.spread import Options, spread_over
from gpureg.fitting.prepare import designed, place
from gpureg.kernels.choice import choose_kernels
from gpureg.losses import Softmax

pytest.importorskip("distributed")
pytestmark = pytest.mark.long

PASSES = 4


class Counter:
    """The bytes that a process writes to its TCP connections; installed in place of the method that writes them."""

    def __init__(self) -> None:
        from distributed.comm.tcp import TCP

        self.total, self.write = 0, TCP.write
        counter = self

        async def counted(comm: Any, *args: Any, **options: Any) -> Any:
            written = await counter.write(comm, *args, **options)
            counter.total += int(written or 0)
            return written

        TCP.write = counted

    def remove(self) -> None:
        """Put the method back."""
        from distributed.comm.tcp import TCP

        TCP.write = self.write


def install(dask_worker: Any) -> None:
    """Count in a worker's process."""
    dask_worker.counter = Counter()


def total(dask_worker: Any) -> int:
    """What a worker's process has written."""
    return int(dask_worker.counter.total)


@contextmanager
def counting(client: Any) -> Iterator[list[int]]:
    """The bytes that all processes write within the block: that of the client and the scheduler, then the workers."""
    found: list[int] = []
    client.run(install)
    here = Counter()
    try:
        yield found
        theirs = client.run(total).values()
        found += [here.total, sum(theirs)]
    finally:
        here.remove()


@pytest.mark.parametrize("weighted", [False, True], ids=["plain", "weighted"])
@pytest.mark.parametrize(("workers", "dtype"), [(1, "float64"), (2, "float64"), (2, "float32"), (4, "float64")])
def test_bytes_are_those_of_the_model(workers: int, dtype: str, weighted: bool) -> None:
    X, y = problem(400, features=400, classes=5)
    kernels = choose_kernels(numpy_backend(dtype), Softmax(), 5)
    models, D = 80, 401
    column = np.zeros(models, np.int64) if weighted else None
    with connected(None, workers, dask_data=False) as cluster:
        spread = designed(spread_over(cluster, Options(), X), Scaling(np.zeros(400), np.ones(400)), dtype)
        rows = place(kernels, spread, y, np.ones((400, 1)) if weighted else None)
        W = kernels.weights(np.random.RandomState(0).randn(D, 5 * models))
        rows.cost_and_gradient(W, column)
        with counting(cluster.client) as found:
            for _ in range(PASSES):
                rows.cost_and_gradient(W, column)
    here, theirs = found
    model = Pass(400, D, 5 * models, models, workers, np.dtype(dtype).itemsize, weighted)
    # the workers write their sums, and the weights to one another; the scheduler writes the weights to the first worker
    written = model.workers * model.back + (model.workers - 1) * model.out
    assert written * PASSES == pytest.approx(theirs, rel=0.01)
    assert model.moved == written + model.out
    assert (model.out + model.relayed) * PASSES == pytest.approx(here, rel=0.01)


def test_the_model_in_numbers() -> None:
    """Two workers, 784 features and the bias, 10 classes, 6 models, float32."""
    found = Pass(rows=60_000, features=785, columns=60, models=6, workers=2)
    assert found.out == 785 * 60 * 4
    assert found.back == (785 * 60 + 12) * 8
    assert found.moved == 2 * (found.out + found.back)
    computing, communicating = found.seconds(rate=1e10, bandwidth=1e9, latency=0.0)
    assert computing == pytest.approx(2 * 60_000 * 785 * 60 / 2e10)
    assert communicating == pytest.approx(2 * (found.out + found.back) / 1e9)
    assert found.balance(1e10, 1e9) == pytest.approx(communicating * 1e10 / (2 * 785 * 60))
