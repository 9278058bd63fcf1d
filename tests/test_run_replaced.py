"""A run is replaced whole or not at all: at a kill, a full disk, two writers; one writer at a time."""

from __future__ import annotations

import dataclasses
import os
import shutil
import signal
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from killing import DONE, REFUSED, Announced, at_each, forked, kill, no_space, status_of, touches, writes
from synthetic_runs import synthetic_result

from gpureg.errors import RunError
from gpureg.fitting.results import FitResult
from gpureg.storage.directory import Beginning, OccupiedError, Run, claim, claim_again, load_run, write_run
from gpureg.storage.lock import LOCK, locked
from gpureg.storage.swap import SWAP

pytestmark = [
    pytest.mark.skipif(not hasattr(os, "fork"), reason="kills processes of its own making"),
    pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning"),  # of a process that has threads, since Python 3.12
]
FILES = ["config.toml", "environment.json", "history.npz", "model.safetensors", "result.json"]


ACCIDENTS = pytest.mark.parametrize(
    ("counts", "happens", "ends"),
    [pytest.param(touches, kill, -signal.SIGKILL, marks=pytest.mark.long), (writes, no_space, REFUSED)],
    ids=["kill", "full"],
)
Counts = Callable[[str, Announced], bool]


def numbered(number: int, stop_reason: str = "max_epochs") -> FitResult:
    """A result with its number in every one of its five files."""
    result = synthetic_result(l2=(0.25, 0.5))
    models = tuple(dataclasses.replace(m, steps=number, stop_reason=stop_reason) for m in result.models)  # type: ignore[arg-type]
    history = dataclasses.replace(result.history, lr=np.full(2, float(number)))
    model = dataclasses.replace(result.model, offset=np.full(16, float(number)))
    return dataclasses.replace(
        result, models=models, history=history, model=model, config=result.config | {"seed": number},
        environment={"number": number},
    )  # fmt: skip


def number_of(run: Run) -> int:
    """The number, the same in every file."""
    found = {
        run.result["models"][0]["steps"], int(run.history.lr[0]), int(run.model.offset[0]), run.config["seed"],
        run.environment["number"],
    }  # fmt: skip
    assert len(found) == 1, f"a mixture of {found}"
    return int(found.pop())


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return numbered(1).save(tmp_path / "run")


@ACCIDENTS
def test_at_any_moment_the_old_run_or_the_new_one_is_whole(
    path: Path, counts: Counts, happens: Callable[[], None], ends: int
) -> None:
    """The reader is tried twice: it finishes a swap that was cut short, and then finds the same run."""
    (path / "checkpoint").mkdir()
    (path / "checkpoint" / "state.npz").write_bytes(b"of the run that is saved")
    found = []
    for status in at_each(counts, lambda: numbered(2).save(path, force=True), happens):
        assert status == ends
        found.append(number_of(load_run(path)))
        assert number_of(load_run(path)) == found[-1]
        with claim(path, force=True):  # the next writer clears up
            left = set(os.listdir(path))
        assert left - {LOCK, "checkpoint"} == set(FILES)
        assert ("checkpoint" in left) == (found[-1] == 1)  # it goes with the run that it was replaced by
        assert number_of(load_run(path)) == found[-1]
        numbered(1).save(path, force=True)
        (path / "checkpoint").mkdir()
        (path / "checkpoint" / "state.npz").write_bytes(b"of the run that is saved")
    assert {1, 2} == set(found)
    assert found == sorted(found)  # there is one moment at which the new run takes the old one's place


@ACCIDENTS
def test_a_new_run_is_there_whole_or_is_not_there(
    tmp_path: Path, counts: Counts, happens: Callable[[], None], ends: int
) -> None:
    path = tmp_path / "run"
    for status in at_each(counts, lambda: numbered(2).save(path), happens):
        assert status == ends
        try:
            assert number_of(load_run(path)) == 2
        except RunError:
            assert ends != REFUSED or not path.exists()  # what failed is cleared away
            numbered(2).save(path)  # nothing of it counts as a run
        assert set(os.listdir(path)) - {LOCK} == set(FILES)
        shutil.rmtree(path)


