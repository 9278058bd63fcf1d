"""`reproduce`: the report's runs, its nine figures, and one page that compares every printed number with the obtained
one.

Only missing runs are trained: a run below the output folder that the same version made with the same configuration is
reused.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

from gpureg.config import REPORT_LAMBDAS, DataConfig, FitConfig, joined
from gpureg.errors import RunError, named
from gpureg.storage.directory import Run, RunFolder, claim, load_run
from gpureg.version import __version__

SAME_RESULT = (
    "threads",
    "memory",
)  # options that change the time of a fit and at most the last bits of its numbers
# The report's data and protocol, written out in full, so that they do not depend on gpureg's defaults.
DATA = DataConfig("mnist", train_size=20_000, val_size=10_000)
BINARY_CLASSES = (2, 3)
PROTOCOL = FitConfig(
    solver="sgd",
    epochs=50,
    batch_size=128,
    seed=0,
    evals_per_epoch=5,
    patience=10,
    min_delta=0.0,
    keep="last",
    scale="pixels",
    penalize_bias=True,
)
RUNS = ("binary-no-shuffle", "binary-shuffle", "softmax")


@dataclass(frozen=True)
class Reproduction:
    """What `reproduce` wrote: the page, the Markdown, the figures' files; a `summary` in one sentence; `seconds` in
    all.
    """

    page: Path
    markdown: Path
    figures: tuple[Path, ...]
    summary: str
    seconds: float


def configurations(dtype: str, device: str, strict_device: bool, threads: int | None) -> dict[str, FitConfig]:
    """The configuration of each of the three runs; the softmax models of all λ are one batch. Raises UsageError."""
    base = replace(PROTOCOL, dtype=dtype, device=device, strict_device=strict_device, threads=threads)
    binary = replace(base, task="logistic", lr=(0.05,), l2=(0.0,))
    return {
        "binary-no-shuffle": replace(binary, shuffle=False),
        "binary-shuffle": replace(binary, shuffle=True),
        "softmax": replace(base, task="softmax", lr=(0.01,), l2=(0.0, *REPORT_LAMBDAS), shuffle=True),
    }


def data_of(config: FitConfig) -> DataConfig:
    """The data of a run: all classes for softmax, two of them for the binary task."""
    return replace(DATA, classes=BINARY_CLASSES) if config.loss.binary else DATA


def reproduce(
    out: str | Path,
    *,
    dtype: str = "float64",
    device: str = FitConfig.device,
    strict_device: bool = False,
    threads: int | None = None,
    tell: Callable[[str], None] | None = None,
) -> Reproduction:
    """Train what is missing, draw figures 1 to 9, write `out`/index.html and `out`/report.md.

    `tell(line)` is called with each line of progress. Raises UsageError for options that do not fit, DataError if MNIST
    is not available, DeviceError with `strict_device`, RunError if `out` can't be written.
    """
    begun = time.perf_counter()
    folder, hear = Path(out), tell or (lambda line: None)
    configs = configurations(dtype, device, strict_device, threads)
    earlier = {name: finished(folder / "runs" / name, config) for name, config in configs.items()}
    runs = {name: run for name, run in earlier.items() if run is not None}
    reused = set(runs)
    with ExitStack() as claims:  # of all folders before anything is trained, so that a refusal costs nothing
        places = {
            name: claims.enter_context(claim(folder / "runs" / name, force=True)) for name in RUNS if name not in reused
        }
        for name, config in configs.items():
            if name in reused:
                hear(f"{name}: exists already")
                continue
            hear(f"{name}: training {len(config.lambdas)} model{'s' if len(config.lambdas) > 1 else ''} in {dtype} ...")
            runs[name] = train_run(places[name], config)
            hear(f"{name}: done in {runs[name].result['seconds']:.1f} s")
    hear("drawing nine figures ...")
    return _write(folder, {name: runs[name] for name in RUNS}, reused, begun)


def finished(directory: Path, config: FitConfig) -> Run | None:
    """The run in `directory` if it is finished and this version made it with `config`; else None."""
    try:
        run = load_run(directory)
    except RunError:
        return None
    asked = joined(data_of(config), config).items()
    same = all(run.config.get(key) == value for key, value in asked if value is not None and key not in SAME_RESULT)
    whole = all(model.get("stop_reason") != "interrupted" for model in run.result["models"])
    return run if same and whole and run.environment.get("gpureg") == __version__ else None


def train_run(place: RunFolder, config: FitConfig) -> Run:
    """Fit `config` on MNIST, write the run directory (replacing one that does not match) and read it back."""
    from gpureg.data import load
    from gpureg.fitting.entry import fit

    data = load(data_of(config), task=config.task, seed=config.seed)
    return load_run(place.commit(fit(data, config).to_run(place.path)))


def _write(folder: Path, runs: dict[str, Run], reused: set[str], begun: float) -> Reproduction:
    from gpureg.figures import style
    from gpureg.report import numbers as report
    from gpureg.report import page
    from gpureg.storage.files import write_bytes

    behind = report.ReportRuns(*(runs[name] for name in RUNS))
    figures = report.report_figures(behind)
    try:
        files = tuple(
            path
            for figure in figures
            for path in style.save_figure(figure.figure, folder, f"figure-{figure.number}", ("svg", "png"))
        )
        seconds = time.perf_counter() - begun
        content = page.ReportPage(
            printed=tuple(report.printed_numbers(behind)),
            protocol=tuple(report.protocol_numbers(behind)),
            figures=tuple(figures),
            drawings=tuple(path.read_bytes() for path in files if path.suffix == ".svg"),
            runs=runs,
            reused=frozenset(reused),
            seconds=seconds,
        )
        write_bytes(folder / "index.html", page.html_page(content).encode())
        write_bytes(folder / "report.md", page.markdown(content).encode())
    except OSError as error:
        reason = error.strerror or error
        raise RunError(f"{folder} can't be written ({reason}); give another {named('out')}.") from error
    summary = f"{page.verdict(content)} {time.perf_counter() - begun:.1f} s in all."
    return Reproduction(folder / "index.html", folder / "report.md", files, summary, time.perf_counter() - begun)
