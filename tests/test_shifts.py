"""The shift of logits at which residuals have a given sum: from losses, and from probabilities alone."""

from __future__ import annotations

import numpy as np
import pytest

from gpureg.backend import numpy_backend
from gpureg.kernels.choice import choose_kernels
from gpureg.losses import Softmax
from gpureg.rows.shifts import OfLoss, OfProbabilities, Root
from gpureg.types import Floats

SAMPLES, MODELS, CLASSES = 60, 4, 5


def both(spread: float) -> tuple[OfLoss, OfProbabilities]:
    """The same samples in both forms; logits of that spread."""
    random = np.random.default_rng(7)
    kernels = choose_kernels(numpy_backend("float64"), Softmax(), CLASSES)
    z = spread * random.normal(size=(SAMPLES, MODELS, CLASSES))
    s, y = random.random((SAMPLES, MODELS)) / SAMPLES, random.integers(0, CLASSES, SAMPLES)
    s[:3] = 0.0  # rows of a fold
    p, _ = kernels.loss.second(np, z, y)
    return OfLoss(kernels, z, s, y), OfProbabilities.of(kernels, p, s, np.arange(MODELS))


def shifts(width: float) -> Floats:
    """`(A, K)`, with a sum of 0 over the classes as a solution's."""
    d = np.random.default_rng(8).normal(size=(MODELS, CLASSES))
    d -= d.mean(axis=1, keepdims=True)
    return np.asarray(width * d / np.ptp(d, axis=1, keepdims=True))


@pytest.mark.parametrize("spread", [0.1, 10.0])
@pytest.mark.parametrize("width", [0.01, 1.0, 30.0, 2000.0])
def test_shifted_probabilities_are_those_of_shifted_logits(spread: float, width: float) -> None:
    loss, probabilities = both(spread)
    d, none = shifts(width), np.zeros((MODELS, CLASSES))
    slopes = [one.sums(d)[1] - one.sums(none)[1] for one in (loss, probabilities)]
    np.testing.assert_allclose(slopes[0], slopes[1], atol=1e-14)
    falls = [one.sums(d)[0] - one.sums(none)[0] for one in (loss, probabilities)]
    own = np.sum(d[:, loss.y].T * loss.s, axis=0)  # what is linear in d
    np.testing.assert_allclose(falls[0], falls[1] - own, atol=1e-13 * (1.0 + width))
    for mine, other in zip(loss.change(d), probabilities.change(d), strict=True):
        np.testing.assert_allclose(mine, other, atol=1e-13 * (1.0 + width))
    F = none + np.arange(CLASSES) - np.mean(np.arange(CLASSES))
    if width <= 1.0:
        np.testing.assert_allclose(loss.curvature(d).solve(F), probabilities.curvature(d).solve(F), rtol=1e-7)


@pytest.mark.parametrize("width", [0.5, 3.0, 8.0])
def test_the_shift_that_made_an_imbalance_is_found_again(width: float) -> None:
    expected = shifts(width)
    for shifted in both(2.0):
        imbalance = shifted.sums(np.zeros_like(expected))[1] - shifted.sums(expected)[1]
        found, rest = Root.find(shifted, imbalance)
        found = found - found.mean(axis=1, keepdims=True)  # the same for all classes changes nothing
        np.testing.assert_allclose(found, expected, atol=1e-7)
        assert (rest <= 1e-8 * np.abs(imbalance).sum(axis=1)).all()  # its last digits


def test_a_sum_that_no_shift_reaches_costs_infinitely_much() -> None:
    _, probabilities = both(2.0)
    mass = probabilities.s.sum(axis=1)
    imbalance = np.zeros((MODELS, CLASSES))
    imbalance[:, 0], imbalance[:, 1] = 2.0 * mass, -2.0 * mass  # more than all the probability there is
    assert np.isinf(Root.find(probabilities, imbalance)[1]).all()
