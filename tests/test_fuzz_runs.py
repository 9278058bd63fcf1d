"""Run directories and checkpoints with something changed in them: read as they should be, or refused in one message.

Seeded: a case that fails is found again by its number. A mutation may leave a run that is valid; what must never happen
is an error that is not gpureg's own.
"""

from __future__ import annotations

import json
import warnings
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fuzzing import Arrays, mutated_arrays, mutated_bytes, mutated_json
from resuming import DATA, SWEEP, Memory
from synthetic_runs import synthetic_result

from gpureg.config import DataConfig, FitConfig
from gpureg.errors import GpuregError
from gpureg.figures.choice import default_figures, draw
from gpureg.fitting.entry import Hooks, run_fit
from gpureg.fitting.resume import unpack
from gpureg.storage.checkpoint import checkpoint_bytes, parse_checkpoint
from gpureg.storage.directory import Run, load_run
from gpureg.storage.encoding import npz_bytes, parse_npz, parse_safetensors, safetensors_bytes

pytestmark = pytest.mark.filterwarnings("ignore")
BLOCKS = [pytest.param(block, marks=pytest.mark.long if block else ()) for block in range(100)]
CASES = 200  # of a block
DRAWN = 10  # every tenth run is drawn too, which takes longer than all else
FILES = ["config.toml", "environment.json", "history.npz", "model.safetensors", "result.json"]


def used(run: Run, drawn: bool) -> None:
    """What reads a run, and must find in it all that it needs."""
    if run.model.coef.shape[2] == 16:
        run.model.predict_proba(np.zeros((2, 16)))
    run.model.to_sklearn()
    for name in default_figures([run]) if drawn else ():
        draw(name, [run], None)


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return synthetic_result(l2=(0.0, 0.5), stops=(60, 33)).save(tmp_path_factory.mktemp("saved") / "run")


def mutate_file(path: Path, rng: np.random.Generator) -> None:
    """One of a run's files, its structure kept or not."""
    content, structured = path.read_bytes(), rng.random() < 0.7
    if structured and path.suffix == ".json":
        content = json.dumps(mutated_json(json.loads(content), rng)).encode()
    elif structured and path.suffix == ".npz":
        content = npz_bytes(mutated_arrays(parse_npz(content, path, ""), rng))
    elif structured and path.suffix == ".safetensors":
        tensors, texts = parse_safetensors(content, path, "")
        if rng.random() < 0.5:
            tensors = with_a_safe_type(mutated_arrays(tensors, rng), tensors)
        else:
            texts = {name: json.dumps(value) for name, value in dict(mutated_json(texts, rng) or {}).items()}
        content = safetensors_bytes(tensors, texts)
    else:
        content = mutated_bytes(content, rng)
    path.write_bytes(content)


def with_a_safe_type(tensors: Arrays, before: Arrays) -> Arrays:
    """safetensors itself holds no texts and dates."""
    return {
        name: array if array.dtype.kind in "fiub" else before.get(name, array.view("i1"))
        for name, array in tensors.items()
    }


@pytest.mark.parametrize("block", BLOCKS)
def test_run_directories(block: int, saved: Path, tmp_path: Path) -> None:
    files = {name: (saved / name).read_bytes() for name in FILES}
    for number in range(CASES * block, CASES * (block + 1)):
        rng = np.random.default_rng([1, number])
        for name, content in files.items():
            (tmp_path / name).write_bytes(content)
        mutate_file(tmp_path / FILES[rng.integers(len(FILES))], rng)
        try:
            used(load_run(tmp_path), number % DRAWN == 0)
        except GpuregError as error:
            assert str(error)  # noqa: PT017
        except Exception as error:
            raise AssertionError(f"case {number}") from error


@pytest.fixture(scope="module")
def checkpoints() -> list[tuple[FitConfig, Arrays, dict[str, Any]]]:
    """Of fits that stopped somewhere: in a stage, between two, in a refit; minibatches and to the optimum."""
    found = []
    for options, boundary in (
        (SWEEP | {"keep": "best", "epochs": 8}, 5),
        (SWEEP | {"cv": 3, "memory": 150_000, "epochs": 4}, 9),
        (
            {"l2": (0.0, 0.0), "lr": (0.01, 1e308), "epochs": 6, "batch_size": 20, "dtype": "float64", "solver": "sgd"},
            3,
        ),
        ({"solver": "lbfgs", "l2": (0.1, 1e-4), "dtype": "float64", "cv": 2}, 4),
        ({"solver": "lbfgs", "l2": (0.1, 1e-4), "dtype": "float64", "task": "logistic"}, 12),
    ):
        config, keeper, asked = FitConfig(**options), Memory(), iter([False] * boundary)
        with warnings.catch_warnings(action="ignore"):
            run_fit(DATA[config.task], config, Hooks(should_stop=partial(next, asked, True), keeper=keeper))
        assert keeper.last is not None
        arrays, meta = keeper.last
        found.append((config, arrays, json.loads(json.dumps(meta, default=lambda value: value.item()))))
    return found


@pytest.mark.parametrize("block", BLOCKS)
def test_checkpoints(block: int, checkpoints: list[tuple[FitConfig, Arrays, dict[str, Any]]], tmp_path: Path) -> None:
    for number in range(CASES * block, CASES * (block + 1)):
        rng = np.random.default_rng([2, number])
        config, arrays, meta = checkpoints[rng.integers(len(checkpoints))]
        if rng.random() < 0.6:
            arrays = mutated_arrays(arrays, rng)
        else:
            meta = mutated_json(meta, rng)
        try:
            again = unpack(*parse_checkpoint(checkpoint_bytes(arrays, meta), tmp_path))
            FitConfig.from_dict(again.meta["config"])
            DataConfig.from_dict(again.meta.get("options", {}))
            run_fit(DATA[config.task], config, Hooks(), saved=again)
        except GpuregError as error:
            assert str(error)  # noqa: PT017
        except Exception as error:
            raise AssertionError(f"case {number}") from error
