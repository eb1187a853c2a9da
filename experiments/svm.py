"""Linear and RBF support vector machines through scikit-learn, written to the same run directory as
`fit` writes.

Pixels are standardised by each fold's training rows, and may be rotated onto their leading
principal components. Of several values of C, the one with the best accuracy on the validation rows
is kept. Both problems are convex: a seed changes nothing, and no epoch is chosen, so every row is
written once, under the selection `last`. Margins are saved as logits; a one-against-one machine's
are coupled over the pairs of classes. They are not fitted as probabilities until a temperature is
fitted to validation rows.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from fexpr.data.dataset import Dataset
from fexpr.data.splits.fold import Fold
from fexpr.errors import UserError
from fexpr.runs import describe, opening, people, results
from fexpr.runs.spec import RunSpec
from fexpr.runs.svm_folds import (
    GAMMA_WORDS,
    Fitted,
    costs,
    decisions,
    fit_folds,
    pixels_of,
    values_of,
)
from fexpr.storage import run
from fexpr.terminal import say

# of config.model, beside name and kernel
ARGUMENTS = {"linear": ("C", "components", "max_iter"), "rbf": ("C", "components", "gamma")}


def svm(config: ConfigDict, workdir: Path) -> None:
    """Writes a finished run directory to `workdir`, without history and checkpoints; an unfinished
    one starts again, a finished one is only reported again.

    Raises:
      UserError: a fault of the data, config or run directory that the user can fix.
    """
    check(config)
    dataset, folds = describe.prepare(config)
    if dataset.multilabel:
        raise UserError(
            f"experiment='svm' predicts one class per row, but the rows of {config.data.name} have "
            "several",
            fix="choose one-of-K data",
        )
    kernel, grid = config.model.kernel, costs(config)
    began = time.monotonic()
    info = {
        "data": describe.describe_data(config, dataset, folds),
        "model": {"name": f"{kernel} svm"},
        "devices": {"kind": "CPU core, scikit-learn", "count": 1, "platform": "cpu"},
    }
    info = opening.open_run(RunSpec(config, workdir), **info)
    onto = f" on {config.model.components} principal components" if config.model.components else ""
    say(
        f"model      {kernel} SVM{onto}, C of {', '.join(f'{C:g}' for C in grid)}   class "
        f"weights {config.train.class_weights:g}"
    )
    if config.split.seeds > 1:
        say(
            f"seeds      one, not {config.split.seeds}: the problem is convex, every seed "
            "would end alike",
            style="yellow",
        )
    if not (workdir / run.PREDICTIONS).exists():
        fitted = fit_folds(config, dataset, folds)
        info["versions"]["scikit-learn"] = metadata.version("scikit-learn")
        info["model"] |= {
            "parameters": max(f.parameters for f in fitted),
            "fits": [f.summary() for f in fitted],
        }
        run.write_json(
            workdir / run.CONFIG, info | {"wall_seconds": round(time.monotonic() - began, 1)}
        )
        # written last: if it exists, everything is done
        people.write(workdir, config.data.name, dataset, folds, range(len(folds)))
        run.write_arrays(workdir / run.PREDICTIONS, predictions(dataset, folds, fitted))
    say(
        f"fitted     {info['model']['parameters']:,} parameters   "
        f"{_in_words(info['model']['fits'])}"
    )
    results.report(config, dataset, workdir)


def check(config: ConfigDict) -> None:
    """Raises one UserError that lists every field of `config.model` and `config.train` that an SVM
    cannot use.
    """
    given, kernel = config.model.to_dict(), config.model.get("kernel")
    if kernel not in ARGUMENTS:
        raise UserError(
            f"config.model.kernel is {kernel!r}", fix=f"set it to one of {', '.join(ARGUMENTS)}"
        )
    wanted = ARGUMENTS[kernel]
    problems = [
        f"model.{name}: a {kernel} SVM has no such argument"
        for name in given
        if name not in ("name", "kernel", *wanted)
    ]
    problems += [f"model.{name}: missing" for name in wanted if name not in given]
    least = {
        "components": (0, "0 (all pixels) or a whole number above"),
        "max_iter": (1, "a whole number of at least 1"),
    }
    problems += [
        f"model.{name}={given[name]!r}: expected {text}"
        for name, (low, text) in least.items()
        if name in given and not (isinstance(given[name], int) and given[name] >= low)
    ]
    problems += [
        f"model.{name}={value!r}: expected {text}"
        for name, text, words in (
            ("C", "a number above 0, or several", ()),
            ("gamma", "a number above 0, 'scale' or 'auto'", GAMMA_WORDS),
        )
        for value in values_of(given.get(name, 1.0))
        if value not in words and not _positive(value)
    ]
    if config.train.selection != "last":
        problems.append(
            f"train.selection={config.train.selection!r}: expected 'last', as an SVM has no "
            "epochs to choose from"
        )
    if problems:
        raise UserError(
            "an SVM cannot be made from this config",
            problems,
            fix="see configs/svm_linear_fer2013.py and svm_rbf_fer2013.py",
        )


def predictions(
    dataset: Dataset, folds: Sequence[Fold], fitted: Sequence[Fitted]
) -> dict[str, np.ndarray]:
    """The arrays of predictions.npz, one trial per fold; the selection is `last` alone, and there
    is no `epoch`.
    """
    classes, parts = len(dataset.class_names), []
    for t, (fold, fit) in enumerate(zip(folds, fitted, strict=True)):
        for side, rows in (("val", fold.val), ("test", fold.test)):
            logits = decisions(
                fit.machine, fit.features.transform(pixels_of(dataset, rows)), classes
            ).astype(np.float32)
            parts.append(
                (
                    rows,
                    logits,
                    np.full(len(rows), t, np.int32),
                    np.full(len(rows), side),
                    np.full(len(rows), "last"),
                )
            )
    return results.contract(
        dataset, folds, range(len(folds)), [0] * len(folds), [f.train for f in folds], parts
    )


def _in_words(fits: list[dict]) -> str:
    """Which C was kept in how many folds, in words; for a single fold also its validation
    accuracy.
    """
    kept = Counter(fit["C"] for fit in fits)
    if len(fits) > 1:
        return "C chosen: " + ", ".join(f"{C:g} in {n} folds" for C, n in sorted(kept.items()))
    (fit,) = fits
    vectors = f", {fit['support_vectors']:,} support vectors" if "support_vectors" in fit else ""
    return (
        f"C={fit['C']:g}: accuracy {max(fit['val_accuracy'].values()):.3f} on validation "
        f"rows{vectors}"
    )


def _positive(value: Any) -> bool:
    try:
        return 0 < float(value) < float("inf")
    except (TypeError, ValueError):
        return False
