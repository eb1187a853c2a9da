"""From logits to probabilities, and how far the probabilities can be believed: NLL, Brier score, expected calibration error.

`presence` is bool [R, K] throughout; with `multilabel` every column is a decision of its own, else the columns are one-hot and
exclude one another.
"""

from __future__ import annotations

import numpy as np

BINS = 10


def probabilities(logits: np.ndarray, multilabel: bool) -> np.ndarray:
    """Sigmoid (multi-label) or softmax of `logits` [R, K], in float64."""
    return np.exp(log_probabilities(logits, multilabel))


def log_probabilities(logits: np.ndarray, multilabel: bool) -> np.ndarray:
    logits = logits.astype(np.float64)
    return -np.logaddexp(0.0, -logits) if multilabel else logits - np.logaddexp.reduce(logits, axis=1, keepdims=True)


def nll_per_row(presence: np.ndarray, logits: np.ndarray, multilabel: bool) -> np.ndarray:
    """Negative log likelihood of each row, [R], in nats; the mean over the K decisions if multi-label."""
    if not multilabel:
        return -log_probabilities(logits, multilabel)[presence]
    return np.logaddexp(0.0, np.where(presence, -1.0, 1.0) * logits.astype(np.float64)).mean(axis=1)


def brier_per_row(presence: np.ndarray, logits: np.ndarray, multilabel: bool) -> np.ndarray:
    """Squared error of the probabilities, [R]: the mean over K if multi-label, else the sum over classes (Brier 1950)."""
    squared = (probabilities(logits, multilabel) - presence) ** 2
    return squared.mean(axis=1) if multilabel else squared.sum(axis=1)


def confidence_and_outcome(presence: np.ndarray, logits: np.ndarray, multilabel: bool) -> tuple[np.ndarray, np.ndarray]:
    """What calibration compares, both [R, M]: P(present) with presence for each of M = K action units; for one-of-K tasks the
    highest probability with whether that class is right, M = 1 (Guo et al. 2017, section 2)."""
    p = probabilities(logits, multilabel)
    if multilabel:
        return p, presence
    top = p.argmax(axis=1, keepdims=True)
    return np.take_along_axis(p, top, axis=1), np.take_along_axis(presence, top, axis=1)


def expected_calibration_error(confidence: np.ndarray, outcome: np.ndarray, weights: np.ndarray, bins: int = BINS) -> np.ndarray:
    """Sum over equal-width bins of (share of decisions in the bin) x |mean confidence - mean outcome| (Guo et al. 2017, eq. 3).

    Args:
      confidence, outcome: [R, M], both in [0, 1]; the M decisions of a row are pooled and share its weight.
      weights: [B, R].

    Returns:
      [B].
    """
    which = np.searchsorted(np.linspace(0, 1, bins + 1)[1:-1], confidence)
    gap = confidence - outcome
    gap_per_row = np.stack([np.where(which == b, gap, 0.0).sum(axis=1) for b in range(bins)], axis=1)
    return np.abs(weights @ gap_per_row).sum(axis=1) / (weights.sum(axis=1) * confidence.shape[1])
