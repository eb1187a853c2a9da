"""From logits to probabilities, and how well calibrated they are: NLL, Brier score,
calibration errors.

`presence` is bool [R, K] throughout; with `multilabel` every column is an independent decision,
else the columns are one-hot.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from fexpr.probabilities import log_probabilities, probabilities

if TYPE_CHECKING:  # checked in the tests (tests/conftest.py)
    from jaxtyping import Bool, Float, Int, Num, Shaped

BINS = 10
NORMS = ("ece", "adaptive_ece", "classwise_ece")  # sums of absolute gaps


def nll_per_row(
    presence: Bool[np.ndarray, "R K"], logits: Float[np.ndarray, "R K"], multilabel: bool
) -> Float[np.ndarray, " R"]:
    """Negative log likelihood of each row, [R], in nats; the mean over the K decisions if
    multi-label.
    """
    if not multilabel:
        return -log_probabilities(logits, multilabel)[presence]
    return np.logaddexp(0.0, np.where(presence, -1.0, 1.0) * logits.astype(np.float64)).mean(axis=1)


def brier_per_row(
    presence: Bool[np.ndarray, "R K"], logits: Float[np.ndarray, "R K"], multilabel: bool
) -> Float[np.ndarray, " R"]:
    """Squared error of the probabilities, [R]: the mean over K if multi-label, else the sum over
    classes (Brier 1950).
    """
    squared = (probabilities(logits, multilabel) - presence) ** 2
    return squared.mean(axis=1) if multilabel else squared.sum(axis=1)


def confidence_and_outcome(
    presence: Bool[np.ndarray, "R K"], logits: Float[np.ndarray, "R K"], multilabel: bool
) -> tuple[Float[np.ndarray, "R M"], Bool[np.ndarray, "R M"]]:
    """Confidence and outcome, which calibration compares, both [R, M]: P(present) and presence of
    each of M = K action units; for one-of-K tasks the highest probability and whether that class is
    right, M = 1 (Guo et al. 2017, section 2).
    """
    p = probabilities(logits, multilabel)
    if multilabel:
        return p, presence
    top = p.argmax(axis=1, keepdims=True)
    return np.take_along_axis(p, top, axis=1), np.take_along_axis(presence, top, axis=1)


def measures(
    presence: Bool[np.ndarray, "R K"],
    logits: Float[np.ndarray, "R K"],
    multilabel: bool,
    bins: int = BINS,
) -> Callable[[Num[np.ndarray, "B R"]], dict[str, Float[np.ndarray, " B"]]]:
    """The function weights [B, R] -> `nll`, `brier`, `ece`, and for one-of-K tasks `mce`,
    `adaptive_ece`, `classwise_ece`, each [B]; and for each ECE `_noise_<name>` [B], the same norm
    of the difference between the weighted and the plain gaps (bootstrap.norm_interval).

    ECE: sum over equal-width bins (a, b] of (share of decisions in the bin) x |mean confidence -
    mean outcome| (Guo et al. 2017, eq. 3). MCE: the largest such gap (eq. 5). Adaptive ECE: the
    same sum over bins of equally many decisions (Nguyen and O'Connor 2015); the bins are those of
    the unweighted rows, and rows of one confidence share a bin. Class-wise ECE: the ECE of P(class
    k) against the presence of class k, averaged over the K classes (Kull et al. 2019).
    """
    confidence, outcome = confidence_and_outcome(presence, logits, multilabel)
    width, gap = equal_width(confidence, bins), confidence - outcome
    columns = {
        "nll": nll_per_row(presence, logits, multilabel)[:, None],
        "brier": brier_per_row(presence, logits, multilabel)[:, None],
        "gap": _by_bin(gap, width, bins),
    }
    if not multilabel:
        p = probabilities(logits, multilabel)
        by_class = [
            _by_bin((p - presence)[:, [k]], equal_width(p[:, [k]], bins), bins)
            for k in range(p.shape[1])
        ]
        columns |= {
            "rows": _by_bin(np.ones_like(gap), width, bins),
            "adaptive": _by_bin(gap, equal_mass(confidence, bins), bins),
            "class": np.concatenate(by_class, axis=1),
        }
    measures_of_rows, ends = (
        np.concatenate(list(columns.values()), axis=1),
        np.cumsum([c.shape[1] for c in columns.values()])[:-1],
    )

    # name -> the gaps that it adds up, and how many decisions of a row they cover
    sums_of = {"ece": ("gap", confidence.shape[1])}
    if not multilabel:
        sums_of |= {"adaptive_ece": ("adaptive", 1), "classwise_ece": ("class", presence.shape[1])}
    plain = measures_of_rows.mean(axis=0)

    def of(weights: Num[np.ndarray, "B R"]) -> dict[str, Float[np.ndarray, " B"]]:
        means = (weights @ measures_of_rows) / weights.sum(axis=1, keepdims=True)
        mean, noise = (
            dict(zip(columns, np.split(m, ends, axis=1), strict=True))
            for m in (means, means - plain)
        )
        values = {name: mean[name][:, 0] for name in ("nll", "brier")}
        for name, (gaps, decisions) in sums_of.items():
            values[name] = np.abs(mean[gaps]).sum(axis=1) / decisions
            values[f"_noise_{name}"] = np.abs(noise[gaps]).sum(axis=1) / decisions
        if not multilabel:
            gap, rows = mean["gap"], mean["rows"]
            of_bin = np.divide(gap, rows, out=np.zeros_like(gap), where=rows > 0)
            values["mce"] = np.abs(of_bin).max(axis=1)
        return values

    return of


def reliability(
    confidence: Float[np.ndarray, "R M"], outcome: Shaped[np.ndarray, "R M"], bins: int = BINS
) -> dict[str, Num[np.ndarray, " bins"]]:
    """The data of a reliability diagram, by equal-width bin (a, b]: the `count` [bins] of decisions
    in it, their mean `confidence` and `accuracy` (share of right ones), both NaN in an empty bin.
    `confidence`, `outcome`: [R, M].
    """
    which = equal_width(confidence, bins).ravel()
    count = np.bincount(which, minlength=bins)
    sums = (
        np.bincount(which, values.astype(np.float64).ravel(), bins)
        for values in (confidence, outcome)
    )
    means = [np.divide(total, count, out=np.full(bins, np.nan), where=count > 0) for total in sums]
    return {"count": count, "confidence": means[0], "accuracy": means[1]}


def equal_width(
    confidence: Float[np.ndarray, "*shape"], bins: int = BINS
) -> Int[np.ndarray, "*shape"]:
    """The number of the bin (a, b] of equal width that each of `confidence` (any shape) falls into;
    0 belongs to the first.
    """
    return np.searchsorted(np.linspace(0, 1, bins + 1)[1:-1], confidence)


def equal_mass(
    confidence: Float[np.ndarray, "*shape"], bins: int = BINS
) -> Int[np.ndarray, "*shape"]:
    """The bin numbers as in `equal_width`, for bins that end at the quantiles of `confidence`
    itself, so that they hold equally many, except for ties.
    """
    ordered = np.sort(confidence, axis=None)
    ends = np.ceil(np.arange(1, bins) * len(ordered) / bins).astype(int) - 1
    return np.searchsorted(ordered[ends], confidence)


def _by_bin(values: np.ndarray, which: np.ndarray, bins: int) -> np.ndarray:
    """The sum of each row's `values` [R, M] in each bin, [R, bins]."""
    return np.stack([np.where(which == b, values, 0.0).sum(axis=1) for b in range(bins)], axis=1)
