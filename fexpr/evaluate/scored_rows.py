"""The predictions of a model or a baseline for the rows of predictions.npz: labels, decisions,

scores, ready to be measured.

Labels become `presence`, bool [R, K] (an action unit's intensity above 0, or a class id as one-hot
columns), so that F1, ROC-AUC and the rest are the same functions of columns for both kinds of task.
Everything that is fitted here is fitted for each trial, on its training counts or validation rows.

A trial that turned NaN has no predictions, and each of its rows counts as wrong: a one-of-K row
predicts no class (and so misses the true one), every action unit of a multi-label row is decided
wrongly. It has no scores or probabilities, so every metric of scores (ROC-AUC, average precision,
NLL, Brier, ECE) is undefined for a pool that holds such rows.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import numpy as np

from fexpr.evaluate import calibration
from fexpr.evaluate.predictions import rows_of, seed_of
from fexpr.evaluate.thresholds import FAILED, FIXED, fit_thresholds

if TYPE_CHECKING:  # checked in the tests (tests/conftest.py)
    from jaxtyping import Bool, Float, Int, Num, Shaped


@dataclasses.dataclass(frozen=True)
class ScoredRows:
    """Predictions of a model, or of a baseline, for R rows.

    Attributes:
      presence: bool [R, K], the truth.
      decisions: bool [R, K].
      scores: float64 [R, K], what ROC-AUC and average precision rank by; NaN for failed trials.
      logits: float64 [R, K], or None if there are no probabilities (their metrics are then
          undefined); NaN as in scores.
      groups: str [R].
      seeds: int [R], ascending: the rows of one seed are one pool.
      multilabel: whether the columns are independent decisions (else they exclude one another).
    """

    presence: Bool[np.ndarray, "R K"]
    decisions: Bool[np.ndarray, "R K"]
    scores: Float[np.ndarray, "R K"]
    logits: Float[np.ndarray, "R K"] | None
    groups: Shaped[np.ndarray, " R"]
    seeds: Int[np.ndarray, " R"]
    multilabel: bool

    def at(self, rows: Shaped[np.ndarray, " rows"] | slice) -> ScoredRows:
        """The predictions of some of the rows."""
        return ScoredRows(
            self.presence[rows],
            self.decisions[rows],
            self.scores[rows],
            None if self.logits is None else self.logits[rows],
            self.groups[rows],
            self.seeds[rows],
            self.multilabel,
        )

    def known_logits(self) -> Float[np.ndarray, "R K"]:
        """The logits float64 [R, K] of an answer that gives probabilities.

        Raises:
          ValueError: it gives none.
        """
        if self.logits is None:
            raise ValueError("this answer gives no probabilities")
        return self.logits

    def pools(self) -> list[slice]:
        """The rows of each seed."""
        starts = np.flatnonzero(np.diff(self.seeds, prepend=self.seeds[0] - 1))
        return [slice(a, b) for a, b in zip(starts, [*starts[1:], len(self.seeds)], strict=True)]

    def failed(self) -> Bool[np.ndarray, " R"]:
        """The rows without predictions, bool [R]."""
        return np.any(np.isnan(self.scores), axis=1)

    def decided_at(self, threshold: float) -> Bool[np.ndarray, "R K"]:
        """Decisions bool [R, K] of a multi-label task at a threshold; without probabilities the
        decisions are the same at any threshold.
        """
        if self.logits is None:
            return self.decisions
        return np.where(
            self.failed()[:, None],
            ~self.presence,
            decide(np.nan_to_num(self.logits), np.array(threshold)),
        )


def presence_of(labels: Num[np.ndarray, "R ..."], classes: int) -> Bool[np.ndarray, "R {classes}"]:
    """Presence bool [R, K] from intensities [R, K] (above 0) or class ids [R] (one-hot)."""
    return labels > 0 if labels.ndim == 2 else labels[:, None] == np.arange(classes)


def decide(
    logits: Float[np.ndarray, "R K"], thresholds: Float[np.ndarray, "*shape"] | None
) -> Bool[np.ndarray, "R K"]:
    """Decisions bool [R, K]: at or above the thresholds (same shape, or broadcast), or the one-hot
    argmax where `thresholds` is None.
    """
    if thresholds is None:
        return logits.argmax(axis=1)[:, None] == np.arange(logits.shape[1])
    return calibration.probabilities(logits, True) >= thresholds


def trial_thresholds(
    predictions: dict, selection: str
) -> tuple[Float[np.ndarray, "T K"], Shaped[np.ndarray, "T K"]] | None:
    """Thresholds [T, K] and where they came from, each trial's from its own validation rows; None
    for one-of-K tasks.
    """
    if np.asarray(predictions["labels"]).ndim == 1:
        return None
    trials, k = predictions["train_positives"].shape
    # room for 'pooled'
    values, origin = np.full((trials, k), 0.5), np.full((trials, k), FIXED, dtype="U6")
    origin[predictions["failed"]] = FAILED
    val = rows_of(predictions, selection, "val")
    trial_of_val = predictions["trial"][val]
    for t in np.setdiff1d(trial_of_val, np.flatnonzero(predictions["failed"])):
        rows = val[trial_of_val == t]
        p = calibration.probabilities(predictions["logits"][rows], True)
        values[t], origin[t] = fit_thresholds(
            p, predictions["labels"][rows] > 0, predictions["split"][rows]
        )
    return values, origin


def model_rows(
    predictions: dict, selection: str, split: str, thresholds: Float[np.ndarray, "T K"] | None
) -> ScoredRows:
    """The rows of `split` under `selection` as the model decides them.

    Args:
      predictions: checked, as in predictions.npz. thresholds: [T, K], of each trial's action units;
          None: decisions are made at 0.5, or by the largest logit.
    """
    rows = rows_of(predictions, selection, split)
    logits, labels = predictions["logits"][rows].astype(np.float64), predictions["labels"][rows]
    multilabel, failed = labels.ndim == 2, np.isnan(logits).any(axis=1, keepdims=True)
    presence, finite = presence_of(labels, logits.shape[1]), np.where(failed, 0.0, logits)
    decisions = decide(
        finite, None if thresholds is None else thresholds[predictions["trial"][rows]]
    )
    decisions = np.where(failed, ~presence & multilabel, decisions)
    scores = np.where(
        failed, np.nan, finite if multilabel else calibration.probabilities(finite, False)
    )
    return ScoredRows(
        presence,
        decisions,
        scores,
        logits,
        predictions["groups"][rows],
        seed_of(predictions, rows),
        multilabel,
    )


def baseline_rows(predictions: dict, selection: str, test: ScoredRows) -> dict[str, ScoredRows]:
    """Predictors that see only the training labels of the row's trial. `prevalence` predicts the
    training prevalence, with half a row added to each count so that unseen classes are not
    impossible, and decides present above one half (or the most frequent class). Over pooled
    leave-one-out trials its ROC-AUC falls below 0.5, as leaving out a subject rich in a class
    lowers its prevalence.
    """
    trial = predictions["trial"][rows_of(predictions, selection, "test")]
    seen = predictions["train_positives"].astype(np.float64)[trial]
    absent = predictions["train_rows"].astype(np.float64)[trial][:, None] - seen
    logits = np.log(seen + 0.5) - np.log(absent + 0.5) if test.multilabel else np.log(seen + 0.5)
    if test.multilabel:
        decisions, constant, name = seen > absent, np.ones_like(test.decisions), "always_positive"
    else:
        decisions = constant = decide(logits, None)
        name = "majority"
    flat = np.zeros_like(logits)
    scores = logits if test.multilabel else calibration.probabilities(logits, False)
    return {
        name: dataclasses.replace(test, decisions=constant, scores=flat, logits=None),
        "prevalence": dataclasses.replace(test, decisions=decisions, scores=scores, logits=logits),
    }
