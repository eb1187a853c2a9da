"""Calibration errors of a perfectly calibrated model: those of labels drawn from the model's own
probabilities, that is, the errors due to chance alone on this number of rows.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from fexpr.evaluate import calibration, smooth_error

if TYPE_CHECKING:  # checked in the tests (tests/conftest.py)
    from jaxtyping import Float

DRAWS = 200
LEVEL = 0.95  # share of the draws below `high`


def perfect_errors(
    p: Float[np.ndarray, "R K"], bins: int = calibration.BINS, draws: int = DRAWS, seed: int = 0
) -> dict[str, dict[str, float]]:
    """`ece`, `adaptive_ece`, `classwise_ece`, `mce`, `smooth_ece` -> their mean, `value`, and
    `high`, below which LEVEL of the draws lie.

    Args:
      p: [R, K], probabilities of exclusive classes. Rows are drawn independently.
    """
    (rows, k), rng = p.shape, np.random.default_rng(seed)
    top = p.argmax(axis=1)
    confidence = p[np.arange(rows), top]
    width, mass = (f(confidence, bins) for f in (calibration.equal_width, calibration.equal_mass))
    of_class = calibration.equal_width(p, bins) + bins * np.arange(k)
    sums = np.bincount(of_class.ravel(), p.ravel(), k * bins)
    count = np.maximum(np.bincount(width, minlength=bins), 1)
    found: dict[str, list[float]] = {
        name: [] for name in ("ece", "adaptive_ece", "classwise_ece", "mce")
    }
    hits = []
    cumulative = p.cumsum(axis=1)[:, :-1]
    for _ in range(draws):
        drawn = (cumulative < rng.random((rows, 1))).sum(axis=1)
        gap = confidence - (drawn == top)
        in_bins = np.bincount(width, gap, bins)
        present = np.bincount(of_class[np.arange(rows), drawn], minlength=k * bins)
        found["ece"].append(np.abs(in_bins).sum() / rows)
        found["mce"].append(np.abs(in_bins / count).max())
        found["adaptive_ece"].append(np.abs(np.bincount(mass, gap, bins)).sum() / rows)
        found["classwise_ece"].append(np.abs(sums - present).sum() / (rows * k))
        hits.append(drawn == top)
    found["smooth_ece"] = smooth_error.smooth_errors(confidence, np.array(hits)).tolist()
    return {
        name: {"value": float(np.mean(v)), "high": float(np.quantile(v, LEVEL))}
        for name, v in found.items()
    }
