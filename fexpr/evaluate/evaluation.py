"""From saved predictions to metrics.json: every figure with its interval, beside the predictors that never look at the image.

One structure serves both kinds of task. Labels become `presence`, bool [R, K] (an action unit's intensity above 0, or a class id
as one-hot columns), and a model becomes an `Answer`; F1, ROC-AUC and the rest are then the same functions of columns. Rows are
pooled over trials before anything is counted, as MEGC2019 asks.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from fexpr.evaluate import calibration, metrics
from fexpr.evaluate.answers import SELECTIONS, Answer, baseline_answers, check, model_answer, rows_of, trial_thresholds
from fexpr.evaluate.bootstrap import RESAMPLES, bootstrap, interval
from fexpr.evaluate.thresholds import RULE

FIXED_THRESHOLDS = (0.5, 0.12)  # 0.12: the notebook that this project began with
CLASS_METRICS = ("precision", "recall", "f1", "uar", "roc_auc", "average_precision")
MACRO_OF = {  # which column metric each macro figure averages over the headline classes
    "macro_f1": "f1", "uf1": "f1", "macro_precision": "precision", "macro_recall": "recall", "uar": "uar", "roc_auc": "roc_auc",
    "average_precision": "average_precision", **{f"macro_f1_at_{t}": "f1" for t in FIXED_THRESHOLDS},
}


def evaluate(
    predictions: dict[str, np.ndarray], selection: str, source: str, min_train_positives: int = 5,
    resamples: int = RESAMPLES, seed: int = 0,
) -> dict:
    """Everything that metrics.json holds.

    Macro figures are means over the headline classes. Multi-label: the action units with a positive test row and at least
    `min_train_positives` training positives in every trial; `macro_f1_all` drops the second condition. One-of-K: the classes
    with a test row. Each macro figure says in `classes` how many it averages. In a resample a headline class without positives
    is skipped; a resample without any is left out, and `resamples` says how many were used.
    Micro figures, exact match, Hamming, NLL, Brier and ECE are over all K classes. Thresholds are held fixed in the bootstrap,
    and those of `val` were chosen on its own rows: that M is optimistic.

    Args:
      predictions: the arrays of predictions.npz: `ids`, `groups`, `trial`, `split` ('val' or 'test'), `selection`, all [R];
        `labels` float [R, K] (multi-label) or int [R]; `logits` [R, K]; `class_names` [K]; `train_positives` [T, K] and
        `train_rows` [T], counted in the training rows of each trial.
      selection: the configured one, 'last' or 'best_val'.
      source: the data source, `<release>@<fingerprint>` or `synthetic`.

    Returns:
      A dict of plain Python values; what is undefined is None.

    Raises:
      UserError: the selection is 'oracle', or not among the predictions.
      ValueError: the arrays do not fit each other, or no row is a test row.
    """
    check(predictions, selection)
    multilabel = np.asarray(predictions["labels"]).ndim == 2
    thresholds = {name: trial_thresholds(predictions, name) for name in SELECTIONS if (predictions["selection"] == name).any()}
    answers = {name: model_answer(predictions, name, "test", thresholds[name][0]) for name in thresholds}
    test = answers[selection]
    enough = predictions["train_positives"].min(axis=0) >= min_train_positives if multilabel else np.ones_like(test.presence[0])

    measured = {name: _measure(a, enough, resamples, seed) for name, a in answers.items()}
    val = {}
    if len(rows_of(predictions, selection, "val")):
        answer = model_answer(predictions, selection, "val", thresholds[selection][0])
        val = _measure(answer, enough, resamples, seed).summary()
    baselines = {name: _measure(a, enough, resamples, seed) for name, a in baseline_answers(predictions, selection, test).items()}
    constant = "always_positive" if multilabel else "majority"
    headline = predictions["class_names"][enough & test.presence.any(axis=0)]
    return {
        "test": measured[selection].summary(),
        "val": val,
        "selections": {name: m.summary() for name, m in measured.items()},
        "baselines": {name: m.summary() for name, m in baselines.items()},
        f"difference_to_{constant}": {"metric": "macro_f1", **measured[selection].minus(baselines[constant], "macro_f1")},
        "headline": {"classes": headline.tolist(), "min_train_positives": min_train_positives},
        "per_class": _per_class(predictions, test, measured[selection], baselines[constant], enough, thresholds[selection]),
        "undefined": _undefined(predictions["class_names"], test),
        "thresholds": {
            "rule": RULE, "per_trial": thresholds[selection][0].tolist(), "from": thresholds[selection][1].tolist(),
        } if multilabel else None,
        "task": "multilabel" if multilabel else "multiclass",
        "source": source,
        "selection": selection,
        **{key: _count(predictions, selection, key) for key in ("rows", "groups")},
        "bootstrap": {"unit": "group", "resamples": resamples, "seed": seed, "level": 0.95},
    }


@dataclasses.dataclass(frozen=True)
class Measured:
    """Point values [1, …] and bootstrap samples [B, …] of each metric; classes averaged by each macro metric."""

    point: dict[str, np.ndarray]
    samples: dict[str, np.ndarray]
    classes: dict[str, int]
    groups: int

    def summary(self) -> dict:
        return {name: self._estimate(name) for name in self.point if self.point[name].ndim == 1}

    def of_class(self, name: str, k: int) -> dict:
        return _estimate(self.point[f"class_{name}"][0, k], self.samples[f"class_{name}"][:, k], self.groups)

    def minus(self, other: Measured, name: str) -> dict:
        return _estimate(self.point[name][0] - other.point[name][0], self.samples[name] - other.samples[name], self.groups)

    def _estimate(self, name: str) -> dict:
        classes = {"classes": self.classes[name]} if name in self.classes else {}
        return _estimate(self.point[name][0], self.samples[name], self.groups) | classes


def _estimate(value: float, samples: np.ndarray, groups: int) -> dict:
    """One group cannot tell how groups differ, so it gives no interval; neither does a value that is undefined itself."""
    low, high, used = interval(samples) if groups > 1 and np.isfinite(value) else (np.nan, np.nan, 0)
    plain = (None if not np.isfinite(v) else float(v) for v in (value, low, high))
    return dict(zip(("value", "low", "high"), plain, strict=True)) | {"resamples": used}


def _measure(answer: Answer, enough: np.ndarray, resamples: int, seed: int) -> Measured:
    defined = answer.presence.any(axis=0)
    headline = defined & enough
    point = _statistics(answer, headline, defined, np.ones((1, len(answer.presence))))
    samples = bootstrap(lambda w: _statistics(answer, headline, defined, w), answer.groups, resamples, seed)
    known = {name: ~np.isnan(point[f"class_{name}"][0]) for name in CLASS_METRICS}  # UAR and ROC-AUC need negatives too
    classes = {name: int((headline & known[of]).sum()) for name, of in MACRO_OF.items() if name in point}
    classes |= {"macro_f1_all": int(defined.sum())} if answer.multilabel else {}
    return Measured(point, samples, classes, len(np.unique(answer.groups)))


def _statistics(answer: Answer, headline: np.ndarray, defined: np.ndarray, weights: np.ndarray) -> dict[str, np.ndarray]:
    """All metrics under `weights` [B, R]: name -> [B], and class_<name> -> [B, K]."""
    counts = metrics.confusion_counts(answer.presence, answer.decisions, weights)
    per_class = {name: getattr(metrics, name)(counts) for name in ("precision", "recall", "f1", "uar")}
    ranked = metrics.roc_auc_and_average_precision(answer.presence, answer.scores, weights)
    per_class |= dict(zip(("roc_auc", "average_precision"), ranked, strict=True))
    averages = {name: metrics.macro(value, headline) for name, value in per_class.items()}
    whole = _multilabel_statistics if answer.multilabel else _multiclass_statistics
    return (
        whole(answer, counts, averages, per_class, headline, defined, weights)
        | {name: averages[name] for name in ("roc_auc", "average_precision")}
        | _probability_statistics(answer, weights)
        | {f"class_{name}": value for name, value in per_class.items()}
    )


def _multilabel_statistics(answer, counts, averages, per_class, headline, defined, weights) -> dict[str, np.ndarray]:
    micro = counts.pooled()
    values = {"macro_f1": averages["f1"], "macro_f1_all": metrics.macro(per_class["f1"], defined)}
    values |= {f"micro_{n}": getattr(metrics, n)(micro)[:, 0] for n in ("f1", "precision", "recall")}
    values |= {f"macro_{n}": averages[n] for n in ("precision", "recall")} | {"uar": averages["uar"]}
    values["exact_match"] = metrics.exact_match(answer.presence, answer.decisions, weights)
    values["hamming"] = metrics.hamming_loss(answer.presence, answer.decisions, weights)
    for t in FIXED_THRESHOLDS:  # a predictor without probabilities decides the same at any threshold
        decisions = answer.decisions if answer.logits is None else calibration.probabilities(answer.logits, True) >= t
        at_t = metrics.confusion_counts(answer.presence, decisions, weights)
        values[f"macro_f1_at_{t}"] = metrics.macro(metrics.f1(at_t), headline)
    return values


def _multiclass_statistics(answer, counts, averages, per_class, headline, defined, weights) -> dict[str, np.ndarray]:
    return {
        "accuracy": metrics.exact_match(answer.presence, answer.decisions, weights),
        "macro_f1": averages["f1"], "uf1": averages["f1"],  # the name MEGC2019 gives it
        "uar": averages["recall"],
        "weighted_f1": metrics.weighted_f1(counts),
        "macro_precision": averages["precision"],
    }


def _probability_statistics(answer: Answer, weights: np.ndarray) -> dict[str, np.ndarray]:
    if answer.logits is None:
        return {name: np.full(len(weights), np.nan) for name in ("nll", "brier", "ece")}
    task = answer.presence, answer.logits, answer.multilabel
    return {
        "nll": metrics.weighted_mean(calibration.nll_per_row(*task), weights),
        "brier": metrics.weighted_mean(calibration.brier_per_row(*task), weights),
        "ece": calibration.expected_calibration_error(*calibration.confidence_and_outcome(*task), weights),
    }


def _per_class(predictions, test: Answer, measured: Measured, constant: Measured, enough, thresholds) -> list[dict]:
    train = predictions["train_positives"].min(axis=0)
    table = []
    for k, name in enumerate(predictions["class_names"]):
        positive = test.presence[:, k]
        notes = []
        if not positive.any():
            notes.append("undefined: no positive test row")
        elif positive.all():
            notes.append("UAR and ROC-AUC undefined: no negative test row")
        elif len(np.unique(test.groups[positive])) == 1:
            notes.append("all test positives from one group")
        if positive.any() and not enough[k]:
            notes.append("too few training positives for the headline")
        row = {"name": str(name), "positives": int(positive.sum()), "train_positives": int(train[k])}
        row |= {metric: measured.of_class(metric, k) for metric in CLASS_METRICS}
        row["baseline_f1"] = constant.of_class("f1", k)
        if thresholds[0] is not None:
            row |= {"threshold": float(np.median(thresholds[0][:, k])), "threshold_from": _most_frequent(thresholds[1][:, k])}
        defined = bool(positive.any())
        table.append(row | {"defined": defined, "headline": defined and bool(enough[k]), "note": "; ".join(notes)})
    return table


def _most_frequent(values: np.ndarray) -> str:
    names, counts = np.unique(values, return_counts=True)
    top = counts.argmax()
    return str(names[top]) if len(names) == 1 else f"{names[top]} in {counts[top]} of {len(values)} trials"


def _undefined(class_names: np.ndarray, test: Answer) -> list[dict]:
    rows = len(test.presence)
    why = {
        0: f"no positive among {rows} test rows: no F1, precision, recall, UAR, ROC-AUC or average precision",
        rows: f"no negative among {rows} test rows: no UAR or ROC-AUC",
    }
    positives = test.presence.sum(axis=0)
    return [{"name": str(n), "why": why[p]} for n, p in zip(class_names, positives.tolist(), strict=True) if p in why]


def _count(predictions: dict, selection: str, key: str) -> dict[str, int]:
    parts = {split: rows_of(predictions, selection, split) for split in ("test", "val")}
    return {s: len(rows) if key == "rows" else len(np.unique(predictions["groups"][rows])) for s, rows in parts.items()}
