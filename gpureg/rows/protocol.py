"""`Rows`: the one seam between a solver and the samples."""

from __future__ import annotations

from typing import Protocol

from gpureg.kernels.one_model import OneModel
from gpureg.kernels.protocol import Evaluation
from gpureg.rows.dual import Balanced
from gpureg.rows.kronecker import KroneckerSums
from gpureg.rows.logits import LogitPasses
from gpureg.rows.span import Basis
from gpureg.types import Array, Floats, Ints, StepPlan


class Rows(Protocol):
    """N samples of D features (the bias last), wherever they are stored.

    A solver asks for sums over the blocks of the rows, and for minibatches; it never touches a sample. Kinds of rows
    differ only in where the blocks are stored and how they are added up. Weights are `(D, C)` on the device,
    C = L K; `column (L,)` names each model's column of the row-weight table, None for weights of 1.
    """

    @property
    def n(self) -> int:
        """The number of samples N."""
        ...

    @property
    def features(self) -> int:
        """D, the bias included."""
        ...

    @property
    def mass(self) -> float:
        """What all samples count in an evaluation: the sum of their sample weights, N without."""
        ...

    @property
    def weighted(self) -> bool:
        """Whether there is a row-weight table."""
        ...

    @property
    def rotates(self) -> bool:
        """Whether a decomposition of their second moments `(D, D)` may be worth its cost; if not, only the diagonal is
        asked for.
        """
        ...

    @property
    def alongside(self) -> bool:
        """Whether an evaluation may go on while minibatches are taken."""
        ...

    def subset(self, index: Ints) -> Rows:
        """The samples `index` (by their own numbers, not by where they are stored), for evaluation; no table."""
        ...

    def steps(self, W: Array, plan: StepPlan) -> tuple[Array, Array, list[Array]]:
        """Minibatch gradient descent; see `Kernels.steps`."""
        ...

    def start_evaluation(self, W: Array, *, with_loss: bool, now: bool = False) -> Evaluation:
        """Sums of losses and hits over the rows, asked for later; see `Kernels.start_evaluation`."""
        ...

    def outputs(self, W: Array) -> tuple[Floats, Ints, Floats | None]:
        """What a score that is not a sum needs, on the host: the logits `X W` `(N, C)`, the class indices `(N,)`, and
        what each row counts in an evaluation `(N,)`, None for 1; rows in the order in which they are stored.
        """
        ...

    def cost_and_gradient(self, W: Array, column: Ints | None) -> tuple[Array, Array, Array | None]:
        """`Σ_i s_il loss_il` `(L,)`, its gradient `(D, C)` and perhaps the hits; see `Kernels.cost_and_gradient`."""
        ...

    def by_logits(self) -> LogitPasses | None:
        """Passes that keep their logits, and passes from logits; None if these rows have none."""
        ...

    def one_model(self, column: int | None, centre: Floats | None = None) -> OneModel:
        """One model with that `column` of the row-weight table (None: weights of 1), prepared for many passes; `centre
        (D - 1,)` if the last column is a free bias's.
        """
        ...

    def mean(self) -> Floats:
        """The weighted mean of the samples `(D,)`; see `moments.mean_row`."""
        ...

    def scatter(self, centre: Floats, *, diagonal: bool = False) -> Array:
        """The weighted second moments about `centre (D,)`; see `moments.scatter`."""
        ...

    def span(self, *, free: bool) -> tuple[Rows, Basis]:
        """The same samples in an orthonormal basis of their span, with the basis; `free`: their last column is a bias
        that carries no penalty. See `rows.span`; for fewer rows than features.
        """
        ...

    def curvature(self, W: Array, column: Ints | None, centre: Floats | None) -> Array:
        """The Hessian of `Σ_i s_il loss_il` in the weights, `(L, K*D, K*D)`; see `moments.curvature`."""
        ...

    def balanced(self, W: Array, column: Ints | None, imbalance: Floats, samples: int) -> Balanced:
        """The dual point of models whose residuals do not sum to 0, `imbalance (L, K)`; see `dual.balanced`."""
        ...

    def kronecker(self, W: Array, column: Ints | None, *, free: bool, diagonal: bool = False) -> KroneckerSums | None:
        """The Hessian at the weights `W (D, K)` of a model as a Kronecker product; see `kronecker.kronecker`."""
        ...
