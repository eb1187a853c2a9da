"""Splits log loss and Brier score into what a map of the probabilities could improve and what only
a better model can; and measures confidence that is too high or too low.

As in probmetrics (Berta et al. 2025, "Rethinking early stopping: refine, then calibrate", arXiv
2501.19195): refinement is the loss after a map that was fitted to other rows of the same kind,
calibration is the loss that the map saves. Every row is mapped by a fit to the other blocks of
subjects, so that neither part is optimistic, and both are means over rows, for which the bootstrap
is valid.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from fexpr.evaluate import calibration
from fexpr.evaluate.recalibration import fit_temperature

if TYPE_CHECKING:  # checked in the tests (tests/conftest.py)
    from jaxtyping import Bool, Float, Int, Num, Shaped

BLOCKS = 5
NAMES = (
    "nll_refinement",
    "nll_calibration",
    "brier_refinement",
    "brier_calibration",
    "over_confidence",
    "under_confidence",
)


def blocks_of(
    groups: Shaped[np.ndarray, " R"], blocks: int = BLOCKS, seed: int = 0
) -> Int[np.ndarray, " R"] | None:
    """The number of each row's block [R]; there are at most `blocks`, which share no groups; None
    with a single group.
    """
    from sklearn.model_selection import GroupKFold  # a second, for those alone who measure

    count = min(blocks, len(np.unique(groups)))
    if count < 2:
        return None
    found = np.empty(len(groups), int)
    folds = GroupKFold(count, shuffle=True, random_state=seed)
    for b, (_, held_out) in enumerate(folds.split(groups, groups=groups)):
        found[held_out] = b
    return found


def measures(
    presence: Bool[np.ndarray, "R K"],
    logits: Float[np.ndarray, "R K"],
    groups: Shaped[np.ndarray, " R"],
) -> Callable[[Num[np.ndarray, "B R"]], dict[str, Float[np.ndarray, " B"]]]:
    """The function weights [B, R] -> NAMES, each [B]; NaN with a single group.

    `nll_refinement` + `nll_calibration` is the NLL, and likewise for Brier; the map is a
    temperature. `over_confidence` is the mean of (confidence - right) over the rows whose
    confidence is too high according to the fit to the other blocks, counted as 0 elsewhere,
    `under_confidence` the reverse: an unbiased estimate of the mean gap, 0 on average if there is
    none. Their sum is the proper L1 calibration error of probmetrics' `topclass-proper-L1`.

    Args:
      presence: bool [R, K], one-hot. logits: [R, K].
    """
    blocks = blocks_of(groups)
    if blocks is None:
        return lambda weights: {name: np.full(len(weights), np.nan) for name in NAMES}
    mapped = cross_fitted(presence, logits, blocks)
    columns = []
    for loss in (calibration.nll_per_row, calibration.brier_per_row):
        before, after = (loss(presence, z, False) for z in (logits, mapped))
        columns += [after, before - after]
    (c,), (right,) = (a.T for a in calibration.confidence_and_outcome(presence, logits, False))
    columns += over_and_under(c, right, cross_fitted_rate(c, right, blocks))
    table = np.stack(columns, axis=1)

    def of(weights: Num[np.ndarray, "B R"]) -> dict[str, Float[np.ndarray, " B"]]:
        means = weights @ table / weights.sum(axis=1, keepdims=True)
        return dict(zip(NAMES, means.T, strict=True))

    return of


def cross_fitted(
    presence: Bool[np.ndarray, "R K"],
    logits: Float[np.ndarray, "R K"],
    blocks: Int[np.ndarray, " R"],
) -> Float[np.ndarray, "R K"]:
    """Logits [R, K] after a temperature fitted without the row's block."""
    labels, mapped = presence.argmax(axis=1), np.empty(logits.shape)
    for b in np.unique(blocks):
        others = blocks != b
        # 'val' is justified: no row is measured with a map that has seen it
        split = np.full(others.sum(), "val")
        mapped[~others] = fit_temperature(logits[others], labels[others], split)(logits[~others])
    return mapped


def cross_fitted_rate(
    confidence: Float[np.ndarray, " R"],
    right: Shaped[np.ndarray, " R"],
    blocks: Int[np.ndarray, " R"],
) -> Float[np.ndarray, " R"]:
    """The accuracy expected at each row's confidence [R], by isotonic regression without the row's
    block.
    """
    from sklearn.isotonic import IsotonicRegression

    rate = np.empty(len(confidence))
    for b in np.unique(blocks):
        others = blocks != b
        fitted = IsotonicRegression(y_min=0, y_max=1, out_of_bounds="clip").fit(
            confidence[others], right[others]
        )
        rate[~others] = fitted.predict(confidence[~others])
    return rate


def over_and_under(
    confidence: Float[np.ndarray, " R"],
    right: Shaped[np.ndarray, " R"],
    rate: Float[np.ndarray, " R"],
) -> list[Float[np.ndarray, " R"]]:
    """(confidence - right) of rows whose `rate` is below the confidence, and (right - confidence)
    of rows whose `rate` is above it, 0 elsewhere; both [R].
    """
    gap = confidence - right
    return [np.where(rate < confidence, gap, 0.0), np.where(rate > confidence, -gap, 0.0)]
