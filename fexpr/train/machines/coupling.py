"""Probabilities of several classes from one-against-one machines."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float
from scipy.special import expit  # comes with scikit-learn

LEAST = 1e-7  # smallest probability of a pair's loser, as in libsvm


def coupled(
    margins: Float[np.ndarray, "R pairs"], classes: int
) -> Float[np.ndarray, "R {classes}"]:
    """Probabilities float64 [R, K] that agree best with the pairwise probabilities
    (Wu, Lin and Weng 2004, section 4).

    A margin counts as half the log odds of its pair's first class, r = sigmoid(2 x margin)
    (Friedman, Hastie and Tibshirani 2000). The p minimise the sum over pairs of (r_ji p_i - r_ij
    p_j)^2 and add up to 1; none is negative.

    Args:
      margins: [R, K (K - 1) / 2], of the pairs (0, 1), (0, 2), ... (1, 2), ..., above 0 where the
        first class wins, as in scikit-learn's decision_function_shape='ovo'. classes: K, at least
        2.
    """
    first, second = np.triu_indices(classes, 1)
    odds = np.zeros((len(margins), classes, classes))
    odds[:, first, second], odds[:, second, first] = margins, -margins
    wins = np.clip(expit(2 * odds), LEAST, 1 - LEAST)  # [R, i, j]: of i over j; 1/2 over itself
    # the quadratic form, bordered by the sum and its multiplier
    system = np.ones((len(margins), classes + 1, classes + 1))
    system[:, :-1, :-1] = -wins * wins.transpose(0, 2, 1)
    system[:, range(classes), range(classes)] = (wins**2).sum(1) - 0.25
    system[:, -1, -1] = 0
    p = np.linalg.solve(system, np.eye(classes + 1)[:, -1:])[:, :-1, 0]
    return np.maximum(p, LEAST)  # rounding may make it negative
