"""The wheel, installed into an empty environment without the repository, is the whole program."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest
from commands import environment, strict_json

ROOT = Path(__file__).resolve().parent.parent


def run(*command: object, cwd: Path) -> str:
    kept = {name: value for name, value in environment().items() if name != "PYTHONPATH"}
    done = subprocess.run([str(part) for part in command], cwd=cwd, env=kept, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout


@pytest.mark.long
def test_the_wheel_runs_without_the_repository(tmp_path: Path) -> None:
    source, wheels, home = tmp_path / "source", tmp_path / "wheels", tmp_path / "home"
    left = shutil.ignore_patterns(".venv", ".git", "build", "dist", "*.egg-info", "__pycache__", "runs", ".*_cache")
    shutil.copytree(ROOT, source, ignore=left)
    home.mkdir()
    run(sys.executable, "-m", "build", "--wheel", "--outdir", wheels, source, cwd=tmp_path)
    shutil.rmtree(source)
    (wheel,) = wheels.glob("gpureg-*.whl")
    venv.create(tmp_path / "env", with_pip=True)
    scripts = tmp_path / "env" / ("Scripts" if os.name == "nt" else "bin")
    run(scripts / "python", "-m", "pip", "install", "-q", "-c", ROOT / "constraints.txt", wheel, cwd=home)
    program = scripts / "gpureg"
    where = run(scripts / "python", "-c", "import gpureg, gpureg_cli; print(gpureg.__file__)", cwd=home)
    assert Path(where.strip()).is_relative_to(tmp_path / "env")
    assert not Path(where.strip()).is_relative_to(sysconfig.get_paths()["purelib"])
    result = strict_json(run(program, "train", "--dataset", "digits", "--epochs", 3, "--out", "r", "--json", cwd=home))
    assert result["dataset"] == "digits"
    run(program, "predict", "r", "digits", "--out", "p.csv", cwd=home)
    assert len((home / "p.csv").read_text().splitlines()) == result["n_val"] + 1
    drawn = run(program, "plot", "r", cwd=home).split()
    assert drawn
    assert all((home / path).stat().st_size > 1000 for path in drawn)
    assert strict_json(run(program, "info", "--json", cwd=home))["gpureg"] == result_version(scripts, home)


def result_version(scripts: Path, home: Path) -> str:
    code = "from importlib.metadata import version; print(version('gpureg'))"
    return run(scripts / "python", "-c", code, cwd=home).strip()
