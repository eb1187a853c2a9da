"""The arrays of predictions.npz: their checks, and which rows belong together.

R rows: every validation and test row of every trial under every selection. T trials: fold x seed.
Within one seed the test rows of all folds are one pool; metrics are counted on pools, never
averaged over folds.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from fexpr.errors import UserError

if TYPE_CHECKING:  # checked in the tests (tests/conftest.py)
    from jaxtyping import Int

SELECTIONS = ("last", "best_val", "oracle")
PER_ROW = ("ids", "groups", "labels", "trial", "split", "selection")
PER_TRIAL = ("train_positives", "train_rows", "trial_fold", "trial_seed", "failed")


def checked(predictions: dict[str, np.ndarray], selection: str) -> dict[str, np.ndarray]:
    """The arrays in the form that the other functions of this package take: complete, and with NaN
    as the logits of failed trials.

    A single trial needs no `trial_fold`, `trial_seed`, `fold_names`, `failed`: it is the fold 'all'
    of seed 0, and did not fail.

    Raises:
      UserError: the selection is 'oracle', or not among the predictions.
      ValueError: the arrays do not fit each other, or no row is a test row.
    """
    if selection == "oracle":
        raise UserError(
            "config.train.selection is 'oracle', but the best epoch on the test rows is not a "
            "result",
            fix="choose 'last' or 'best_val'; the oracle is reported as well in any case",
        )
    found = sorted(set(predictions["selection"].tolist()))
    if selection not in found:
        raise UserError(
            f"the predictions contain no selection {selection!r}",
            [f"expected one of {found}, found {selection!r}"],
        )
    single = (
        {
            "trial_fold": np.zeros(1, np.int32),
            "trial_seed": np.zeros(1, np.int32),
            "fold_names": np.array(["all"]),
            "failed": np.zeros(1, bool),
        }
        if not predictions["trial"].any()
        else {}
    )
    predictions = single | predictions
    problems = _shape_problems(predictions) or _content_problems(predictions, selection)
    if problems:
        raise ValueError("predictions do not fit together: " + "; ".join(problems))
    lost = predictions["failed"][predictions["trial"]]
    return predictions | {"logits": np.where(lost[:, None], np.nan, predictions["logits"])}


def rows_of(predictions: dict, selection: str, split: str) -> Int[np.ndarray, " rows"]:
    """Row numbers sorted by seed; within a seed, in their original order."""
    rows = np.flatnonzero((predictions["selection"] == selection) & (predictions["split"] == split))
    return rows[np.argsort(seed_of(predictions, rows), kind="stable")]


def seed_of(predictions: dict, rows: Int[np.ndarray, " rows"]) -> Int[np.ndarray, " rows"]:
    """The seed of each row's trial."""
    return predictions["trial_seed"][predictions["trial"][rows]]


def trials_of(predictions: dict) -> dict:
    """The entry `trials` of metrics.json: count, folds, and the failed trials by fold and seed."""
    failed = [
        {
            "trial": int(t),
            "fold": str(predictions["fold_names"][predictions["trial_fold"][t]]),
            "seed": int(predictions["trial_seed"][t]),
        }
        for t in np.flatnonzero(predictions["failed"])
    ]
    return {
        "count": len(predictions["trial_fold"]),
        "folds": len(np.unique(predictions["trial_fold"])),
        "failed": failed,
    }


def _shape_problems(p: dict) -> list[str]:
    missing = [name for name in PER_TRIAL + ("fold_names",) if name not in p]
    if missing:
        return [f"missing {missing}, which several trials need"]
    n, k = p["logits"].shape
    problems = [
        f"{name}: {len(p[name])} rows, logits have {n}"
        for name in (*PER_ROW, "dataset", "copy")
        if name in p and len(p[name]) != n
    ]
    trials = len(p["trial_fold"])
    if p["train_positives"].ndim != 2 or p["train_positives"].shape[1] != k:
        problems.append(
            f"train_positives: shape {p['train_positives'].shape}, expected ({trials}, {k})"
        )
    problems += [
        f"{name}: {len(p[name])} trials, trial_fold has {trials}"
        for name in PER_TRIAL
        if len(p[name]) != trials
    ]
    if len(p["class_names"]) != k:
        problems.append(f"class_names: {len(p['class_names'])} names, logits have {k} columns")
    problems += [
        f"unknown {name} {sorted(extra)}"
        for name, known in (("selection", SELECTIONS), ("split", ("val", "test")))
        if (extra := set(p[name].tolist()) - set(known))
    ]
    if p["trial"].max(initial=0) >= trials:
        problems.append(f"trial: row of trial {p['trial'].max()}, there are {trials}")
    if p["trial_fold"].max() >= len(p["fold_names"]):
        problems.append(
            f"trial_fold: fold {p['trial_fold'].max()}, fold_names has {len(p['fold_names'])}"
        )
    return problems


def _content_problems(p: dict, selection: str) -> list[str]:
    bad = ~np.isfinite(p["logits"]).all(axis=1) & ~p["failed"][p["trial"]]
    problems = (
        [f"logits: {bad.sum()} rows with NaN or infinity in trials that did not fail"]
        if bad.any()
        else []
    )
    pairs, counts = np.unique(
        np.stack([p["trial_fold"], p["trial_seed"]]), axis=1, return_counts=True
    )
    problems += [
        f"{n} trials of fold {f} and seed {s}"
        for (f, s), n in zip(pairs.T.tolist(), counts, strict=True)
        if n > 1
    ]
    rows = rows_of(p, selection, "test")
    seeds = seed_of(p, rows)
    pools = [np.sort(p["ids"][rows[seeds == s]]) for s in np.unique(p["trial_seed"])]
    if not len(rows):
        problems.append(f"no test row under selection {selection!r}")
    elif not all(np.array_equal(pool, pools[0]) for pool in pools):
        problems.append("the seeds do not test the same rows")
    return problems
