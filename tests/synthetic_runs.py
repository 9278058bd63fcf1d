"""Small runs for the tests of run directories, figures and the page: a tiny NumPy training loop."""

from __future__ import annotations

import math

import numpy as np

from gpureg.fitting.results import CvRow, FitResult, ModelResult
from gpureg.history import History
from gpureg.model.linear import LinearModel


def synthetic_data(n=240, side=4, classes=3, seed=0):
    """`n` noisy images of `side` × `side` pixels around one template a class."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, classes, n)
    templates = rng.uniform(-1, 1, (classes, side * side))
    return templates[labels] + rng.normal(0, 0.8, (n, side * side)), labels


def _softmax(logits):
    shifted = np.exp(logits - logits.max(axis=1, keepdims=True))
    return shifted / shifted.sum(axis=1, keepdims=True)


def _scores(X, y, W):
    p = _softmax(X @ W)
    return float(-np.log(p[np.arange(len(y)), y]).mean()), float((p.argmax(axis=1) == y).mean())


def _one_model(l2, stop, steps=60, every=4, side=4, classes=3):
    X, y = synthetic_data(side=side, classes=classes)
    X, V, y, v = X[:160], X[160:], y[:160], y[160:]
    rng, W = np.random.default_rng(1), np.zeros((side * side, classes))
    step_loss = np.full(steps, np.nan)
    evaluations = np.full((-(-steps // every), 3), np.nan)
    for s in range(stop):
        rows = rng.integers(0, 160, 16)
        residual = _softmax(X[rows] @ W)
        step_loss[s] = -np.log(residual[np.arange(16), y[rows]]).mean()
        residual[np.arange(16), y[rows]] -= 1
        W -= 0.1 * (X[rows].T @ residual / 16 + 2 * l2 * W)
        if s % every == 0:
            (vl, va), (_, ta) = _scores(V, v, W), _scores(X, y, W)
            evaluations[s // every] = vl, va, ta
    return W, step_loss, evaluations, _scores(X, y, W), _scores(V, v, W)


def synthetic_result(l2=(0.0,), stops=None, task="softmax", cv=False, seconds=0.5, config=None, dataset="synthetic"):
    """A FitResult of one model per λ; model l stops after `stops[l]` of 60 steps, and is NaN from there on."""
    stops = stops or [60] * len(l2)
    fitted = [_one_model(value, stop) for value, stop in zip(l2, stops, strict=True)]
    L, K, D = len(l2), 3, 16
    steps = np.stack([f[1] for f in fitted], axis=1)
    evaluations = np.stack([f[2] for f in fitted], axis=2)
    coef = np.stack([f[0].T for f in fitted])
    if task == "logistic":
        coef, K = coef[:, :1], 1
    models = tuple(
        ModelResult(
            l2=value, steps=stop, stopped_epoch=None if stop == 60 else stop // 10,
            stop_reason="max_epochs" if stop == 60 else "patience",
            train_loss=f[3][0], val_loss=f[4][0], train_accuracy=f[3][1], val_accuracy=f[4][1],
            weight_norm_sq=float((f[0] ** 2).sum()), lr=0.1,
        )
        for value, stop, f in zip(l2, stops, fitted, strict=True)
    )  # fmt: skip
    history = History(
        step_loss=steps, eval_step=np.arange(0, 60, 4), val_loss=evaluations[:, 0], val_accuracy=evaluations[:, 1],
        train_accuracy=evaluations[:, 2], l2=np.array(l2, float), lr=np.full(L, 0.1), fold=np.full(L, -1),
        seed=np.full(L, -1),
    )  # fmt: skip
    model = LinearModel(
        task, (2, 3) if task == "logistic" else (0, 1, 2), coef, np.zeros((L, K)), np.zeros(D), np.ones(D),
        np.array(l2, float),
    )  # fmt: skip
    rows = tuple(CvRow(m.l2, m.val_loss, 0.02 + 0.01 * i, 5) for i, m in enumerate(models)) if cv else None
    best = int(np.argmin([math.inf if m.val_loss is None else m.val_loss for m in models]))
    return FitResult(
        task=task, dataset=dataset, device="cpu", device_requested="auto", backend="numpy", dtype="float64", seed=0,
        n_train=160, n_val=80, n_features=D, classes=model.classes, seconds=seconds, models=models, history=history,
        model=model, selected=best if L > 1 else None, cv=rows,
        config=config or {"task": task, "dataset": dataset, "l2": list(l2), "shuffle": True, "patience": None},
        environment={"python": "3", "numpy": np.__version__},
    )  # fmt: skip


def save_run(result, directory, force=False):
    return result.save(directory, force=force)
