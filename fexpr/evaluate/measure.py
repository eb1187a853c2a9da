"""Measures `ScoredRows`: every metric on the pool of each seed, the mean over seeds, and its
bootstrap over groups.

A resample draws groups once for all seeds, so that the interval shows how the mean over seeds would
vary with other subjects. The variation over seeds is given as well: the value of each seed, and
their standard deviation.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from fexpr.evaluate import (
    calibration,
    debiased_error,
    declared,
    loss_parts,
    metrics,
    selective,
    smooth_error,
)
from fexpr.evaluate.bootstrap import bootstrap
from fexpr.evaluate.estimates import Measured
from fexpr.evaluate.scored_rows import ScoredRows

if TYPE_CHECKING:  # checked in the tests (tests/conftest.py)
    from jaxtyping import Bool, Float, Num, Shaped

Statistic = Callable[[np.ndarray], dict[str, np.ndarray]]  # weights [B, R] -> name -> [B, …]
# 0.12: of the action-unit notebook (docs/decisions.md, Publications)
FIXED_THRESHOLDS = (0.5, 0.12)
CLASS_METRICS = ("precision", "recall", "f1", "uar", "roc_auc", "average_precision")
MACRO_OF = {  # which column metric each macro figure averages over the headline classes
    "macro_f1": "f1",
    "uf1": "f1",
    "macro_precision": "precision",
    "macro_recall": "recall",
    "uar": "uar",
    "balanced_accuracy": "recall",
    "roc_auc": "roc_auc",
    "average_precision": "average_precision",
    **{f"macro_f1_at_{t}": "f1" for t in FIXED_THRESHOLDS},
}


def measure(
    answer: ScoredRows, enough: Bool[np.ndarray, " K"], resamples: int, seed: int
) -> Measured:
    """Measures on the pool of each seed. `enough` bool [K]: the classes that macro figures may
    average if they occur.
    """
    defined = np.any(answer.presence, axis=0)
    headline = defined & enough
    point, samples = resampled(
        answer, lambda pool: _statistic(pool, headline, defined), resamples, seed
    )
    # UAR and ROC-AUC need negatives too
    known = {name: ~np.isnan(point[f"class_{name}"]).any(axis=0) for name in CLASS_METRICS}
    classes = {
        name: int(
            (headline & known["recall" if name == "uar" and not answer.multilabel else of]).sum()
        )
        for name, of in MACRO_OF.items()
        if name in point
    }
    classes |= {"macro_f1_all": int(defined.sum())} if answer.multilabel else {}
    return Measured(point, samples, classes, len(np.unique(answer.groups)))


def measure_confidence(answer: ScoredRows, resamples: int, seed: int, sorting: bool) -> Measured:
    """Measures only what a calibration map may change: accuracy and calibration, as in `measure`,
    with the smooth and debiased errors and, for one-of-K, the two parts of the losses; with
    `sorting` also selective prediction. The resamples are those of `measure`.
    """

    def statistic(pool: ScoredRows) -> Statistic:
        right = (pool.presence == pool.decisions).all(axis=1)
        parts = [_probability_statistics(pool), _confidence_statistics(pool)]
        if sorting:
            parts.append(selective.measures(pool.scores.max(axis=1), right))
        return lambda w: (
            {"accuracy": metrics.weighted_mean(right, w)}
            | {name: value for part in parts for name, value in part(w).items()}
        )

    return Measured(
        *resampled(answer, statistic, resamples, seed), {}, len(np.unique(answer.groups))
    )


def resampled(
    answer: ScoredRows, statistic: Callable[[ScoredRows], Statistic], resamples: int, seed: int
) -> tuple[dict, dict]:
    """Applies `statistic(pool)` to each seed's pool: its values [S, …], and bootstrap samples [B,
    …] of their mean.
    """
    pools = [(rows, statistic(answer.at(rows))) for rows in answer.pools()]

    def over_seeds(weights: Num[np.ndarray, "B R"]) -> dict[str, Shaped[np.ndarray, "S B ..."]]:
        """name -> [S, B, …]"""
        parts = [of(weights[:, rows]) for rows, of in pools]
        return {name: np.stack([part[name] for part in parts]) for name in parts[0]}

    point = {
        name: value[:, 0] for name, value in over_seeds(np.ones((1, len(answer.presence)))).items()
    }
    means = lambda weights: {
        name: value.mean(axis=0) for name, value in over_seeds(weights).items()
    }
    return point, bootstrap(means, answer.groups, resamples, seed)


def _statistic(
    answer: ScoredRows, headline: Bool[np.ndarray, " K"], defined: Bool[np.ndarray, " K"]
) -> Statistic:
    """The function weights -> all metrics of one pool: name -> [B], and class_<name> -> [B, K].
    What does not depend on the weights is computed once.
    """
    cells, ranked = metrics.confusion_cells(answer.presence, answer.decisions), _ranking(answer)
    whole = (_multilabel_statistics if answer.multilabel else _multiclass_statistics)(
        answer, headline, defined
    )
    probability = _probability_statistics(answer)

    def statistic(weights: Num[np.ndarray, "B R"]) -> dict[str, Float[np.ndarray, "B ..."]]:
        counts = metrics.counted(cells, weights)
        per_class = {
            name: getattr(metrics, name)(counts) for name in ("precision", "recall", "f1", "uar")
        }
        per_class |= dict(zip(("roc_auc", "average_precision"), ranked(weights), strict=True))
        averages = {name: metrics.macro(value, headline) for name, value in per_class.items()}
        return (
            whole(counts, averages, per_class, weights)
            | {name: averages[name] for name in ("roc_auc", "average_precision")}
            | declared.measures(answer, weights)
            | probability(weights)
            | {f"class_{name}": value for name, value in per_class.items()}
        )

    return statistic


def _ranking(answer: ScoredRows) -> Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]:
    if answer.failed().any():
        shape = (answer.presence.shape[1],)
        return lambda weights: (
            np.full((len(weights), *shape), np.nan),
            np.full((len(weights), *shape), np.nan),
        )
    return metrics.ranking(answer.presence, answer.scores)


def _multilabel_statistics(
    answer: ScoredRows, headline: Bool[np.ndarray, " K"], defined: Bool[np.ndarray, " K"]
) -> Callable[..., dict[str, np.ndarray]]:
    cells_at = {
        t: metrics.confusion_cells(answer.presence, answer.decided_at(t)) for t in FIXED_THRESHOLDS
    }

    def statistics(counts, averages, per_class, weights) -> dict[str, Float[np.ndarray, " B"]]:
        micro = counts.pooled()
        values = {
            "macro_f1": averages["f1"],
            "macro_f1_all": metrics.macro(per_class["f1"], defined),
        }
        values |= {
            f"micro_{n}": getattr(metrics, n)(micro)[:, 0] for n in ("f1", "precision", "recall")
        }
        values |= {f"macro_{n}": averages[n] for n in ("precision", "recall")} | {
            "uar": averages["uar"]
        }
        for t, cells in cells_at.items():
            values[f"macro_f1_at_{t}"] = metrics.macro(
                metrics.f1(metrics.counted(cells, weights)), headline
            )
        return values

    return statistics


def _multiclass_statistics(
    answer: ScoredRows, headline: Bool[np.ndarray, " K"], defined: Bool[np.ndarray, " K"]
) -> Callable[..., dict[str, np.ndarray]]:
    top2 = metrics.in_top(answer.presence, answer.scores, 2)
    names_one = answer.logits is None  # a predictor of a single class has no second choice

    def statistics(counts, averages, per_class, weights) -> dict[str, Float[np.ndarray, " B"]]:
        return {
            "uf1": averages["f1"],  # MEGC2019's name for the macro F1
            "uar": averages["recall"],
            "balanced_accuracy": averages["recall"],  # scikit-learn's name for the same
            "accuracy": metrics.exact_match(answer.presence, answer.decisions, weights),
            "top2_accuracy": np.full(len(weights), np.nan)
            if names_one
            else metrics.weighted_mean(top2, weights),
            **{f"macro_{name}": averages[name] for name in ("f1", "precision", "recall")},
            **{
                f"weighted_{name}": metrics.by_support(per_class[name], counts)
                for name in ("f1", "precision", "recall")
            },
        }

    return statistics


def _probability_statistics(answer: ScoredRows) -> Statistic:
    if answer.logits is None or answer.failed().any():
        norms = ("ece",) if answer.multilabel else calibration.NORMS
        largest = () if answer.multilabel else ("mce",)
        return _undefined(("nll", "brier", *norms, *(f"_noise_{n}" for n in norms), *largest))
    return calibration.measures(answer.presence, answer.logits, answer.multilabel)


def _confidence_statistics(answer: ScoredRows) -> Statistic:
    """Measures that are not needed for every selection and baseline. For action units, the smooth
    and debiased errors are over all decisions together, like ECE.
    """
    names_of_parts = () if answer.multilabel else loss_parts.NAMES
    if answer.failed().any():
        names = ("smooth_ece", "_noise_smooth_ece", "debiased_rms", "_bias_debiased_rms")
        return _undefined((*names, *names_of_parts))
    decisions = calibration.confidence_and_outcome(
        answer.presence, answer.known_logits(), answer.multilabel
    )
    smooth, debiased = (m.measures(*decisions) for m in (smooth_error, debiased_error))
    if answer.multilabel:
        return lambda w: smooth(w) | debiased(w)
    parts = loss_parts.measures(answer.presence, answer.known_logits(), answer.groups)
    return lambda w: smooth(w) | debiased(w) | parts(w)


def _undefined(names: tuple[str, ...]) -> Statistic:
    return lambda weights: {name: np.full(len(weights), np.nan) for name in names}
