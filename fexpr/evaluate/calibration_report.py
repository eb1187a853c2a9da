"""Calibration before and after each map of `recalibration`, and selective prediction: the test rows
of a one-of-K task, judged again.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from fexpr.evaluate import calibration, recalibration, selective
from fexpr.evaluate.measure import measure_confidence
from fexpr.evaluate.predictions import rows_of
from fexpr.evaluate.scored_rows import ScoredRows, decide

NONE = "none"  # the model's own probabilities
SORTED_BY = (NONE, "temperature")  # selective prediction is shown with these


def calibration_report(
    predictions: dict, selection: str, test: ScoredRows, resamples: int, seed: int
) -> dict[str, dict]:
    """The entries `calibration` and `selective` of metrics.json, both empty for multi-label tasks.

    `calibration`: 'none' and the name of each map -> its metrics as in M; `reliability` by bin
    (`count`: mean over seeds);
    `ece_if_perfect`, the ECE that a perfectly calibrated model with these confidences would show on
    so many rows; `parameters` by trial, None for one that failed. Each trial's rows go through the
    map fitted on that trial's validation rows. Without validation rows there are no maps, and
    `unavailable` says why.
    `selective`: for the model's own probabilities and after temperature scaling, AURC and
    accuracies at fixed coverages as in M, and the `curve` of risk by `coverage` (mean over seeds).
    """
    if test.multilabel:
        return {"calibration": {}, "selective": {}}
    answers, parameters, why = {NONE: test}, {NONE: {}}, _unavailable(predictions, selection)
    for name in recalibration.FITS if not why else ():
        answers[name], parameters[name] = _mapped(predictions, selection, test, name)
    table, chosen = {}, {}
    for name, answer in answers.items():
        m = measure_confidence(answer, resamples, seed, name in SORTED_BY).summary()
        sorting = {
            key: m.pop(key) for key in tuple(m) if key == "aurc" or key.startswith("accuracy_at_")
        }
        table[name] = m | by_bin(answer) | {"parameters": parameters[name]}
        if sorting:
            chosen[name] = sorting | {"curve": _curve(answer)}
    return {"calibration": table | ({"unavailable": why} if why else {}), "selective": chosen}


def _unavailable(predictions: dict, selection: str) -> str:
    """Why no map can be fitted; '' if all can."""
    trials = np.flatnonzero(~predictions["failed"])
    if not len(trials):
        return "every trial failed"
    without = np.setdiff1d(trials, predictions["trial"][rows_of(predictions, selection, "val")])
    if len(without) == len(trials):
        return "there are no validation rows to fit a map on, and test rows are no substitute"
    return (
        f"{len(without)} of {len(trials)} trials have no validation rows to fit a map on"
        if len(without)
        else ""
    )


def _mapped(
    predictions: dict, selection: str, test: ScoredRows, name: str
) -> tuple[ScoredRows, dict[str, list]]:
    """The test rows after the map of their own trial, and the parameters of the maps by trial."""
    trial, failed = predictions["trial"][rows_of(predictions, selection, "test")], test.failed()
    logits, parameters = np.full_like(test.logits, np.nan), [None] * len(predictions["failed"])
    for t in np.flatnonzero(~predictions["failed"]):
        fitted = recalibration.fit_trial(predictions, selection, t, name)
        logits[trial == t], parameters[t] = fitted(test.logits[trial == t]), fitted.parameters()
    finite = np.where(failed[:, None], 0.0, logits)
    scores = np.where(failed[:, None], np.nan, calibration.probabilities(finite, False))
    answer = dataclasses.replace(
        test, logits=logits, scores=scores, decisions=decide(finite, None) & ~failed[:, None]
    )
    keys = next(p for p in parameters if p is not None)
    return answer, {key: [p and p[key] for p in parameters] for key in keys}


def by_bin(answer: ScoredRows) -> dict[str, dict | float | None]:
    """`reliability` and `ece_if_perfect` of a one-of-K answer; None where a failed trial owes
    probabilities.
    """
    if answer.failed().any():
        return {"reliability": None, "ece_if_perfect": None}
    confidence, outcome = calibration.confidence_and_outcome(answer.presence, answer.logits, False)
    seeds, bins = len(answer.pools()), calibration.reliability(confidence, outcome)
    plain = {
        name: [None if np.isnan(v) else v for v in bins[name].tolist()]
        for name in ("confidence", "accuracy")
    }
    edges = np.linspace(0, 1, calibration.BINS + 1).round(9).tolist()
    return {
        "reliability": {"edges": edges, "count": (bins["count"] / seeds).tolist(), **plain},
        "ece_if_perfect": float(
            np.mean([calibration.ece_if_perfect(confidence[pool, 0]) for pool in answer.pools()])
        ),
    }


def _curve(answer: ScoredRows) -> dict[str, list] | None:
    if answer.failed().any():
        return None
    right = (answer.presence & answer.decisions).any(axis=1)
    risks = [
        selective.curve(answer.scores[pool].max(axis=1), right[pool]) for pool in answer.pools()
    ]
    return {"coverage": selective.CURVE.round(9).tolist(), "risk": np.mean(risks, axis=0).tolist()}
