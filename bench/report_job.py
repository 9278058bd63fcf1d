"""The report's softmax job as whole processes, side by side: gpureg, plain NumPy the report's way, PyTorch.

    python bench/report_job.py [--rounds 5] [--write]

7,800 steps and 252 evaluations on 30,000 images; loading the data and importing the libraries is included.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from timing import Variant, alternate, busy, say, table, write

BASELINES = Path(__file__).parent / "baselines"


def main() -> None:
    """Time, print, and write with --write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--write", action="store_true")
    options = parser.parse_args()
    note = busy()
    if note:
        say(note)
    with TemporaryDirectory() as folder:
        ours = [
            Variant(
                f"gpureg train --dtype {dtype}",
                [
                    sys.executable,
                    "-m",
                    "gpureg_cli",
                    "train",
                    "--json",
                    "--quiet",
                    "--force",
                    "--out",
                    f"{folder}/{dtype}",
                    "--dtype",
                    dtype,
                ],
            )
            for dtype in ("float32", "float64")
        ]
        plain = Variant("plain NumPy, float64, the report's way", [sys.executable, str(BASELINES / "report_way.py")])
        torch = Variant("PyTorch nn.Linear and SGD, float32", [sys.executable, str(BASELINES / "torch_way.py")])
        variants = [*ours, plain, torch]
        alternate(variants, options.rounds)
    print("whole processes; x = times gpureg's float32")
    whole = table(variants, ours[0])
    print("training alone")
    inner = table(variants, ours[0], inner=True)
    losses = {
        v.name: v.printed["models"][0]["val_loss"] if "models" in v.printed else v.printed["runs"][0]["val_loss"]
        for v in variants
    }
    print("validation losses:", losses)
    content = {"busy": note, "processes": whole, "training": inner, "val_loss": losses}
    if options.write:
        say(f"written to {write('report_job', content)}")


if __name__ == "__main__":
    main()
