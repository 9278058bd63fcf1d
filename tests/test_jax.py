"""The trainer and the solver to the optimum on JAX, whose arrays can't be written to: a short part of the laws that
`make test-all` runs there in full.
"""

from __future__ import annotations

import numpy as np
import pytest
from conftest import jax_backend
from full_batch import WAYS, place, solve
from small_problems import blobs

from gpureg.backend import numpy_backend
from gpureg.config import FitConfig
from gpureg.fitting.entry import Hooks, fit_on

SILENT = Hooks(lambda event: None, lambda: False)


@pytest.mark.long
def test_training_is_numpys() -> None:
    data = blobs(60, 30, features=3)
    config = FitConfig(l2=(0.0, 0.1), lr=(0.3,), epochs=2, batch_size=30, dtype="float64", cv=2)
    ours = fit_on(numpy_backend("float64"), data, config, SILENT)
    theirs = fit_on(jax_backend("float64"), data, config, SILENT)
    assert theirs.backend == "jax"
    for name in ("step_loss", "val_loss", "val_accuracy", "train_accuracy"):
        np.testing.assert_allclose(getattr(theirs.history, name), getattr(ours.history, name), rtol=1e-10)
    np.testing.assert_allclose(theirs.model.coef, ours.model.coef, rtol=1e-9, atol=1e-12)


def test_the_optimum_is_numpys() -> None:
    data = blobs(60, features=3)
    found = []
    for backend in (numpy_backend, jax_backend):
        placed = place(data.X_train, data.y_train, [0.1, 0.01], "softmax", backend=backend("float64"))
        found.append(solve(*placed, free=True, hessians=WAYS["alone"])[0])
    assert found[1].reasons == ("converged",) * 2
    np.testing.assert_allclose(found[1].weights, found[0].weights, atol=1e-6)
