"""A run directory: what is saved comes back, nothing is overwritten, and damage is one clear error."""

import dataclasses
import os
import signal

import numpy as np
import pytest
from killing import at_each, forked, kill, status_of, touches
from synthetic_runs import save_run, synthetic_result

from gpureg.errors import RunError
from gpureg.fitting.results import to_json_dict
from gpureg.storage.checkpoint import read_checkpoint, write_checkpoint
from gpureg.storage.directory import Beginning, OccupiedError, claim, claim_again, load_run

FILES = ["config.toml", "environment.json", "history.npz", "model.safetensors", "result.json"]


CONFIG = {"task": "softmax", "solver": "sgd"}
BEGINNING = Beginning(CONFIG, {"run": 1})


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
    with pytest.raises(OccupiedError, match=r"already holds a run.*force=True"):
        save_run(result, path)
    with pytest.raises(OccupiedError, match=r"already holds a run.*force=True"), claim(path, beginning=BEGINNING):
        pass
    with claim(path, force=True, beginning=BEGINNING):
        assert {name: (path / name).read_bytes() for name in FILES} == before  # until the new one is there
    (path / "figure.png").write_bytes(b"x")
    save_run(synthetic_result(), path, force=True)
    assert len(load_run(path).result["models"]) == 1
    assert (path / "figure.png").exists()


def test_other_peoples_files_are_safe(result, tmp_path):
    (tmp_path / "thesis.tex").write_text("x")
    for force in (False, True):
        with pytest.raises(RunError, match="holds other files"), claim(tmp_path, force=force):
            pass
    with pytest.raises(RunError, match="is a file"), claim(tmp_path / "thesis.tex", force=True):
        pass
    with (
        pytest.raises(RunError, match=r"can't be written.*on a disk with room"),
        claim(tmp_path / "thesis.tex" / "run"),
    ):
        pass
    assert os.listdir(tmp_path) == ["thesis.tex"]


@pytest.mark.parametrize(
    "foreign",
    [
        {"config.toml": "[model]\nlr = 0.1\n", "checkpoint/epoch-9.pt": "weights", "checkpoint/state.npz": "theirs"},
        {"config.toml": 'task = "classification"\nsolver = "adam"\n', "model.safetensors": "theirs"},
        {"result.json": '{"accuracy": 0.9}', "history.npz": "theirs"},
        {"result.json": "[]", "config.toml": "no toml"},
        {"checkpoint/state.npz": "theirs"},
        {".gpureg-swap/notes.txt": "theirs"},
        {".gpureg-new-0123456789ab/notes.txt": "theirs", "config.toml": ""},
    ],
)
@pytest.mark.parametrize("force", [False, True])
def test_what_only_has_a_runs_names_is_not_a_run(foreign, force, tmp_path):
    for name, content in foreign.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(content)
    for beginning in (None, BEGINNING):
        with pytest.raises(RunError, match=r"other files|can't be written"):  # noqa: SIM117
            with claim(tmp_path, force=force, beginning=beginning):
                pass
    left = {str(path.relative_to(tmp_path)): path.read_text() for path in tmp_path.rglob("*") if path.is_file()}
    assert left == foreign


def test_force_removes_what_the_run_consists_of_alone(result, tmp_path):
    path = save_run(result, tmp_path / "run")
    (path / "checkpoint").mkdir()
    (path / "checkpoint" / "state.npz").write_bytes(b"a run's")
    (path / "checkpoint" / ".state.npz.0123456789ab.tmp").write_bytes(b"a killed run's")
    (path / "checkpoint" / "best.pt").write_bytes(b"someone's")
    save_run(result, path, force=True)
    assert sorted(os.listdir(path)) == sorted([*FILES, "checkpoint"])
    assert os.listdir(path / "checkpoint") == ["best.pt"]


def test_what_a_kill_left_behind_is_in_nobodys_way(result, tmp_path):
    for name in (".history.npz.0123456789ab.tmp", ".gpureg-new-0123456789ab"):
        (tmp_path / name).mkdir()
    (tmp_path / ".history.npz.0123456789ab.tmp").rmdir()
    (tmp_path / ".history.npz.0123456789ab.tmp").write_bytes(b"PK")
    (tmp_path / ".gpureg-new-0123456789ab" / "history.npz").write_bytes(b"PK")
    assert load_run(save_run(result, tmp_path)).result["schema"] == 2
    assert sorted(os.listdir(tmp_path)) == FILES


def test_a_run_is_under_way_from_the_first_moment(tmp_path):
    with claim(tmp_path / "run", beginning=BEGINNING) as folder:
        assert sorted(os.listdir(folder.path)) == [".lock", "checkpoint", "config.toml"]
        assert folder.under_way() == ({}, {"run": 1})
        with pytest.raises(RunError, match=r"unfinished run.*--resume"):
            load_run(folder.path)
    assert not os.path.exists(tmp_path / "run" / ".lock")
    with pytest.raises(OccupiedError, match=r"interrupted run.*--resume.*force=True"), claim(tmp_path / "run"):
        pass
    (tmp_path / "run" / "checkpoint" / "state.npz").unlink()
    (tmp_path / "run" / "checkpoint").rmdir()
    with claim_again(tmp_path / "run") as folder:  # config.toml alone is enough
        assert (folder.under_way(), folder.config()) == (None, CONFIG)


def begin(path, number, **how):
    with claim(path, beginning=Beginning(CONFIG | {"seed": number}, {"run": number}), **how) as folder:
        folder.begin()
        folder.keep({"W": np.full(3, number)}, {"run": number})
        kill()


