"""Each map against scikit-learn or a naive likelihood; fitted on validation rows only, over the
classes only.
"""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize
from sklearn.isotonic import IsotonicRegression
from sklearn.linear_model import LogisticRegression

from fexpr.evaluate import calibration, recalibration
from fexpr.evaluate.recalibration import (
    FITS,
    fit_isotonic,
    fit_svs,
    fit_temperature,
    fit_trial,
    fit_vector,
)
from fexpr.probabilities import Temperature, from_json, to_json
from tests.evaluate.random_predictions import multiclass

FIXTURES = Path(__file__).parents[1] / "fixtures"


def overconfident(seed=0, rows=400, classes=4, sharp=3.0):
    """Logits, labels and split: drawn from a softmax, then the logits are multiplied by `sharp` and
    shifted by class.
    """
    rng = np.random.default_rng(seed)
    z = 1.5 * rng.normal(size=(rows, classes))
    p = calibration.probabilities(z, False)
    labels = (p.cumsum(axis=1) < rng.random((rows, 1))).sum(axis=1)
    return sharp * z + np.linspace(-0.5, 0.5, classes), labels, np.full(rows, "val")


def naive_nll(logits, labels):
    total = 0.0
    for row, y in zip(logits, labels, strict=True):
        top = max(row)
        total -= row[y] - top - np.log(sum(np.exp(v - top) for v in row))
    return total


def test_temperature_and_vector_of_two_classes_are_logistic_regressions():
    z, labels, split = overconfident(classes=2, rows=2000)
    plain = {"C": np.inf, "tol": 1e-10, "max_iter": 1000}
    slope = LogisticRegression(fit_intercept=False, **plain).fit(z[:, 1:] - z[:, :1], labels)
    assert fit_temperature(z, labels, split).temperature == pytest.approx(
        1 / slope.coef_[0, 0], rel=1e-4
    )
    both = LogisticRegression(**plain).fit(z * [-1, 1], labels)
    fitted = fit_vector(z, labels, split)
    assert fitted.scale == pytest.approx(both.coef_[0], rel=1e-4)
    assert fitted.bias[1] - fitted.bias[0] == pytest.approx(both.intercept_[0], rel=1e-3, abs=1e-4)


def test_temperature_and_vector_reach_the_highest_likelihood():
    z, labels, split = overconfident()
    temperature, vector = fit_temperature(z, labels, split), fit_vector(z, labels, split)
    assert 2.5 < temperature.temperature < 3.5
    by_grid = min(np.geomspace(2, 5, 300), key=lambda t: naive_nll(z / t, labels))
    assert temperature.temperature == pytest.approx(by_grid, rel=0.005)
    best = minimize(
        lambda th: (
            -calibration.log_probabilities(z * th[:4] + th[4:], False)[np.arange(400), labels].sum()
        ),
        [1] * 4 + [0] * 4,
    )
    assert naive_nll(vector(z), labels) == pytest.approx(best.fun, abs=1e-3)
    assert naive_nll(vector(z), labels) < naive_nll(temperature(z), labels) < naive_nll(z, labels)


def pool_adjacent_violators(x, y):
    """The isotonic fit at each row of sorted distinct x, by the textbook's loop."""
    blocks = []
    for value in np.asarray(y, float)[np.argsort(x)]:
        blocks.append([value, 1])
        while len(blocks) > 1 and blocks[-2][0] >= blocks[-1][0]:
            (b, m), (a, n) = blocks.pop(), blocks.pop()
            blocks.append([(a * n + b * m) / (n + m), n + m])
    return np.concatenate([[value] * n for value, n in blocks])


