"""Calibration before and after each map of `recalibration`, the map that is applied, selective
prediction and prediction sets, all measured on test rows.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from fexpr.evaluate import calibration, selective, smooth_error
from fexpr.evaluate.calibration_maps import Map
from fexpr.evaluate.map_choice import (
    NONE,
    Part,
    SelectedMap,
    calibration_rows,
    choose,
    parts_of,
)
from fexpr.evaluate.measure import measure_confidence
from fexpr.evaluate.perfect import perfect_errors
from fexpr.evaluate.predictions import rows_of
from fexpr.evaluate.recalibration import FITS, OF_UNITS
from fexpr.evaluate.scored_rows import ScoredRows, decide
from fexpr.evaluate.set_report import set_report
from fexpr.probabilities import to_json

if TYPE_CHECKING:  # checked in the tests (tests/conftest.py)
    from jaxtyping import Shaped

APPLIED = "applied"  # the map that the recogniser and exports apply
MEASURES_OF_UNITS = ("nll", "brier", "smooth_ece", "debiased_rms", "ece")
SORTED_BY = (NONE, "temperature")  # selective prediction is shown with these


def calibration_report(
    predictions: dict,
    selection: str,
    test: ScoredRows,
    datasets: Shaped[np.ndarray, " R"],
    resamples: int,
    seed: int,
) -> dict[str, dict]:
    """The entries `calibration`, `selective` and `sets` of metrics.json.

    `calibration`: 'none' or the name of a map -> its metrics, each with value and interval;
    `reliability` by bin (`count`: mean over seeds); `diagram` (smooth_error.py); `perfect`, the
    errors that a perfectly calibrated model with these confidences would show on the same number of
    rows (perfect.py), and `ece_if_perfect`, their mean ECE; `parameters` by trial, None for a
    failed one. A map is fitted on validation rows of subjects that the trial does not test
    (map_choice.py). 'applied' is about the map that cross-fitting chose for each trial, perhaps
    none: `names` and `of_trial` (a number into `maps`) by trial, `held_out`: log loss of each
    candidate on validation rows that it was not fitted on; `left_out`: how many validation rows
    were not used, as they are copies of training rows. Without validation rows there are no maps,
    and `unavailable` says why. Multi-label tasks have the maps of OF_UNITS, with MEASURES_OF_UNITS
    alone. `selective` (one-of-K): for the model's own probabilities and after temperature scaling,
    AURC, accuracies at fixed coverages and what they gain, each with its interval, and the `curve`
    of risk by `coverage` (mean over seeds). `sets`: prediction sets (set_report.py), {} without
    validation rows.
    """
    names = OF_UNITS if test.multilabel else tuple(FITS)
    answers, parameters, sets = {NONE: test}, {NONE: {}}, {}
    applied, why = {}, _unavailable(predictions, selection)
    if not why:
        parts = parts_of(predictions, selection)
        choices = choices_of(predictions, parts)
        for name in names:
            fitted = [_fit(predictions, part, name) for part in parts]
            answers[name] = _mapped(predictions, selection, test, parts, fitted)
            parameters[name] = _by_trial(predictions, parts, fitted)
        answers[APPLIED] = _mapped(predictions, selection, test, parts, [c.fitted for c in choices])
        parameters[APPLIED], applied = {}, applied_maps(predictions, parts, choices)
        sets = set_report(
            predictions, selection, parts, choices, answers[APPLIED], datasets, resamples, seed
        )
    table, chosen = {}, {}
    for name, answer in answers.items():
        sorting = name in SORTED_BY and not test.multilabel
        m = measure_confidence(answer, resamples, seed, sorting).summary()
        if test.multilabel:
            table[name] = {key: m[key] for key in MEASURES_OF_UNITS}
            table[name] |= {"parameters": parameters[name]}
            continue
        sorted_out = {key: m.pop(key) for key in tuple(m) if selective.is_one(key)}
        table[name] = m | judged(answer, resamples, seed) | {"parameters": parameters[name]}
        if sorting:
            chosen[name] = sorted_out | {"curve": _curve(answer)}
    if why:
        table["unavailable"] = why
    else:
        table[APPLIED] |= applied | {"left_out": _left_out(predictions, selection)}
    return {"calibration": table, "selective": chosen, "sets": sets}


def choices_of(
    predictions: dict, parts: Sequence[Part], candidates: Sequence[str] | None = None
) -> list[SelectedMap]:
    """The map of each part, chosen on its rows."""
    return [
        choose(
            predictions["logits"][part.rows],
            predictions["labels"][part.rows],
            predictions["groups"][part.rows],
            candidates,
        )
        for part in parts
    ]


def applied_maps(predictions: dict, parts: Sequence[Part], choices: Sequence[SelectedMap]) -> dict:
    """`maps` as in calibration_maps.to_json; `of_trial`: the number of the map that a trial's rows
    go through, None for a failed one; `names`: the maps' names; `held_out`: mean over the parts, {}
    if nothing could be compared.
    """
    of_trial: list[int | None] = [None] * len(predictions["failed"])
    for i, part in enumerate(parts):
        for t in part.trials:
            of_trial[t] = i
    compared = [c.held_out for c in choices if c.held_out]
    return {
        "maps": [to_json(c.fitted) for c in choices],
        "of_trial": of_trial,
        "names": [None if i is None else choices[i].name for i in of_trial],
        "held_out": {name: float(np.mean([of[name] for of in compared])) for name in compared[0]}
        if compared
        else {},
    }


def _unavailable(predictions: dict, selection: str) -> str:
    """Why no map can be fitted; '' if all can."""
    trials = np.flatnonzero(~predictions["failed"])
    if not len(trials):
        return "every trial failed"
    usable = calibration_rows(predictions, selection)
    without = np.setdiff1d(trials, predictions["trial"][usable])
    copied = len(rows_of(predictions, selection, "val")) > len(usable)
    which = "validation rows that are not copies of training rows" if copied else "validation rows"
    if len(without) == len(trials):
        return f"there are no {which} to fit a map on, and test rows are no substitute"
    return (
        f"{len(without)} of {len(trials)} trials have no {which} to fit a map on"
        if len(without)
        else ""
    )


def _left_out(predictions: dict, selection: str) -> int:
    """The number of distinct validation rows that maps and sets do not use, as they are copies of
    training rows.
    """
    val = rows_of(predictions, selection, "val")
    dropped = np.setdiff1d(val, calibration_rows(predictions, selection))
    dropped = dropped[~predictions["failed"][predictions["trial"][dropped]]]
    return len(np.unique(predictions["ids"][dropped]))


def _fit(predictions: dict, part: Part, name: str) -> Map:
    return FITS[name](*(predictions[of][part.rows] for of in ("logits", "labels", "split")))


def _by_trial(predictions: dict, parts: Sequence[Part], fitted: Sequence[Map]) -> dict[str, list]:
    """The parameters of the maps by trial, None for a failed one."""
    found: list[dict | None] = [None] * len(predictions["failed"])
    for part, one in zip(parts, fitted, strict=True):
        values = one.parameters()
        for t in part.trials:
            found[t] = values
    return {key: [p and p[key] for p in found] for key in fitted[0].parameters()}


def _mapped(
    predictions: dict,
    selection: str,
    test: ScoredRows,
    parts: Sequence[Part],
    fitted: Sequence[Map],
) -> ScoredRows:
    """The test rows after the map of their own trial."""
    trial, failed = predictions["trial"][rows_of(predictions, selection, "test")], test.failed()
    before = test.known_logits()
    logits = np.full_like(before, np.nan)
    for part, one in zip(parts, fitted, strict=True):
        mine = np.isin(trial, part.trials)
        logits[mine] = one(before[mine])
    finite = np.where(failed[:, None], 0.0, logits)
    if test.multilabel:  # a map keeps the order of a unit's rows, so thresholds are mapped too
        return dataclasses.replace(
            test, logits=logits, scores=np.where(failed[:, None], np.nan, finite)
        )
    scores = np.where(failed[:, None], np.nan, calibration.probabilities(finite, False))
    return dataclasses.replace(
        test, logits=logits, scores=scores, decisions=decide(finite, None) & ~failed[:, None]
    )


def judged(answer: ScoredRows, resamples: int, seed: int) -> dict[str, dict | float | None]:
    """`reliability`, `diagram`, `perfect` and `ece_if_perfect` for one-of-K predictions; None if
    probabilities of a failed trial are missing. `perfect` is a mean over seeds.
    """
    if answer.failed().any():
        return dict.fromkeys(("reliability", "diagram", "perfect", "ece_if_perfect"))
    c, right = calibration.confidence_and_outcome(answer.presence, answer.known_logits(), False)
    drawn = [perfect_errors(answer.scores[pool]) for pool in answer.pools()]
    perfect = {
        name: {key: float(np.mean([d[name][key] for d in drawn])) for key in ("value", "high")}
        for name in drawn[0]
    }
    return {
        "reliability": by_bin(answer),
        "diagram": smooth_error.diagram(c, right, answer.groups, resamples, seed),
        "perfect": perfect,
        "ece_if_perfect": perfect["ece"]["value"],
    }


def by_bin(answer: ScoredRows) -> dict[str, list] | None:
    """A reliability diagram with bins: `edges`, `count` (mean over seeds), `confidence` and
    `accuracy` (None in an empty bin) for one-of-K predictions; None if probabilities of a failed
    trial are missing.
    """
    if answer.failed().any():
        return None
    bins = calibration.reliability(
        *calibration.confidence_and_outcome(answer.presence, answer.known_logits(), False)
    )
    plain = {
        name: [None if np.isnan(v) else v for v in bins[name].tolist()]
        for name in ("confidence", "accuracy")
    }
    edges = np.linspace(0, 1, calibration.BINS + 1).round(9).tolist()
    return {"edges": edges, "count": (bins["count"] / len(answer.pools())).tolist(), **plain}


def _curve(answer: ScoredRows) -> dict[str, list] | None:
    if answer.failed().any():
        return None
    right = np.any(answer.presence & answer.decisions, axis=1)
    risks = [
        selective.curve(answer.scores[pool].max(axis=1), right[pool]) for pool in answer.pools()
    ]
    return {"coverage": selective.CURVE.round(9).tolist(), "risk": np.mean(risks, axis=0).tolist()}