def run_of(path):
    """Which run there is to go on with; that of the checkpoint is never another than that of config.toml."""
    with claim_again(path) as folder:
        checkpoint, config = folder.under_way(), folder.config()
    if checkpoint is None:
        return config["seed"]
    arrays, meta = checkpoint
    assert not arrays or arrays["W"].tolist() == [meta["run"]] * 3
    if not (path / "result.json").exists():
        assert config["seed"] == meta["run"]
    return meta["run"]


def test_killed_while_it_begins_a_run_is_under_way_or_nothing_is_there(tmp_path):
    path = tmp_path / "run"
    for _ in at_each(touches, lambda: begin(path, 1), kill):
        if path.exists():
            assert run_of(path) == 1
            with pytest.raises(OccupiedError, match="interrupted run"):  # noqa: SIM117
                with claim(path):
                    pass
            begin_again = forked(lambda: begin(path, 1, force=True))
            assert status_of(begin_again) == -signal.SIGKILL
            assert run_of(path) == 1
            with claim(path, force=True) as folder:
                folder.commit(synthetic_result().to_run(path))
            assert sorted(os.listdir(path)) == FILES
            for name in FILES:
                (path / name).unlink()
            path.rmdir()


@pytest.mark.long
@pytest.mark.parametrize("finished", [False, True])
def test_killed_while_it_begins_in_another_runs_place_one_of_both_is_under_way(result, tmp_path, finished):
    """And a finished run stays, until another one ends."""
    path = tmp_path / "run"
    if finished:
        save_run(result, path)
    found = set()

    def old():
        assert status_of(forked(lambda: begin(path, 1, force=True))) == -signal.SIGKILL

    old()
    for _ in at_each(touches, lambda: begin(path, 2, force=True), kill):
        found.add(run_of(path) if not finished or (path / "checkpoint" / "state.npz").exists() else 0)
        if finished:
            assert len(load_run(path).result["models"]) == 2
        old()
    assert {1, 2} <= found <= {0, 1, 2}


def test_what_could_not_be_trained_leaves_what_was_there(result, tmp_path):
    with pytest.raises(ZeroDivisionError), claim(tmp_path / "a" / "run", beginning=BEGINNING):
        raise ZeroDivisionError
    assert os.listdir(tmp_path) == []
    path = save_run(result, tmp_path / "run")
    with pytest.raises(ZeroDivisionError), claim(path, force=True, beginning=BEGINNING):
        raise ZeroDivisionError
    assert sorted(os.listdir(path)) == FILES
    assert status_of(forked(lambda: begin(path, 1, force=True))) == -signal.SIGKILL
    with pytest.raises(ZeroDivisionError), claim(path, force=True, beginning=BEGINNING):
        raise ZeroDivisionError
    assert run_of(path) == 1  # a checkpoint of another run, until this one trains
    with pytest.raises(ZeroDivisionError), claim(tmp_path / "b", beginning=BEGINNING) as folder:
        raise ZeroDivisionError(folder.keep({}, {"step": 3}))
    assert read_checkpoint(tmp_path / "b") == ({}, {"step": 3})


def test_a_checkpoint_comes_back_with_every_bit(tmp_path):
    arrays = {
        "W": np.random.default_rng(0).normal(size=(3, 2)),
        "file": np.arange(3),
        "rng/keys": np.array(7, np.uint32),
    }
    meta = {"step": np.int64(12), "best": float("inf"), "third": 1 / 3, "config": {"lr": [0.1], "out": "\udcff"}}
    write_checkpoint(tmp_path, {"W": np.zeros(1)}, {})
    write_checkpoint(tmp_path, arrays, meta)
    got, got_meta = read_checkpoint(tmp_path)
    assert set(got) == set(arrays)
    for name, array in arrays.items():
        np.testing.assert_array_equal(got[name], array)
        assert got[name].dtype == array.dtype
    assert got_meta == meta
    assert os.listdir(tmp_path / "checkpoint") == ["state.npz"]


def test_a_kill_while_a_checkpoint_is_written_leaves_the_one_before_or_the_one_after(tmp_path):
    write_checkpoint(tmp_path, {"W": np.full(9, 1.0)}, {"step": 1})
    found = []
    for _ in at_each(touches, lambda: write_checkpoint(tmp_path, {"W": np.full(9, 2.0)}, {"step": 2}), kill):
        arrays, meta = read_checkpoint(tmp_path)
        assert arrays["W"].tolist() == [float(meta["step"])] * 9
        found.append(meta["step"])
        write_checkpoint(tmp_path, {"W": np.full(9, 1.0)}, {"step": 1})
    assert found == sorted(found)
    assert 1 in found


def test_object_arrays_are_refused_rather_than_pickled(tmp_path):
    with pytest.raises(ValueError, match="allow_pickle"):
        write_checkpoint(tmp_path, {"a": np.array([{}], object)}, {})


def test_names_that_are_not_utf_8_are_kept_as_they_are(result, tmp_path):
    name = os.fsdecode(b"caf\xe9-\xff")
    odd = dataclasses.replace(result, dataset=name, config=result.config | {"dataset": f"/data/{name}.csv"})
    run = load_run(save_run(odd, tmp_path / name))
    assert run.result["dataset"] == name
    assert run.result["run_dir"] == str(tmp_path / name)
    assert run.config["dataset"] == f"/data/{name}.csv"
    assert b"/data/caf\xe9-\xff.csv" in (tmp_path / name / "config.toml").read_bytes()
    (tmp_path / name / "result.json").read_text("utf-8")  # JSON has escapes for them, and stays what it is