@pytest.mark.long
def test_readers_need_not_write(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A swap that was cut short is read as it stands where the reader may not finish it."""
    statuses = at_each(touches, lambda: numbered(2).save(path, force=True), kill)
    while not (path / SWAP).exists():
        next(statuses)
    before = sorted(os.listdir(path))

    def refuse(*arguments: object, **more: object) -> None:
        raise PermissionError(13, "Permission denied")

    for name in ("replace", "rename", "unlink", "rmdir"):
        monkeypatch.setattr(os, name, refuse)
    assert number_of(load_run(path)) == 2
    assert sorted(os.listdir(path)) == before


def pairs(count: int, path: Path) -> list[tuple[int, int]]:
    """Two processes that save into one folder at once, while this one reads; how they ended."""
    ended = []
    for number in range(count):
        gate, opened = os.pipe()

        def wait_and_save(which: int, gate: int = gate) -> None:
            os.read(gate, 1)
            numbered(which).save(path, force=True)

        saves = [forked(partial(wait_and_save, 2 * number + which)) for which in (2, 3)]
        os.write(opened, b"go")
        while number_of(load_run(path)) < 2 * number + 2:  # one of the two has always to be saved
            pass
        ended.append((status_of(saves[0]), status_of(saves[1])))
        assert number_of(load_run(path)) in (2 * number + 2, 2 * number + 3)
        assert sorted(os.listdir(path)) == FILES
        os.close(gate)
        os.close(opened)
    return ended


@pytest.mark.parametrize("count", [10, pytest.param(150, marks=pytest.mark.long)])
def test_two_that_save_at_once_never_make_a_mixture(path: Path, count: int) -> None:
    assert {status for pair in pairs(count, path) for status in pair} <= {DONE, REFUSED}


def test_the_second_writer_is_refused_and_a_reader_is_not(path: Path) -> None:
    with claim(path, force=True):
        for second in (lambda: claim(path, force=True), lambda: claim_again(path)):
            with pytest.raises(OccupiedError, match="Another process is writing into"), second():
                pass
        assert number_of(load_run(path)) == 1
        status = status_of(forked(lambda: numbered(2).save(path, force=True)))
        assert status == REFUSED
    assert sorted(os.listdir(path)) == FILES
    numbered(2).save(path, force=True)
    assert number_of(load_run(path)) == 2


def test_a_lock_whose_process_was_killed_blocks_nobody(tmp_path: Path) -> None:
    begun = Beginning({"task": "softmax", "solver": "sgd"}, {})

    def hold_and_die() -> None:
        with claim(tmp_path / "run", beginning=begun):
            kill()

    assert status_of(forked(hold_and_die)) == -signal.SIGKILL
    assert (tmp_path / "run" / LOCK).exists()
    with pytest.raises(OccupiedError, match="holds an interrupted run"):
        numbered(1).save(tmp_path / "run")
    with claim_again(tmp_path / "run") as folder:
        assert folder.under_way() == ({}, {})
    assert not (tmp_path / "run" / LOCK).exists()
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / LOCK).touch()  # a lock file alone is not a file of someone's
    numbered(1).save(tmp_path / "empty")


def test_a_lock_taken_as_its_holder_goes_is_the_one_that_counts(tmp_path: Path) -> None:
    """The file that was opened is removed by its holder before it is locked: both would hold 'the lock'."""
    with locked(tmp_path):
        waiting = forked(lambda: locked(tmp_path).__enter__())
    assert status_of(waiting) == DONE
    with locked(tmp_path), pytest.raises(OccupiedError), locked(tmp_path):
        pass


def test_a_run_that_was_interrupted_keeps_its_checkpoint(path: Path) -> None:
    with claim(path, force=True, beginning=Beginning({"task": "softmax", "solver": "sgd"}, {})) as folder:
        folder.keep({"W": np.ones(2)}, {"step": 3})
        folder.commit(numbered(2, "interrupted").to_run(path))
    with claim_again(path) as folder:
        arrays, meta = folder.under_way() or ({}, {})
    assert (meta, arrays["W"].tolist()) == ({"step": 3}, [1.0, 1.0])
    assert number_of(load_run(path)) == 2
    write_run(numbered(3).to_run(path), force=True)
    assert sorted(os.listdir(path)) == FILES
