"""Which calibration map is applied: chosen by cross-fitting on validation rows; possibly none.

A trial's map is fitted on the validation rows of all trials of the run, except those of subjects
that the trial tests: many small trials share one map. Folds are grouped into at most LARGEST_PARTS
parts; the rows of a part's maps contain no subject that the part tests. Validation rows that have a
copy among the training rows are left out: the network has learned their labels, so that a map
fitted to them would make it too sure of new rows.

Within those rows subjects are divided into FOLDS blocks. Each candidate is fitted without a block
and judged on it by its negative log likelihood. From the simplest candidate to the richest, each
replaces the one chosen before if its held-out likelihood is better, by a paired one-sided t-test
over subjects at LEVEL. If none is better, the model's probabilities are left unchanged.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from fexpr.evaluate import calibration
from fexpr.evaluate.predictions import rows_of
from fexpr.evaluate.recalibration import OF_UNITS, fit_sms, fit_svs, fit_temperature
from fexpr.evaluate.scored_rows import presence_of
from fexpr.probabilities import Applied, Identity

if TYPE_CHECKING:  # checked in the tests (tests/conftest.py)
    from jaxtyping import Float, Int, Num, Shaped

NONE = "none"  # the model's own probabilities
# from the simplest; the other maps are shown only
CANDIDATES: dict[str, Callable[[np.ndarray, np.ndarray, np.ndarray], Applied]] = {
    "temperature": fit_temperature,
    "svs": fit_svs,
    "sms": fit_sms,
}
FOLDS = 5
LEVEL = 0.95
LARGEST_PARTS = 10


@dataclasses.dataclass(frozen=True)
class Part:
    """Trials, and the validation rows on which their maps are fitted: `rows` (row numbers of the
    predictions) are of subjects that these trials do not test.
    """

    trials: np.ndarray
    rows: np.ndarray


@dataclasses.dataclass(frozen=True)
class SelectedMap:
    """`name`: of CANDIDATES, or NONE. `held_out`: mean negative log likelihood of each candidate
    and of NONE on rows that it was not fitted on, {} with a single subject.
    `cross_fitted`: the rows' logits [R, K] after the chosen map, each from a fit without the row's
    block of subjects.
    """

    name: str
    fitted: Applied
    held_out: dict[str, float]
    cross_fitted: np.ndarray


def calibration_rows(predictions: dict, selection: str) -> Int[np.ndarray, " rows"]:
    """Row numbers of the validation rows that maps and sets may use: those of trials that did not
    fail, without copies of training rows.
    """
    val = rows_of(predictions, selection, "val")
    allowed = ~predictions["failed"][predictions["trial"][val]]
    if "copy" in predictions:
        allowed &= predictions["copy"][val] == ""
    return val[allowed]


def parts_of(predictions: dict, selection: str) -> list[Part]:
    """The trials that did not fail, in parts with the rows that their maps are fitted on.

    Args:
      predictions: checked; every trial that did not fail has `calibration_rows`.
    """
    working = np.flatnonzero(~predictions["failed"])
    val = calibration_rows(predictions, selection)
    test = rows_of(predictions, selection, "test")
    fold_of = predictions["trial_fold"]
    folds = np.unique(fold_of[working])
    parts = []
    for tested in (folds[i::LARGEST_PARTS] for i in range(min(LARGEST_PARTS, len(folds)))):
        rows = _allowed(predictions, val, test, tested)
        if len(tested) > 1 and not len(rows):
            found = [(f, _allowed(predictions, val, test, f)) for f in tested[:, None]]
        else:
            found = [(tested, rows)]
        parts += [
            Part(working[np.isin(fold_of[working], f)], rows) for f, rows in found if len(rows)
        ]
    return parts


def _allowed(predictions: dict, val: np.ndarray, test: np.ndarray, folds: np.ndarray) -> np.ndarray:
    """The validation rows of subjects that no trial of these folds tests; with a single fold also
    its own, whatever the file's groups.
    """
    fold_of, trial, groups = (predictions[n] for n in ("trial_fold", "trial", "groups"))
    tested = np.unique(groups[test[np.isin(fold_of[trial[test]], folds)]])
    allowed = ~np.isin(groups[val], tested)
    if len(folds) == 1:
        allowed |= fold_of[trial[val]] == folds[0]
    return val[allowed]


def choose(
    logits: Float[np.ndarray, "R K"],
    labels: Num[np.ndarray, "R ..."],
    groups: Shaped[np.ndarray, " R"],
    candidates: Sequence[str] | None = None,
) -> SelectedMap:
    """Chooses the calibration map by cross-fitting on these validation rows.

    Args:
      logits: [R, K]. labels: int [R], or [R, K] of a multi-label task. groups: str [R], the subject
        of each row.
      candidates: names in CANDIDATES, from the simplest; by default all that apply to the task.

    Raises:
      ValueError: as in `recalibration.fit_temperature`.
    """
    logits = np.asarray(logits, np.float64)
    multilabel = labels.ndim == 2
    names = [c for c in candidates or CANDIDATES if not multilabel or c in OF_UNITS]
    presence = presence_of(labels, logits.shape[1])
    blocks = _blocks(groups)
    if blocks.max() == 0:
        return SelectedMap(NONE, Identity(), {}, logits)
    split = np.full(len(logits), "val")
    moved = {NONE: logits} | {name: np.empty_like(logits) for name in names}
    for b in range(blocks.max() + 1):
        out = blocks == b
        for name in names:
            fitted = CANDIDATES[name](logits[~out], labels[~out], split[~out])
            moved[name][out] = fitted(logits[out])
    nll = {name: calibration.nll_per_row(presence, z, multilabel) for name, z in moved.items()}
    chosen = NONE
    for name in names:
        if _is_better(nll[chosen] - nll[name], groups):
            chosen = name
    fitted = Identity() if chosen == NONE else CANDIDATES[chosen](logits, labels, split)
    held_out = {name: float(values.mean()) for name, values in nll.items()}
    return SelectedMap(chosen, fitted, held_out, moved[chosen])


def _is_better(gain: Float[np.ndarray, " R"], groups: Shaped[np.ndarray, " R"]) -> bool:
    """Whether the mean of `gain` [R] is significantly above 0, by its standard error over
    groups.
    """
    names, index = np.unique(groups, return_inverse=True)
    count, mean = len(names), gain.mean()
    deviation = np.bincount(index, gain - mean, count)
    error = np.sqrt(count / (count - 1) * (deviation**2).sum()) / len(gain)
    from scipy.special import stdtrit  # comes with scikit-learn

    return bool(mean > stdtrit(count - 1, LEVEL) * error)


def _blocks(groups: Shaped[np.ndarray, " R"]) -> Int[np.ndarray, " R"]:
    """A number from 0 for each row: groups are assigned as a whole, the largest first, each to the
    block with the fewest rows.
    """
    _, index, counts = np.unique(groups, return_inverse=True, return_counts=True)
    blocks = min(FOLDS, len(counts))
    of_group, sizes = np.empty(len(counts), np.int64), np.zeros(blocks, np.int64)
    for g in np.argsort(-counts, kind="stable"):
        of_group[g] = sizes.argmin()
        sizes[of_group[g]] += counts[g]
    return of_group[index.reshape(-1)]