def test_isotonic_is_one_against_the_rest_and_renormalised():
    z, labels, split = overconfident(rows=200)
    new = overconfident(seed=9)[0]
    found = calibration.probabilities(fit_isotonic(z, labels, split)(new), False)
    base = fit_temperature(z, labels, split)
    p, half = calibration.probabilities(base(z), False), 0.5 / 200
    curves = [
        IsotonicRegression(y_min=half, y_max=1 - half, out_of_bounds="clip").fit(
            p[:, k], labels == k
        )
        for k in range(4)
    ]
    columns = np.stack(
        [
            c.predict(calibration.probabilities(base(new), False)[:, k])
            for k, c in enumerate(curves)
        ],
        axis=1,
    )
    np.testing.assert_allclose(found, columns / columns.sum(axis=1, keepdims=True), atol=1e-12)
    for k, (x, y) in enumerate(fit_isotonic(z, labels, split).curves):
        expected = np.clip(pool_adjacent_violators(p[:, k], labels == k), half, 1 - half)
        np.testing.assert_allclose(np.interp(np.sort(p[:, k]), x, y), expected, atol=1e-12)


@pytest.mark.parametrize("name", FITS)
def test_a_map_mends_an_overconfident_model_on_other_rows(name):
    z, labels, split = overconfident(rows=3000)
    new, truth, _ = overconfident(seed=1, rows=3000)
    judge = calibration.measures(truth[:, None] == np.arange(4), new, False)
    mended = calibration.measures(
        truth[:, None] == np.arange(4), FITS[name](z, labels, split)(new), False
    )
    before, after = judge(np.ones((1, 3000))), mended(np.ones((1, 3000)))
    assert before["ece"] > 0.15
    assert after["ece"] < 0.03
    assert after["nll"] < before["nll"]


def test_temperature_never_changes_the_class():
    z, labels, split = overconfident()
    np.testing.assert_array_equal(
        fit_temperature(z, labels, split)(z).argmax(axis=1), z.argmax(axis=1)
    )
    # likelihood is highest below zero, where classes would be turned round
    backwards = fit_temperature(-z, labels, split)
    p = calibration.probabilities(backwards(-z), False)
    np.testing.assert_allclose(p, 1 / 4, atol=1e-6)
    np.testing.assert_array_equal(p.argmax(axis=1), (-z).argmax(axis=1))


@given(exponent=st.floats(-200, 200), name=st.sampled_from(sorted(FITS)), seed=st.integers(0, 5))
@settings(max_examples=25, deadline=None)
def test_a_factor_of_the_logits_means_nothing(exponent, name, seed):
    z, labels, split = overconfident(seed, rows=80)
    factor = 10.0**exponent
    expected = calibration.probabilities(FITS[name](z, labels, split)(z), False)
    found = FITS[name](factor * z, labels, split)(factor * z)
    np.testing.assert_allclose(calibration.probabilities(found, False), expected, atol=1e-6)


def test_units_have_maps_of_their_own_drawn_towards_one_temperature():
    rng = np.random.default_rng(0)
    z = rng.normal(size=(4000, 3))
    true = z * [0.5, 1.0, 2.0] + [0.0, 1.0, -1.0]
    labels = (rng.random(z.shape) < 1 / (1 + np.exp(-true))).astype(np.float32)
    split = np.full(len(z), "val")
    temperature, svs = fit_temperature(z, labels, split), fit_svs(z, labels, split)
    assert temperature.multilabel
    nll = [calibration.nll_per_row(labels > 0, f(z), True).mean() for f in (temperature, svs)]
    assert nll[1] < nll[0] - 0.05
    slope = svs.weights.diagonal() / temperature.temperature
    np.testing.assert_allclose(slope, [0.5, 1.0, 2.0], rtol=0.15)
    np.testing.assert_allclose(svs.bias, [0, 1, -1], atol=0.15)
    few = fit_svs(z[:8], labels[:8], split[:8])  # hardly leaves the common temperature
    assert np.abs(few.weights.diagonal() - 1).max() < 0.7
    backwards = fit_svs(np.c_[-z[:, :1], z[:, 1:]], labels, split)
    assert backwards.weights.diagonal()[0] == pytest.approx(recalibration.SMALLEST_SLOPE)
    for name in ("vector", "sms", "isotonic"):
        with pytest.raises(ValueError, match=r"one class .* row"):
            FITS[name](z, labels, split)


