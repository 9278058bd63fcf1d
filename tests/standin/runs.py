"""Runs of scikit-learn's tests in a process of their own, and what they are compared with."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import sklearn

from gpureg.backend import cuda_unusable

ROOT = Path(sklearn.__file__).parent
HERE = Path(__file__).parent
VERSION = "1.9.1"  # whose tests the lists are about


@dataclass(frozen=True)
class Outcomes:
    """What became of tests, by id: `passed`, `failed` with the text of the failure, and how many were `skipped`."""

    passed: frozenset[str]
    failed: dict[str, str]
    skipped: int


def run(which: str, files: Sequence[str], folder: Path, *, only: str = "", arrays: bool = False) -> Outcomes:
    """Run the tests of `files` below scikit-learn's folder with the classes `which` in the place of its own.

    `only`: pytest's -k. `arrays`: whether those of other namespaces take part.
    """
    return _run(which, files, folder, ["-k", only] if only else [], {"SCIPY_ARRAY_API": "1"} if arrays else {})


def again(which: str, tests: Iterable[str], folder: Path) -> Outcomes:
    """Run the tests of these ids, as far as there are such with the classes `which`."""
    ids = sorted(tests)
    (folder / "ids.txt").write_text("\n".join(ids), encoding="utf-8")
    files = dict.fromkeys(test.partition("::")[0] for test in ids)
    return _run(which, list(files), folder, [], {"GPUREG_STANDIN_ONLY": str(folder / "ids.txt")})


def _run(which: str, files: Sequence[str], folder: Path, options: list[str], variables: dict[str, str]) -> Outcomes:
    assert sklearn.__version__ == VERSION, f"these lists are of scikit-learn {VERSION}: make them anew"
    report = folder / f"{which}.json"
    report.unlink(missing_ok=True)
    environment = {name: value for name, value in os.environ.items() if name != "SCIPY_ARRAY_API"} | {
        "GPUREG_STANDIN": which,
        "GPUREG_STANDIN_REPORT": str(report),
        "MPLBACKEND": "Agg",
        "PYTHONPATH": os.pathsep.join([str(HERE.parent), os.environ.get("PYTHONPATH", "")]),
        **variables,
    }
    if cuda_unusable() is not None:
        environment["GPUREG_STANDIN_NO_CUPY"] = "1"
    arguments = ["-p", "standin.substitute", "-p", "no:cacheprovider", "-c", os.devnull, "--rootdir", str(ROOT)]
    arguments += ["-q", "--disable-warnings", "--tb=short", *options]
    command = [sys.executable, "-m", "pytest", *arguments, *(str(ROOT / name) for name in files)]
    done = subprocess.run(command, env=environment, cwd=folder, capture_output=True, text=True)
    assert report.exists(), done.stdout[-4000:] + done.stderr[-4000:]
    assert done.returncode in (0, 1, 5), done.stdout[-4000:] + done.stderr[-4000:]  # 5: none of the ids is there
    return read(json.loads(report.read_text(encoding="utf-8")))


def read(report: dict[str, Any]) -> Outcomes:
    """The outcomes of a report."""
    own = {test: (outcome, text) for test, (outcome, text) in report.items()}
    return Outcomes(
        frozenset(test for test, (outcome, _) in own.items() if outcome == "passed"),
        {test: text for test, (outcome, text) in own.items() if outcome == "failed"},
        sum(outcome == "skipped" for outcome, _ in own.values()),
    )


def left_out(path: Path, module: str) -> dict[str, str]:
    """The tests of a module on a list and the reason of each: `# reason` stands above its tests, one a line."""
    found: dict[str, str] = {}
    reason = ""
    for line in path.read_text(encoding="utf-8").splitlines():
        if line.startswith("# "):
            reason = line[2:]
        elif line:
            assert reason, f"{line} has no reason"
            test = f"{module}::{line}"
            assert test not in found, f"{line} is listed twice"
            found[test] = reason
    return found


def differences(outcomes: Outcomes, listed: Iterable[str]) -> list[str]:
    """What is wrong with a list: tests that fail and are not on it, and tests on it that do not fail."""
    failing, expected = set(outcomes.failed), set(listed)
    more = [f"fails: {test}\n{outcomes.failed[test][-600:]}" for test in sorted(failing - expected)]
    return more + [f"is left out, and does not fail: {test}" for test in sorted(expected - failing)]
