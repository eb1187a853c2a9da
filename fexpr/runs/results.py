"""From a trained state to predictions.npz, and from predictions.npz to metrics.json, figures,
report.html and the terminal.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Int
from ml_collections import ConfigDict

from fexpr.data.dataset import Dataset, Pictures
from fexpr.data.splits import duplicates
from fexpr.data.splits.fold import Fold
from fexpr.evaluate import clip_rules, evaluate
from fexpr.evaluate.predictions import SELECTIONS, checked
from fexpr.evaluate.report.run_report import write_page
from fexpr.evaluate.report.terminal_report import print_headline
from fexpr.storage import contents, mirror, run
from fexpr.terminal import say
from fexpr.train.state import NEVER, State
from fexpr.train.trials import Engine


def predictions(
    dataset: Dataset, folds: Sequence[Fold], engine: Engine, which: slice, state: State
) -> dict[str, np.ndarray]:
    """The arrays of predictions.npz (docs/design.md): every validation and test row of every trial
    under every selection.

    Args:
      which: the trials of the engine to use; `state` contains only these, on the host.

    Returns:
      The contract's arrays, with `dataset` [R] of composites and `copy` [R] where copies are
      counted (`_copies`). By trial: `trial_fold`, `trial_seed` int32 [T], `epoch` int32 [T,3] (as
      in SELECTIONS), `failed` bool [T] (turned NaN: its logits are NaN), `train_positives` float32
      [T,K], `train_rows` int32 [T]. And `fold_names` [F].
    """
    specs, tables = engine.specs[which], engine.trials
    failed = state.failed_step != NEVER
    parts = []
    for name in SELECTIONS:
        choice = getattr(state, name)
        if name == "best_val" and not tables.val_mask[which].any():
            continue  # without validation rows
        for t, all_rows, val, test in zip(
            range(len(specs)),
            tables.eval_rows[which],
            tables.val_mask[which],
            tables.test_mask[which],
            strict=True,
        ):
            for side, mask in (("val", val), ("test", test)):
                logits = (
                    np.full_like(choice.logits[t][mask], np.nan)
                    if failed[t]
                    else choice.logits[t][mask]
                )
                rows = all_rows[mask]
                parts.append(
                    (
                        rows,
                        logits,
                        np.full(len(rows), t, np.int32),
                        np.full(len(rows), side),
                        np.full(len(rows), name),
                    )
                )
    failed_and_epoch = {
        "epoch": np.stack([getattr(state, name).epoch for name in SELECTIONS], 1).astype(np.int32),
        "failed": failed,
    }
    return (
        contract(
            dataset,
            folds,
            [s.fold for s in specs],
            [s.seed for s in specs],
            [s.train for s in specs],
            parts,
        )
        | failed_and_epoch
    )


def contract(
    dataset: Dataset,
    folds: Sequence[Fold],
    trial_fold: Sequence[int],
    trial_seed: Sequence[int],
    train: Sequence[Int[np.ndarray, " _"]],
    parts: Sequence[tuple],
) -> dict[str, np.ndarray]:
    """The arrays of predictions.npz (docs/design.md), with no failed trial.

    Args:
      trial_fold, trial_seed, train: fold, seed and training rows of each trial. parts: each has row
          numbers [r], logits [r,K], trial int32 [r], split [r] and selection [r]; they are
          concatenated.
    """
    rows, logits, trial, split, selection = (
        np.concatenate(column) for column in zip(*parts, strict=True)
    )
    arrays = {
        "ids": dataset.ids[rows],
        "groups": dataset.groups[rows],
        "labels": dataset.labels[rows],
        "logits": logits,
        "trial": trial,
        "split": split,
        "selection": selection,
        "class_names": np.array(dataset.class_names),
        "trial_fold": np.array(trial_fold, np.int32),
        "trial_seed": np.array(trial_seed, np.int32),
        "fold_names": np.array([f.name for f in folds]),
        "failed": np.zeros(len(train), bool),
        "train_positives": np.stack([_positives(dataset, rows) for rows in train]).astype(
            np.float32
        ),
        "train_rows": np.array([len(rows) for rows in train], np.int32),
    }
    arrays |= {
        name: dataset.extras[name][rows] for name in ("dataset", "video") if name in dataset.extras
    }
    if duplicates.are_sought(dataset):
        of_trials = [folds[fold] for fold in trial_fold]
        arrays["copy"] = _copies(dataset, of_trials, rows, trial, split)
    return arrays


def _copies(
    dataset: Dataset,
    folds: Sequence[Fold],
    rows: np.ndarray,
    trial: np.ndarray,
    split: np.ndarray,
) -> np.ndarray:
    """The kind of copy that each row has among the other rows of its trial: a test row among
    training and validation rows, a validation row among training rows; str [R], of duplicates.KINDS
    or ''.

    Args:
      folds: one for each trial. rows, trial: int [R]; split: str [R], 'val' or 'test'.
    """
    copies, kinds = duplicates.copies_of(dataset), np.full(len(rows), "", "U8")
    for t, fold in enumerate(folds):
        seen = {"val": fold.train, "test": np.concatenate([fold.train, fold.val])}
        for of, among in seen.items():
            mine = (split == of) & (trial == t)
            kinds[mine] = copies.kinds(rows[mine], among)
    return kinds


def _positives(dataset: Dataset, rows: np.ndarray) -> np.ndarray:
    labels = dataset.labels[rows]
    return (
        (labels > 0).sum(0)
        if dataset.multilabel
        else np.bincount(labels, minlength=len(dataset.class_names))
    )


def report(config: ConfigDict, dataset: Dataset, workdir: Path, quiet: bool = False) -> dict:
    """Writes metrics.json, figures and report.html from predictions.npz; prints the headline. Needs
    no device. Returns the metrics.
    """
    found = contents.read_predictions(workdir / run.PREDICTIONS)
    try:
        checked(found, config.train.selection)
    except ValueError as e:
        raise run.damaged(workdir / run.PREDICTIONS, str(e)) from e
    images = Pictures(dataset, dataset.ids, range(len(dataset)))
    clips = {}
    if "video" in found:  # frames were predicted, clips are counted
        resamples = config.evaluate.resamples
        clips = {
            "clips": {
                "rule": config.evaluate.clips,
                "rules": clip_rules.compare(found, config.train.selection, resamples),
                "frames": clip_rules.of_frames(found, config.train.selection, resamples),
            }
        }
        found = clip_rules.decide(found, config.evaluate.clips)
        names, first, count = np.unique(
            dataset.extras["video"], return_index=True, return_counts=True
        )
        images = Pictures(dataset, names, first + count // 2)  # for a clip, its middle frame
    metrics = clips | evaluate(
        found,
        config.train.selection,
        dataset.source,
        config.evaluate.min_train_positives,
        config.evaluate.resamples,
        group_name=dataset.group_name,
    )
    run.write_json(workdir / run.METRICS, metrics)
    page = write_page(
        workdir,
        run.read_json(workdir / run.CONFIG),
        metrics,
        found,
        images,
        dataset.labels,
        "face" if dataset.kind == "clip" else dataset.kind,
    )
    if not quiet:
        say()
        print_headline(metrics)
        if clips:
            clip_rules.print_rules(clips["clips"])
        say(f"\nreport     {mirror.display_path(page)}")
    return metrics
