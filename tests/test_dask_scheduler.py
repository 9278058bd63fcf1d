"""A scheduler that the user has started: a fit on its workers, and what is left when it is lost."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from commands import script, started
from dask_places import SWEEP, Place, free_port, place, wait_for_a_checkpoint
from dask_problems import EXACT, assert_same_probabilities, assert_within_certificates, fitted, problem

import gpureg

pytest.importorskip("distributed")
pytestmark = pytest.mark.long


def test_a_fit_on_its_workers() -> None:
    X, y = problem(1500)
    data = gpureg.make_dataset(X, y)
    options: dict[str, Any] = {"l2": [1e-1, 1e-4], "cv": 3, **EXACT}
    with place(3) as found:
        there = fitted(data, engine="dask", scheduler=found.address, **options)
        assert found.scheduler.poll() is None  # it is the user's, and stays
    here = fitted(data, **options)
    assert_within_certificates(here, there)
    assert_same_probabilities(here, there, X)


def test_one_that_is_lost_leaves_a_run_that_resumes_elsewhere(tmp_path: Path) -> None:
    X, y = problem(4000)
    np.savez(tmp_path / "rows.npz", X=X, y=y)
    with place(2) as first:
        run = ["--dataset", "rows.npz", "--out", "run", "--checkpoint-seconds", "0", "--engine", "dask"]
        process = started("sweep-lambda", *run, *SWEEP, "--scheduler", first.address, cwd=tmp_path)
        wait_for_a_checkpoint(tmp_path / "run", process)
        os.kill(first.scheduler.pid, signal.SIGKILL)
        _, err = process.communicate(timeout=120)
    assert process.returncode == 2, err
    assert "Traceback" not in err
    assert "scheduler can't be reached any more" in " ".join(err.split())
    assert "gpureg train --resume" in " ".join(err.split())
    with place(3) as second:
        end = script("train", "--resume", "run", "--scheduler", second.address, cwd=tmp_path)
    assert end.returncode == 0, end.stderr
    there = gpureg.load_run(tmp_path / "run")
    here = fitted(gpureg.load_dataset(tmp_path / "rows.npz", val_size=0), l2=there.model.l2.tolist(), cv=3, **EXACT)
    assert_same_probabilities(here, there, X)


def test_one_that_is_not_there_is_named(tmp_path: Path) -> None:
    address = f"tcp://127.0.0.1:{free_port()}"
    end = script("train", "--dataset", "digits", "--engine", "dask", "--scheduler", address, cwd=tmp_path)
    assert end.returncode == 2
    assert f"--scheduler {address}: no Dask scheduler answers there" in " ".join(end.stderr.split())
    assert not list(tmp_path.iterdir())


def test_one_without_workers_is_named(tmp_path: Path) -> None:
    found = Place()
    try:
        end = script("train", "--dataset", "digits", "--engine", "dask", "--scheduler", found.address, cwd=tmp_path)
    finally:
        found.close()
    assert end.returncode == 2
    assert f"the scheduler has no workers. Start some: dask worker {found.address}" in " ".join(end.stderr.split())
