"""Metrics on arrays, for B weightings of the same rows at once: a bootstrap resample is a row of
`weights` [B, R].

Shapes: R rows, K classes (action units, or the classes of a one-of-K task as one-hot columns), B
weightings; `np.ones((1, R))` is the plain metric. Everything equals scikit-learn with
`sample_weight` to 1e-12, except for one rule: a class that has no positive row (for UAR and ROC-AUC
also: no negative row) under a weighting is NaN there, not 0. NaN means undefined, and `macro` skips
it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:  # checked in the tests (tests/conftest.py)
    from jaxtyping import Bool, Float, Num, Shaped


class Counts(NamedTuple):
    """Weighted confusion counts, each [B, K]."""

    tp: np.ndarray
    fp: np.ndarray
    fn: np.ndarray
    tn: np.ndarray

    def pooled(self) -> Counts:
        """Counts summed over classes, [B, 1], for the micro averages."""
        return Counts(*(c.sum(axis=1, keepdims=True) for c in self))


def confusion_counts(
    presence: Bool[np.ndarray, "R K"],
    decisions: Bool[np.ndarray, "R K"],
    weights: Num[np.ndarray, "B R"],
) -> Counts:
    """Counts of `decisions` against `presence`, both bool [R, K], under `weights` [B, R]."""
    return counted(confusion_cells(presence, decisions), weights)


def confusion_cells(
    presence: Bool[np.ndarray, "R K"], decisions: Bool[np.ndarray, "R K"]
) -> Float[np.ndarray, "R 4*K"]:
    """The cell (of four) of each decision, as one-hot columns float64 [R, 4K]; computed once for
    all blocks of resamples.
    """
    cells = (
        presence & decisions,
        ~presence & decisions,
        presence & ~decisions,
        ~presence & ~decisions,
    )
    return np.concatenate(cells, axis=1).astype(np.float64)


def counted(cells: Float[np.ndarray, "R cells"], weights: Num[np.ndarray, "B R"]) -> Counts:
    """Sums the cells (TP, FP, FN, TN of each class, side by side) of R rows under B weightings."""
    return Counts(*np.split(weights @ cells, 4, axis=1))  # one matrix product, not four small ones


def precision(counts: Counts) -> Float[np.ndarray, "B K"]:
    """TP / (TP + FP), [B, K]; 0 where the class occurs but is never predicted (as F1 then is), NaN
    where it does not occur.
    """
    value = _ratio(counts.tp, counts.tp + counts.fp)
    return np.where(counts.tp + counts.fn > 0, np.nan_to_num(value), np.nan)


def recall(counts: Counts) -> Float[np.ndarray, "B K"]:
    """TP / (TP + FN), [B, K]."""
    return _ratio(counts.tp, counts.tp + counts.fn)


def f1(counts: Counts) -> Float[np.ndarray, "B K"]:
    """2 TP / (2 TP + FP + FN), [B, K]; NaN where the class has no positive row, whatever was
    predicted.
    """
    value = _ratio(2 * counts.tp, 2 * counts.tp + counts.fp + counts.fn)
    return np.where(counts.tp + counts.fn > 0, value, np.nan)


def uar(counts: Counts) -> Float[np.ndarray, "B K"]:
    """Unweighted average recall of one binary decision, [B, K]: the mean of the true positive and
    the true negative rate.
    """
    return (recall(counts) + _ratio(counts.tn, counts.tn + counts.fp)) / 2


def by_support(values: Float[np.ndarray, "B K"], counts: Counts) -> Float[np.ndarray, " B"]:
    """`values` [B, K] of the classes (F1, precision, ...) averaged by support, [B]: scikit-learn's
    average='weighted'.
    """
    support = counts.tp + counts.fn
    return _ratio((np.nan_to_num(values) * support).sum(axis=1), support.sum(axis=1))


def roc_auc_and_average_precision(
    presence: Bool[np.ndarray, "R K"],
    scores: Float[np.ndarray, "R K"],
    weights: Num[np.ndarray, "B R"],
) -> tuple[Float[np.ndarray, "B K"], Float[np.ndarray, "B K"]]:
    """Both [B, K], for `scores` [R, K].

    ROC-AUC is the chance that a positive row scores above a negative one, ties counting half.
    Average precision is the sum over distinct scores of (R_n - R_{n-1}) P_n: the step-wise, not
    interpolated, area of scikit-learn.
    """
    return ranking(presence, scores)(weights)


def ranking(
    presence: Bool[np.ndarray, "R K"], scores: Float[np.ndarray, "R K"]
) -> Callable[[Num[np.ndarray, "B R"]], tuple[Float[np.ndarray, "B K"], Float[np.ndarray, "B K"]]]:
    """`roc_auc_and_average_precision` as a function of the weights alone: the rows are sorted once
    for all blocks of resamples.
    """
    columns = [_segments(y, s) for y, s in zip(presence.T, scores.T, strict=True)]

    def auc_and_ap(
        weights: Num[np.ndarray, "B R"],
    ) -> tuple[Float[np.ndarray, "B K"], Float[np.ndarray, "B K"]]:
        by_row = np.ascontiguousarray(weights.T)  # a class then gathers whole rows of memory
        auc, ap = np.empty((2, len(weights), len(columns)))
        for k, (order, starts, segments, thresholds) in enumerate(columns):
            sums = np.zeros((3 * thresholds + 1, len(weights)))
            if len(order):
                sums[segments] = np.add.reduceat(by_row.take(order, axis=0), starts, axis=0)
            between, positive, tied = sums[0::3], sums[1::3], sums[2::3]
            tp, upto = np.cumsum(positive, axis=0), np.cumsum(between[:-1] + tied, axis=0)
            positives, negatives = positive.sum(axis=0), between.sum(axis=0) + tied.sum(axis=0)
            wins = np.einsum("ub,ub->b", positive, negatives - upto + tied / 2)
            auc[:, k] = _ratio(wins, positives * negatives)
            precision_n = np.divide(tp, tp + upto, out=np.zeros_like(tp), where=positive > 0)
            ap[:, k] = _ratio(np.einsum("ub,ub->b", positive, precision_n), positives)
        return auc, ap

    return auc_and_ap


def _segments(y: np.ndarray, s: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, int]:
    """Rows by decreasing score, cut into runs around the u = 0, 1, ... distinct scores of positive
    rows: 3u holds the negatives between the scores u - 1 and u, 3u + 1 the positives at score u, 3u
    + 2 the negatives at it.

    Returns: order [R], where each run starts in it, the number of that run, and how many distinct
    scores there are.
    """
    distinct = np.unique(-s[y])
    above = np.searchsorted(distinct, -s, "left")
    tied = np.searchsorted(distinct, -s, "right") > above
    run = 3 * above + np.where(y, 1, 2 * tied)
    order = np.argsort(run, kind="stable")
    starts = np.flatnonzero(np.diff(run[order], prepend=-1))
    return order, starts, run[order][starts], len(distinct)


def exact_match(
    presence: Bool[np.ndarray, "R K"],
    decisions: Bool[np.ndarray, "R K"],
    weights: Num[np.ndarray, "B R"],
) -> Float[np.ndarray, " B"]:
    """Share of rows whose K decisions are all right, [B]. On one-hot columns this is the
    accuracy.
    """
    return weighted_mean((presence == decisions).all(axis=1), weights)


def in_top(
    presence: Bool[np.ndarray, "R K"], scores: Float[np.ndarray, "R K"], k: int
) -> Bool[np.ndarray, " R"]:
    """Whether the true class is among the k highest `scores` [R, K], bool [R]; among equal scores,
    the later class ranks first, as in scikit-learn's top_k_accuracy_score. A row with a NaN counts
    as wrong.
    """
    top = np.argsort(scores, axis=1, kind="stable")[:, ::-1][:, :k]
    hit = np.any(np.take_along_axis(presence, top, axis=1), axis=1)
    return hit & ~np.any(np.isnan(scores), axis=1)


def hamming_loss(
    presence: Bool[np.ndarray, "R K"],
    decisions: Bool[np.ndarray, "R K"],
    weights: Num[np.ndarray, "B R"],
) -> Float[np.ndarray, " B"]:
    """Share of the R x K decisions that are wrong, [B]."""
    return weighted_mean((presence != decisions).mean(axis=1), weights)


def weighted_mean(
    row_values: Shaped[np.ndarray, " R"], weights: Num[np.ndarray, "B R"]
) -> Float[np.ndarray, " B"]:
    """Mean of `row_values` [R] under each weighting, [B]."""
    return _ratio(weights @ row_values.astype(np.float64), weights.sum(axis=1))


def macro(
    values: Float[np.ndarray, "B K"], classes: Bool[np.ndarray, " K"]
) -> Float[np.ndarray, " B"]:
    """Unweighted mean of `values` [B, K] over `classes` (bool [K]), skipping values that are
    undefined under that weighting; [B].
    """
    chosen = values[:, classes]
    defined = ~np.isnan(chosen)
    return _ratio(
        np.where(defined, chosen, 0.0).sum(axis=1), defined.sum(axis=1).astype(np.float64)
    )


def _ratio(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
    return np.divide(
        numerator, denominator, out=np.full(np.shape(denominator), np.nan), where=denominator > 0
    )
