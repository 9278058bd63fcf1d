"""What a finished run consists of: a `Run` as the bytes of its five files, and these as a `Run`, checked."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal, NotRequired, TypedDict

import numpy as np

from gpureg.errors import RunError
from gpureg.history import History
from gpureg.losses import LOSSES
from gpureg.model.linear import LinearModel
from gpureg.model.metadata import described, model_of
from gpureg.storage.encoding import (
    Arrays,
    damaged,
    json_bytes,
    npz_bytes,
    parse_json,
    parse_npz,
    parse_safetensors,
    parse_toml,
    plain,
    safetensors_bytes,
    toml_bytes,
)
from gpureg.storage.schema import Array, MismatchError, conform, conform_arrays
from gpureg.storage.versions import READ, completed, told_apart
from gpureg.types import StopReason

RESULT, CONFIG, ENVIRONMENT = "result.json", "config.toml", "environment.json"
HISTORY, MODEL = "history.npz", "model.safetensors"
FILES = (CONFIG, ENVIRONMENT, HISTORY, MODEL, RESULT)
AGAIN = "Run the training again, or name another run directory."


class ModelRow(TypedDict):
    """A model in result.json."""

    l2: float
    steps: int
    stopped_epoch: int | None
    stop_reason: StopReason
    train_loss: float | None
    val_loss: float | None
    train_accuracy: float | None
    val_accuracy: float | None
    weight_norm_sq: float | None
    lr: NotRequired[float | None]
    fold: NotRequired[int | None]
    seed: NotRequired[int | None]
    certificate: NotRequired[dict[str, float | bool | None] | None]


class ScoreRow(TypedDict):
    """A λ of a cross-validation in result.json."""

    l2: float
    mean: float | None
    se: float | None
    folds: int
    lr: NotRequired[float | None]


class ResultFile(TypedDict):
    """What result.json must hold for what reads it: figures, pages, predictions."""

    task: str
    dataset: str
    device: str
    dtype: Literal["float32", "float64"]
    n_train: int
    n_val: int
    n_features: int
    classes: list[bool | int | float | str]
    feature_names: NotRequired[list[str] | None]
    image_shape: NotRequired[list[int] | None]
    seconds: float
    models: list[ModelRow]
    selected: int | None
    cv: NotRequired[list[ScoreRow] | None]
    warnings: NotRequired[list[str]]


class ModelMetadata(TypedDict):
    """What model.safetensors says of its arrays."""

    task: str
    classes: list[bool | int | float | str]
    l2: list[float]
    selected: int | None
    lr: NotRequired[list[float | None] | None]
    seed: NotRequired[list[int] | None]
    scores: NotRequired[list[float | None] | None]
    scored_by: NotRequired[str]
    total_weight: NotRequired[float | None]
    feature_names: NotRequired[list[str] | None]
    image_shape: NotRequired[list[int] | None]
    target: NotRequired[str | None]
    encoding: NotRequired[dict[str, Any] | None]
    refit_of: NotRequired[float | None]


HISTORY_ARRAYS = {
    "step_loss": Array("float", ("S", "L")),
    "eval_step": Array("int", ("E",), low=0),
    "val_loss": Array("float", ("E", "L")),
    "val_accuracy": Array("float", ("E", "L")),
    "train_accuracy": Array("float", ("E", "L")),
    "l2": Array("float", ("L",)),
    "lr": Array("float", ("L",)),
    "fold": Array("int", ("L",), low=-1),
    "seed": Array("int", ("L",), low=-1),
}
# of runs that did not keep them, and passes of minibatches
NONE_OF_A_MODEL: Mapping[str, Any] = MappingProxyType({"score": np.zeros(0), "passes": np.zeros(0, np.int64)})
COURSE = ("objective", "gap_bound")  # of the history: empty with minibatches
MODEL_ARRAYS = {
    "coef": Array("float", ("L", "K", "D")),
    "intercept": Array("float", ("L", "K")),
    "offset": Array("float", ("D",)),
    "scale": Array("float", ("D",)),
}


@dataclass(frozen=True)
class Run:
    """A finished run: `result` as in result.json, `history`, `model`, `config` and `environment`, from `directory`."""

    directory: Path
    result: dict[str, Any]
    history: History
    model: LinearModel
    config: dict[str, Any]
    environment: dict[str, Any]


def is_interrupted(result: Mapping[str, Any]) -> bool:
    """Whether a result is that of a run which can go on."""
    models = result.get("models")
    return isinstance(models, list) and any(
        isinstance(model, dict) and model.get("stop_reason") == "interrupted" for model in models
    )


def read_result(folder: Path) -> dict[str, Any]:
    """The content of result.json; empty if there is none, or it is not a run's. Raises OSError."""
    try:
        result = parse_json((folder / RESULT).read_bytes(), folder / RESULT, AGAIN)
    except (FileNotFoundError, RunError):
        return {}
    return result if {"schema", "task", "models"} <= set(result) else {}


