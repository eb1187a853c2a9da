"""The entry `sets` of metrics.json: prediction sets (conformal.py) of the test rows, how often they
contain the true class, and how large they are.

Sets are computed from the probabilities after the applied map. A part's thresholds come from the
validation rows of subjects that its trials do not test, the rows that its map was chosen on; each
calibration row has gone through a map that was fitted without its own block of subjects.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from fexpr.evaluate import calibration, conformal, metrics
from fexpr.evaluate.map_choice import Part, SelectedMap
from fexpr.evaluate.measure import Measured, Statistic, resampled
from fexpr.evaluate.predictions import rows_of
from fexpr.evaluate.scored_rows import ScoredRows, presence_of
from fexpr.probabilities import never_empty, sets

if TYPE_CHECKING:  # checked in the tests (tests/conftest.py)
    from jaxtyping import Shaped

COVERAGE = 0.9
SHOWN_LEVELS = (0.8, 0.9, 0.95)
LEVELS = tuple((np.arange(50, 100) / 100).round(2).tolist())  # coverages that the recogniser offers
METHOD = "lac"  # of the recogniser, and of the tables by class and subject: without chance
OF_UNITS = (METHOD,)
CLASS_WISE = "lac_by_class"  # METHOD with a threshold for each class


def set_report(
    predictions: dict,
    selection: str,
    parts: Sequence[Part],
    choices: Sequence[SelectedMap],
    applied: ScoredRows,
    datasets: Shaped[np.ndarray, " R"],
    resamples: int,
    seed: int,
) -> dict:
    """The entry `sets`; {} if a trial with test rows failed. `coverage`: the requested coverage.
    `methods`: for each score of conformal.py (multi-label: only lac) the `coverage`, which is the
    share of test rows whose set contains the true class (every present unit), the `size`, and
    `single`, the share of sets with one class, each with its interval; one-of-K tasks also have
    CLASS_WISE, whose threshold of a class is a quantile over the calibration rows of that class
    only (Mondrian conformal prediction; Vovk et al. 2005, section 4.5): it guarantees the coverage
    for each class, with larger sets. For lac also `levels`: level -> coverage and size; `by_class`,
    `by_group`, `by_dataset`: `rows`, `coverage`, `size` (for a unit, coverage is over the rows that
    show it), `low` and `high` of the coverage (Wilson's 95 % interval, as if rows were
    independent); `by_class` also has `class_wise`, the coverage with CLASS_WISE. `rows`, `groups`:
    distinct calibration rows and subjects, of the part with the fewest. For the recogniser,
    `limits`: for each part the threshold of lac at each of `levels`, None if there are too few rows
    for the level, and `of_trial`, the part of each trial.
    """
    if applied.failed().any():
        return {}
    trial = predictions["trial"][rows_of(predictions, selection, "test")]
    first = applied.groups[applied.pools()[0]]
    single_rows = len(np.unique(first)) == len(first)  # every group is a single row
    calibrated = [
        _Calibrated(predictions, part, c, seed) for part, c in zip(parts, choices, strict=True)
    ]
    p = calibration.probabilities(applied.known_logits(), applied.multilabel)
    u = np.random.default_rng([seed, 1]).random(len(p))

    def found(method: str, level: float) -> ScoredRows:
        limit = np.full_like(p, np.nan)
        for part, one in zip(parts, calibrated, strict=True):
            limit[np.isin(trial, part.trials)] = (
                one.limits_of_classes(level) if method == CLASS_WISE else one.limit(method, level)
            )
        score = conformal.SCORES[METHOD if method == CLASS_WISE else method]
        held = sets(score(p, u), limit)
        if method in (METHOD, CLASS_WISE) and not applied.multilabel:
            held = never_empty(held, p)
        return dataclasses.replace(applied, decisions=held)

    def measured(answer: ScoredRows) -> dict:
        values = resampled(answer, _statistic, resamples, seed)
        return Measured(*values, {}, len(np.unique(answer.groups))).summary()

    methods = OF_UNITS if applied.multilabel else (*conformal.SCORES, CLASS_WISE)
    answers = {method: found(method, COVERAGE) for method in methods}
    main = answers[METHOD]
    of_trial: list[int | None] = [None] * len(predictions["failed"])
    for i, part in enumerate(parts):
        for t in part.trials:
            of_trial[t] = i
    limits = [[_plain(one.limit(METHOD, level)) for level in LEVELS] for one in calibrated]
    return {
        "coverage": COVERAGE,
        "methods": {method: measured(answer) for method, answer in answers.items()},
        "by_level": {str(level): measured(found(METHOD, level)) for level in SHOWN_LEVELS},
        "by_class": _by_class(main, answers.get(CLASS_WISE), predictions["class_names"]),
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
        p, self.presence = calibration.probabilities(z, multilabel), presence_of(labels, z.shape[1])
        u = np.random.default_rng([seed, 0]).random(len(p))
        self.scores = {
            method: conformal.true_scores(score(p, u), self.presence)
            for method, score in conformal.SCORES.items()
        }

    def limit(self, method: str, level: float) -> float:
        return conformal.threshold(self.scores[method], self.ids, level)

    def limits_of_classes(self, level: float) -> np.ndarray:
        """The threshold of METHOD from the rows of each class, [K]; infinity for a class of too few
        rows, which is in every set.
        """
        return np.array(
            [
                conformal.threshold(self.scores[METHOD][rows], self.ids[rows], level)
                for rows in self.presence.T
            ]
        )


def _statistic(pool: ScoredRows) -> Statistic:
    size = pool.decisions.sum(axis=1)
    held = _held(pool)
    return lambda weights: {
        "coverage": metrics.weighted_mean(held, weights),
        "size": metrics.weighted_mean(size, weights),
        "single": metrics.weighted_mean(size == 1, weights),
    }


def _held(answer: ScoredRows) -> np.ndarray:
    """Whether each row's set contains everything that is present, bool [R]."""
    return np.all(answer.decisions | ~answer.presence, axis=1)


