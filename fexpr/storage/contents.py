"""Reads config.json, metrics.json and
predictions.npz, and checks everything that commands rely on; all mismatches of a file are one
message.
"""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterator, Mapping
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
    "weights?": {"sha256": str, "*": object},  # of a packed run
}
# of a run whose predictions are combined with those of others
PREDICTED = CONFIG | {
    "config": {"train?": {"selection?": str, "*": object}, "*": object},
    "data": {"source": str, "name": str, "*": object},
    "model": {"name": str, "*": object},
}
SIZE = {"rows": int, "groups?": int, "*": object}
# of a run that is opened again: what is compared, and what its report reads
OPENED = {
    "format": int,
    "config": {"train?": {"monitor?": str, "*": object}, "*": object},
    "data": {
        "source": object,
        "name?": str,
        "group_name?": str,
        "rows?": int,
        "groups?": int,
        "parts?": {"*": SIZE},
        "*": object,
    },
    "model?": {"name?": str, "parameters?": int, "*": object},
    "devices?": {"count?": int, "kind?": str, "*": object},
    "versions?": {"*": str},
    "command?": str,
    "title?": str,
    "notes?": [str],
    "init?": Maybe({"people?": {"seen?": Maybe(int), "*": object}, "*": object}),
    "wall_seconds?": NUMBER,
    "resources?": {
        "trials": int,
        "size": int,
        "chunks": int,
        "bytes_needed": NUMBER,
        "compile_seconds": NUMBER,
        "host_bytes": NUMBER,
        "device_bytes?": NUMBER,
        "*": object,
    },
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
    "rows": {"test": int, "*": object},
    "groups": {"test": int, "*": object},
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
# which not every run has
SELECTIONS = 3  # columns of `epoch`: last, best_val, oracle
MAY_HAVE = {"video": ("U", 1), "dataset": ("U", 1), "copy": ("U", 1), "epoch": ("i", 2)}


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
    check_predictions(path, found)
    return found


def check_predictions(
    path: Path, found: Mapping[str, np.ndarray], required: Collection[str] = PREDICTIONS
) -> None:
    """Raises a UserError if the arrays of a predictions.npz have other types or lengths than those
    that a run writes, or lack one of `required`.
    """
    problems = []
    for name, (kinds, dimensions) in (PREDICTIONS | MAY_HAVE).items():
        array = found.get(name)
        if array is None:
            problems += [f"{name}: missing"] if name in required else []
        elif array.dtype.kind not in kinds or array.ndim not in np.atleast_1d(dimensions):
            problems.append(f"{name}: {array.dtype} {array.shape} cannot be used")
    problems = problems or _lengths(found)
    if problems:
        raise _not_of_a_run(path, problems)


def _lengths(found: Mapping[str, np.ndarray]) -> list[str]:
    """What does not fit together in arrays of the right types."""
    rows, trials = len(found["logits"]), len(found["train_rows"])
    lengths: dict[str, int] = dict.fromkeys(
        ("ids", "groups", "labels", "trial", "split", "selection"), rows
    )
    by_trial = ("trial_fold", "trial_seed", "failed", "train_positives", "train_rows", "epoch")
    lengths |= dict.fromkeys(by_trial, trials)
    lengths |= dict.fromkeys(("video", "dataset", "copy"), rows)
    lengths["class_names"] = found["logits"].shape[1]
    problems = [
        f"{name}: {len(found[name])} entries, expected {n}"
        for name, n in lengths.items()
        if name in found and len(found[name]) != n
    ]
    indices = [("trial", found["trial"], trials)]
    if "fold_names" in found and "trial_fold" in found:
        indices.append(("trial_fold", found["trial_fold"], len(found["fold_names"])))
    for name, index, end in indices:
        if len(index) and not 0 <= index.min() <= index.max() < end:
            problems.append(f"{name}: numbers from 0 to {end - 1} are expected")
    labels, classes = found["labels"], len(found["class_names"])
    if labels.ndim == 1 and len(labels) and not 0 <= labels.min() <= labels.max() < classes:
        problems.append(f"labels: classes from 0 to {classes - 1} are expected")
    if labels.ndim == 2 and labels.shape[1] != classes:
        problems.append(f"labels: {labels.shape[1]} columns, expected {classes}")
    if "epoch" in found and found["epoch"].shape[1] != SELECTIONS:
        problems.append(f"epoch: {found['epoch'].shape[1]} columns, expected {SELECTIONS}")
    return problems


@contextlib.contextmanager
def as_user_error(what: str) -> Iterator[None]:
    """Turns the errors of code that reads the less common entries of config.json or metrics.json,
    which somebody may have edited, into a UserError; `what`: what cannot be used or made.
    """
    try:
        yield
    except (KeyError, TypeError, ValueError, IndexError, AttributeError) as e:
        raise UserError(
            f"config.json or metrics.json does not fit its run: {what}",
            [f"{type(e).__name__}: {e}"],
            fix="give the run's command again: it writes both from its predictions",
        ) from e


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
