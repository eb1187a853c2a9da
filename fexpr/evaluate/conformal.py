"""Split conformal prediction: sets of classes that contain the true one with a given probability.

A score says how badly a class fits a row. The threshold is a quantile of the true classes' scores
on calibration rows; a new row's set consists of the classes whose score is not above it. If
calibration rows and new rows are exchangeable, the set contains the true class with at least the
requested probability, however wrong the model is (Vovk et al. 2005). For action units the score of
a row is that of its worst present unit, so that the set contains every present unit with that
probability.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from fexpr.probabilities import lac

if TYPE_CHECKING:  # checked in the tests (tests/conftest.py)
    from jaxtyping import Bool, Float, Shaped

RAPS_PENALTY, RAPS_FREE = 0.1, 2  # added for each class beyond the first FREE, in `raps`


def aps(
    p: Float[np.ndarray, "R K"], u: Float[np.ndarray, " R"] | None = None
) -> Float[np.ndarray, "R K"]:
    """The probability of all classes at least as likely, minus a share `u` [R] of the class's own
    probability (Romano et al. 2020, equation 9); without `u` nothing is subtracted. Sets are larger
    for harder rows. [R, K] -> [R, K].
    """
    order = np.argsort(-p, axis=1, kind="stable")
    whole = np.take_along_axis(p, order, axis=1).cumsum(axis=1)
    scores = np.empty_like(p)
    np.put_along_axis(scores, order, whole, axis=1)
    return scores if u is None else scores - u[:, None] * p


def raps(
    p: Float[np.ndarray, "R K"],
    u: Float[np.ndarray, " R"] | None = None,
    penalty: float = RAPS_PENALTY,
    free: float = RAPS_FREE,
) -> Float[np.ndarray, "R K"]:
    """`aps` plus `penalty` for each rank of the class beyond the first `free` (Angelopoulos et al.
    2021), which avoids large sets. [R, K] -> [R, K].
    """
    places = np.argsort(np.argsort(-p, axis=1, kind="stable"), axis=1) + 1
    return aps(p, u) + penalty * np.maximum(places - free, 0)


SCORES: dict[str, Callable[..., np.ndarray]] = {"lac": lac, "aps": aps, "raps": raps}


def true_scores(
    scores: Float[np.ndarray, "R K"], presence: Bool[np.ndarray, "R K"]
) -> Float[np.ndarray, " R"]:
    """The score of each row's true class, or of the worst of its present units; 0 where nothing is
    present. `scores`, `presence`: [R, K] -> [R]."""
    return np.where(presence, scores, 0.0).max(axis=1)


def threshold(
    scores: Float[np.ndarray, " R"], ids: Shaped[np.ndarray, " R"], coverage: float
) -> float:
    """The highest score in a set: the ceil((n + 1) coverage)-th smallest of n calibration
    rows' scores; infinity if n is too small for this coverage.

    Args:
      scores: [R], `true_scores` of calibration rows. ids: str [R], the data row of each: a row that
          several trials validated counts as one, with equal weight on each of its scores.
      coverage: above 0 and below 1.
    """
    _, index, counts = np.unique(ids, return_inverse=True, return_counts=True)
    order = np.argsort(scores, kind="stable")
    reached = np.cumsum(1 / counts[index.reshape(-1)][order]) / (len(counts) + 1)
    at = np.searchsorted(reached, coverage - 1e-9)
    return float(scores[order[at]]) if at < len(scores) else np.inf
