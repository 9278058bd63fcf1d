"""The report's softmax job in PyTorch: nn.Linear and optim.SGD on the same batches and evaluations, float32, CPU.

    python bench/baselines/torch_way.py [--l2 2,0.2] [--max-steps N]

With several λ a ModuleList of heads is trained on the same batches, each with its own optimiser.
"""

from __future__ import annotations

import argparse
import json
import time

import numpy as np
import torch

import gpureg


def main() -> None:
    """Train, and print one JSON line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--l2", default="0")
    parser.add_argument("--max-steps", type=int, default=10**9)
    options = parser.parse_args()
    lambdas = [float(l2) for l2 in options.l2.split(",")]
    data = gpureg.load_dataset("mnist")
    X, V = (torch.from_numpy((x.astype(np.float32) - 127.5) / 127.5) for x in (data.X_train, data.X_val))
    y, t = torch.from_numpy(data.y_train), torch.from_numpy(data.y_val)
    begun = time.perf_counter()
    runs = train(X, y, V, t, lambdas, options.max_steps)
    print(json.dumps({"seconds": time.perf_counter() - begun, "runs": runs}))


def train(X: torch.Tensor, y: torch.Tensor, V: torch.Tensor, t: torch.Tensor, lambdas: list[float], most: int) -> list:
    """The report's protocol; a head that has stopped is trained no more."""
    heads = torch.nn.ModuleList([torch.nn.Linear(784, 10) for _ in lambdas])
    for parameter in heads.parameters():
        torch.nn.init.zeros_(parameter)
    # weight_decay adds wd * w to the gradient: the penalty λ Σ w² has 2 λ w
    optimisers = [
        torch.optim.SGD(h.parameters(), lr=0.01, weight_decay=2 * l2) for h, l2 in zip(heads, lambdas, strict=True)
    ]
    cross_entropy, random = torch.nn.CrossEntropyLoss(), np.random.RandomState(0)
    b, step = len(X) // 128, 0
    lowest, waited, stopped = [np.inf] * len(lambdas), [0] * len(lambdas), [0] * len(lambdas)
    for _ in range(50):
        order = np.arange(len(X))
        random.shuffle(order)
        batches = torch.from_numpy(order)
        for i in range(b):
            index = batches[i * 128 : (i + 1) * 128]
            x, labels = X[index], y[index]
            for h, head in enumerate(heads):
                if not stopped[h]:
                    optimisers[h].zero_grad()
                    cross_entropy(head(x), labels).backward()
                    optimisers[h].step()
            if step % (b // 5) == 0:
                with torch.no_grad():
                    for h, head in enumerate(heads):
                        if stopped[h]:
                            continue
                        logits = head(V)
                        val = float(cross_entropy(logits, t))
                        float((logits.argmax(1) == t).float().mean()), float((head(X).argmax(1) == y).float().mean())
                        waited[h] = 0 if val < lowest[h] else waited[h] + 1
                        lowest[h] = min(val, lowest[h])
                        if waited[h] == 10:
                            stopped[h] = step + 1
            step += 1
            if all(stopped) or step == most:
                return result(heads, V, t, lambdas, stopped, step)
    return result(heads, V, t, lambdas, stopped, step)


def result(
    heads: torch.nn.ModuleList, V: torch.Tensor, t: torch.Tensor, lambdas: list, stopped: list, step: int
) -> list:
    """Steps and validation loss of every head."""
    with torch.no_grad():
        losses = [float(torch.nn.functional.cross_entropy(head(V), t)) for head in heads]
    return [{"l2": l2, "steps": s or step, "val_loss": v} for l2, s, v in zip(lambdas, stopped, losses, strict=True)]


if __name__ == "__main__":
    main()
