"""scikit-learn's way through λ: one LogisticRegression (lbfgs) after the other, C = 1 / (2 λ n), on the report's data.

    python bench/baselines/sklearn_way.py --lambdas 2,0.2,0.02,0.002

It goes to the optimum of the same cost (the bias unpenalised), where the report stops early: another result, and what
a user of scikit-learn would run.
"""

from __future__ import annotations

import argparse
import json
import time
import warnings

import numpy as np
from sklearn.linear_model import LogisticRegression

import gpureg


def main() -> None:
    """Fit, and print one JSON line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--lambdas", required=True)
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    data = gpureg.load_dataset("mnist")
    X, V = ((x.astype(np.float32) - 127.5) / 127.5 for x in (data.X_train, data.X_val))
    begun = time.perf_counter()
    runs = []
    for l2 in map(float, options.lambdas.split(",")):
        model = LogisticRegression(C=1 / (2 * l2 * len(X)) if l2 else np.inf, max_iter=100).fit(X, data.y_train)
        runs.append({"l2": l2, "steps": int(model.n_iter_[0]), "accuracy": float(model.score(V, data.y_val))})
    print(json.dumps({"seconds": time.perf_counter() - begun, "runs": runs}))


if __name__ == "__main__":
    main()
