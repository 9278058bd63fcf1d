"""The same job by others on the same card: PyTorch (eager, compiled, CUDA graphs) and, where it can be had, cuML."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
from ours import Job

MODES = ("eager", "compiled", "graphs")


def torch_job(job: Job, mode: str, device: str = "cuda", epochs: int | None = None) -> dict[str, Any]:
    """PyTorch's `nn.Linear` and SGD on the report's job, from data in host memory, evaluations included.

    One gather an epoch, as gpureg does it; an evaluation of both sets every b // 5 steps, read once an epoch.
    `compiled` is `torch.compile` of the step; `graphs` replays a captured step.
    """
    import torch

    torch.manual_seed(0)
    data, b, rounds = job.data(), job.n // job.batch, job.epochs if epochs is None else epochs
    wait = torch.cuda.synchronize if device == "cuda" else lambda: None

    def run(rounds: int) -> float:
        begun = time.perf_counter()
        X, V = (torch.as_tensor(a, device=device).float() / 127.5 - 1.0 for a in (data.X_train, data.X_val))
        y, v = (torch.as_tensor(a, device=device) for a in (data.y_train, data.y_val))
        step = _torch_step(job, mode, device)
        rng = np.random.default_rng(0)
        for _ in range(rounds):
            index = torch.as_tensor(rng.permutation(job.n)[: b * job.batch], device=device)
            batches, labels = X[index].view(b, job.batch, -1), y[index].view(b, job.batch)
            kept = []
            for number in range(b):
                kept.append(step.train(batches[number], labels[number]))
                if number % max(1, b // 5) == 0:
                    kept.append(step.evaluate(X, y)[1])
                    kept.extend(step.evaluate(V, v))
            torch.stack(kept).cpu()  # the epoch's one transfer
        wait()
        return time.perf_counter() - begun

    run(1)  # compiles
    taken = sorted(run(rounds) for _ in range(3))
    return {"peer": f"PyTorch {torch.__version__}", "mode": mode, "seconds": taken[1], "all": taken}


class _torch_step:  # noqa: N801  (a closure with two entries)
    """A training step and an evaluation in one of the modes."""

    def __init__(self, job: Job, mode: str, device: str) -> None:
        import torch

        self._model = torch.nn.Linear(job.features, job.classes, device=device)
        optimizer = torch.optim.SGD(self._model.parameters(), lr=0.01)

        def train(X: Any, y: Any) -> Any:
            optimizer.zero_grad(set_to_none=False)
            loss = torch.nn.functional.cross_entropy(self._model(X), y)
            loss.backward()
            optimizer.step()
            return loss.detach()

        self.train: Callable[[Any, Any], Any] = torch.compile(train) if mode == "compiled" else train
        if mode == "graphs":
            self.train = _captured(train, job, device)

    def evaluate(self, X: Any, y: Any) -> list[Any]:
        """Mean loss and accuracy, on the device."""
        import torch

        with torch.no_grad():
            logits = self._model(X)
            return [torch.nn.functional.cross_entropy(logits, y), (logits.argmax(1) == y).float().mean()]


def _captured(train: Callable[[Any, Any], Any], job: Job, device: str) -> Callable[[Any, Any], Any]:
    """The step as a CUDA graph: inputs are copied into fixed buffers, and one replay runs it."""
    import torch

    X = torch.zeros(job.batch, job.features, device=device)
    y = torch.zeros(job.batch, dtype=torch.long, device=device)
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):
            train(X, y)
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        loss = train(X, y)

    def replay(batch: Any, labels: Any) -> Any:
        X.copy_(batch)
        y.copy_(labels)
        graph.replay()
        return loss.clone()

    return replay


def cuml_job(job: Job, epochs: int | None = None) -> dict[str, Any]:
    """cuML's minibatch SGD on two of the classes: it has no softmax and makes no evaluations, so no ratio is given."""
    import cuml
    import cupy
    from cuml.linear_model import MBSGDClassifier

    data = job.data()
    chosen = data.y_train < 2
    X = data.X_train[chosen].astype(np.float32) / 127.5 - 1.0
    y = data.y_train[chosen].astype(np.float32)
    rounds = job.epochs if epochs is None else epochs

    def run() -> float:
        begun = time.perf_counter()
        model = MBSGDClassifier(
            loss="log",
            penalty="none",
            learning_rate="constant",
            eta0=0.05,
            epochs=rounds,
            batch_size=job.batch,
            tol=0.0,
        )
        model.fit(X, y)
        cupy.cuda.get_current_stream().synchronize()
        return time.perf_counter() - begun

    run()
    taken = sorted(run() for _ in range(3))
    return {"peer": f"cuML {cuml.__version__}", "samples": int(chosen.sum()), "seconds": taken[1], "all": taken}


def or_reason(work: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """What `work` found, or why it found nothing: a peer that is not there must not cost the other figures."""
    try:
        return work()
    except Exception as error:  # a peer may fail in any way
        return {"unavailable": f"{type(error).__name__}: {error}"}
