"""The call sites of the fused kernels: what a row of logits becomes, for either task."""

from __future__ import annotations

from dataclasses import dataclass

from gpureg.kernels.cuda.logistic import logistic_kernel
from gpureg.kernels.cuda.ops import DeviceOps
from gpureg.kernels.cuda.softmax import lanes, softmax_kernel
from gpureg.types import Array


@dataclass(frozen=True)
class Pointwise:
    """The fused kernels of one task with K columns per model.

    Labels and scales are first brought into the shape of the kernel's loop, as views, once for many launches: (B, L, G)
    with G lanes a row for softmax, (B, L) for logistic. Leading axes, such as the batches of an epoch, are carried
    along.
    """

    task: str
    n_columns: int
    ops: DeviceOps

    def labels(self, y: Array, models: int) -> Array:
        """Labels `y (..., B)` int32 as the kernel wants them."""
        if self.task == "logistic":
            return y[..., None]
        return self.ops.broadcast_to(y[..., None, None], (*y.shape, models, lanes(self.n_columns)))

    def scales(self, scale: Array) -> Array:
        """Scales `(..., B or 1, L)` as the kernel wants them."""
        return scale if self.task == "logistic" else scale[..., None]

    def gradient(self, labels: Array, scales: Array, logits: Array, loss: Array) -> None:
        """`logits (B, L*K) <- scale * (prediction - target)` in place, and `loss (B, L)` in nats: one launch."""
        if self.task == "logistic":
            logistic_kernel(gradient=True, loss=True, hit=False)(labels, scales, logits, loss)
        else:
            softmax_kernel(self.n_columns, gradient=True, loss=True, hit=False)(labels, scales, logits, loss)

    def evaluate(self, labels: Array, logits: Array, hit: Array, loss: Array | None) -> None:
        """`hit (B, L)` and, where wanted, `loss (B, L)` in nats, from logits that are only read: one launch."""
        outputs = (hit,) if loss is None else (loss, hit)
        if self.task == "logistic":
            logistic_kernel(gradient=False, loss=loss is not None, hit=True)(labels, logits, *outputs)
        else:
            softmax_kernel(self.n_columns, gradient=False, loss=loss is not None, hit=True)(labels, logits, *outputs)
