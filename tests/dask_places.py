"""A Dask scheduler and workers as processes of their own, as a user starts them."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from commands import environment

# long enough to be interrupted
SWEEP = ["--lambda-grid", "1e-9:1e-1:40", "--cv", "3", "--dtype", "float64", "--tol", "1e-18"]


def free_port() -> int:
    """A port of this machine that nothing uses."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


class Place:
    """A scheduler at `address` and its workers; `inside`: what commands begin with, to run in a network namespace."""

    def __init__(self, host: str = "127.0.0.1", port: int = 0, inside: Sequence[str] = (), **env: str) -> None:
        port = port or free_port()
        self.address = f"tcp://{host}:{port}"
        self.inside = list(inside)
        self.running: list[subprocess.Popen[bytes]] = []
        options = ["--host", host, "--port", str(port), "--dashboard-address", f"{host}:0"]
        self.scheduler = self.start("dask_scheduler", *options, **env)

    def start(
        self, command: str, *options: str, inside: Sequence[str] | None = None, **env: str
    ) -> subprocess.Popen[bytes]:
        """One of Dask's commands, running."""
        words = [*(self.inside if inside is None else inside), sys.executable, "-m", f"distributed.cli.{command}"]
        found = subprocess.Popen(
            [*words, *options], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment(**env)
        )
        self.running.append(found)
        return found

    def worker(self, *options: str, inside: Sequence[str] | None = None, **env: str) -> subprocess.Popen[bytes]:
        """A worker of one thread."""
        own = ["--nthreads", "1", "--memory-limit", "0", "--no-dashboard", *options]
        return self.start("dask_worker", self.address, *own, inside=inside, **env)

    def close(self) -> None:
        """End all of them."""
        for one in self.running:
            one.terminate()
        for one in self.running:
            with suppress(subprocess.TimeoutExpired):
                one.wait(10)
            if one.poll() is None:
                one.kill()
                one.wait()


def wait_for_a_checkpoint(run: Path, process: subprocess.Popen[str]) -> None:
    """Raises if the process ends before it has written one in the middle of its fit."""
    while not [path for path in run.glob("checkpoint/*") if path.stat().st_size > 5000]:
        assert process.poll() is None, process.communicate()
        time.sleep(0.02)


@contextmanager
def place(workers: int) -> Iterator[Place]:
    """A scheduler with workers, which end with the block."""
    found = Place()
    try:
        for _ in range(workers):
            found.worker()
        yield found
    finally:
        found.close()
