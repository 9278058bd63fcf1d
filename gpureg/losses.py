"""The losses: what a row of logits costs, and all that the rest of gpureg needs to know about it.

A loss is a value. Model, kernels, conditioning, Hessian, data and fitting ask the value; none branches on its name. An
implementation of the kernels declares the losses that it supports and refuses the others; `kernels.reference` takes any
value of this form, so a new loss is one class.

Everything here is the specification, in the plain array API. Logits are `(B, L, K)`, labels `y (B,)` are class indices,
losses are in nats.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Protocol

Array = Any  # as in gpureg.types, which is not imported here: the command line reads the names while --help stays quick


class Loss(Protocol):
    """A loss of L models with K columns each."""

    @property
    def name(self) -> str:
        """The name that `--task` takes."""
        ...

    @property
    def binary(self) -> bool:
        """Whether it takes exactly two classes, the positive one first (class 0), and K = 1 column."""
        ...

    @property
    def shift_invariant(self) -> bool:
        """Whether the same number added to all K logits changes nothing, so that residuals sum to 0 over classes."""
        ...

    @property
    def rate(self) -> float:
        """The default learning rate of minibatch gradient descent."""
        ...

    def columns(self, classes: int) -> int:
        """K, the number of columns of a model with that many classes."""
        ...

    def curvature(self, K: int) -> float:
        """The second derivative in one logit at logits of 0, by which conditioning scales."""
        ...

    def constant(self, shares: Iterable[float]) -> float:
        """The mean loss of the best constant predictor, in nats, for class shares that sum to 1."""
        ...

    def value(self, xp: Any, logits: Array, y: Array) -> tuple[Array, Array, Array]:
        """Loss `(B, L)`, hit `(B, L)` (whether the label is predicted) and residual `(B, L, K)`, the derivative of the
        loss in the logits.
        """
        ...

    def second(self, xp: Any, logits: Array, y: Array) -> tuple[Array, Array | None]:
        """The Hessian in the logits as `diag(d) - f f'`: `d (B, L, K)`, and `f (B, L, K)` or None where it is 0."""
        ...

    def probabilities(self, xp: Any, logits: Array) -> Array:
        """Probabilities `(..., classes)` of logits `(..., K)`; no positive number is ever exponentiated."""
        ...

    def log_probabilities(self, xp: Any, logits: Array) -> Array:
        """Logarithms of the probabilities `(..., classes)`, in nats, accurate even if these are tiny."""
        ...

    def predict(self, xp: Any, logits: Array) -> Array:
        """Class indices `(...)` of logits `(..., K)`."""
        ...


class Entropic:
    """A loss whose residuals are probabilities less the target, so that its conjugate is their negative entropy: what
    it costs to change the probabilities from p to q is the Kullback-Leibler divergence of q from p.
    """


@dataclass(frozen=True)
class Softmax(Entropic):
    """Cross-entropy of a softmax: `loss = log Σ_k exp(z_k - m) - (z_y - m)`, `m = max_k z_k`."""

    name: str = "softmax"
    binary: bool = False
    shift_invariant: bool = True
    rate: float = 0.01

    def columns(self, classes: int) -> int:
        """One for each class."""
        return classes

    def curvature(self, K: int) -> float:
        """`1/K`: of the order of `p (1 - p)` at `p = 1/K`."""
        return 1.0 / K

    def constant(self, shares: Iterable[float]) -> float:
        """The entropy of the shares."""
        return _entropy(shares)

    def value(self, xp: Any, logits: Array, y: Array) -> tuple[Array, Array, Array]:
        """See the protocol: `softmax(z) - onehot(y)` is the residual, and its rows sum to 0."""
        shifted = logits - xp.max(logits, axis=-1, keepdims=True)
        exps = xp.exp(shifted)
        total = xp.sum(exps, axis=-1, keepdims=True)
        target = one_hot(xp, y, logits)
        own = xp.sum(xp.where(target, shifted, xp.zeros_like(shifted)), axis=-1)
        loss = xp.log(total[..., 0]) - own
        # argmax points at a NaN logit, and the loss is NaN: that sample is not a hit
        hit = (xp.argmax(logits, axis=-1) == y[:, None]) & (loss == loss)
        return loss, hit, exps / total - xp.astype(target, exps.dtype)

    def second(self, xp: Any, logits: Array, y: Array) -> tuple[Array, Array | None]:
        """`diag(p) - p p'`."""
        p = self.probabilities(xp, logits)
        return p, p

    def probabilities(self, xp: Any, logits: Array) -> Array:
        """`exp(z_k - m) / Σ_j exp(z_j - m)`."""
        exps = xp.exp(logits - xp.max(logits, axis=-1, keepdims=True))
        return exps / xp.sum(exps, axis=-1, keepdims=True)

    def log_probabilities(self, xp: Any, logits: Array) -> Array:
        """`z_k - m - log Σ_j exp(z_j - m)`."""
        shifted = logits - xp.max(logits, axis=-1, keepdims=True)
        return shifted - xp.log(xp.sum(xp.exp(shifted), axis=-1, keepdims=True))

    def predict(self, xp: Any, logits: Array) -> Array:
        """The most probable class, the first on a tie."""
        return xp.argmax(logits, axis=-1)


@dataclass(frozen=True)
class Logistic(Entropic):
    """Cross-entropy of the logistic function: `loss = max(z, 0) - z t + log(1 + exp(-|z|))`, t = 1 for class 0."""

    name: str = "logistic"
    binary: bool = True
    shift_invariant: bool = False
    rate: float = 0.05

    def columns(self, classes: int) -> int:
        """One: the logit of the positive class, which is class 0."""
        return 1

    def curvature(self, K: int) -> float:
        """`p (1 - p)` at `p = 1/2`."""
        return 0.25

    def constant(self, shares: Iterable[float]) -> float:
        """The entropy of the shares."""
        return _entropy(shares)

    def value(self, xp: Any, logits: Array, y: Array) -> tuple[Array, Array, Array]:
        """See the protocol: `σ(z) - t` is the residual; positive is predicted where `z > 0`."""
        z = logits[..., 0]
        positive = xp.broadcast_to((y == 0)[:, None], z.shape)
        zero = xp.zeros_like(z)
        loss = xp.maximum(z, zero) - xp.where(positive, z, zero) + xp.log1p(xp.exp(-xp.abs(z)))
        hit = ((z > zero) == positive) & (loss == loss)
        p = _sigmoid(xp, logits)
        return loss, hit, p - xp.astype(positive, p.dtype)[..., None]

    def second(self, xp: Any, logits: Array, y: Array) -> tuple[Array, Array | None]:
        """`p (1 - p)`."""
        p = _sigmoid(xp, logits)
        return p * (1.0 - p), None

    def probabilities(self, xp: Any, logits: Array) -> Array:
        """`σ(z) = 1 / (1 + exp(-z))` of the positive class, and its complement `σ(-z)`."""
        return xp.concat([_sigmoid(xp, logits), _sigmoid(xp, -logits)], axis=-1)

    def log_probabilities(self, xp: Any, logits: Array) -> Array:
        """`min(z, 0) - log(1 + exp(-|z|))` for z of the positive class and -z of the negative one."""
        both = xp.concat([logits, -logits], axis=-1)
        return xp.minimum(both, xp.zeros_like(both)) - xp.log1p(xp.exp(-xp.abs(both)))

    def predict(self, xp: Any, logits: Array) -> Array:
        """Class 0, the positive one, where its probability exceeds 1/2; else class 1."""
        z = logits[..., 0]
        return xp.astype(xp.logical_not(z > xp.zeros_like(z)), xp.int64)


LOSSES: Mapping[str, Loss] = MappingProxyType({loss.name: loss for loss in (Softmax(), Logistic())})


def loss_of(task: str | Loss) -> Loss:
    """The loss of that name; a `Loss` of the caller's own is returned as it is. Raises KeyError."""
    return LOSSES[task] if isinstance(task, str) else task


def one_hot(xp: Any, y: Array, logits: Array) -> Array:
    """Booleans `(B, 1, K)`: whether column k is sample b's own class."""
    columns = xp.arange(logits.shape[-1], dtype=y.dtype, device=getattr(y, "device", None))
    return columns[None, None, :] == y[:, None, None]


def _entropy(shares: Iterable[float]) -> float:
    """`-Σ p log p`, in nats."""
    return -sum(p * math.log(p) for p in shares if p > 0)


def _sigmoid(xp: Any, z: Array) -> Array:
    small = xp.exp(-xp.abs(z))
    return xp.where(z >= 0.0, xp.ones_like(z), small) / (1.0 + small)
