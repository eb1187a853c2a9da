"""From saved predictions to metrics.json: every figure with its interval, beside baselines that
never look at the image.

One structure serves both kinds of task (scored_rows.py). The rows that all folds of one seed test
are one pool, as MEGC2019 asks: counts are added up over folds before any ratio is taken. A figure
is the mean over seeds of its value on each seed's pool.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from threadpoolctl import threadpool_limits  # comes with scikit-learn

from fexpr.evaluate import fusion, tables
from fexpr.evaluate.bootstrap import RESAMPLES
from fexpr.evaluate.calibration_report import calibration_report
from fexpr.evaluate.copies import measure_copies
from fexpr.evaluate.kaggle import kaggle
from fexpr.evaluate.measure import Measured, measure
from fexpr.evaluate.predictions import SELECTIONS, checked, rows_of, trials_of
from fexpr.evaluate.scored_rows import ScoredRows, baseline_rows, model_rows, trial_thresholds
from fexpr.evaluate.thresholds import RULE

HEADLINE = {
    "multilabel": ("macro_f1", "uar", "exact_match"),
    "multiclass": ("uf1", "uar", "accuracy"),
}


# many small matrix products: threads would wait longer than they work
@threadpool_limits.wrap(limits=1, user_api="blas")
def evaluate(
    predictions: dict[str, np.ndarray],
    selection: str,
    source: str,
    min_train_positives: int = 5,
    resamples: int = RESAMPLES,
    seed: int = 0,
    group_name: str | None = None,
) -> dict:
    """The content of metrics.json.

    Macro figures are means over the headline classes. Multi-label: the action units with a positive
    test row and at least
    `min_train_positives` training positives in every trial; `macro_f1_all` drops the second
    condition. One-of-K: the classes with a test row. Each macro figure says in `classes` how many
    it averages. In a resample a headline class without positives is skipped; a resample without any
    is left out, and `resamples` says how many were used. Micro figures, exact match, Hamming, NLL,
    Brier and ECE are over all K classes. Thresholds are held fixed in the bootstrap, and those of
    `val` were chosen on the same rows, so its figures are optimistic.

    With several seeds `value` is the mean over seeds of the value on each seed's pool, `seeds` (in
    the order of the key `seeds` of the result) and `seed_std` are added, and the interval
    resamples subjects, the same ones for all seeds. Rows of a failed trial count as wrong
    (scored_rows.py). `per_group` and `confusion` are means over seeds.

    `ensemble` treats the seeds as one predictor, by the mean of their probabilities; {} without
    several seeds. One-of-K tasks also have `calibration` and `selective` (calibration_report.py),
    and on FER2013 `kaggle` (kaggle.py). `copies` (copies.py) is about test rows that also occur in
    the training rows, where that is known. `datasets` names the data sets of each split's rows,
    `dataset_groups` the number of test groups in each row of `per_dataset`. If every group is a
    single row, `per_group` is empty, as it would repeat the predictions.

    Args:
      predictions: the arrays of predictions.npz: `ids`, `groups`, `trial`, `split` ('val' or
          'test'), `selection`, all [R];
        `labels` float [R, K] (multi-label) or int [R]; `logits` [R, K]; `class_names` [K];
        `train_positives` [T, K] and
        `train_rows` [T], counted in the training rows of each trial; `trial_fold` and `trial_seed`
        int [T], `fold_names` [F],
        `failed` bool [T] (not needed with a single trial); where rows come from several data sets,
        or named parts of one, `dataset` str [R]; where it is known, `copy` str [R] (copies.py);
        where `train_positives` were not counted in training rows,
        `counts_from` says in which ('validation', 'test').
      selection: the configured one, 'last' or 'best_val'.
      source: the data source, `<release>@<fingerprint>` or `synthetic`.
      group_name: what a group is, in the singular; by default 'subject', or 'image' where every
          group is a single row.

    Returns:
      A dict of plain Python values; what is undefined is None.

    Raises:
      UserError: the selection is 'oracle', or not among the predictions.
      ValueError: the arrays do not fit each other, the seeds test other rows, or no row is a test
          row.
    """
    predictions = checked(predictions, selection)
    multilabel = np.asarray(predictions["labels"]).ndim == 2
    task = "multilabel" if multilabel else "multiclass"
    thresholds = {
        name: trial_thresholds(predictions, name)
        for name in SELECTIONS
        if (predictions["selection"] == name).any()
    }
    answers = {
        name: model_rows(predictions, name, "test", fitted and fitted[0])
        for name, fitted in thresholds.items()
    }
    test = answers[selection]
    enough = (
        predictions["train_positives"].min(axis=0) >= min_train_positives
        if multilabel
        else np.ones_like(test.presence[0])
    )

    def measured_of(answer: ScoredRows) -> Measured:
        return measure(answer, enough, resamples, seed)

    measured = {name: measured_of(a) for name, a in answers.items()}
    baselines = {
        name: measured_of(a) for name, a in baseline_rows(predictions, selection, test).items()
    }
    val = {}
    fitted = thresholds[selection]
    if len(rows_of(predictions, selection, "val")):
        val = measured_of(model_rows(predictions, selection, "val", fitted and fitted[0])).summary()
    per_dataset = {"full": {name: m.summary() for name, m in measured.items()}}
    sets = (
        predictions["dataset"][rows_of(predictions, selection, "test")]
        if "dataset" in predictions
        else np.array([])
    )
    parts = np.unique(sets).tolist()
    # the rows of all selections are in the same order
    for name in parts if len(parts) > 1 else ():
        per_dataset[name] = {
            s: measured_of(a.at(sets == name)).summary() for s, a in answers.items()
        }
    constant = "always_positive" if multilabel else "majority"
    first = test.groups[test.pools()[0]]
    single_rows = len(np.unique(first)) == len(first)  # every group is a single row
    of_part = {name: of[selection] for name, of in per_dataset.items() if name != "full"}
    # for pictures, the field quotes accuracy first
    shown = HEADLINE[task] if multilabel or not single_rows else ("accuracy", "uf1", "uar")
    headline = predictions["class_names"][enough & test.presence.any(axis=0)]
    return {
        "test": measured[selection].summary(),
        "val": val,
        "selections": {name: m.summary() for name, m in measured.items()},
        "baselines": {name: m.summary() for name, m in baselines.items()},
        f"difference_to_{constant}": {
            "metric": "macro_f1",
            **measured[selection].minus(baselines[constant], "macro_f1"),
        },
        "oracle_gap": {name: measured["oracle"].minus(measured[selection], name) for name in shown}
        if "oracle" in measured
        else {},
        "headline": {
            "classes": headline.tolist(),
            "min_train_positives": min_train_positives,
            "metrics": list(shown),
        },
        "per_class": tables.per_class(
            predictions,
            test,
            measured[selection],
            baselines[constant],
            enough,
            thresholds[selection],
        ),
        "per_dataset": per_dataset if len(parts) > 1 else {},
        "dataset_groups": tables.groups_by_dataset(test, sets) if len(parts) > 1 else {},
        "per_group": [] if single_rows else tables.per_group(test, sets),
        **calibration_report(predictions, selection, test, sets, resamples, seed),
        "kaggle": kaggle(
            of_part or {(parts or ["the test rows"])[0]: measured[selection].summary()},
            source,
            predictions["class_names"],
        ),
        "copies": measure_copies(predictions, selection, test, measured_of),
        "confusion": tables.confusion(test, predictions["class_names"]),
        "undefined": tables.undefined(predictions["class_names"], test),
        "thresholds": {
            "rule": RULE,
            "per_trial": fitted[0].tolist(),
            "from": fitted[1].tolist(),
        }
        if fitted
        else None,
        "seeds": np.unique(predictions["trial_seed"]).tolist(),
        "ensemble": measure_ensemble(predictions, selection, measured_of),
        "trials": trials_of(predictions),
        "task": task,
        "source": source,
        "selection": selection,
        "counts_from": str(predictions.get("counts_from", "training")),
        "group_name": group_name or ("image" if single_rows else "subject"),
        "datasets": tables.datasets(predictions, selection),
        **tables.sizes(predictions, selection),
        "bootstrap": {"unit": "group", "resamples": resamples, "seed": seed, "level": 0.95},
    }


def measure_ensemble(
    predictions: dict[str, np.ndarray],
    selection: str,
    measure_rows: Callable[[ScoredRows], Measured],
) -> dict:
    """The metrics of the test rows by the mean probabilities of a fold's seeds; {} with one seed, a
    failed trial, or action units.
    """
    if (
        predictions["labels"].ndim == 2
        or predictions["failed"].any()
        or len(np.unique(predictions["trial_seed"])) < 2
    ):
        return {}
    fused, _ = fusion.fuse({"run": predictions}, selection)
    return measure_rows(model_rows(fused, selection, "test", None)).summary()
