"""A run directory: a fit on disk, written atomically and read back as a `Run`.

config.toml         enough to run it again
result.json         the JSON result; the mark of a finished run: written last, and removed first when a run is replaced
environment.json    versions, machine, threads
history.npz         what was measured while it was trained
model.safetensors   the weights and the scaling of their inputs
checkpoint/         the trainer's state, while it runs or after it was interrupted
"""

from __future__ import annotations

import json
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from gpureg.errors import RunError
from gpureg.history import History
from gpureg.model.linear import LinearModel
from gpureg.storage import files as run_files
from gpureg.storage.checkpoint import CHECKPOINT, cannot_write, read_checkpoint, remove_checkpoint, write_checkpoint
from gpureg.storage.versions import READ, completed

__all__ = [
    "Run",
    "load_run",
    "prepare_run_directory",
    "read_checkpoint",
    "remove_checkpoint",
    "write_checkpoint",
    "write_run",
]

RESULT, CONFIG, ENVIRONMENT = "result.json", "config.toml", "environment.json"
HISTORY, MODEL = "history.npz", "model.safetensors"
COURSE = ("objective", "gap_bound")  # of the history, since a full-batch solver has a course; empty with minibatches
AGAIN = "Run the training again, or name another run directory."


@dataclass(frozen=True)
class Run:
    """A finished run: `result` as in result.json, `history`, `model`, `config` and `environment`, from `directory`."""

    directory: Path
    result: dict[str, Any]
    history: History
    model: LinearModel
    config: dict[str, Any]
    environment: dict[str, Any]


def prepare_run_directory(directory: str | Path, force: bool = False) -> Path:
    """Make room for a run before its training begins, so that a refusal costs nothing; returns the folder, made if new.

    An earlier run stays as it is, even with `force`, until `write_run` replaces it; its checkpoint is dropped. Raises
    RunError where `directory` is a file, holds other files than a run's, holds a run and `force` is false, or can't be
    made.
    """
    path = Path(directory)
    if path.exists() and not path.is_dir():
        raise RunError(f"{path} is a file; wanted a folder for the run. Give another --out.")
    if path.is_dir():
        _refuse_overwriting(path, force, checkpoint_counts=True)
    try:
        path.mkdir(parents=True, exist_ok=True)
        remove_checkpoint(path)
    except OSError as error:
        raise cannot_write(path, error) from error
    return path


def _refuse_overwriting(path: Path, force: bool, checkpoint_counts: bool) -> None:
    # a kill leaves a temporary file behind, which is nobody's
    names = {entry.name for entry in path.iterdir() if not (entry.name.startswith(".") and entry.suffix == ".tmp")}
    ours = names & {RESULT, CONFIG, HISTORY, MODEL, *([CHECKPOINT] if checkpoint_counts else [])}
    if names - {CHECKPOINT} and not ours:
        raise RunError(
            f"{path} holds other files ({sorted(names)[0]}, ...) and no run; give a new or empty folder as --out."
        )
    if not ours or force:
        return
    if RESULT not in names and CHECKPOINT in names:
        raise RunError(
            f"{path} holds an interrupted run; go on with it by --resume {path}, or replace it with --force."
        )
    raise RunError(f"{path} already holds a run; give another --out, or replace it with --force.")


def write_run(run: Run, *, force: bool = False) -> Path:
    """Write `run` into its directory, as `load_run` reads it, and return the path.

    A new folder appears in one rename. In a folder that exists (prepared, holding a checkpoint, or replaced with
    `force`) result.json goes first and comes last: a kill in between leaves a run that counts as unfinished, never a
    mixture. The checkpoint is removed, unless the run was interrupted and is to be resumed. Raises RunError where a run
    is there and `force` is false, or the disk refuses.
    """
    path, files = run.directory, _run_files(run)
    try:
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            run_files.write_folder(path, files)
            return path
        if not path.is_dir():
            raise RunError(f"{path} is a file; wanted a folder for the run. Give another --out.")
        _refuse_overwriting(path, force, checkpoint_counts=False)
        (path / RESULT).unlink(missing_ok=True)
        for name, content in files.items():
            run_files.write_bytes(path / name, content)
        if not any(model["stop_reason"] == "interrupted" for model in run.result["models"]):
            remove_checkpoint(path)
    except OSError as error:
        raise cannot_write(path, error) from error
    return path


def _run_files(run: Run) -> dict[str, bytes]:
    import tomli_w

    model = run.model
    metadata = {
        "task": model.loss.name,
        "classes": json.dumps(run_files.plain(model.classes)),
        "l2": json.dumps(run_files.plain(model.l2)),
        "selected": json.dumps(model.selected),
    }
    tensors = {name: np.asarray(getattr(model, name)) for name in ("coef", "intercept", "offset", "scale")}
    history = {field.name: np.asarray(getattr(run.history, field.name)) for field in fields(History)}
    return {
        CONFIG: tomli_w.dumps(_without_none(run_files.plain(run.config))).encode(),
        ENVIRONMENT: run_files.json_bytes(run.environment),
        HISTORY: run_files.npz_bytes(history),
        MODEL: run_files.safetensors_bytes(tensors, metadata),
        RESULT: run_files.json_bytes(run.result),  # last: it marks a finished run
    }


def _without_none(value: Any) -> Any:
    """TOML has no null: an option that is not set is left out."""
    if isinstance(value, dict):
        return {key: _without_none(item) for key, item in value.items() if item is not None}
    if isinstance(value, list):
        return [_without_none(item) for item in value if item is not None]
    return value


