"""The way to workers: a scheduler that is running, processes on this machine, or the caller's own client."""

from __future__ import annotations

import logging
import os
import signal
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import Any

from gpureg.distributed import work
from gpureg.distributed.cluster import Cluster
from gpureg.errors import EngineError, UsageError, named
from gpureg.version import __version__

CONNECTING = 20.0  # seconds
NOISY = ("distributed", "tornado", "asyncio", "bokeh")  # loggers; what matters in what they say becomes an error


@contextmanager
def connected(scheduler: str | None, workers: int | None, *, dask_data: bool) -> Iterator[Cluster]:
    """The workers of a scheduler, or `workers` processes that are started here and end with the block, or those of the
    client that the caller has made. Without any of them, Dask's own collections (`dask_data`) are computed in this
    process.

    Raises UsageError if Dask is not installed, if the scheduler is not there, and if nothing says which workers.
    """
    require_dask()
    with ExitStack() as stack:
        if scheduler is not None:
            stack.enter_context(_silence())
            cluster = Cluster(stack.enter_context(_client_of(scheduler)), in_process=False)
        elif workers is not None:
            stack.enter_context(_silence())
            cluster = Cluster(stack.enter_context(_started(workers)), in_process=False)
        elif (client := _own_client()) is not None:
            cluster = Cluster(client, in_process=_in_process(client))
        elif dask_data:
            cluster = Cluster(stack.enter_context(_threads()), in_process=True)
        else:
            raise UsageError(
                f"{named('engine', 'dask')} was given, but not which workers. Give {named('workers', 2)} to start some "
                f"on this machine, or {named('scheduler')} with the address of a running Dask scheduler."
            )
        _check_versions(cluster)
        yield cluster


def require_dask() -> None:
    """Raise UsageError unless Dask is installed."""
    try:
        import dask  # noqa: F401
        import distributed  # noqa: F401
    except ImportError as error:
        raise UsageError(
            f"{named('engine', 'dask')} needs Dask, which is not installed here ({error.name}); install it with: pip "
            "install 'gpureg[dask]'."
        ) from None


def describe(cluster: Cluster) -> str:
    """The workers in a line."""
    found = cluster.workers()
    threads = sorted(set(found.values()))
    each = f"{threads[0]}" if len(threads) == 1 else f"{threads[0]} to {threads[-1]}"
    where = "in this process" if cluster.in_process else f"at {cluster.address}"
    dashboard = _dashboard(cluster.client)
    shown = "" if dashboard is None else f"; dashboard: {dashboard}"
    plural = "s" if len(found) > 1 else ""
    return f"dask: {len(found)} worker{plural} of {each} thread{'s' if each != '1' else ''} {where}{shown}"


@contextmanager
def _client_of(address: str) -> Iterator[Any]:
    from distributed import Client

    try:
        client = Client(address, timeout=CONNECTING, set_as_default=False)
    except (OSError, TimeoutError, ValueError, TypeError) as error:
        raise UsageError(
            f"{named('scheduler', address)}: no Dask scheduler answers there ({_first(error)}). Give the address that "
            "`dask scheduler` prints, for example tcp://10.0.0.1:8786."
        ) from None
    with _closing(client):
        try:
            client.wait_for_workers(1, timeout=CONNECTING)
        except TimeoutError:
            raise UsageError(
                f"{named('scheduler', address)}: the scheduler has no workers. Start some: dask worker {address}"
            ) from None
        yield client


@contextmanager
def _started(workers: int) -> Iterator[Any]:
    """Processes on this machine, which share its cores. They do not see the terminal's signals: ending is up to us."""
    from distributed import Client, LocalCluster

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    with ExitStack() as stack:
        try:
            with _deaf(), warnings.catch_warnings():
                warnings.simplefilter("ignore")  # the dashboard's port may be taken: then it has another one
                cluster = LocalCluster(
                    n_workers=workers,
                    threads_per_worker=max(1, cores // workers),
                    processes=True,
                    memory_limit=0,
                    silence_logs=logging.CRITICAL,
                    dashboard_address="127.0.0.1:8787",
                )
        except (RuntimeError, OSError, TimeoutError) as error:
            raise EngineError(
                f"{named('workers', workers)}: Dask could not start them ({_first(error)}). In a script, start the fit "
                'under `if __name__ == "__main__":`; give fewer workers if the machine has no room for them.'
            ) from error
        stack.enter_context(_closing(cluster))
        yield stack.enter_context(_closing(Client(cluster, set_as_default=False)))


@contextmanager
def _threads() -> Iterator[Any]:
    """A worker in this process."""
    from distributed import Client

    client = Client(
        processes=False, n_workers=1, threads_per_worker=1, dashboard_address=None, memory_limit=0, set_as_default=False
    )
    with _closing(client):
        yield client


def _own_client() -> Any:
    """The client that the caller has made, or None."""
    from distributed import default_client

    try:
        return default_client()
    except ValueError:
        return None


def _in_process(client: Any) -> bool:
    return str(client.scheduler.address).startswith("inproc://")


@contextmanager
def _closing(what: Any) -> Iterator[Any]:
    """Close it at the end of the block, however that ends."""
    try:
        yield what
    finally:
        with suppress(Exception):  # its other side may be gone
            what.close(timeout=10)


@contextmanager
def _deaf() -> Iterator[None]:
    """What is started within the block does not see the terminal's interrupts, nor that it closes."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    from multiprocessing import resource_tracker

    resource_tracker.ensure_running()  # which opens the ears of the thread that starts it
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGHUP})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def _silence() -> Iterator[None]:
    """Dask's logs stay quiet while the block runs: what goes wrong is told once, by us."""
    import distributed  # noqa: F401  # which sets the levels of its loggers

    known = [name for name in logging.root.manager.loggerDict if name.startswith(NOISY)]
    loggers = [logging.getLogger(name) for name in {*NOISY, *known}]
    before = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        for logger, level in zip(loggers, before, strict=True):
            logger.setLevel(level)


def _check_versions(cluster: Cluster) -> None:
    """Raise UsageError unless every worker has this version of gpureg."""
    workers = list(cluster.some_workers())
    try:
        asked = [(cluster.submit(work.version, at=one), one) for one in workers]  # of all at once, and then waited for
        found = [cluster.fetch(future, [one]) for future, one in asked]
    except ImportError:
        raise UsageError(
            "The Dask workers do not have gpureg. Install it where they run: pip install 'gpureg[dask]'"
            f"=={__version__}."
        ) from None
    others = sorted({str(version) for version in found if isinstance(version, str)} - {__version__})
    if others:
        raise UsageError(
            f"The Dask workers have gpureg {', '.join(others)}, but this is {__version__}; expected the same version. "
            f"Install gpureg=={__version__} where they run."
        )


def _dashboard(client: Any) -> str | None:
    with suppress(Exception):
        return str(client.dashboard_link) or None
    return None


def _first(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0].rstrip(".") or type(error).__name__