@pytest.mark.parametrize("ours", ["temperature", "svs", "sms"])
def test_equals_probmetrics(ours):
    peers = np.load(FIXTURES / "calibration_peers.npz")
    n, z = int(peers["rows"]), np.log(peers["p"])
    fitted = FITS[ours](z[:n], peers["labels"][:n], np.full(n, "val"))
    found = calibration.probabilities(fitted(z[n:]), False)
    # probmetrics computes in float32, and stops where its gradient is 1e-5
    np.testing.assert_allclose(found, peers[ours], atol=5e-4 if ours != "temperature" else 1e-5)
    again = from_json(json.loads(json.dumps(to_json(fitted))))
    np.testing.assert_array_equal(again(z), fitted(z))


@pytest.mark.parametrize("name", FITS)
def test_other_splits_and_shapes_are_refused(name):
    z, labels, split = overconfident(rows=20)
    test = np.where(np.arange(20) == 7, "test", "val")
    with pytest.raises(ValueError, match=r"validation rows only.*\['test'\]"):
        FITS[name](z, labels, test)
    with pytest.raises(ValueError, match="transposed"):
        FITS[name](z.T, labels, split)
    with pytest.raises(ValueError, match="class ids 0 to 3"):
        FITS[name](z, labels + 1, split)
    with pytest.raises(ValueError, match="NaN"):
        FITS[name](z * np.where(labels == 1, np.nan, 1)[:, None], labels, split)
    with pytest.raises(ValueError, match="no validation rows"):
        FITS[name](z[:0], labels[:0], split[:0])


@pytest.mark.parametrize("name", ["temperature", "vector", "svs", "sms"])
def test_a_softmax_over_the_rows_is_found_out(name, monkeypatch):
    """The field's mistake: fitted with it, a map is not the one of highest likelihood."""
    z, labels, split = overconfident()
    best = naive_nll(FITS[name](z, labels, split)(z), labels)
    over_rows = lambda logits, multilabel: (
        logits - np.logaddexp.reduce(logits, axis=0, keepdims=True)
    )
    monkeypatch.setattr(calibration, "log_probabilities", over_rows)
    monkeypatch.setattr(calibration, "probabilities", lambda *a: np.exp(over_rows(*a)))
    fitted = FITS[name](z, labels, split)
    monkeypatch.undo()
    assert naive_nll(fitted(z), labels) > best + 1


def test_rows_that_separate_perfectly_leave_finite_parameters():
    labels = np.arange(60) % 3
    z = 5.0 * np.eye(3)[labels]
    split = np.full(60, "val")
    assert 0 < fit_temperature(z, labels, split).temperature < 1
    vector = fit_vector(z, labels, split)
    assert np.isfinite(vector(z)).all()
    assert np.isfinite(fit_isotonic(z, labels, split)(z)).all()
    one = np.zeros(60, int)  # validation rows of a single class
    assert all(np.isfinite(FITS[name](z, one, split)(z)).all() for name in FITS)


def test_a_trial_is_fitted_on_its_own_validation_rows():
    p = multiclass(seeds=(0, 1))
    mine = (p["trial"] == 5) & (p["split"] == "val")
    expected = fit_temperature(p["logits"][mine], p["labels"][mine], p["split"][mine])
    assert (
        fit_trial(p, "last", 5, "temperature")
        == expected
        == Temperature(expected.temperature, 1 / 13)
    )
    others = p | {
        "logits": np.where(mine[:, None], p["logits"], 9 * p["logits"]),
        "labels": np.where(mine, p["labels"], 0),
    }
    assert fit_trial(others, "last", 5, "temperature") == expected
    with pytest.raises(ValueError, match="no validation rows"):
        fit_trial(p | {"split": np.full(len(mine), "test")}, "last", 5, "temperature")