def load_run(directory: str | Path) -> Run:
    """Read a finished run. Raises one RunError that says what is missing or damaged, and what to do.

    >>> import gpureg
    >>> result = gpureg.fit(gpureg.load_dataset("digits"), solver="lbfgs", l2=[1e-3, 1e-4])
    >>> folder = result.save("runs/sweep")
    >>> run = gpureg.load_run("runs/sweep")
    >>> [model["stop_reason"] for model in run.result["models"]]
    ['converged', 'converged']
    >>> run.model.coef.shape  # models, classes, features
    (2, 10, 64)
    """
    path = Path(directory)
    if not path.is_dir():
        what = "is a file" if path.exists() else "does not exist"
        raise RunError(f"{path} {what}; wanted a run directory, as `gpureg train --out {path}` writes one.")
    if not (path / RESULT).exists():
        if (path / CHECKPOINT).is_dir():
            raise RunError(f"{path} holds a run that has not ended: go on with it by `gpureg train --resume {path}`.")
        raise RunError(f"{path} is no run directory: {RESULT} is missing. {AGAIN}")
    result = _read_result(path / RESULT)
    history = _read_history(path / HISTORY)
    if history.l2.shape[0] != len(result["models"]):
        mismatch = ValueError(f"{history.l2.shape[0]} models, where {RESULT} has {len(result['models'])}")
        raise run_files.damaged(path / HISTORY, mismatch, AGAIN)
    model = _read_model(path / MODEL)
    config = run_files.read_toml(path / CONFIG, AGAIN)
    return Run(path, completed(result, config), history, model, config, run_files.read_json(path / ENVIRONMENT, AGAIN))


def _read_result(path: Path) -> dict[str, Any]:
    result = run_files.read_json(path, AGAIN)
    if result.get("schema") not in READ:
        raise RunError(
            f"{path} has the schema {result.get('schema')!r}; this gpureg reads schema {' and '.join(map(str, READ))}. "
            "Read it with the gpureg that wrote it, or run the training again."
        )
    missing = sorted({"task", "dataset", "classes", "n_features", "models", "dtype"} - set(result))
    models = result.get("models")
    if (
        missing
        or not isinstance(models, list)
        or not models
        or not all(isinstance(m, dict) and "l2" in m for m in models)
    ):
        cause = KeyError(", ".join(missing) or "models: a list of objects, each with its l2")
        raise run_files.damaged(path, cause, AGAIN)
    return result


def _read_history(path: Path) -> History:
    arrays = run_files.read_npz(path, AGAIN)
    try:
        L = arrays["l2"].shape[0]
        floats = {name: np.asarray(arrays[name], np.float64) for name in ("step_loss", "val_loss", "val_accuracy")}
        history = History(
            step_loss=floats["step_loss"],
            eval_step=np.asarray(arrays["eval_step"], np.int64),
            val_loss=floats["val_loss"],
            val_accuracy=floats["val_accuracy"],
            train_accuracy=np.asarray(arrays["train_accuracy"], np.float64),
            l2=np.asarray(arrays["l2"], np.float64),
            lr=np.asarray(arrays.get("lr", np.full(L, np.nan)), np.float64),
            fold=np.asarray(arrays.get("fold", np.full(L, -1)), np.int64),
            seed=np.asarray(arrays.get("seed", np.full(L, -1)), np.int64),
            **{name: np.asarray(arrays[name], np.float64) for name in COURSE if name in arrays},
        )
        E = history.eval_step.shape[0]
        shapes: dict[str, tuple[int, ...]] = {
            "step_loss": (history.step_loss.shape[0], L),
            "val_loss": (E, L),
            "val_accuracy": (E, L),
        }
        shapes |= {"train_accuracy": (E, L), "eval_step": (E,), "l2": (L,), "lr": (L,), "fold": (L,), "seed": (L,)}
        shapes |= dict.fromkeys(COURSE, (E, L) if history.full_batch else (0, 0))
        wrong = [
            f"{n} {getattr(history, n).shape}, wanted {s}" for n, s in shapes.items() if getattr(history, n).shape != s
        ]
        if wrong:
            raise ValueError("; ".join(wrong))
    except (KeyError, ValueError, TypeError, IndexError) as error:
        raise run_files.damaged(path, error, AGAIN) from error
    return history


def _floats(array: npt.NDArray[np.generic]) -> npt.NDArray[np.floating]:
    if not np.issubdtype(array.dtype, np.floating):
        raise TypeError(f"{array.dtype}, wanted a float type")
    floats: npt.NDArray[np.floating] = array.astype(array.dtype, copy=False)
    return floats


def _read_model(path: Path) -> LinearModel:
    tensors, metadata = run_files.read_safetensors(path, AGAIN)
    try:
        coef, intercept, offset, scale = (_floats(tensors[name]) for name in ("coef", "intercept", "offset", "scale"))
        l2 = np.asarray(json.loads(metadata["l2"]), np.float64)
        classes, selected = tuple(json.loads(metadata["classes"])), json.loads(metadata["selected"])
        L, _, D = coef.shape
        if (intercept.shape, offset.shape, scale.shape, l2.shape) != (coef.shape[:2], (D,), (D,), (L,)):
            raise ValueError(
                f"shapes {coef.shape}, {intercept.shape}, {offset.shape}, {scale.shape}, {l2.shape} do not fit"
            )
        if not (selected is None or (type(selected) is int and 0 <= selected < L)):
            raise ValueError(f"selected {selected} of {L} models")
        return LinearModel(metadata["task"], classes, coef, intercept, offset, scale, l2, selected)
    except (KeyError, ValueError, TypeError) as error:
        raise run_files.damaged(path, error, AGAIN) from error