def _by_class(answer: ScoredRows, class_wise: ScoredRows | None, names: np.ndarray) -> list[dict]:
    table = []
    for k, name in enumerate(names.tolist()):
        shown = answer.presence[:, k]
        held = answer.decisions[shown, k]
        line = _line(str(name), held, answer.decisions[shown].sum(axis=1), answer)
        if class_wise is not None:
            own = class_wise.decisions[shown, k]
            line["class_wise"] = float(own.mean()) if len(own) else None
        table.append(line)
    return table


def _by(answer: ScoredRows, names: np.ndarray) -> list[dict]:
    held, size = _held(answer), answer.decisions.sum(axis=1)
    return [
        _line(str(name), held[names == name], size[names == name], answer)
        for name in np.unique(names)
    ]


def _line(name: str, held: np.ndarray, size: np.ndarray, answer: ScoredRows) -> dict:
    """One entry of a table: `rows` of one seed, `coverage` and `size` as means over seeds; None
    without rows.
    """
    rows = round(len(held) / len(answer.pools()))
    low, high = _wilson(float(held.mean()), rows) if rows else (None, None)
    return {
        "name": name,
        "rows": rows,
        "coverage": float(held.mean()) if len(held) else None,
        "low": low,
        "high": high,
        "size": float(size.mean()) if len(size) else None,
    }


def _wilson(share: float, count: int, z: float = 1.96) -> tuple[float, float]:
    """The 95 % interval of a share of `count` independent rows (Wilson 1927)."""
    middle = (share + z**2 / (2 * count)) / (1 + z**2 / count)
    half = z / (1 + z**2 / count) * np.sqrt(share * (1 - share) / count + z**2 / (4 * count**2))
    return max(0.0, float(middle - half)), min(1.0, float(middle + half))


def _plain(value: float) -> float | None:
    return value if np.isfinite(value) else None
