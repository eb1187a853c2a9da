"""An `Answer` measured: every metric on the pool of each seed, their mean, and its bootstrap over groups.

A resample draws groups once for all seeds, so that its interval tells how the mean over seeds would vary with other subjects. How it
varies with other seeds is said beside it: the value of each seed, and their standard deviation.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np

from fexpr.evaluate import calibration, metrics
from fexpr.evaluate.answers import Answer
from fexpr.evaluate.bootstrap import bootstrap, interval

FIXED_THRESHOLDS = (0.5, 0.12)  # 0.12: the notebook that this project began with
CLASS_METRICS = ("precision", "recall", "f1", "uar", "roc_auc", "average_precision")
MACRO_OF = {  # which column metric each macro figure averages over the headline classes
    "macro_f1": "f1", "uf1": "f1", "macro_precision": "precision", "macro_recall": "recall", "uar": "uar", "roc_auc": "roc_auc",
    "average_precision": "average_precision", **{f"macro_f1_at_{t}": "f1" for t in FIXED_THRESHOLDS},
}


@dataclasses.dataclass(frozen=True)
class Measured:
    """Point values of S seeds [S, …] and bootstrap samples of their mean [B, …] of each metric; classes averaged by each macro."""

    point: dict[str, np.ndarray]
    samples: dict[str, np.ndarray]
    classes: dict[str, int]
    groups: int

    def summary(self) -> dict:
        return {name: self.of(name) for name in self.point if self.point[name].ndim == 1}

    def of(self, name: str) -> dict:
        classes = {"classes": self.classes[name]} if name in self.classes else {}
        return _estimate(self.point[name], self.samples[name], self.groups) | classes

    def of_class(self, name: str, k: int) -> dict:
        return _estimate(self.point[f"class_{name}"][:, k], self.samples[f"class_{name}"][:, k], self.groups)

    def minus(self, other: Measured, name: str) -> dict:
        """The paired difference: both on the same rows of the same resamples."""
        return _estimate(self.point[name] - other.point[name], self.samples[name] - other.samples[name], self.groups)


def _estimate(seeds: np.ndarray, samples: np.ndarray, groups: int) -> dict:
    """One group cannot tell how groups differ, so it gives no interval; neither does a value that is undefined itself."""
    value = seeds.mean()
    low, high, used = interval(samples) if groups > 1 and np.isfinite(value) else (np.nan, np.nan, 0)
    estimate = dict(zip(("value", "low", "high"), map(_plain, (value, low, high)), strict=True)) | {"resamples": used}
    if len(seeds) > 1:
        estimate |= {"seed_std": _plain(seeds.std(ddof=1)), "seeds": [_plain(v) for v in seeds]}
    return estimate


def _plain(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def measure(answer: Answer, enough: np.ndarray, resamples: int, seed: int) -> Measured:
    """Measures on the pool of each seed. `enough` bool [K]: the classes that may be averaged by macro figures if they occur."""
    defined = answer.presence.any(axis=0)
    headline = defined & enough
    pools = [(rows, _statistic(answer.at(rows), headline, defined)) for rows in answer.pools()]

    def over_seeds(weights: np.ndarray) -> dict[str, np.ndarray]:
        """name -> [S, B, …]"""
        parts = [statistic(weights[:, rows]) for rows, statistic in pools]
        return {name: np.stack([part[name] for part in parts]) for name in parts[0]}

    point = {name: value[:, 0] for name, value in over_seeds(np.ones((1, len(answer.presence)))).items()}
    samples = bootstrap(lambda w: {name: value.mean(axis=0) for name, value in over_seeds(w).items()}, answer.groups, resamples, seed)
    known = {name: ~np.isnan(point[f"class_{name}"]).any(axis=0) for name in CLASS_METRICS}  # UAR and ROC-AUC need negatives too
    classes = {name: int((headline & known["recall" if name == "uar" and not answer.multilabel else of]).sum())
               for name, of in MACRO_OF.items() if name in point}
    classes |= {"macro_f1_all": int(defined.sum())} if answer.multilabel else {}
    return Measured(point, samples, classes, len(np.unique(answer.groups)))


def _statistic(answer: Answer, headline: np.ndarray, defined: np.ndarray) -> Callable[[np.ndarray], dict[str, np.ndarray]]:
    """The function weights [B, R] -> all metrics of one pool: name -> [B], and class_<name> -> [B, K]."""
    whole = _multilabel_statistics if answer.multilabel else _multiclass_statistics
    probability = _probability_statistics(answer)

    def statistic(weights: np.ndarray) -> dict[str, np.ndarray]:
        counts = metrics.confusion_counts(answer.presence, answer.decisions, weights)
        per_class = {name: getattr(metrics, name)(counts) for name in ("precision", "recall", "f1", "uar")}
        per_class |= dict(zip(("roc_auc", "average_precision"), _ranked(answer, weights), strict=True))
        averages = {name: metrics.macro(value, headline) for name, value in per_class.items()}
        return (
            whole(answer, counts, averages, per_class, headline, defined, weights)
            | {name: averages[name] for name in ("roc_auc", "average_precision")}
            | probability(weights)
            | {f"class_{name}": value for name, value in per_class.items()}
        )

    return statistic


def _ranked(answer: Answer, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    if answer.failed().any():
        undefined = np.full((len(weights), answer.presence.shape[1]), np.nan)
        return undefined, undefined
    return metrics.roc_auc_and_average_precision(answer.presence, answer.scores, weights)


def _multilabel_statistics(answer, counts, averages, per_class, headline, defined, weights) -> dict[str, np.ndarray]:
    micro = counts.pooled()
    values = {"macro_f1": averages["f1"], "macro_f1_all": metrics.macro(per_class["f1"], defined)}
    values |= {f"micro_{n}": getattr(metrics, n)(micro)[:, 0] for n in ("f1", "precision", "recall")}
    values |= {f"macro_{n}": averages[n] for n in ("precision", "recall")} | {"uar": averages["uar"]}
    values["exact_match"] = metrics.exact_match(answer.presence, answer.decisions, weights)
    values["hamming"] = metrics.hamming_loss(answer.presence, answer.decisions, weights)
    for t in FIXED_THRESHOLDS:
        at_t = metrics.confusion_counts(answer.presence, answer.decided_at(t), weights)
        values[f"macro_f1_at_{t}"] = metrics.macro(metrics.f1(at_t), headline)
    return values


def _multiclass_statistics(answer, counts, averages, per_class, headline, defined, weights) -> dict[str, np.ndarray]:
    return {
        "uf1": averages["f1"],  # the name MEGC2019 gives to the macro F1
        "uar": averages["recall"],
        "accuracy": metrics.exact_match(answer.presence, answer.decisions, weights),
        "macro_f1": averages["f1"],
        "weighted_f1": metrics.weighted_f1(counts),
        "macro_precision": averages["precision"],
    }


def _probability_statistics(answer: Answer) -> Callable[[np.ndarray], dict[str, np.ndarray]]:
    if answer.logits is None or answer.failed().any():
        return lambda weights: {name: np.full(len(weights), np.nan) for name in ("nll", "brier", "ece")}
    task = answer.presence, answer.logits, answer.multilabel
    nll, brier, outcome = (f(*task) for f in (calibration.nll_per_row, calibration.brier_per_row, calibration.confidence_and_outcome))
    return lambda weights: {
        "nll": metrics.weighted_mean(nll, weights), "brier": metrics.weighted_mean(brier, weights),
        "ece": calibration.expected_calibration_error(*outcome, weights),
    }
