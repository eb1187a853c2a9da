"""Classifiers that train without epochs (fexpr/train/machines), written to the same run directory
as `cross_validate` writes, with the same folds, tables and reports.

Hyper-parameters are chosen in every fold by `split.inner` parts of its training subjects. Every row
is written once, under the selection `last`: no epoch is chosen. Validation rows are all training
rows of a fold, each predicted by the machine that it validated.
"""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from importlib import metadata
from pathlib import Path

import numpy as np
from ml_collections import ConfigDict
from threadpoolctl import threadpool_limits  # comes with scikit-learn

from fexpr.data.dataset import Dataset
from fexpr.data.splits.fold import Fold
from fexpr.errors import UserError
from fexpr.runs import describe, nested, opening, results
from fexpr.runs.nested import Fitted
from fexpr.runs.spec import RunSpec
from fexpr.storage import run
from fexpr.terminal import progress, say
from fexpr.train.machines import MACHINES
from fexpr.train.machines.rows import Rows


def machine(config: ConfigDict, workdir: Path) -> None:
    """Writes a finished run directory to `workdir`, without history and checkpoints; an unfinished
    one starts again, a finished one is only reported again.

    Raises:
      UserError: a fault of the data, config or run directory that the user can fix.
    """
    dataset, folds = describe.prepare(config)
    if dataset.multilabel:
        raise UserError(
            f"experiment='machine' predicts one class per row, but the rows of {config.data.name} "
            "have several",
            fix="choose one-of-K data",
        )
    values = {name: value for name, value in config.model.to_dict().items() if name != "name"}
    points, began = nested.grid(values), time.monotonic()
    info = {
        "data": describe.describe_data(config, dataset, folds),
        "model": {"name": config.model.name},
        "devices": {"kind": "CPU core, scikit-learn", "count": _workers(), "platform": "cpu"},
    }
    info = opening.open_run(RunSpec(config, workdir), **info)
    say(
        f"model      {config.model.name}, {len(points)} settings, chosen in every fold by "
        f"{config.split.inner} parts of its training {dataset.group_name}s"
    )
    if not (workdir / run.PREDICTIONS).exists():
        fitted = fit_folds(config, dataset, folds, points)
        info["versions"]["scikit-learn"] = metadata.version("scikit-learn")
        info["model"] |= {"settings": len(points), "fits": [f.summary() for f in fitted]}
        seconds = round(time.monotonic() - began, 1)
        run.write_json(workdir / run.CONFIG, info | {"wall_seconds": seconds})
        # written last: if it exists, everything is done
        run.write_arrays(workdir / run.PREDICTIONS, predictions(dataset, folds, fitted))
    say(f"chosen     {_in_words(info['model']['fits'])}")
    results.report(config, dataset, workdir)


def fit_folds(
    config: ConfigDict, dataset: Dataset, folds: Sequence[Fold], points: Sequence[dict]
) -> list[Fitted]:
    """Fits every fold, several at a time, under one progress bar. Errors as in
    `nested.fit_fold`.
    """
    rows = Rows(
        dataset.images[:],
        dataset.kind,
        config.train.normalize,
        config.augment.flip > 0,
        config.train.tta == "flip",
    )

    def fit(i: int) -> Fitted:
        return nested.fit_fold(
            MACHINES[config.model.name],
            rows,
            folds[i],
            dataset.labels,
            dataset.groups,
            len(dataset.class_names),
            points,
            config.split.inner,
            [config.split.seed, i],
            config.train.monitor,
            (config.train.class_weights, config.train.class_weights_max),
        )

    with (
        threadpool_limits(1, "blas"),
        ThreadPoolExecutor(_workers()) as pool,
        progress(f"fitting {config.model.name}", len(folds)) as advance,
    ):
        fitted = []
        for each in pool.map(fit, range(len(folds))):
            fitted.append(each)
            advance(note=f"inner {config.train.monitor} {each.score:.3f}")
    return fitted


def predictions(
    dataset: Dataset, folds: Sequence[Fold], fitted: Sequence[Fitted]
) -> dict[str, np.ndarray]:
    """The arrays of predictions.npz, one trial per fold."""
    parts = []
    for t, (fold, each) in enumerate(zip(folds, fitted, strict=True)):
        sides = (("val", each.val_rows, each.val_logits), ("test", fold.test, each.test_logits))
        for side, rows, logits in sides:
            full = partial(np.full, len(rows))
            parts.append(
                (rows, logits.astype(np.float32), full(np.int32(t)), full(side), full("last"))
            )
    train = [each.val_rows for each in fitted]
    seeds = [0] * len(folds)
    return results.contract(dataset, folds, range(len(folds)), seeds, train, parts)


def _in_words(fits: list[dict]) -> str:
    counts = Counter(
        ", ".join(
            f"{k}={v:g}" if isinstance(v, (int, float)) else f"{k}={v}"
            for k, v in fit["chosen"].items()
        )
        for fit in fits
    )
    shown = "; ".join(f"{point} in {n} folds" for point, n in counts.most_common(3))
    return shown + (f"; {len(counts) - 3} others" if len(counts) > 3 else "")


def _workers() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
