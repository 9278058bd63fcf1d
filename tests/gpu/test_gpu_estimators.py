"""The estimators on a device: the CPU's probabilities, CuPy arrays in and out, and the caller's device left alone."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.datasets import load_digits

import gpureg

pytestmark = pytest.mark.gpu


@pytest.fixture(scope="module")
def digits():
    X, y = load_digits(return_X_y=True)
    return X / 16.0, y


def test_probabilities_are_the_cpus_on_every_device(digits):
    import cupy

    wanted = gpureg.LogisticRegression(device="cpu").fit(*digits).predict_proba(digits[0])
    before = cupy.cuda.runtime.getDevice()
    for index in range(cupy.cuda.runtime.getDeviceCount()):
        model = gpureg.LogisticRegression(device=f"cuda:{index}").fit(*digits)
        np.testing.assert_allclose(model.predict_proba(digits[0]), wanted, atol=1e-6)
        assert cupy.cuda.runtime.getDevice() == before


def test_cupy_arrays_come_back_as_cupy_arrays(digits):
    import cupy

    X, y = map(cupy.asarray, digits)
    model = gpureg.LogisticRegression(device="cuda").fit(X, y)
    found = (model.coef_, model.intercept_, model.predict(X), model.predict_proba(X))
    assert all(isinstance(array, cupy.ndarray) for array in found)
    wanted = gpureg.LogisticRegression(device="cpu").fit(*digits)
    np.testing.assert_allclose(cupy.asnumpy(found[3]), wanted.predict_proba(digits[0]), atol=1e-6)
    assert model.score(X, y) == wanted.score(*digits)


def test_cross_validation_chooses_as_on_the_cpu(digits):
    few = tuple(array[:300] for array in digits)
    on_device, on_cpu = (gpureg.LogisticRegressionCV(Cs=3, cv=3, device=d).fit(*few) for d in ("cuda", "cpu"))
    np.testing.assert_array_equal(on_device.C_, on_cpu.C_)
    np.testing.assert_allclose(on_device.scores_, on_cpu.scores_, atol=1e-5)


def test_fit_leaves_the_current_device_alone():
    import cupy

    last = cupy.cuda.runtime.getDeviceCount() - 1
    before = cupy.cuda.runtime.getDevice()
    gpureg.fit(gpureg.load_dataset("digits"), epochs=1, device=f"cuda:{last}", strict_device=True)
    assert cupy.cuda.runtime.getDevice() == before


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")  # of the fit that is cut short
def test_a_callback_s_estimator_is_of_the_device(digits):
    import cupy

    class Keeps:
        def __init__(self):
            self.fitted = []

        def setup(self, estimator, context):
            """Nothing."""

        teardown = on_fit_task_begin = setup

        def on_fit_task_end(self, estimator, context, *, fitted_estimator=None):
            self.fitted.append(fitted_estimator)

    X, y = map(cupy.asarray, digits)
    keeps = Keeps()
    model = gpureg.LogisticRegression(device="cuda").set_callbacks(keeps).fit(X, y)
    assert len(keeps.fitted) == int(model.n_iter_[0]) + 2
    cut = gpureg.LogisticRegression(device="cuda", max_iter=3).fit(X, y)
    assert isinstance(keeps.fitted[2].coef_, cupy.ndarray)
    np.testing.assert_allclose(cupy.asnumpy(keeps.fitted[2].coef_), cupy.asnumpy(cut.coef_), rtol=1e-6)
    expected = cupy.asnumpy(model.predict_proba(X))
    np.testing.assert_allclose(cupy.asnumpy(model.sparsify().predict_proba(X)), expected, rtol=1e-9)


def test_the_old_form_of_attributes_is_of_the_device(digits):
    import cupy

    X, y = (cupy.asarray(array[:300]) for array in digits)
    model = gpureg.LogisticRegressionCV(Cs=3, cv=3, use_legacy_attributes=True).fit(X, y)
    arrays = [model.C_, model.l1_ratio_, model.Cs_, model.n_iter_, *model.scores_.values()]
    assert all(isinstance(array, cupy.ndarray) for array in (*arrays, *model.coefs_paths_.values()))
    assert model.score(X, y) > -0.5
