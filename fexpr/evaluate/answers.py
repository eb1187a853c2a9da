"""What a model or a baseline says about the rows of predictions.npz: truth, decisions, scores, ready to be measured.

Labels become `presence`, bool [R, K] (an action unit's intensity above 0, or a class id as one-hot columns), so that F1, ROC-AUC
and the rest are the same functions of columns for both kinds of task. Whatever is fitted here is fitted per trial, on that
trial's training counts or validation rows.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from fexpr.errors import UserError
from fexpr.evaluate import calibration
from fexpr.evaluate.thresholds import FIXED, fit_thresholds

SELECTIONS = ("last", "best_val", "oracle")


@dataclasses.dataclass(frozen=True)
class Answer:
    """What a model, or a baseline, said about R rows.

    Attributes:
      presence: bool [R, K], the truth.
      decisions: bool [R, K].
      scores: float64 [R, K], what ROC-AUC and average precision rank by.
      logits: float64 [R, K], or None where it gives no probabilities (their metrics are then undefined).
      groups: str [R].
      multilabel: whether the columns are decisions of their own or exclude one another.
    """

    presence: np.ndarray
    decisions: np.ndarray
    scores: np.ndarray
    logits: np.ndarray | None
    groups: np.ndarray
    multilabel: bool


def presence_of(labels: np.ndarray, classes: int) -> np.ndarray:
    """bool [R, K] from intensities [R, K] (above 0) or class ids [R] (one-hot)."""
    return labels > 0 if labels.ndim == 2 else labels[:, None] == np.arange(classes)


def decide(logits: np.ndarray, thresholds: np.ndarray | None) -> np.ndarray:
    """bool [R, K]: at or above the thresholds (same shape, or broadcast), or the one-hot argmax where `thresholds` is None."""
    if thresholds is None:
        return logits.argmax(axis=1)[:, None] == np.arange(logits.shape[1])
    return calibration.probabilities(logits, True) >= thresholds


def rows_of(predictions: dict, selection: str, split: str) -> np.ndarray:
    return np.flatnonzero((predictions["selection"] == selection) & (predictions["split"] == split))


def trial_thresholds(predictions: dict, selection: str) -> tuple[np.ndarray | None, np.ndarray | None]:
    """Thresholds [T, K] and where they came from, each trial's from its own validation rows; None for one-of-K tasks."""
    if np.asarray(predictions["labels"]).ndim == 1:
        return None, None
    trials, k = predictions["train_positives"].shape
    values, origin = np.full((trials, k), 0.5), np.full((trials, k), FIXED, dtype="U6")  # room for 'pooled'
    val = rows_of(predictions, selection, "val")
    for t in np.unique(predictions["trial"][val]):
        rows = val[predictions["trial"][val] == t]
        p = calibration.probabilities(predictions["logits"][rows], True)
        values[t], origin[t] = fit_thresholds(p, predictions["labels"][rows] > 0, predictions["split"][rows])
    return values, origin


def model_answer(predictions: dict, selection: str, split: str, thresholds: np.ndarray | None) -> Answer:
    rows = rows_of(predictions, selection, split)
    logits = predictions["logits"][rows].astype(np.float64)
    decisions = decide(logits, None if thresholds is None else thresholds[predictions["trial"][rows]])
    labels = predictions["labels"][rows]
    scores = logits if labels.ndim == 2 else calibration.probabilities(logits, False)
    return Answer(presence_of(labels, logits.shape[1]), decisions, scores, logits, predictions["groups"][rows], labels.ndim == 2)


def baseline_answers(predictions: dict, selection: str, test: Answer) -> dict[str, Answer]:
    """Predictors that see only the training labels of the row's trial. `prevalence` answers with the training prevalence, half a
    row added to each count so that what was never seen is not impossible, and decides present above one half (or the most
    frequent class). Over pooled leave-one-out trials its ROC-AUC falls below 0.5: a subject rich in a class leaves few behind."""
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


def check(predictions: dict[str, np.ndarray], selection: str) -> None:
    if selection == "oracle":
        raise UserError(
            "config.train.selection is 'oracle': the best epoch on the test rows is not a result",
            fix="choose 'last' or 'best_val'; the oracle is reported beside it in any case",
        )
    found = sorted(set(predictions["selection"].tolist()))
    if selection not in found:
        raise UserError(f"the predictions hold no selection {selection!r}", [f"expected one of {found}, found {selection!r}"])
    n, k = predictions["logits"].shape
    problems = [f"{name}: {len(predictions[name])} rows, logits have {n}"
                for name in ("ids", "groups", "labels", "trial", "split", "selection") if len(predictions[name]) != n]
    trials = int(predictions["trial"].max()) + 1
    if predictions["train_positives"].ndim != 2 or predictions["train_positives"].shape[1] != k:
        problems.append(f"train_positives: shape {predictions['train_positives'].shape}, expected (trials, {k})")
    problems += [f"{name}: {len(predictions[name])} trials, expected at least {trials}"
                 for name in ("train_positives", "train_rows") if len(predictions[name]) < trials]
    problems += [f"unknown {name} {sorted(extra)}" for name, known in (("selection", SELECTIONS), ("split", ("val", "test")))
                 if (extra := set(predictions[name].tolist()) - set(known))]
    if not np.isfinite(predictions["logits"]).all():
        problems.append(f"logits: {int((~np.isfinite(predictions['logits'])).any(axis=1).sum())} rows with NaN or infinity")
    if len(predictions["class_names"]) != k:
        problems.append(f"class_names: {len(predictions['class_names'])} names, logits have {k} columns")
    if not len(problems) and not len(rows_of(predictions, selection, "test")):
        problems.append(f"no test row under selection {selection!r}")
    if problems:
        raise ValueError("predictions do not fit together: " + "; ".join(problems))
