"""How much device memory a run takes, and how its rows are cut to fit.

The cuts follow the budget, which is fixed, and never the memory that happens to be free: the same command always cuts
the same way and gives the same bits.
"""

from __future__ import annotations

from dataclasses import dataclass

from gpureg.kernels.cuda.sums import PARTS
from gpureg.types import RunShape

DEFAULT_BUDGET = 2 * 1024**3  # bytes
_LOGITS_CAP = 256 * 1024**2  # larger products gain nothing


@dataclass(frozen=True)
class Budget:
    """Bytes of working memory in addition to the data: a quarter for a block's logits, half for gathered batches."""

    total: int = DEFAULT_BUDGET

    def block_rows(self, columns: int, models: int, itemsize: int) -> int:
        """The maximum number of rows whose logits, losses and hits fit a quarter of the budget, at least one."""
        row = columns * itemsize + models * (itemsize + 1)
        return max(1, min(self.total // 4, _LOGITS_CAP) // row)

    def even_block(self, rows: int, columns: int, models: int, itemsize: int) -> int:
        """Rows of a block where as few blocks as possible are as even as possible: a short last one would run its
        product at a fraction of the rate.
        """
        count = -(-rows // self.block_rows(columns, models, itemsize))
        return -(-rows // max(1, count))

    def gather_steps(self, batch: int, features: int, models: int, itemsize: int) -> int:
        """Steps whose batches, weights and losses fit half of the budget, at least one."""
        row = (features + 2 * models) * itemsize + 4
        return max(1, self.total // 2 // (batch * row))


def run_bytes(shape: RunShape, columns: int, stack_columns: int, itemsize: int, budget: Budget) -> int:
    """Bytes that a run takes in addition to its samples, rounded up: CuPy's pool cuts its memory with some waste.

    `columns`: K. Minibatches: the weights with their gradient and a copy for compaction, the snapshots and their stack,
    those of evaluations that run alongside the steps, an epoch's gathered batches with their labels, weights and
    losses, and a block of logits with the partial sums of its losses and hits. The full-batch solver: the logits and
    the gradient; the solver itself counts its vectors and second moments.
    """
    C, D, L = columns * shape.models, shape.features, shape.models
    stacked = C if shape.full_batch else max(C, min(shape.queued * C, stack_columns))
    models = -(-stacked // columns)
    evaluated = min(shape.evaluated, budget.block_rows(stacked, models, itemsize))
    block = evaluated * (stacked * itemsize + models * (itemsize + 1 + shape.weighted * itemsize))
    block += 2 * PARTS * models * 8
    if shape.full_batch:
        return block + 4 * D * C * itemsize
    row = (D + (4 if shape.weighted else 2) * L) * itemsize + 16
    gathered = min(shape.rows * row, budget.total // 2)
    return block + gathered + D * (4 * C + 3 * stacked) * itemsize
