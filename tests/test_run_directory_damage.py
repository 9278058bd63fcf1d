"""Missing, truncated, damaged and foreign run directories: always one RunError that names the file and the remedy."""

import json

import numpy as np
import pytest
from synthetic_runs import save_run, synthetic_result

from gpureg.errors import RunError
from gpureg.storage.checkpoint import read_checkpoint, remove_checkpoint, write_checkpoint
from gpureg.storage.directory import claim_again, load_run
from gpureg.storage.encoding import npz_bytes, parse_npz, parse_safetensors, safetensors_bytes

FILES = ["config.toml", "environment.json", "history.npz", "model.safetensors", "result.json"]


@pytest.fixture
def path(tmp_path):
    return save_run(synthetic_result(l2=(0.0, 0.5)), tmp_path / "run")


def test_a_directory_that_is_none(tmp_path):
    with pytest.raises(RunError, match="does not exist, expected a run directory"):
        load_run(tmp_path / "none")
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match="is a file, expected a run directory"):
        load_run(tmp_path / "file")
    with pytest.raises(RunError, match=r"is not a run directory: result\.json is missing"):
        load_run(tmp_path)
    with pytest.raises(RunError, match=r"state\.npz is missing"):
        read_checkpoint(tmp_path)


@pytest.mark.parametrize("name", FILES)
def test_a_file_that_is_missing_or_empty(path, name):
    content = (path / name).read_bytes()
    (path / name).unlink()
    with pytest.raises(RunError, match=rf"{name}.* is missing"):
        load_run(path)
    (path / name).write_bytes(b"")
    if name == "config.toml":  # an empty TOML file is an empty table
        assert load_run(path).config == {}
        return
    with pytest.raises(RunError, match=f"{name} is damaged"):
        load_run(path)
    (path / name).write_bytes(content)
    load_run(path)


@pytest.mark.parametrize("name", ["history.npz", "model.safetensors", "result.json", "environment.json"])
def test_any_truncation_is_noticed(path, name):
    content = (path / name).read_bytes()
    for keep in np.linspace(0, len(content) - 3, 40, dtype=int):
        (path / name).write_bytes(content[:keep])
        with pytest.raises(RunError, match="damaged"):
            load_run(path)


@pytest.mark.parametrize("name", FILES)
def test_flipped_bits_raise_nothing_else(path, name):
    content, rng = bytearray((path / name).read_bytes()), np.random.default_rng(0)
    headers = range(min(400, len(content)))
    for position in [*headers, *range(max(0, len(content) - 400), len(content)), *rng.integers(0, len(content), 50)]:
        changed = content.copy()
        changed[position] ^= 1 << int(rng.integers(8))
        (path / name).write_bytes(changed)
        try:
            load_run(path)
        except RunError as error:
            assert str(path) in str(error)  # noqa: PT017  # either outcome is right; any other exception is not


def test_flipped_bits_of_an_array_are_noticed(tmp_path):
    write_checkpoint(tmp_path, {"W": np.arange(100.0)}, {"step": 1})
    file = tmp_path / "checkpoint" / "state.npz"
    content = bytearray(file.read_bytes())
    content[content.index(np.arange(100.0).tobytes()) + 77] ^= 4
    file.write_bytes(content)
    with pytest.raises(RunError, match=r"state.npz is damaged.*CRC.*start the run again"):
        read_checkpoint(tmp_path)


def test_another_schema(path):
    value = json.loads((path / "result.json").read_text())
    for schema in (3, None, "1"):
        (path / "result.json").write_text(json.dumps(value | {"schema": schema}))
        with pytest.raises(RunError, match="this gpureg reads schema 1 and 2"):
            load_run(path)


@pytest.mark.parametrize("models", [[], None, [1], [{"steps": 3}], {"l2": 0}, [{"l2": 0.0}]])
def test_a_result_whose_models_are_none_or_do_not_fit(path, models):
    value = json.loads((path / "result.json").read_text())
    (path / "result.json").write_text(json.dumps(value | {"models": models}))
    with pytest.raises(RunError, match="damaged"):
        load_run(path)


@pytest.mark.parametrize("value", [None, "0.5", True, [0.5], {}, 10**400, float("nan"), float("inf"), 0.25])
def test_a_handmade_lambda(path, value):
    """Not a number, not finite, or another than that of the arrays."""
    result = json.loads((path / "result.json").read_text())
    result["models"][0]["l2"] = value
    (path / "result.json").write_text(json.dumps(result))
    with pytest.raises(RunError, match=r"(result\.json|history\.npz) is damaged.*l2"):
        load_run(path)


@pytest.mark.parametrize(
    "content", ['{"models": 5}', '{"schema": 2, "task": "softmax", "models": 5}', "[]", "{", "null", '"x"']
)
def test_a_handmade_result_in_the_way_of_an_interrupted_run(tmp_path, content):
    """Whatever it says, there is a checkpoint to go on from; without one there is nothing."""
    (tmp_path / "result.json").write_text(content)
    write_checkpoint(tmp_path, {"W": np.ones(2)}, {"step": 1})
    with claim_again(tmp_path) as folder:
        assert folder.under_way()[1] == {"step": 1}
    remove_checkpoint(tmp_path)
    with pytest.raises(RunError, match=r"is finished|holds no interrupted run"), claim_again(tmp_path):
        pass


def test_arrays_that_do_not_fit(path):
    arrays = parse_npz((path / "history.npz").read_bytes(), path, "")
    for name, array in arrays.items():
        (path / "history.npz").write_bytes(npz_bytes({**arrays, name: array[..., None]}))
        with pytest.raises(RunError, match=r"history\.npz is damaged"):
            load_run(path)
    for name in ("step_loss", "eval_step", "val_loss", "val_accuracy", "train_accuracy", "l2"):
        (path / "history.npz").write_bytes(npz_bytes({n: a for n, a in arrays.items() if n != name}))
        with pytest.raises(RunError, match=name):
            load_run(path)
    tensors, metadata = parse_safetensors((path / "model.safetensors").read_bytes(), path, "")
    (path / "history.npz").write_bytes(npz_bytes(arrays))
    for change in ({"coef": tensors["coef"][0]}, {"offset": np.zeros(3)}, {"scale": np.ones(16, np.int64)}):
        (path / "model.safetensors").write_bytes(safetensors_bytes({**tensors, **change}, metadata))
        with pytest.raises(RunError, match=r"model\.safetensors is damaged"):
            load_run(path)
    for wrong in ({"selected": "7"}, {"l2": "[1]"}, {"classes": "3"}, {"selected": "x"}):
        (path / "model.safetensors").write_bytes(safetensors_bytes(tensors, {**metadata, **wrong}))
        with pytest.raises(RunError, match=r"model\.safetensors is damaged"):
            load_run(path)


def test_a_history_with_the_contracts_arrays_alone_is_read(path):
    arrays = parse_npz((path / "history.npz").read_bytes(), path, "")
    for name in ("lr", "fold", "seed"):
        del arrays[name]
    (path / "history.npz").write_bytes(npz_bytes(arrays))
    assert load_run(path).history.fold.tolist() == [-1, -1]


def test_a_pickle_is_not_loaded(path):
    np.savez(path / "history.npz", l2=np.array([{}], object), allow_pickle=True)
    with pytest.raises(RunError, match=r"history\.npz is damaged.*allow_pickle"):
        load_run(path)
