"""Rows on worker processes of this machine: the same results, what a pass moves, and what ends a run."""

from __future__ import annotations

import os
import random
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from commands import started, strict_json
from dask_places import SWEEP
from dask_problems import EXACT, assert_same_probabilities, assert_within_certificates, fitted, problem, weights_of

import gpureg
from gpureg.distributed.work import version
from gpureg.events import EngineReady, Event, Iterated

pytest.importorskip("distributed")
pytestmark = pytest.mark.long

FITS: dict[str, dict[str, Any]] = {
    "train": {"l2": 1e-4},
    "sweep": {"l2": [1e-1, 1e-3, 1e-5, 1e-7], "refit": "all"},
    "cv": {"l2": [1e-1, 1e-3, 1e-5], "cv": 4, "seeds": 2, "score": "balanced-accuracy"},
    "penalised bias": {"l2": [1e-2, 1e-4], "penalize_bias": True, "class_weight": "balanced"},
}


@pytest.mark.parametrize("workers", [2, 4])
@pytest.mark.parametrize("weighted", [False, True], ids=["plain", "weighted"])
@pytest.mark.parametrize("name", FITS)
def test_a_fit_is_that_of_one_process(name: str, weighted: bool, workers: int) -> None:
    X, y = problem(2000)
    data = gpureg.make_dataset(X, y, sample_weight=weights_of(2000) if weighted else None)
    here, there = (
        fitted(data, **FITS[name], **EXACT),
        fitted(data, engine="dask", workers=workers, **FITS[name], **EXACT),
    )
    assert_within_certificates(here, there)
    assert_same_probabilities(here, there, X)
    assert here.selected == there.selected


def test_two_classes_in_float32() -> None:
    X, y = problem(4000, classes=2)
    data = gpureg.make_dataset(X, y, task="logistic")
    options: dict[str, Any] = {"task": "logistic", "l2": [1e-2, 1e-4], "cv": 3}
    here, there = gpureg.fit(data, **options), gpureg.fit(data, engine="dask", workers=2, **options)
    assert_within_certificates(here, there, resolution=2 * float(np.finfo(np.float32).eps))


def test_a_fold_that_lacks_a_class() -> None:
    X, y = problem(300, classes=3)
    y[y == 2] = 0
    y[:4] = 2
    folds = np.arange(300) % 3
    folds[:4] = 1
    data, options = gpureg.make_dataset(X, y), {"l2": [1e-2, 1e-4], "folds": folds, **EXACT}
    with pytest.warns(gpureg.GpuregWarning, match="Training rows of some classes are missing"):
        here = fitted(data, **options)
    with pytest.warns(gpureg.GpuregWarning, match="Training rows of some classes are missing"):
        there = fitted(data, engine="dask", workers=2, **options)
    assert_within_certificates(here, there)
    assert_same_probabilities(here, there, X)


def test_few_rows_of_many_features() -> None:
    X, y = problem(60, features=200, classes=3)
    data = gpureg.make_dataset(X, y)
    here, there = (
        fitted(data, l2=[1e-1, 1e-3], cv=2, **EXACT, **how) for how in ({}, {"engine": "dask", "workers": 2})
    )
    assert_within_certificates(here, there)
    assert_same_probabilities(here, there, X)


class Killer:
    """Kills a worker process, chosen by a seed, at an iteration chosen by it."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.left = self.random.randint(1, 25)
        self.killed = False

    def __call__(self, event: Event) -> None:
        if isinstance(event, Iterated) and not self.killed:
            self.left -= 1
            if self.left <= 0:
                self.killed = True
                os.kill(self.random.choice(worker_processes()), signal.SIGKILL)


def worker_processes(parent: int | None = None) -> list[int]:
    """The processes that Dask's nannies have started, below this one or another."""
    import psutil

    below = psutil.Process(parent).children(recursive=True)
    return sorted(one.pid for one in below if "multiprocessing.spawn" in " ".join(one.cmdline()))


@pytest.mark.parametrize("seed", range(10))
def test_a_worker_that_is_killed_is_replaced(seed: int) -> None:
    X, y = problem(2000)
    data = gpureg.make_dataset(X, y, sample_weight=weights_of(2000))
    options: dict[str, Any] = {"l2": list(np.geomspace(1e-1, 1e-7, 12)), "cv": 3, **EXACT}
    killer = Killer(seed)
    there = fitted(data, engine="dask", workers=2 + seed % 3, observe=killer, **options)
    assert killer.killed
    here = fitted(data, **options)
    assert_within_certificates(here, there)
    assert_same_probabilities(here, there, X)


def test_an_interrupt_keeps_the_run_and_leaves_no_process(tmp_path: Path) -> None:
    X, y = problem(4000)
    np.savez(tmp_path / "rows.npz", X=X, y=y)
    spread = ["--engine", "dask", "--workers", 2, "--checkpoint-seconds", 0]
    process = started("sweep-lambda", "--dataset", "rows.npz", "--out", "run", *SWEEP, *spread, cwd=tmp_path)
    assert process.stderr is not None
    lines = iter(process.stderr.readline, "")
    seen = [next(line for line in lines if "dask:" in line)]
    assert "dashboard: http" in seen[0]
    while not list((tmp_path / "run").glob("checkpoint/*")):
        assert process.poll() is None
    children = worker_processes(process.pid)
    assert len(children) == 2
    for pid in [*children, process.pid]:  # a terminal sends it to all of them
        os.kill(pid, signal.SIGINT)
    rest = process.communicate()[1]
    assert process.returncode == 130, rest
    assert "Traceback" not in rest
    assert not [pid for pid in children if Path(f"/proc/{pid}").exists()]
    resumed = started("train", "--resume", "run", "--json", cwd=tmp_path)
    out, err = resumed.communicate()
    assert resumed.returncode == 0, err
    here = fitted(
        gpureg.load_dataset(tmp_path / "rows.npz", val_size=0),
        l2=sorted({model["l2"] for model in strict_json(out)["models"]}, reverse=True),
        cv=3,
        **EXACT,
    )
    there = gpureg.load_run(tmp_path / "run")
    assert_same_probabilities(here, there, X)


def test_the_dashboard_is_named() -> None:
    X, y = problem(200)
    said: list[str] = []
    gpureg.fit(
        gpureg.make_dataset(X, y), l2=1e-2, engine="dask", workers=2,
        observe=lambda event: said.append(event.text) if isinstance(event, EngineReady) else None,
    )  # fmt: skip
    assert len(said) == 1
    assert "2 workers" in said[0]
    assert "dashboard: http://127.0.0.1:" in said[0]


def test_the_workers_have_this_version() -> None:
    assert version() == gpureg.__version__
