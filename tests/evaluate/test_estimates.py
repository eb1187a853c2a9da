"""Differences of measured models."""

import numpy as np
import pytest

from fexpr.evaluate import estimates


def measured(name, value, samples):
    return estimates.Measured({name: np.array([value])}, {name: samples}, {}, groups=1000)


def test_the_interval_of_a_difference_of_norms_is_about_its_value():
    """Resamples of a norm are biased upwards, here by 0.2 and by 0.05."""
    rng = np.random.default_rng(0)
    one, other = (
        measured("ece", value, rng.normal(value + bias, 0.02, 2000))
        for value, bias in ((0.2, 0.2), (0.1, 0.05))
    )
    found = one.less(other, "ece")
    half = 1.96 * 0.02 * 2**0.5
    assert found["value"] == pytest.approx(0.1)
    assert [found["low"], found["high"]] == pytest.approx([0.1 - half, 0.1 + half], abs=0.005)


def test_a_share_is_not_moved():
    one, other = (measured("uf1", 0.5, np.linspace(low, low + 0.1, 1001)) for low in (0.3, 0.2))
    found = one.minus(other, "uf1")
    assert (found["value"], found["high"]) == (0, pytest.approx(0.1, abs=0.001))
