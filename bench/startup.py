"""How long `gpureg --help` and `--version` take, compared with importing only typer and rich; and after what time the
progress of `gpureg train` is on the screen, in a terminal.

python bench/startup.py [--rounds 20] [--write]
"""

from __future__ import annotations

import argparse
import os
import pty
import statistics
import subprocess
import sys
import tempfile
import time

from timing import busy, say, write

COMMANDS = {
    "import typer, rich": [sys.executable, "-c", "import typer, rich"],
    "import typer.rich_utils": [
        sys.executable,
        "-c",
        "import typer.rich_utils",
    ],  # the rich that its help is drawn with
    "gpureg --help": [sys.executable, "-m", "gpureg_cli", "--help"],
    "gpureg train --help": [sys.executable, "-m", "gpureg_cli", "train", "--help"],
    "gpureg --version": [sys.executable, "-m", "gpureg_cli", "--version"],
}

FIRST_LINE = "gpureg train, first line"
TRAIN = [sys.executable, "-m", "gpureg_cli", "train", "--dataset", "digits", "--solver", "lbfgs", "--max-iter", "1"]


def until_shown(folder: str) -> float:
    """Seconds from the start of `gpureg train` in a terminal to the first line of its progress."""
    ours, its = pty.openpty()
    begun, shown = time.perf_counter(), b""
    terminal = os.environ | {"TERM": "xterm", "COLUMNS": "80"}
    with subprocess.Popen([*TRAIN, "--out", f"{folder}/run"], stdout=its, stderr=its, stdin=its, env=terminal) as train:
        os.close(its)
        while b"preparing the data" not in shown:
            shown += os.read(ours, 1 << 12)
        seconds = time.perf_counter() - begun
        train.kill()
    os.close(ours)
    return seconds


def main() -> None:
    """Time the commands in turn, and print medians and their ratio to the import."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--write", action="store_true")
    options = parser.parse_args()
    note = busy()
    if note:
        say(note)
    times: dict[str, list[float]] = {name: [] for name in (*COMMANDS, FIRST_LINE)}
    for _ in range(options.rounds):
        for name, command in COMMANDS.items():
            begun = time.perf_counter()
            subprocess.run(command, check=True, capture_output=True)
            times[name].append(time.perf_counter() - begun)
        with tempfile.TemporaryDirectory() as folder:
            times[FIRST_LINE].append(until_shown(folder))
    base = statistics.median(times["import typer, rich"])
    rows = {name: round(statistics.median(values), 4) for name, values in times.items()}
    for name, seconds in rows.items():
        print(f"{name:24s} {seconds * 1e3:6.0f} ms (least {min(times[name]) * 1e3:.0f})  x {seconds / base:.2f}")
    if options.write:
        say(f"written to {write('startup', {'busy': note, 'median_s': rows})}")


if __name__ == "__main__":
    main()
