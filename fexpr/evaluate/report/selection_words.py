"""Explains over which classes the monitor that chose an epoch is averaged, if the table of results
averages others.
"""

from __future__ import annotations

import numpy as np

from fexpr.evaluate.predictions import rows_of
from fexpr.evaluate.report.headline import MONITORS_IN_WORDS
from fexpr.evaluate.scored_rows import presence_of

MACRO = ("roc_auc", "uf1")  # monitors that are a mean over classes


def chosen_by(metrics: dict, predictions: dict, monitor: str | None) -> str:
    """A sentence on how many classes the monitor averages on validation and test rows, and how many
    the table does; '' if the monitor is not a mean over classes, or all numbers are the same.

    The monitor is computed on the rows of one trial, over every class that is defined there; the
    table leaves out classes with few training positives, and has other rows.
    """
    if monitor not in MACRO:
        return ""
    shown = metrics["test"]["macro_f1"]["classes"]
    counts = {split: _classes(predictions, metrics, split, monitor) for split in ("val", "test")}
    if not counts["val"] or {*counts["val"], *counts["test"]} == {shown}:
        return ""
    unit = "action unit" if metrics["task"] == "multilabel" else "class"
    which = "with positive and negative rows" if monitor == "roc_auc" else "that occurs"
    oracle = f", the oracle’s over {_range(counts['test'])} of the test rows"
    return (
        f"The monitor, {MONITORS_IN_WORDS[monitor]}, is a mean over every {unit} {which}: "
        f"{_range(counts['val'])} of the validation rows"
        f"{oracle if 'oracle' in metrics['selections'] else ''}. The table’s means are over "
        f"{shown}."
    )


def _classes(predictions: dict, metrics: dict, split: str, monitor: str) -> set[int]:
    """The number of classes that the monitor averages, for each trial that has such rows."""
    rows = rows_of(predictions, metrics["selection"], split)
    trial, k = predictions["trial"][rows], predictions["logits"].shape[1]
    presence = presence_of(predictions["labels"][rows], k)
    found = set()
    for t in np.unique(trial):
        positive = presence[trial == t].sum(axis=0)
        defined = positive > 0
        if monitor == "roc_auc":
            defined &= positive < (trial == t).sum()
        found.add(int(defined.sum()))
    return found


def _range(counts: set[int]) -> str:
    low, high = min(counts), max(counts)
    return f"{low}" if low == high else f"{low} to {high}"
