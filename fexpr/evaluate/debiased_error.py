"""The debiased squared calibration error (Kumar, Liang and Ma 2019, "Verified uncertainty
calibration", arXiv 1909.10155, section 4): the mean squared gap of bins, minus the bias that chance
adds to it. Without this correction, ECE and its relatives are above 0 even for a perfect model.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:  # checked in the tests (tests/conftest.py)
    from jaxtyping import Float, Int, Num, Shaped

BINS = 15  # bins of equally many rows, as in the package `uncertainty-calibration`


def measures(
    confidence: Float[np.ndarray, "R M"], outcome: Shaped[np.ndarray, "R M"], bins: int = BINS
) -> Callable[[Num[np.ndarray, "B R"]], dict[str, Float[np.ndarray, " B"]]]:
    """The function weights [B, R] -> `debiased_rms` [B], the mean SQUARED gap, and
    `_bias_debiased_rms` [B], the bias to subtract from it. The root is taken last (measure.py),
    since the mean over seeds may be below 0.

    The bias of a bin is the variance of its mean outcome, m (1 - m) / (decisions - 1); a bin of
    fewer than two decisions counts as 0 (equation 5 and the authors' code). The M decisions of a
    row are treated as independent.

    Args:
      confidence, outcome: [R, M], both in [0, 1]; the M decisions of a row share its weight.
    """
    which = equal_bins(confidence.ravel(), bins).reshape(confidence.shape)
    inside = (which[..., None] == np.arange(which.max() + 1)).astype(np.float64)
    of_decisions = (np.ones_like(confidence), confidence - outcome, outcome)
    sums = np.concatenate(
        [np.einsum("rmb,rm->rb", inside, values) for values in of_decisions], axis=1
    )

    def of(weights: Num[np.ndarray, "B R"]) -> dict[str, Float[np.ndarray, " B"]]:
        rows, gap, right = np.split(weights @ sums, 3, axis=1)
        enough, share = rows >= 2, rows / rows.sum(axis=1, keepdims=True)
        count = np.where(enough, rows, 2)
        squared, mean = (gap / count) ** 2, right / count
        bias = mean * (1 - mean) / (count - 1)
        return {
            "debiased_rms": (share * np.where(enough, squared, 0)).sum(axis=1),
            "_bias_debiased_rms": (share * np.where(enough, bias, 0)).sum(axis=1),
        }

    return of


def debiased_rms(
    confidence: Float[np.ndarray, " R"], outcome: Shaped[np.ndarray, " R"], bins: int = BINS
) -> float:
    """The root of the debiased mean squared gap, 0 where that is below 0. [R], [R]."""
    c, y = (np.asarray(a, np.float64)[:, None] for a in (confidence, outcome))
    found = measures(c, y, bins)(np.ones((1, len(c))))
    return float(np.sqrt(max(0.0, (found["debiased_rms"] - found["_bias_debiased_rms"])[0])))


def equal_bins(confidence: Float[np.ndarray, " R"], bins: int) -> Int[np.ndarray, " R"]:
    """The number of each row's bin [R]: bins of equally many rows, that end halfway between the
    last confidence of one and the first of the next; equal ends are one.
    """
    ordered = np.sort(confidence)
    pieces = np.array_split(ordered, min(bins, len(ordered)))
    ends = [(a[-1] + b[0]) / 2 for a, b in zip(pieces[:-1], pieces[1:], strict=True)]
    return np.searchsorted(np.unique(ends), confidence)
