"""The JSON result: schema 2 has all its keys whatever the fit, and runs of schema 1 are read as if they had them."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from json_result import CV, HEAD, MODEL
from small_problems import blobs
from synthetic_runs import synthetic_result

import gpureg
from gpureg.fitting.results import to_json_dict

FITS: dict[str, dict[str, Any]] = {
    "sgd": {"solver": "sgd", "epochs": 1, "batch_size": 16},
    "sgd with folds": {"epochs": 1, "batch_size": 16, "l2": (0.1, 0.2), "cv": 2, "seeds": 2},
    "lbfgs": {"tol": 1e-4},
    "lbfgs with folds": {"tol": 1e-4, "l2": (0.1, 0.2), "cv": 2},
}


def sets(rows: int, validated: bool) -> gpureg.Dataset:
    """Named features; with validation rows or without."""
    random = np.random.default_rng(0)
    X, y = random.normal(size=(rows, 3)), np.arange(rows) % 2
    return gpureg.make_dataset(X, y, val_size=None if validated else 0)


@pytest.mark.parametrize("validated", [True, False])
@pytest.mark.parametrize("case", FITS)
def test_all_keys_are_always_there(case: str, validated: bool) -> None:
    options = FITS[case]
    if not validated and "folds" not in case and "epochs" in options:
        options = options | {"patience": 0}
    result = gpureg.fit(sets(60, validated), **options)
    value = json.loads(json.dumps(to_json_dict(result, "runs/x"), allow_nan=False))
    assert set(value) == HEAD
    assert all(set(model) == MODEL for model in value["models"])
    assert all(set(row) == CV for row in value["cv"])
    assert (value["schema"], value["run_dir"], value["solver"]) == (2, "runs/x", case.split()[0])
    assert len(value["cv"]) == (2 if "folds" in case else 0)
    assert all((model["lr"] is None) == (value["solver"] == "lbfgs") for model in value["models"])
    assert all((model["certificate"] is None) == (value["solver"] == "sgd") for model in value["models"])
    assert np.isnan(result.history.lr).all() == (value["solver"] == "lbfgs")
    assert (value["left_out"], value["test"], value["feature_names"]) == ([], None, None)
    assert value["n_val"] == (0 if not validated or "folds" in case else 12)


def test_names_and_image_shape_are_in_the_result() -> None:
    import pandas as pd

    frame = pd.DataFrame(np.random.default_rng(0).normal(size=(40, 2)), columns=["length", "width"])
    named = to_json_dict(gpureg.fit(gpureg.make_dataset(frame, np.arange(40) % 2)))
    assert named["feature_names"] == ["length", "width"]
    images = np.random.default_rng(0).integers(0, 255, (40, 6, 4), dtype=np.uint8)
    assert to_json_dict(gpureg.fit(gpureg.make_dataset(images, np.arange(40) % 2)))["image_shape"] == [6, 4]


def test_json_holds_null_and_never_nan() -> None:
    result = synthetic_result(l2=(0.0, 0.5))
    diverged = dataclasses.replace(result.models[0], train_loss=float("nan"), val_loss=float("inf"))
    odd = dataclasses.replace(result, models=(diverged,), classes=(np.int64(3), np.str_("b")), seconds=np.float32(0.5))
    value = json.loads(json.dumps(to_json_dict(odd), allow_nan=False))
    assert (value["models"][0]["train_loss"], value["models"][0]["val_loss"]) == (None, None)
    assert (value["classes"], value["seconds"]) == ([3, "b"], 0.5)


@pytest.mark.parametrize("cv", [False, True])
@pytest.mark.parametrize("solver", [None, "sgd", "lbfgs"])
def test_a_run_of_schema_1_is_read_with_all_keys(cv: bool, solver: str | None, tmp_path: Path) -> None:
    """What schema 1 left out is None or []; its solver is in config.toml, `sgd` if nowhere."""
    result = gpureg.fit(blobs(60, 20), epochs=1, batch_size=16, l2=(0.1, 0.2), cv=2 if cv else None)
    config = {name: value for name, value in result.config.items() if name != "solver"}
    path = dataclasses.replace(result, config=config | ({"solver": solver} if solver else {})).save(tmp_path / "run")
    new = json.loads((path / "result.json").read_text())
    gone = ("solver", "feature_names", "image_shape", "left_out", "test", "warnings", *([] if cv else ["cv"]))
    old = {name: value for name, value in new.items() if name not in gone} | {"schema": 1}
    old["models"] = [
        {n: v for n, v in m.items() if n != "certificate" and (cv or n not in ("fold", "seed"))} for m in new["models"]
    ]
    (path / "result.json").write_text(json.dumps(old))
    read = gpureg.load_run(path).result
    assert (set(read), read["solver"]) == (HEAD, solver or "sgd")
    assert read["models"] == new["models"]
    assert (read["cv"], read["warnings"], read["left_out"]) == (new["cv"], [], [])
