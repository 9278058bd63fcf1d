"""The report's softmax job written the report's way: plain NumPy, float64, one λ after the other. It prints the losses.

python bench/baselines/report_way.py [--l2 0,2] [--max-steps N]
"""

from __future__ import annotations

import argparse
import json
import time

import numpy as np

import gpureg


def load() -> tuple[np.ndarray, ...]:
    """Images as the report has them: (x - 127.5) / 127.5 and a column of ones; labels one-hot."""
    data = gpureg.load_dataset("mnist")
    X, V = (
        np.hstack([(np.asarray(x, np.float64) - 127.5) / 127.5, np.ones((len(x), 1))])
        for x in (data.X_train, data.X_val)
    )
    return X, np.eye(10)[data.y_train], V, np.eye(10)[data.y_val]


def softmax(X: np.ndarray, W: np.ndarray) -> np.ndarray:
    """Probabilities `(N, K)`."""
    e = np.exp(X @ W)
    return e / e.sum(axis=1, keepdims=True)


def loss(y: np.ndarray, p: np.ndarray) -> float:
    """Mean cross-entropy in nats."""
    return float(-(y * np.log(p)).sum(axis=1).mean())


def accuracy(y: np.ndarray, p: np.ndarray) -> float:
    """Share of rows whose largest probability is the label's."""
    return float((p.argmax(axis=1) == y.argmax(axis=1)).mean())


def train(X: np.ndarray, Y: np.ndarray, V: np.ndarray, T: np.ndarray, l2: float, max_steps: int) -> dict:
    """The report's loop: batches gathered by index, an evaluation five times an epoch, early stopping."""
    W, B, lr, random = np.zeros((X.shape[1], 10)), 128, 0.01, np.random.RandomState(0)
    b, step, lowest, waited = len(X) // B, 0, np.inf, 0
    for _ in range(50):
        indices = list(range(len(X)))
        random.shuffle(indices)
        for i in range(b):
            batch = indices[i * B : (i + 1) * B]
            x, y = X[batch], Y[batch]
            p = softmax(x, W)
            loss(y, p)
            W = W - lr * (-x.T @ (y - p) / B + 2 * l2 * W)
            if step % (b // 5) == 0:
                q = softmax(V, W)
                val = loss(T, q)
                accuracy(T, q), accuracy(Y, softmax(X, W))
                waited = 0 if val < lowest else waited + 1
                lowest = min(val, lowest)
                if waited == 10:
                    return {"l2": l2, "steps": step + 1, "val_loss": loss(T, softmax(V, W))}
            step += 1
            if step == max_steps:
                return {"l2": l2, "steps": step, "val_loss": loss(T, softmax(V, W))}
    return {"l2": l2, "steps": step, "val_loss": loss(T, softmax(V, W))}


def main() -> None:
    """Time the training of each λ, and print one JSON line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--l2", default="0")
    parser.add_argument("--max-steps", type=int, default=10**9)
    options = parser.parse_args()
    arrays = load()
    begun = time.perf_counter()
    runs = [train(*arrays, float(l2), options.max_steps) for l2 in options.l2.split(",")]
    print(json.dumps({"seconds": time.perf_counter() - begun, "runs": runs}))


if __name__ == "__main__":
    main()
