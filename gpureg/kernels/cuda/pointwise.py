"""The call sites of the fused kernels: what a row of logits becomes, for each loss."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Protocol

from gpureg.kernels.cuda.logistic import logistic_kernel
from gpureg.kernels.cuda.ops import DeviceOps
from gpureg.kernels.cuda.softmax import lanes, softmax_kernel
from gpureg.losses import Logistic, Loss, Softmax
from gpureg.types import Array


class Pointwise(Protocol):
    """The fused kernels of one loss with K columns per model.

    Labels and scales are first brought into the shape of the kernel's loop, as views, once for many launches. Leading
    axes, such as the batches of an epoch, are carried along.
    """

    @property
    def n_columns(self) -> int:
        """K."""
        ...

    def labels(self, y: Array, models: int) -> Array:
        """Labels `y (..., B)` int32 in the shape of the kernel's loop."""
        ...

    def scales(self, scale: Array) -> Array:
        """Scales `(..., B or 1, L)` in the shape of the kernel's loop."""
        ...

    def gradient(self, labels: Array, scales: Array, logits: Array, loss: Array) -> None:
        """`logits (B, L*K) <- scale * (prediction - target)` in place, and `loss (B, L)` in nats: one launch."""
        ...

    def evaluate(self, labels: Array, logits: Array, hit: Array, loss: Array | None) -> None:
        """`hit (B, L)` and, if given, `loss (B, L)` in nats, from logits that are only read: one launch."""
        ...


@dataclass(frozen=True)
class SoftmaxPointwise:
    """`losses.Softmax`: the loop is (B, L, G), with G lanes a row."""

    n_columns: int
    ops: DeviceOps

    def labels(self, y: Array, models: int) -> Array:
        """See the protocol."""
        return self.ops.broadcast_to(y[..., None, None], (*y.shape, models, lanes(self.n_columns)))

    def scales(self, scale: Array) -> Array:
        """See the protocol."""
        return scale[..., None]

    def gradient(self, labels: Array, scales: Array, logits: Array, loss: Array) -> None:
        """See the protocol."""
        softmax_kernel(self.n_columns, gradient=True, loss=True, hit=False)(labels, scales, logits, loss)

    def evaluate(self, labels: Array, logits: Array, hit: Array, loss: Array | None) -> None:
        """See the protocol."""
        outputs = (hit,) if loss is None else (loss, hit)
        softmax_kernel(self.n_columns, gradient=False, loss=loss is not None, hit=True)(labels, logits, *outputs)


@dataclass(frozen=True)
class LogisticPointwise:
    """`losses.Logistic`: the loop is (B, L)."""

    n_columns: int
    ops: DeviceOps

    def labels(self, y: Array, models: int) -> Array:
        """See the protocol."""
        return y[..., None]

    def scales(self, scale: Array) -> Array:
        """See the protocol."""
        return scale

    def gradient(self, labels: Array, scales: Array, logits: Array, loss: Array) -> None:
        """See the protocol."""
        logistic_kernel(gradient=True, loss=True, hit=False)(labels, scales, logits, loss)

    def evaluate(self, labels: Array, logits: Array, hit: Array, loss: Array | None) -> None:
        """See the protocol."""
        outputs = (hit,) if loss is None else (loss, hit)
        logistic_kernel(gradient=False, loss=loss is not None, hit=True)(labels, logits, *outputs)


POINTWISE: Mapping[Loss, type[SoftmaxPointwise] | type[LogisticPointwise]] = MappingProxyType(
    {Softmax(): SoftmaxPointwise, Logistic(): LogisticPointwise}
)
