"""Every measure of calibration against loops that anybody can check."""

import numpy as np
import pytest
from sklearn.calibration import calibration_curve

from fexpr.evaluate import calibration


@pytest.fixture(params=[0, 1])
def case(request):
    """Labels [R], logits [R, K], integer weights [R] with zeros; confidences with ties."""
    rng = np.random.default_rng(request.param)
    labels = rng.integers(0, 4, 150)
    return (
        labels,
        np.round(2 * rng.normal(size=(150, 4)) + np.eye(4)[labels], 1),
        rng.integers(0, 3, 150),
    )


def softmax(row):
    e = [np.exp(v - max(row)) for v in row]
    return [v / sum(e) for v in e]


def naive(labels, logits, bins_of=None, bins=10):
    """ECE, MCE, adaptive and class-wise ECE row by row. bins_of: rows whose confidences make the
    adaptive bins.
    """
    p = [softmax(row) for row in logits]
    top = [max(row) for row in p]
    right = [row.index(max(row)) == y for row, y in zip(p, labels, strict=True)]

    def gaps(confidence, outcome, low, high):
        inside = [i for i, c in enumerate(confidence) if low < c <= high]
        if not inside:
            return 0.0, 0.0
        gap = abs(np.mean([confidence[i] for i in inside]) - np.mean([outcome[i] for i in inside]))
        return gap, gap * len(inside) / len(confidence)

    edges = [(b / bins, (b + 1) / bins) for b in range(bins)]
    edges[0] = (-1, edges[0][1])
    ordered = sorted(top if bins_of is None else [max(softmax(row)) for row in bins_of])
    ends = [ordered[int(np.ceil(b * len(ordered) / bins)) - 1] for b in range(1, bins)]
    mass = list(zip([-1, *ends], [*ends, 1.1], strict=True))
    classes = [
        sum(gaps([row[k] for row in p], [y == k for y in labels], *e)[1] for e in edges)
        for k in range(len(p[0]))
    ]
    return {
        "ece": sum(gaps(top, right, *e)[1] for e in edges),
        "mce": max(gaps(top, right, *e)[0] for e in edges),
        "adaptive_ece": sum(gaps(top, right, *e)[1] for e in mass if e[0] < e[1]),
        "classwise_ece": np.mean(classes),
    }


def test_measures_equal_loops(case):
    labels, logits, weights = case
    presence = labels[:, None] == np.arange(4)
    found = calibration.measures(presence, logits, False)(
        np.stack([np.ones(150), weights]).astype(float)
    )
    plain, repeated = (
        naive(labels, logits),
        naive(np.repeat(labels, weights), np.repeat(logits, weights, axis=0), logits),
    )
    for name in ("mce", *calibration.NORMS):
        assert found[name] == pytest.approx([plain[name], repeated[name]], abs=1e-12), name
    p = np.array([softmax(row) for row in logits])
    assert found["nll"][0] == pytest.approx(-np.mean(np.log(p[presence])), abs=1e-12)
    assert found["brier"][0] == pytest.approx(((p - presence) ** 2).sum(1).mean(), abs=1e-12)


def test_adaptive_bins_hold_equally_many_and_never_part_ties():
    counts = np.bincount(calibration.equal_mass(np.random.default_rng(0).random(1003), 10))
    assert len(counts) == 10
    assert set(counts.tolist()) == {100, 101}
    assert len(np.unique(calibration.equal_mass(np.full(50, 0.3)))) == 1


def test_reliability_is_scikit_learns_curve_with_counts(case):
    labels, logits, _ = case
    confidence, outcome = calibration.confidence_and_outcome(
        labels[:, None] == np.arange(4), logits, False
    )
    bins = calibration.reliability(confidence, outcome)
    rate, mean = calibration_curve(outcome[:, 0], confidence[:, 0], n_bins=10)
    full = bins["count"] > 0
    np.testing.assert_allclose(bins["accuracy"][full], rate, atol=1e-12)
    np.testing.assert_allclose(bins["confidence"][full], mean, atol=1e-12)
    assert np.isnan(bins["accuracy"][~full]).all()
    assert bins["count"].sum() == 150
    presence = labels[:, None] == np.arange(4)
    (ece,) = calibration.measures(presence, logits, False)(np.ones((1, 150)))["ece"]
    assert ece == pytest.approx(np.sum(bins["count"][full] / 150 * np.abs(rate - mean)), abs=1e-12)
