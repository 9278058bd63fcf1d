"""A run directory: what is saved comes back, nothing is overwritten, and damage is one clear error."""

import dataclasses
import os
import subprocess
import sys
import time

import numpy as np
import pytest
from synthetic_runs import save_run, synthetic_result

from gpureg.errors import RunError
from gpureg.fitting.results import to_json_dict
from gpureg.storage import files as run_files
from gpureg.storage.directory import load_run, prepare_run_directory, read_checkpoint, write_checkpoint

FILES = ["config.toml", "environment.json", "history.npz", "model.safetensors", "result.json"]


@pytest.fixture(scope="module")
def result():
    return synthetic_result(l2=(0.0, 0.5), stops=(60, 33))


def test_what_is_saved_comes_back(result, tmp_path):
    run = load_run(save_run(result, tmp_path / "a" / "run"))
    for field in dataclasses.fields(result.history):
        expected, got = getattr(result.history, field.name), getattr(run.history, field.name)
        np.testing.assert_array_equal(got, expected)
        assert got.dtype == expected.dtype
    for name in ("coef", "intercept", "offset", "scale", "l2"):
        np.testing.assert_array_equal(getattr(run.model, name), getattr(result.model, name))
    assert (run.model.task, run.model.classes, run.model.selected) == ("softmax", (0, 1, 2), 0)
    assert run.result == to_json_dict(result, run.directory)
    assert run.config == {"task": "softmax", "dataset": "synthetic", "l2": [0.0, 0.5], "shuffle": True}
    assert run.environment == result.environment
    assert sorted(os.listdir(run.directory)) == FILES
    assert os.listdir(tmp_path / "a") == ["run"]  # no temporary folder is left