def read_config(folder: Path) -> dict[str, Any]:
    """The content of config.toml; empty if there is none, or it is not a run's. Raises OSError."""
    try:
        config = parse_toml((folder / CONFIG).read_bytes(), folder / CONFIG, AGAIN)
    except (FileNotFoundError, RunError):
        return {}
    return config if config.get("task") in tuple(LOSSES) and not {"solver", "l2"}.isdisjoint(config) else {}


def encode_run(run: Run) -> dict[str, bytes]:
    """The five files of a run by their names; the same run gives the same bytes."""
    model = run.model
    known = plain(described(model))
    metadata = {name: value if name == "task" else json.dumps(value) for name, value in known.items()}
    tensors = {name: np.asarray(getattr(model, name)) for name in MODEL_ARRAYS}
    history = {field.name: np.asarray(getattr(run.history, field.name)) for field in fields(History)}
    return {
        CONFIG: toml_bytes(run.config),
        ENVIRONMENT: json_bytes(run.environment),
        HISTORY: npz_bytes(history),
        MODEL: safetensors_bytes(tensors, metadata),
        RESULT: json_bytes(run.result),
    }


def decode_run(path: Path, files: Mapping[str, bytes]) -> Run:
    """The run in `path` from the bytes of its files. Raises one RunError that names what is damaged."""
    result = _result(files[RESULT], path / RESULT)
    history = _history(files[HISTORY], path / HISTORY, [model["l2"] for model in result["models"]])
    model = _model(files[MODEL], path / MODEL, result)
    config = parse_toml(files[CONFIG], path / CONFIG, AGAIN)
    environment = parse_json(files[ENVIRONMENT], path / ENVIRONMENT, AGAIN)
    return Run(path, completed(result, config), history, model, config, environment)


def _result(content: bytes, path: Path) -> dict[str, Any]:
    result = parse_json(content, path, AGAIN)
    if result.get("schema") not in READ:
        raise RunError(
            f"{path} has the schema {result.get('schema')!r}; this gpureg reads schema {' and '.join(map(str, READ))}. "
            "Read it with the gpureg that wrote it, or run the training again."
        )
    try:
        conform(result, ResultFile)
        if result["task"] not in LOSSES:
            raise MismatchError(f"task is {result['task']!r}, expected one of {', '.join(LOSSES)}")
        count, selected = len(result["models"]), result["selected"]
        if not count or not (selected is None or 0 <= selected < count):
            raise MismatchError(f"selected is {selected}, of {count} models")
    except MismatchError as error:
        raise damaged(path, error, AGAIN) from error
    return result


def _history(content: bytes, path: Path, l2: list[float]) -> History:
    arrays = parse_npz(content, path, AGAIN)
    none = np.full(len(l2), -1)
    arrays = {"lr": np.full(len(l2), np.nan), "fold": none, "seed": none} | arrays
    try:
        history = history_of(dict.fromkeys(COURSE, np.zeros((0, 0))) | dict(NONE_OF_A_MODEL) | arrays, len(l2))
        if history.l2.tolist() != l2:
            raise MismatchError(f"l2 is {history.l2.tolist()}, where {RESULT} has {l2}")
    except MismatchError as error:
        raise damaged(path, error, AGAIN) from error
    return history


def history_of(arrays: Arrays, L: int) -> History:
    """The history of L models from its arrays. Raises MismatchError for a shape or type that is not its own."""
    empty = "objective" in arrays and arrays["objective"].shape == (0, 0)
    schema = HISTORY_ARRAYS | dict.fromkeys(COURSE, Array("float", (0, 0) if empty else ("E", "L")))
    for name, none in NONE_OF_A_MODEL.items():
        there = arrays.get(name, none).shape != none.shape
        schema[name] = Array("float" if name == "score" else "int", ("L" if there else 0,))
    conform_arrays(arrays, schema, {"L": L})
    wide = {"float": np.float64, "int": np.int64}
    values: dict[str, Any] = {name: np.asarray(arrays[name], wide[spec.kind]) for name, spec in schema.items()}
    return History(**values)


def _model(content: bytes, path: Path, result: Mapping[str, Any]) -> LinearModel:
    tensors, texts = parse_safetensors(content, path, AGAIN)
    try:
        known = _metadata(texts)
        for name in ("task", "classes"):
            if known[name] != result[name]:
                raise MismatchError(f"{name} is {known[name]!r}, where {RESULT} has {result[name]!r}")
        l2, selected = known["l2"], known["selected"]
        K = LOSSES[known["task"]].columns(len(known["classes"]))
        conform_arrays(tensors, MODEL_ARRAYS, {"L": len(l2), "K": K, "D": result["n_features"]})
        if not (selected is None or 0 <= selected < len(l2)):
            raise MismatchError(f"selected is {selected}, of {len(l2)} models")
        return model_of(told_apart(known, result["models"]), tensors)
    except ValueError as error:
        raise damaged(path, error, AGAIN) from error


def _metadata(texts: Mapping[str, str]) -> dict[str, Any]:
    """Safetensors' metadata are texts: the task as it is, all else JSON."""
    try:
        known = {name: text if name == "task" else json.loads(text) for name, text in texts.items()}
    except (ValueError, RecursionError) as error:
        raise MismatchError(f"the metadata are not JSON ({error})") from None
    conform(known, ModelMetadata)
    return known
