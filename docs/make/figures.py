"""`python docs/make/figures.py`: draw the figures of docs/ again, those of the tutorial by its own commands."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

import gpureg

DOCS = Path(__file__).resolve().parent.parent
FIGURES = DOCS / "figures"
TOLERANCE = 1e-8
GPUREG = Path(sys.executable).with_name("gpureg")


def of_the_tutorial(folder: Path) -> None:
    """Its first Python block and its commands up to the evaluation; the pictures as SVG if the command can."""
    text = (DOCS / "tutorial.md").read_text(encoding="utf-8")
    table = re.findall(r"```python\n(.*?)```", text, re.S)[0]
    subprocess.run([sys.executable, "-c", table], cwd=folder, check=True)
    for block in re.findall(r"```sh\n(.*?)```", text, re.S):
        for line in block.replace("\\\n", "").splitlines():
            _, command, *rest = shlex.split(line)
            if command in ("sweep-lambda", "plot", "evaluate"):
                form = ["--format", "svg"] if command == "plot" else []
                subprocess.run([str(GPUREG), command, *rest, *form], cwd=folder, check=True)
    shutil.copy(folder / "figures" / "path-score.svg", FIGURES / "wine-path-score.svg")
    shutil.copy(folder / "figures" / "confusion.png", FIGURES / "wine-confusion.png")


def of_the_certificate() -> None:
    """Objective and bound of a model on the digits, against its iterations."""
    import matplotlib

    matplotlib.use("agg")
    import matplotlib.pyplot as plt

    data = gpureg.load_dataset("digits")
    fit = gpureg.fit(data, solver="lbfgs", l2=1e-3, dtype="float64", tol=TOLERANCE)
    objective, bound = fit.history.objective[:, 0], fit.history.gap_bound[:, 0]
    lowest = objective[np.isfinite(objective)].min()
    plt.rcParams.update({"svg.fonttype": "path", "svg.hashsalt": "gpureg", "font.size": 10})
    figure, axes = plt.subplots(figsize=(6.4, 3.4), layout="constrained")
    axes.semilogy(bound, color="#3b5bdb", label="bound on the gap")
    gap = np.where(objective - lowest > 1e-12, objective - lowest, np.nan)
    axes.semilogy(gap, color="#868e96", linestyle="--", label="objective above its lowest value")
    axes.axhline(TOLERANCE, color="#212529", linewidth=0.8)
    axes.annotate("tolerance", (0, TOLERANCE), xytext=(0, 4), textcoords="offset points")
    axes.set(xlabel="iteration", ylabel="nats")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    figure.savefig(FIGURES / "certificate.svg", metadata={"Date": None})


def main() -> None:
    FIGURES.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        of_the_tutorial(Path(folder))
    of_the_certificate()


if __name__ == "__main__":
    main()
