"""Two hosts: network namespaces with addresses of their own and a link between them, which is cut and restored."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from commands import SCRIPT, environment
from dask_places import SWEEP, Place, wait_for_a_checkpoint
from dask_problems import EXACT, assert_same_probabilities, fitted, problem

import gpureg

pytest.importorskip("distributed")
pytestmark = pytest.mark.long

# a worker that is not heard of is given up soon
IMPATIENT = {
    "DASK_DISTRIBUTED__SCHEDULER__WORKER_TTL": "4s",
}


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True)


def why_not() -> str | None:
    """Why there can be no namespaces here, or None."""
    if not sys.platform.startswith("linux") or shutil.which("ip") is None:
        return "needs Linux and the command `ip`"
    if os.geteuid() != 0:
        return "needs root, to make network namespaces"
    name = f"gpureg{os.getpid()}"
    try:
        ip("netns", "add", name)
        ip("netns", "del", name)
    except subprocess.CalledProcessError as error:
        return f"network namespaces are not allowed here ({error.stderr.decode().strip()})"
    return None


@pytest.fixture
def hosts() -> Iterator[tuple[str, str]]:
    """Two namespaces, 10.77.0.1 and 10.77.0.2; in each the other is reached over the link `gpureg`."""
    reason = why_not()
    if reason is not None:
        pytest.skip(reason)
    names = (f"gpureg{os.getpid()}a", f"gpureg{os.getpid()}b")
    try:
        for name in names:
            ip("netns", "add", name)
        ip("link", "add", "gpureg", "netns", names[0], "type", "veth", "peer", "name", "gpureg", "netns", names[1])
        for number, name in enumerate(names):
            ip("-n", name, "addr", "add", f"10.77.0.{number + 1}/24", "dev", "gpureg")
            ip("-n", name, "link", "set", "gpureg", "up")
            ip("-n", name, "link", "set", "lo", "up")
        yield names
    finally:
        for name in names:
            subprocess.run(["ip", "netns", "del", name], check=False, capture_output=True)


def inside(name: str) -> list[str]:
    return ["ip", "netns", "exec", name]


def test_a_link_that_is_cut_and_restored(hosts: tuple[str, str], tmp_path: Path) -> None:
    first, second = hosts
    X, y = problem(3000)
    np.savez(tmp_path / "rows.npz", X=X, y=y)
    place = Place("10.77.0.1", 8786, inside(first), **IMPATIENT)
    try:
        place.worker("--host", "10.77.0.1", **IMPATIENT)
        far = place.worker("--host", "10.77.0.2", inside=inside(second), **IMPATIENT)
        run = ["--engine", "dask", "--scheduler", place.address, "--checkpoint-seconds", "0", "--out", "run"]
        wait_for_workers(first, place.address, 2, tmp_path)
        command = [*inside(first), str(SCRIPT), "sweep-lambda", "--dataset", "rows.npz", *SWEEP, *run]
        process = subprocess.Popen(
            command,
            cwd=tmp_path,
            env=environment(**IMPATIENT),
            stderr=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        wait_for_a_checkpoint(tmp_path / "run", process)
        ip("-n", second, "link", "set", "gpureg", "down")
        time.sleep(10)  # longer than anyone waits for the other side
        ip("-n", second, "link", "set", "gpureg", "up")
        err = process.communicate(timeout=240)[1]
        assert process.returncode == 0, err
        assert "dask: 2 workers" in err
        if far.poll() is not None:  # Dask's nanny has given up: whatever supervises it starts it again
            place.worker("--host", "10.77.0.2", inside=inside(second), **IMPATIENT)
        wait_for_workers(first, place.address, 2, tmp_path)  # the host is back
    finally:
        place.close()
    there = gpureg.load_run(tmp_path / "run")
    here = fitted(gpureg.load_dataset(tmp_path / "rows.npz", val_size=0), l2=there.model.l2.tolist(), cv=3, **EXACT)
    assert_same_probabilities(here, there, X)


def wait_for_workers(name: str, address: str, count: int, folder: Path) -> None:
    """Returns once the scheduler has these workers; raises if it has not after a minute."""
    script = (
        "import sys; from distributed import Client; c = Client(sys.argv[1], timeout=30); "
        "c.wait_for_workers(int(sys.argv[2]), timeout=60); c.close()"
    )
    options: dict[str, Any] = {"cwd": folder, "env": environment(), "capture_output": True, "text": True}
    done = subprocess.run([*inside(name), sys.executable, "-c", script, address, str(count)], check=False, **options)
    assert done.returncode == 0, done.stderr
