"""The command line as the tests run it: in this process, or as the installed script where its streams matter."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
from gpureg_cli.main import app
from typer.testing import CliRunner, Result

SCRIPT = Path(sys.executable).with_name("gpureg")


def invoke(*arguments: object) -> Result:
    """The command in this process; `stdout`, `stderr`, `exit_code`."""
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def environment(**changes: str) -> dict[str, str]:
    """The environment of a script that is run: nothing of the caller's that changes output, and one BLAS thread."""
    own = ("NO_COLOR", "FORCE_COLOR", "COLUMNS", "PYTHONUNBUFFERED")
    kept = {name: value for name, value in os.environ.items() if name not in own}
    return kept | {"OPENBLAS_NUM_THREADS": "1"} | changes


def script(*arguments: object, cwd: Path, **env: str) -> subprocess.CompletedProcess[str]:
    """The installed script, to its end."""
    command = [str(SCRIPT), *(str(argument) for argument in arguments)]
    return subprocess.run(
        command, cwd=cwd, env=environment(**env), capture_output=True, errors="surrogateescape", timeout=120
    )


def started(*arguments: object, cwd: Path, **env: str) -> subprocess.Popen[str]:
    """The installed script, running."""
    command = [str(SCRIPT), *(str(argument) for argument in arguments)]
    # a shell's background jobs ignore Ctrl-C, and so would the children of a test run that is one
    ignored = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        return subprocess.Popen(
            command, cwd=cwd, env=environment(**env), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
    finally:
        signal.signal(signal.SIGINT, ignored)


def strict_json(text: str) -> Any:
    """One JSON value and nothing else, without NaN and infinities."""

    def refuse(name: str) -> None:
        raise AssertionError(f"{name} in JSON")

    return json.loads(text, parse_constant=refuse)


def left_in(folder: Path) -> list[str]:
    """Everything in a folder, hidden files too."""
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def write_flowers(path: Path, rows: int = 120) -> Path:
    """A CSV the size of the iris data: four features, three classes in words, and a column of weights."""
    random = np.random.default_rng(0)
    names = ("setosa", "versicolor", "virginica")
    lines = ["a,b,c,d,weight,species"]
    for row in range(rows):
        kind = row % 3
        values = random.normal(size=4) + np.array([2.0 * kind, -kind, 0.5 * kind, kind == 1])
        lines.append(",".join([*(f"{value:.3f}" for value in values), str(1 + row % 2), names[kind]]))
    path.write_text("\n".join(lines) + "\n")
    return path


def write_npz(path: Path, rows: int = 150, features: int = 5, classes: int = 2) -> Path:
    """Gaussian blobs; nothing heavy is imported to read them."""
    random = np.random.default_rng(1)
    y = np.arange(rows) % classes
    np.savez(path, X=random.normal(size=(rows, features)) + random.normal(size=(classes, features))[y], y=y)
    return path


def same_run(one: Path, other: Path) -> None:
    """The histories and models of two run directories, bit for bit."""
    for name in ("history.npz", "model.safetensors"):
        assert (one / name).read_bytes() == (other / name).read_bytes(), name
