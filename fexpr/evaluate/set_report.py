"""The entry `sets` of metrics.json: prediction sets (conformal.py) of the test rows, how often they
hold the truth and how large they are.

Sets are of the probabilities after the applied map. A part's thresholds come from the validation
rows of subjects that its trials do not test, the rows that its map was chosen on; each calibration
row has gone through a map that was fitted without its own block of subjects.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from fexpr.evaluate import calibration, conformal, metrics
from fexpr.evaluate.map_choice import Part, SelectedMap
from fexpr.evaluate.measure import Measured, Statistic, resampled
from fexpr.evaluate.predictions import rows_of
from fexpr.evaluate.scored_rows import ScoredRows, presence_of
from fexpr.probabilities import never_empty, sets

COVERAGE = 0.9
SHOWN_LEVELS = (0.8, 0.9, 0.95)
LEVELS = tuple((np.arange(50, 100) / 100).round(2).tolist())  # that the recogniser offers
METHOD = "lac"  # of the recogniser, and of the tables by class and subject: without chance
OF_UNITS = (METHOD,)


def set_report(
    predictions: dict,
    selection: str,
    parts: Sequence[Part],
    choices: Sequence[SelectedMap],
    applied: ScoredRows,
    datasets: np.ndarray,
    resamples: int,
    seed: int,
) -> dict:
    """{} where a failed trial owes test rows.

    `coverage`: what is asked for. `methods`: of each score of conformal.py (multi-label: lac)
    `coverage`, the share of test rows whose set holds the true class (every present unit), `size`,
    and `single`, the share of sets of one class, as in M. For lac also `levels`: level -> coverage
    and size; `by_class`, `by_group`, `by_dataset`: `rows`, `coverage`, `size` (of units: of the
    rows that show the unit, the share whose set holds it). `rows`, `groups`: distinct calibration
    rows and subjects, of the part with the fewest.
    For the recogniser `limits`: of each part the threshold of lac at each of `levels`, None if
    there are too few rows for the level, and `of_trial`, the part of each trial.
    """
    if applied.failed().any():
        return {}
    trial = predictions["trial"][rows_of(predictions, selection, "test")]
    first = applied.groups[applied.pools()[0]]
    single_rows = len(np.unique(first)) == len(first)  # every group is a single row
    calibrated = [
        _Calibrated(predictions, part, c, seed) for part, c in zip(parts, choices, strict=True)
    ]
    p = calibration.probabilities(applied.logits, applied.multilabel)
    u = np.random.default_rng([seed, 1]).random(len(p))

    def found(method: str, level: float) -> ScoredRows:
        limit = np.full((len(p), 1), np.nan)
        for part, one in zip(parts, calibrated, strict=True):
            limit[np.isin(trial, part.trials)] = one.limit(method, level)
        held = sets(conformal.SCORES[method](p, u), limit)
        if method == METHOD and not applied.multilabel:
            held = never_empty(held, p)
        return dataclasses.replace(applied, decisions=held)

    def measured(answer: ScoredRows) -> dict:
        values = resampled(answer, _statistic, resamples, seed)
        return Measured(*values, {}, len(np.unique(answer.groups))).summary()

    main = found(METHOD, COVERAGE)
    of_trial: list[int | None] = [None] * len(predictions["failed"])
    for i, part in enumerate(parts):
        for t in part.trials:
            of_trial[t] = i
    limits = [[_plain(one.limit(METHOD, level)) for level in LEVELS] for one in calibrated]
    return {
        "coverage": COVERAGE,
        "methods": {
            method: measured(found(method, COVERAGE))
            for method in (OF_UNITS if applied.multilabel else conformal.SCORES)
        },
        "by_level": {str(level): measured(found(METHOD, level)) for level in SHOWN_LEVELS},
        "by_class": _by_class(main, predictions["class_names"]),
        "by_group": [] if single_rows else _by(main, applied.groups),
        "by_dataset": _by(main, datasets) if len(np.unique(datasets)) > 1 else [],
        "rows": min(one.rows for one in calibrated),
        "groups": min(one.groups for one in calibrated),
        "levels": list(LEVELS),
        "limits": limits,
        "of_trial": of_trial,
    }


class _Calibrated:
    """The scores of a part's calibration rows."""

    def __init__(self, predictions: dict, part: Part, choice: SelectedMap, seed: int):
        labels = predictions["labels"][part.rows]
        multilabel, z = labels.ndim == 2, choice.cross_fitted
        self.ids = predictions["ids"][part.rows]
        self.rows = len(np.unique(self.ids))
        self.groups = len(np.unique(predictions["groups"][part.rows]))
        p, presence = calibration.probabilities(z, multilabel), presence_of(labels, z.shape[1])
        u = np.random.default_rng([seed, 0]).random(len(p))
        self.scores = {
            method: conformal.true_scores(score(p, u), presence)
            for method, score in conformal.SCORES.items()
        }

    def limit(self, method: str, level: float) -> float:
        return conformal.threshold(self.scores[method], self.ids, level)


def _statistic(pool: ScoredRows) -> Statistic:
    size = pool.decisions.sum(axis=1)
    held = _held(pool)
    return lambda weights: {
        "coverage": metrics.weighted_mean(held, weights),
        "size": metrics.weighted_mean(size, weights),
        "single": metrics.weighted_mean(size == 1, weights),
    }


def _held(answer: ScoredRows) -> np.ndarray:
    """bool [R]: the set holds everything that is present."""
    return (answer.decisions | ~answer.presence).all(axis=1)


def _by_class(answer: ScoredRows, names: np.ndarray) -> list[dict]:
    table = []
    for k, name in enumerate(names.tolist()):
        shown = answer.presence[:, k]
        held = answer.decisions[shown, k]
        table.append(_line(str(name), held, answer.decisions[shown].sum(axis=1), answer))
    return table


def _by(answer: ScoredRows, names: np.ndarray) -> list[dict]:
    held, size = _held(answer), answer.decisions.sum(axis=1)
    return [
        _line(str(name), held[names == name], size[names == name], answer)
        for name in np.unique(names)
    ]


def _line(name: str, held: np.ndarray, size: np.ndarray, answer: ScoredRows) -> dict:
    """`rows` are those of one seed, `coverage` and `size` means over seeds; None without rows."""
    return {
        "name": name,
        "rows": round(len(held) / len(answer.pools())),
        "coverage": float(held.mean()) if len(held) else None,
        "size": float(size.mean()) if len(size) else None,
    }


def _plain(value: float) -> float | None:
    return value if np.isfinite(value) else None
