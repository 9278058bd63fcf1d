"""Timing commands side by side: in turn, several rounds, medians and ratios, with a warning if the machine is busy."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gpureg.environment import describe_environment

RESULTS = Path(__file__).parent / "results" / "cpu"


@dataclass
class Variant:
    """One way to do a job: its command, the wall times of its whole processes, what it printed last (one JSON
    object)."""

    name: str
    command: Sequence[str]
    scale: float = 1.0  # what is timed is a sample of the job; its time is multiplied by this
    seconds: list[float] = field(default_factory=list)
    inner: list[float] = field(default_factory=list)
    printed: dict[str, Any] = field(default_factory=dict)

    def run(self) -> None:
        """Once, as a whole process."""
        begun = time.perf_counter()
        done = subprocess.run(self.command, check=True, capture_output=True, text=True)
        self.seconds.append((time.perf_counter() - begun) * self.scale)
        self.printed = json.loads(done.stdout.strip().splitlines()[-1])
        self.inner.append(self.printed["seconds"] * self.scale)


def alternate(variants: Sequence[Variant], rounds: int) -> None:
    """Every variant once per round, in turn, so that a drift of the machine's speed meets all of them."""
    for number in range(rounds):
        for variant in variants:
            say(f"round {number + 1}/{rounds}: {variant.name}")
            variant.run()


def ratios(base: Variant, other: Variant, *, inner: bool = False) -> list[float]:
    """`other / base` round by round, as many rounds as both have."""
    pairs = zip(other.inner if inner else other.seconds, base.inner if inner else base.seconds, strict=False)
    return [a / b for a, b in pairs]


def table(variants: Sequence[Variant], base: Variant, *, inner: bool = False) -> list[dict[str, Any]]:
    """Median seconds and ratios to `base`, printed and returned."""
    rows = []
    for variant in variants:
        times = variant.inner if inner else variant.seconds
        found = ratios(base, variant, inner=inner)
        rows.append(
            {
                "variant": variant.name,
                "median_s": round(statistics.median(times), 3),
                "min_s": round(min(times), 3),
                "max_s": round(max(times), 3),
                "ratio": round(statistics.median(found), 2),
                "ratios": [round(ratio, 2) for ratio in found],
            }
        )
        row = rows[-1]
        print(
            f"{row['variant']:48s} {row['median_s']:9.2f} s  ({row['min_s']:.2f} to {row['max_s']:.2f})"
            f"  x {row['ratio']:.2f}"
        )
    return rows


def medians(
    calls: Mapping[str, Callable[[], object]],
    rounds: int,
    clock: Callable[[], float] = time.perf_counter,
    pick: Callable[[Sequence[float]], float] = statistics.median,
) -> dict[str, float]:
    """Median seconds of each call in this process, or what `pick` takes, in turn, after one of each to warm up."""
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for number in range(rounds + 1):
        for name, call in calls.items():
            begun = clock()
            call()
            if number:
                seconds[name].append(clock() - begun)
    return {name: pick(found) for name, found in seconds.items()}


def noted(part: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """What a part of a measurement finds; with a warning, and a note of it in what is found, if the machine is busy."""
    note = busy()
    if note is not None:
        say(f"warning: {note}")
    return part() | ({} if note is None else {"busy": note})


def busy() -> str | None:
    """A sentence if other processes use more than a twentieth of the processors, measured over half a second."""
    before, _ = _jiffies()
    time.sleep(0.5)
    after, cpus = _jiffies()
    used = (after - before) / os.sysconf("SC_CLK_TCK") / 0.5 / max(1, cpus)
    return f"other processes use {used:.0%} of the processors: these times are too long" if used > 0.05 else None


def _jiffies() -> tuple[int, int]:
    lines = Path("/proc/stat").read_text().splitlines()
    fields_ = [int(value) for value in lines[0].split()[1:]]
    return sum(fields_) - fields_[3] - fields_[4], sum(line.startswith("cpu") for line in lines) - 1


def write(name: str, content: dict[str, Any]) -> Path:
    """Keep results with the environment and the command that made them."""
    environment = describe_environment()
    for private in ("executable", "platform"):  # paths and kernel builds say nothing of a time
        environment.pop(private)
    RESULTS.mkdir(parents=True, exist_ok=True)
    path = RESULTS / f"{name}.json"
    command = "python " + " ".join(sys.argv)
    value = {"command": command, "environment": environment, **content}
    path.write_text(json.dumps(value, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return path


def written(name: str) -> dict[str, Any]:
    """The results that `write` has kept; nothing if there are none."""
    path = RESULTS / f"{name}.json"
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    return found


def say(line: str) -> None:
    """Progress."""
    print(line, file=sys.stderr, flush=True)
