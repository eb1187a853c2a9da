"""Metrics on arrays, for B weightings of the same rows at once: a bootstrap resample is a row of `weights` [B, R].

Shapes: R rows, K classes (action units, or the classes of a one-of-K task as one-hot columns), B weightings; `np.ones((1, R))` is
the plain metric. Everything equals scikit-learn with `sample_weight` to 1e-12, but for one rule: a class that has no positive row
(for UAR and ROC-AUC also: no negative row) under a weighting is NaN there, not 0. NaN means undefined, and `macro` skips it.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np


class Counts(NamedTuple):
    """Weighted confusion counts, each [B, K]."""

    tp: np.ndarray
    fp: np.ndarray
    fn: np.ndarray
    tn: np.ndarray

    def pooled(self) -> Counts:
        """All classes as one, [B, 1]: the counts of the micro averages."""
        return Counts(*(c.sum(axis=1, keepdims=True) for c in self))


def confusion_counts(presence: np.ndarray, decisions: np.ndarray, weights: np.ndarray) -> Counts:
    """Counts of `decisions` against `presence`, both bool [R, K], under `weights` [B, R]."""
    cells = (presence & decisions, ~presence & decisions, presence & ~decisions, ~presence & ~decisions)
    return Counts(*np.split(weights @ np.concatenate(cells, axis=1).astype(np.float64), 4, axis=1))  # one product, not four small ones


def precision(counts: Counts) -> np.ndarray:
    """TP / (TP + FP), [B, K]; 0 where the class occurs but is never predicted (as F1 then is), NaN where it does not occur."""
    value = _ratio(counts.tp, counts.tp + counts.fp)
    return np.where(counts.tp + counts.fn > 0, np.nan_to_num(value), np.nan)


def recall(counts: Counts) -> np.ndarray:
    """TP / (TP + FN), [B, K]."""
    return _ratio(counts.tp, counts.tp + counts.fn)


def f1(counts: Counts) -> np.ndarray:
    """2 TP / (2 TP + FP + FN), [B, K]; NaN where the class has no positive row, whatever was predicted."""
    value = _ratio(2 * counts.tp, 2 * counts.tp + counts.fp + counts.fn)
    return np.where(counts.tp + counts.fn > 0, value, np.nan)


def uar(counts: Counts) -> np.ndarray:
    """Unweighted average recall of one binary decision, [B, K]: the mean of the true positive and the true negative rate."""
    return (recall(counts) + _ratio(counts.tn, counts.tn + counts.fp)) / 2


def weighted_f1(counts: Counts) -> np.ndarray:
    """F1 averaged by support, [B]."""
    support = counts.tp + counts.fn
    return _ratio((np.nan_to_num(f1(counts)) * support).sum(axis=1), support.sum(axis=1))


def roc_auc_and_average_precision(
    presence: np.ndarray, scores: np.ndarray, weights: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Both [B, K], from one sorting of `scores` [R, K].

    ROC-AUC is the chance that a positive row scores above a negative one, ties counting half. Average precision is the sum over
    distinct scores of (R_n - R_{n-1}) P_n: the step-wise, not interpolated, area of scikit-learn.
    """
    by_row = np.ascontiguousarray(weights.T)  # a class then gathers whole rows of memory
    auc, ap = np.empty((2, len(weights), scores.shape[1]))
    for k, (y, s) in enumerate(zip(presence.T, scores.T, strict=True)):
        order = np.argsort(-s, kind="stable")
        rows, others = order[y[order]], order[~y[order]]
        starts = np.flatnonzero(np.diff(s[rows], prepend=np.nan) != 0)  # of the distinct scores of positive rows, highest first
        positive = by_row[rows] if len(starts) == len(rows) else np.add.reduceat(by_row[rows], starts, axis=0)
        tp = np.cumsum(positive, axis=0)
        negatives = np.concatenate([np.zeros((1, len(weights))), np.cumsum(by_row[others], axis=0)])
        above, upto = (negatives[np.searchsorted(-s[others], -s[rows][starts], side)] for side in ("left", "right"))
        wins = np.einsum("ub,ub->b", positive, negatives[-1] - (above + upto) / 2)
        auc[:, k] = _ratio(wins, positive.sum(axis=0) * negatives[-1])
        precision_n = np.divide(tp, tp + upto, out=np.zeros_like(tp), where=positive > 0)
        ap[:, k] = _ratio(np.einsum("ub,ub->b", positive, precision_n), positive.sum(axis=0))
    return auc, ap


def exact_match(presence: np.ndarray, decisions: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Share of rows whose K decisions are all right, [B]. On one-hot columns this is the accuracy."""
    return weighted_mean((presence == decisions).all(axis=1), weights)


def hamming_loss(presence: np.ndarray, decisions: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Share of the R x K decisions that are wrong, [B]."""
    return weighted_mean((presence != decisions).mean(axis=1), weights)


def weighted_mean(row_values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Mean of `row_values` [R] under each weighting, [B]."""
    return _ratio(weights @ row_values.astype(np.float64), weights.sum(axis=1))


def macro(values: np.ndarray, classes: np.ndarray) -> np.ndarray:
    """Unweighted mean of `values` [B, K] over `classes` (bool [K]), skipping what is undefined under that weighting; [B]."""
    chosen = values[:, classes]
    defined = ~np.isnan(chosen)
    return _ratio(np.where(defined, chosen, 0.0).sum(axis=1), defined.sum(axis=1).astype(np.float64))


def _ratio(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
    return np.divide(numerator, denominator, out=np.full(np.shape(denominator), np.nan), where=denominator > 0)
