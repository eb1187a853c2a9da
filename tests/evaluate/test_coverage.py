"""Do the 95 % intervals of calibration errors hold the true error? Seven classes of known
probabilities, reported as if a temperature T had been forgotten; T = 1 is a perfect model."""

import numpy as np
import pytest

from fexpr.evaluate import calibration, debiased_error
from fexpr.evaluate.measure import measure_confidence
from fexpr.evaluate.scored_rows import ScoredRows

CLASSES = 7


def true_logits(rng, rows):
    return 2.2 * rng.normal(size=(rows, CLASSES))


def truth(temperature, rows=200_000):
    """The errors of infinitely many rows, whose outcome is its own expectation."""
    true = true_logits(np.random.default_rng(9), rows)
    q = calibration.probabilities(true, False)
    p = calibration.probabilities(true / temperature, False)
    top = p.argmax(axis=1)
    c, rate = (a[np.arange(rows), top] for a in (p, q))
    gaps = lambda which, gap, bins: np.bincount(which, gap, bins) / rows
    bins = [calibration.equal_width(c), calibration.equal_mass(c)]
    ece, adaptive = (np.abs(gaps(which, c - rate, 10)).sum() for which in bins)
    classwise = np.mean(
        [
            np.abs(gaps(calibration.equal_width(p[:, k]), p[:, k] - q[:, k], 10)).sum()
            for k in range(CLASSES)
        ]
    )
    which = debiased_error.equal_bins(c, 15)
    square = (np.bincount(which, c - rate) ** 2 / np.bincount(which)).sum() / rows
    return {
        "ece": ece,
        "adaptive_ece": adaptive,
        "classwise_ece": classwise,
        "debiased_rms": np.sqrt(square),
    }


def covered(temperature, rows, reps, resamples):
    """Share of the intervals that hold the true error, of each measure; and the values and ends."""
    rng, expected = np.random.default_rng(rows), truth(temperature)
    if temperature == 1:
        expected = dict.fromkeys((*expected, "smooth_ece"), 0.0)
    hits = dict.fromkeys(expected, 0)
    for seed in range(reps):
        true = true_logits(rng, rows)
        p = calibration.probabilities(true, False)
        labels = (p.cumsum(axis=1)[:, :-1] < rng.random((rows, 1))).sum(axis=1)
        presence, logits = labels[:, None] == np.arange(CLASSES), true / temperature
        answer = ScoredRows(
            presence,
            logits.argmax(axis=1)[:, None] == np.arange(CLASSES),
            calibration.probabilities(logits, False),
            logits,
            np.arange(rows),
            np.zeros(rows, int),
            False,
        )
        found = measure_confidence(answer, resamples, seed, False).summary()
        for name, value in expected.items():
            hits[name] += found[name]["low"] <= value + 1e-12 and value <= found[name]["high"]
        assert all(
            e["value"] is None or n == "mce" or e["low"] <= e["value"] for n, e in found.items()
        )
    return {name: count / reps for name, count in hits.items()}


@pytest.mark.long
@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_intervals_hold_the_true_error(temperature):
    for name, share in covered(temperature, 300, 40, 100).items():
        assert share >= 0.9, (name, share)


@pytest.mark.long
@pytest.mark.nightly
@pytest.mark.parametrize("temperature", [1.0, 0.9, 0.7])
@pytest.mark.parametrize("rows", [300, 1000, 3589])
def test_intervals_hold_the_true_error_at_all_sizes(temperature, rows):
    for name, share in covered(temperature, rows, 100, 200).items():
        assert share >= 0.9, (name, share)
