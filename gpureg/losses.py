"""The losses: what a row of logits costs, and all that a solver must know about it, in the plain array API.

A twin of the kernels implements the losses that it names and refuses the others; nothing else asks which loss it is.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

from gpureg.types import Array


class Loss(Protocol):
    """A loss on logits `(B, L, K)` with labels `y (B,)`, class indices; in nats."""

    @property
    def name(self) -> str:
        """As `--task` names it."""
        ...

    @property
    def separable(self) -> bool:
        """K = 1: each model has one column."""
        ...

    def columns(self, n_classes: int) -> int:
        """K, the columns of a model."""
        ...

    def curvature(self, K: int) -> float:
        """The second derivative in one logit at the even probabilities: what conditioning scales by."""
        ...

    def probabilities(self, xp: Any, logits: Array) -> Array:
        """`(B, L, K)`; no positive number is ever exponentiated."""
        ...

    def value(self, xp: Any, logits: Array, y: Array) -> tuple[Array, Array, Array]:
        """Loss `(B, L)`, hit `(B, L)` and the derivative in the logits `(B, L, K)`."""
        ...


@dataclass(frozen=True)
class Softmax:
    """Cross-entropy of a softmax: `loss = log Σ_k exp(z_k - m) - (z_y - m)`, `m = max z`."""

    name: str = "softmax"
    separable: bool = False

    def columns(self, n_classes: int) -> int:
        return n_classes

    def curvature(self, K: int) -> float:
        return 1.0 / K

    def probabilities(self, xp: Any, logits: Array) -> Array:
        exps = xp.exp(logits - xp.max(logits, axis=-1, keepdims=True))
        return exps / xp.sum(exps, axis=-1, keepdims=True)

    def value(self, xp: Any, logits: Array, y: Array) -> tuple[Array, Array, Array]:
        shifted = logits - xp.max(logits, axis=-1, keepdims=True)
        exps = xp.exp(shifted)
        total = xp.sum(exps, axis=-1, keepdims=True)
        target = one_hot(xp, y, logits)
        own = xp.sum(xp.where(target, shifted, xp.zeros_like(shifted)), axis=-1)
        loss = xp.log(total[..., 0]) - own
        hit = (xp.argmax(logits, axis=-1) == y[:, None]) & (loss == loss)
        return loss, hit, exps / total - xp.astype(target, exps.dtype)


@dataclass(frozen=True)
class Logistic:
    """Cross-entropy of the logistic function: `loss = max(z, 0) - z t + log(1 + exp(-|z|))`, `t = 1` where `y == 0`."""

    name: str = "logistic"
    separable: bool = True

    def columns(self, n_classes: int) -> int:
        return 1

    def curvature(self, K: int) -> float:
        return 0.25

    def probabilities(self, xp: Any, logits: Array) -> Array:
        small = xp.exp(-xp.abs(logits))
        return xp.where(logits >= 0.0, xp.ones_like(logits), small) / (1.0 + small)

    def value(self, xp: Any, logits: Array, y: Array) -> tuple[Array, Array, Array]:
        z = logits[..., 0]
        positive = xp.broadcast_to((y == 0)[:, None], z.shape)
        zero = xp.zeros_like(z)
        loss = xp.maximum(z, zero) - xp.where(positive, z, zero) + xp.log1p(xp.exp(-xp.abs(z)))
        hit = ((z > zero) == positive) & (loss == loss)
        p = self.probabilities(xp, logits)
        return loss, hit, p - xp.astype(positive, p.dtype)[..., None]


LOSSES: dict[str, Loss] = {loss.name: loss for loss in (Softmax(), Logistic())}


def one_hot(xp: Any, y: Array, logits: Array) -> Array:
    """Booleans `(B, 1, K)`: whether column k is sample b's own class."""
    columns = xp.arange(logits.shape[-1], dtype=y.dtype, device=getattr(y, "device", None))
    return columns[None, None, :] == y[:, None, None]