def test_the_same_result_gives_the_same_bytes(result, tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        save_run(result, tmp_path / name / "run")
    for name in FILES:
        a, b = ((tmp_path / n / "run" / name).read_text("latin-1") for n in ("a", "b"))
        assert a.replace(str(tmp_path / "a"), "") == b.replace(str(tmp_path / "b"), ""), name


def test_a_run_is_not_overwritten_without_force(result, tmp_path):
    path = save_run(result, tmp_path / "run")
    before = {name: (path / name).read_bytes() for name in FILES}
    for refused in (lambda: save_run(result, path), lambda: prepare_run_directory(path)):
        with pytest.raises(RunError, match=r"already holds a run.*--force"):
            refused()
    prepare_run_directory(path, force=True)
    assert {name: (path / name).read_bytes() for name in FILES} == before  # until the new one is there
    (path / "figure.png").write_bytes(b"x")
    save_run(synthetic_result(), path, force=True)
    assert len(load_run(path).result["models"]) == 1
    assert (path / "figure.png").exists()


def test_what_a_kill_left_behind_is_in_nobodys_way(result, tmp_path):
    (tmp_path / ".history.npz.0123456789ab.tmp").write_bytes(b"PK")
    assert load_run(save_run(result, prepare_run_directory(tmp_path))).result["schema"] == 2


def test_other_peoples_files_are_safe(result, tmp_path):
    (tmp_path / "thesis.tex").write_text("x")
    for force in (False, True):
        with pytest.raises(RunError, match="holds other files"):
            prepare_run_directory(tmp_path, force)
    with pytest.raises(RunError, match="is a file"):
        prepare_run_directory(tmp_path / "thesis.tex", force=True)
    with pytest.raises(RunError, match=r"can't be written.*Give an --out"):
        prepare_run_directory(tmp_path / "thesis.tex" / "run")


def test_a_checkpoint_comes_back_with_every_bit_and_goes_when_the_run_ends(result, tmp_path):
    path = prepare_run_directory(tmp_path / "run")
    arrays = {
        "W": np.random.default_rng(0).normal(size=(3, 2)),
        "file": np.arange(3),
        "rng/keys": np.array(7, np.uint32),
    }
    meta = {"step": np.int64(12), "best": float("inf"), "third": 1 / 3, "config": {"lr": [0.1]}}
    write_checkpoint(path, {"W": np.zeros(1)}, {})
    write_checkpoint(path, arrays, meta)
    got, got_meta = read_checkpoint(path)
    assert set(got) == set(arrays)
    for name, array in arrays.items():
        np.testing.assert_array_equal(got[name], array)
        assert got[name].dtype == array.dtype
    assert got_meta == meta
    assert os.listdir(path / "checkpoint") == ["state.npz"]
    with pytest.raises(RunError, match=r"has not ended.*--resume"):
        load_run(path)
    with pytest.raises(RunError, match=r"interrupted run.*--resume.*--force"):
        prepare_run_directory(path)
    save_run(result, path)
    assert sorted(os.listdir(path)) == FILES
    with pytest.raises(RunError, match="no checkpoint to resume from: its run has ended"):
        read_checkpoint(path)


def test_an_interrupted_run_keeps_its_checkpoint(result, tmp_path):
    path = prepare_run_directory(tmp_path / "run")
    write_checkpoint(path, {}, {"step": 3})
    stopped = dataclasses.replace(result.models[0], stop_reason="interrupted")
    save_run(dataclasses.replace(result, models=(stopped, result.models[1])), path)
    assert read_checkpoint(path) == ({}, {"step": 3})


def test_a_kill_while_a_checkpoint_is_written_leaves_the_one_before(tmp_path, monkeypatch):
    write_checkpoint(tmp_path, {"W": np.ones(2)}, {"step": 1})

    def killed(*_):
        raise KeyboardInterrupt

    for call in ("fsync", "replace"):
        with monkeypatch.context() as patch:
            patch.setattr(run_files.os, call, killed)
            with pytest.raises(KeyboardInterrupt):
                write_checkpoint(tmp_path, {"W": np.zeros(2)}, {"step": 2})
        assert read_checkpoint(tmp_path)[1] == {"step": 1}


@pytest.mark.parametrize("file", range(5))
def test_a_kill_while_a_run_is_replaced_never_leaves_a_mixture(result, tmp_path, monkeypatch, file):
    path = save_run(result, tmp_path / "run")
    write, left = run_files.write_bytes, [file]

    def killed(*arguments):
        left[0] -= 1
        if left[0] < 0:
            raise KeyboardInterrupt
        write(*arguments)

    monkeypatch.setattr(run_files, "write_bytes", killed)
    with pytest.raises(KeyboardInterrupt):
        save_run(synthetic_result(), path, force=True)
    with pytest.raises(RunError, match=r"result\.json is missing"):
        load_run(path)


def test_a_disk_that_refuses_is_one_clear_error(result, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(run_files.os, "fsync", full)
    with pytest.raises(RunError, match=r"can't be written \(No space left on device\)"):
        save_run(result, tmp_path / "run")
    assert os.listdir(tmp_path) == []


def test_object_arrays_are_refused_rather_than_pickled(tmp_path):
    with pytest.raises(ValueError, match="allow_pickle"):
        write_checkpoint(tmp_path, {"a": np.array([{}], object)}, {})


WRITER = """
import sys
import numpy as np
from gpureg.run_directory import write_checkpoint
for step in range(10**6):
    write_checkpoint(sys.argv[1], {"W": np.full(20000, float(step))}, {"step": step})
    print(step, flush=True)
"""


def test_a_real_kill_leaves_a_checkpoint_that_is_whole(tmp_path):
    for attempt in range(5):
        command = [sys.executable, "-c", WRITER, str(tmp_path)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            written = [process.stdout.readline() for _ in range(3 + attempt)]
            time.sleep(0.0007 * attempt)
            process.kill()
        arrays, meta = read_checkpoint(tmp_path)
        assert meta["step"] >= int(written[-1])
        assert (arrays["W"] == meta["step"]).all()
