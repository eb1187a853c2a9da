"""Reads config.json, metrics.json and
predictions.npz, and checks everything that commands rely on; all mismatches of a file are one
message.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from fexpr.errors import UserError
from fexpr.storage import run
from fexpr.storage.shape import NUMBER, Maybe, find_mismatches

# of a run that may have only started
STARTED = {"config": Maybe({"train?": {"epochs": int, "*": object}, "*": object})}
# of any finished run; those of fused runs and laboratories have fewer entries
CONFIG = STARTED | {
    "format": int,
    "data?": dict,
    "model?": dict,
    "versions?": {"*": str},
    "devices?": dict,
    "command?": str,
}
# of a run whose network is restored
TRAINED = CONFIG | {
    "config": {
        "train": {
            "selection": str,
            "precision": str,
            "tta": str,
            "loss": str,
            "normalize": str,
            "epochs": int,
            "*": object,
        },
        "model": {"name": str, "*": object},
        "data": {"name": str, "*": object},
        "augment": dict,
        "optimizer": dict,
        "split": dict,
        "extensions?": [str],
        "*": object,
    },
    "data": {
        "source": str,
        "name": str,
        "classes": [str],
        "image": [int],
        "kind": str,
        "group_name": str,
        "*": object,
    },
    "model": {"name": str, "*": object},
}
ESTIMATE = {
    "value": Maybe(NUMBER),
    "low": Maybe(NUMBER),
    "high": Maybe(NUMBER),
    "*": object,
}
HEADLINE = {"headline": {"metrics": [str], "*": object}, "test": {"*": ESTIMATE}}
METRICS = HEADLINE | {
    "task": str,
    "source": str,
    "selection": str,
    "group_name": str,
    "per_class": [dict],
    "trials": {"count": int, "failed": [{"trial": int, "*": object}], "*": object},
    # read by recognizer/calibrated.py
    "calibration?": Maybe(dict),
    "thresholds?": Maybe(dict),
    "sets?": Maybe(dict),
    "clips?": {"rule": str, "*": object},
    "*": object,
}
PREDICTIONS = {  # kinds of types, and dimensions
    "ids": ("U", 1),
    "groups": ("U", 1),
    "labels": ("if", (1, 2)),
    "logits": ("f", 2),
    "trial": ("i", 1),
    "split": ("U", 1),
    "selection": ("U", 1),
    "class_names": ("U", 1),
    "trial_fold": ("i", 1),
    "trial_seed": ("i", 1),
    "fold_names": ("U", 1),
    "failed": ("b", 1),
    "train_positives": ("fi", 2),
    "train_rows": ("i", 1),
}


def read_config(path: Path, shape: Mapping[str, Any] = CONFIG) -> dict:
    """Reads config.json. `shape`: STARTED, CONFIG, or TRAINED if the run's network is needed.

    Raises:
      UserError: it cannot be read, is damaged, or does not belong to a run.
    """
    return _of_shape(path, shape)


def read_metrics(path: Path, shape: Mapping[str, Any] = METRICS) -> dict:
    """Reads metrics.json. `shape`: HEADLINE if only the run's result is needed. Errors as in
    `read_config`.
    """
    found = _of_shape(path, shape)
    missing = [m for m in found["headline"]["metrics"] if m not in found["test"]]
    if missing or not found["headline"]["metrics"]:
        raise run.damaged(path, "headline.metrics names metrics that are not in test")
    return found


def read_predictions(path: Path) -> dict[str, np.ndarray]:
    """Reads all arrays of predictions.npz, checked for type and length.

    Raises:
      UserError: it cannot be read, is damaged, or has other content.
    """
    found = run.read_arrays(path)
    problems = []
    for name, (kinds, dimensions) in PREDICTIONS.items():
        array = found.get(name)
        if array is None:
            problems.append(f"{name}: missing")
        elif array.dtype.kind not in kinds or array.ndim not in np.atleast_1d(dimensions):
            problems.append(f"{name}: {array.dtype} {array.shape} cannot be used")
    if not problems:
        rows, trials = len(found["logits"]), len(found["trial_fold"])
        lengths: dict[str, int] = dict.fromkeys(
            ("ids", "groups", "labels", "trial", "split", "selection"), rows
        )
        by_trial = ("trial_seed", "failed", "train_positives", "train_rows")
        lengths |= dict.fromkeys(by_trial, trials)
        lengths["class_names"] = found["logits"].shape[1]
        lengths |= {name: rows for name in ("video", "dataset", "copy") if name in found}
        problems += [
            f"{name}: {len(found[name])} entries, expected {n}"
            for name, n in lengths.items()
            if len(found[name]) != n
        ]
        for name, index, end in (
            ("trial", found["trial"], trials),
            ("trial_fold", found["trial_fold"], len(found["fold_names"])),
        ):
            if len(index) and not 0 <= index.min() <= index.max() < end:
                problems.append(f"{name}: numbers from 0 to {end - 1} are expected")
        labels, classes = found["labels"], len(found["class_names"])
        if labels.ndim == 1 and len(labels) and not 0 <= labels.min() <= labels.max() < classes:
            problems.append(f"labels: classes from 0 to {classes - 1} are expected")
        if labels.ndim == 2 and labels.shape[1] != classes:
            problems.append(f"labels: {labels.shape[1]} columns, expected {classes}")
    if problems:
        raise _not_of_a_run(path, problems)
    return found


def _of_shape(path: Path, shape: Mapping[str, Any]) -> dict:
    found = run.read_json(path)
    problems = list(find_mismatches(found, dict(shape) | {"*": object}))
    if problems:
        raise _not_of_a_run(path, problems)
    return found


def _not_of_a_run(path: Path, problems: list[str]) -> UserError:
    return UserError(
        f"{path} does not have the content that a run of fexpr writes",
        problems,
        fix="name another run directory, or copy this one again from a complete copy",
    )
