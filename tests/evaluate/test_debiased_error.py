import numpy as np
import pytest

from fexpr.evaluate import debiased_error
from tests.evaluate.test_smooth_error import judged


@pytest.mark.parametrize("i", [0, 1])
def test_equals_uncertainty_calibration(i):
    c, y, of = judged(i)
    assert debiased_error.debiased_rms(c, y) == pytest.approx(of["debiased_rms"].item(), abs=1e-9)


def test_unbiased_where_the_plain_square_is_not():
    rng = np.random.default_rng(0)
    plain, debiased = [], []
    for _ in range(300):
        c = rng.uniform(0.3, 1, 600)
        right = rng.random(600) < c
        found = debiased_error.measures(c[:, None], right[:, None])(np.ones((1, 600)))
        plain.append(found["debiased_rms"][0])
        debiased.append(plain[-1] - found["_bias_debiased_rms"][0])
    assert np.mean(plain) > 0.003
    assert abs(np.mean(debiased)) < 0.0004


def test_equal_confidences_share_a_bin():
    assert len(set(debiased_error.equal_bins(np.full(50, 0.3), 15))) == 1
    which = debiased_error.equal_bins(np.random.default_rng(0).random(1000), 15)
    assert set(np.bincount(which).tolist()) == {66, 67}


def test_decisions_of_a_row_share_its_weight():
    """Of three decisions a row: the figure of all of them, and a row counted twice is two rows."""
    rng = np.random.default_rng(1)
    c = rng.random((200, 3))
    y = rng.random((200, 3)) < c**2
    weights = rng.integers(0, 3, (1, 200)).astype(float)
    found = debiased_error.measures(c, y)(np.concatenate([np.ones((1, 200)), weights]))
    whole = found["debiased_rms"] - found["_bias_debiased_rms"]
    assert np.sqrt(whole[0]) == pytest.approx(debiased_error.debiased_rms(c.ravel(), y.ravel()))
    flat = debiased_error.measures(c.reshape(-1, 1), y.reshape(-1, 1))(weights.repeat(3, axis=1))
    assert whole[1] == pytest.approx((flat["debiased_rms"] - flat["_bias_debiased_rms"])[0])
