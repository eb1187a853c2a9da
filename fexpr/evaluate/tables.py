"""The tables of metrics.json beside the metrics: by class, by group, confusion counts, undefined
figures.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from fexpr.evaluate import metrics
from fexpr.evaluate.measure import CLASS_METRICS, Measured
from fexpr.evaluate.predictions import rows_of
from fexpr.evaluate.scored_rows import ScoredRows
from fexpr.evaluate.thresholds import FAILED

if TYPE_CHECKING:  # checked in the tests (tests/conftest.py)
    from jaxtyping import Bool, Float, Shaped


def per_class(
    predictions: dict,
    test: ScoredRows,
    measured: Measured,
    constant: Measured,
    enough: Bool[np.ndarray, " K"],
    thresholds: tuple[Float[np.ndarray, "T K"], Shaped[np.ndarray, "T K"]] | None,
) -> list[dict]:
    """One dict per class. `positives` are those of one seed's pool, `train_positives` the fewest
    over the T trials. `enough`: of the headline. `thresholds`: each trial's, and their origin.
    """
    train, first = predictions["train_positives"].min(axis=0), test.at(test.pools()[0])
    table = []
    for k, name in enumerate(predictions["class_names"]):
        positive = first.presence[:, k]
        notes = []
        if not positive.any():
            notes.append("undefined: no positive test row")
        elif positive.all():
            notes.append("UAR and ROC-AUC undefined: no negative test row")
        elif len(np.unique(first.groups[positive])) == 1:
            notes.append("all test positives from one group")
        if positive.any() and not enough[k]:
            notes.append("too few training positives for the headline")
        row = {
            "name": str(name),
            "positives": int(positive.sum()),
            "train_positives": int(train[k]),
        }
        row |= {metric: measured.of_class(metric, k) for metric in CLASS_METRICS}
        row["baseline_f1"] = constant.of_class("f1", k)
        if thresholds is not None:
            trained = thresholds[1][:, k] != FAILED
            row["threshold"] = (
                float(np.median(thresholds[0][trained, k])) if trained.any() else None
            )
            row["threshold_from"] = _most_frequent(thresholds[1][:, k])
        defined = bool(positive.any())
        table.append(
            row
            | {
                "defined": defined,
                "headline": defined and bool(enough[k]),
                "note": "; ".join(notes),
            }
        )
    return table


def _most_frequent(values: Shaped[np.ndarray, " T"]) -> str:
    names, counts = np.unique(values, return_counts=True)
    top = counts.argmax()
    return (
        str(names[top])
        if len(names) == 1
        else f"{names[top]} in {counts[top]} of {len(values)} trials"
    )


def per_group(test: ScoredRows, datasets: Shaped[np.ndarray, " rows"]) -> list[dict]:
    """One dict per subject (or actor), sorted by data set and name: `rows`, its number in one
    seed's pool, and means over seeds. One-of-K: rows `correct`, `accuracy`. Multi-label:
    `exact_match`, and `micro_f1` over all its decisions (None where it shows nothing).
    `unanswered`: rows of failed trials, which are among the wrong ones.
    """
    seeds = len(test.pools())
    names, index = np.unique(test.groups, return_inverse=True)

    def by_group(values: Shaped[np.ndarray, " R"]) -> Float[np.ndarray, " G"]:
        return np.bincount(index, values.astype(np.float64), len(names)) / seeds

    rows, right = (
        by_group(np.ones(len(index))),
        by_group((test.presence == test.decisions).all(axis=1)),
    )
    unanswered = by_group(test.failed())
    f1 = np.full((seeds, len(names)), np.nan)
    for s, pool in enumerate(test.pools() if test.multilabel else ()):
        # each group as a weighting of the pool
        members = (index[pool] == np.arange(len(names))[:, None]).astype(np.float64)
        f1[s] = metrics.f1(
            metrics.confusion_counts(test.presence[pool], test.decisions[pool], members).pooled()
        )[:, 0]
    of = dict(zip(test.groups.tolist(), datasets.tolist(), strict=True)) if len(datasets) else {}
    table = []
    for g, name in enumerate(names.tolist()):
        row = {
            "group": name,
            "dataset": of.get(name),
            "rows": round(rows[g]),
            "unanswered": float(unanswered[g]),
        }
        if test.multilabel:
            value = f1[:, g].mean()
            row |= {
                "exact_match": float(right[g] / rows[g]),
                "micro_f1": None if np.isnan(value) else float(value),
            }
        else:
            row |= {"correct": float(right[g]), "accuracy": float(right[g] / rows[g])}
        table.append(row)
    return sorted(table, key=lambda row: (row["dataset"] or "", row["group"]))


def groups_by_dataset(test: ScoredRows, datasets: Shaped[np.ndarray, " rows"]) -> dict[str, int]:
    """The number of groups in the test rows of each data set, and in all of them ('full'), over
    which intervals are computed.
    """
    found = {"full": len(np.unique(test.groups))}
    for name in np.unique(datasets).tolist():
        found[name] = len(np.unique(test.groups[datasets == name]))
    return found


def confusion(test: ScoredRows, names: Shaped[np.ndarray, " K"]) -> dict:
    """Counts pooled over folds, mean over seeds. One-of-K: `counts` [true][predicted], and
    `unanswered` rows (of failed trials) by true class. Multi-label: `tp`, `fp`, `fn`, `tn` of
    each class."""
    seeds, classes = len(test.pools()), names.tolist()
    if test.multilabel:
        counts = metrics.confusion_counts(
            test.presence, test.decisions, np.full((1, len(test.presence)), 1 / seeds)
        )
        return {"classes": classes} | {
            name: value[0].round(9).tolist() for name, value in counts._asdict().items()
        }
    counts = test.presence.T.astype(np.float64) @ test.decisions / seeds
    unanswered = test.presence[test.failed()].sum(axis=0) / seeds
    return {"classes": classes, "counts": counts.tolist(), "unanswered": unanswered.tolist()}


def undefined(class_names: Shaped[np.ndarray, " K"], test: ScoredRows) -> list[dict]:
    """The classes without a positive or without a negative row in one seed's pool: `name`, and
    `why` some figures are undefined.
    """
    pool = test.at(test.pools()[0])
    rows = len(pool.presence)
    why = {
        0: f"no positive among {rows} test rows: no F1, precision, recall, UAR, ROC-AUC or "
        "average precision",
        rows: f"no negative among {rows} test rows: no UAR or ROC-AUC",
    }
    positives = pool.presence.sum(axis=0)
    return [
        {"name": str(n), "why": why[p]}
        for n, p in zip(class_names, positives.tolist(), strict=True)
        if p in why
    ]


def sizes(predictions: dict, selection: str) -> dict[str, dict[str, int]]:
    """For test and val, the numbers of `rows` in one seed's pool (validation: mean over seeds), of
    distinct `ids` among them, and of `groups`.
    """
    parts = {split: rows_of(predictions, selection, split) for split in ("test", "val")}
    seeds = len(np.unique(predictions["trial_seed"]))
    return {
        "rows": {split: round(len(rows) / seeds) for split, rows in parts.items()},
        "ids": {split: len(np.unique(predictions["ids"][rows])) for split, rows in parts.items()},
        "groups": {
            split: len(np.unique(predictions["groups"][rows])) for split, rows in parts.items()
        },
    }


def datasets(predictions: dict, selection: str) -> dict[str, list[str]]:
    """Where the rows of each split come from, such as {'test': ['PrivateTest'], 'val':
    ['Training']}; {} if that is unknown.
    """
    if "dataset" not in predictions:
        return {}
    return {
        split: np.unique(predictions["dataset"][rows_of(predictions, selection, split)]).tolist()
        for split in ("test", "val")
    }
