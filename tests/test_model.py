"""`LinearModel`: predictions in the data's own units."""

from __future__ import annotations

import numpy as np
import pytest
from small_problems import blobs

import gpureg
from gpureg.errors import UsageError


@pytest.mark.parametrize("task", ["softmax", "logistic"])
def test_predictions_are_those_that_were_measured(task: str) -> None:
    data = blobs(5000, 4500, classes=2 if task == "logistic" else 3)  # more rows than are scaled at once
    result = gpureg.fit(data, task=task, l2=[0.0, 0.1], lr=0.1, epochs=2, dtype="float64")
    for number, measured in enumerate(result.models):
        p = result.model.predict_proba(data.X_val, model=number)
        np.testing.assert_allclose(p.sum(axis=1), 1)
        assert -np.log(p[np.arange(4500), data.y_val]).mean() == pytest.approx(measured.val_loss, rel=1e-12)
        labels = result.model.predict(data.X_val, model=number)
        assert (labels == np.asarray(data.classes)[data.y_val]).mean() == measured.val_accuracy


def test_features_far_from_zero_keep_their_digits_in_float32() -> None:
    data = blobs(300, 100)
    far = gpureg.make_dataset(data.X_train + 1e7, data.y_train, data.X_val + 1e7, data.y_val)
    near, moved = (gpureg.fit(d, lr=0.1, epochs=3, scale="standard") for d in (data, far))
    p, q = near.model.predict_proba(data.X_val), moved.model.predict_proba(far.X_val)
    np.testing.assert_allclose(q, p, atol=1e-5)


def test_other_features_are_refused() -> None:
    result = gpureg.fit(blobs(200, 50), epochs=1)
    with pytest.raises(UsageError, match=r"shape \(5, 4\); expected \(rows, 6\)"):
        result.model.predict(np.zeros((5, 4)))
