"""The results of a study of frame filtering: one row per stage and one row per filter."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from ml_collections import ConfigDict

from experiments import filter_stages, filtering
from fexpr.data.dataset import Dataset
from fexpr.data.splits.fold import Fold
from fexpr.data.synthetic.ravdess_clips import EXPRESSIVE
from fexpr.evaluate import clip_rules
from fexpr.storage import contents, run

if TYPE_CHECKING:  # checked in the tests (tests/conftest.py)
    from jaxtyping import Bool, Float

StageRow = dict
FilterRow = dict


def describe_stage(
    config: ConfigDict,
    name: str,
    workdir: Path,
    dataset: Dataset,
    folds: Sequence[Fold],
    used: Sequence[Fold],
    own: Float[np.ndarray, "T N K"],
) -> StageRow:
    """Figures of one finished stage.

    Args:
      folds: with all training rows; `used`: with those that the stage trained on.
      own: posteriors [T, N, K] of every frame by the stage's own models, which judge test frames
          without labels.
    """
    folder, text = (
        workdir / name.replace("=", "_"),
        name.partition("_")[2] if name[0].isdecimal() else name,
    )
    metrics, content = (
        contents.read_metrics(folder / run.METRICS),
        contents.read_config(folder / run.CONFIG),
    )
    all_rows, kept_rows = (np.concatenate([f.train for f in which]) for which in (folds, used))
    kept, every = (
        np.bincount(dataset.labels[rows], minlength=len(dataset.class_names))
        for rows in (kept_rows, all_rows)
    )
    shares = kept / np.maximum(every, 1)
    row = {
        "name": name,
        "run_dir": folder.name,
        "kept": len(kept_rows) / len(all_rows),
        "kept_by_class": shares.tolist(),
        "rules": metrics["clips"]["rules"],
        "rule": metrics["clips"]["rule"],
        "frames": metrics["clips"]["frames"]["accuracy"],
        "seconds": content.get("wall_seconds"),
    }
    if text != filter_stages.ALL:
        given = filtering.gaussians(config, dataset)
        tests = [
            filtering.masks(text, dataset, fold, own[t], given)[1] for t, fold in enumerate(folds)
        ]
        row["filtered_test"] = _filtered_test(config, folder, dataset, folds, tests)
        row["test_kept"] = float(np.concatenate(tests).mean())
    return row


def _filtered_test(
    config: ConfigDict,
    folder: Path,
    dataset: Dataset,
    folds: Sequence[Fold],
    tests: Sequence[np.ndarray],
) -> dict:
    """Every rule's figures when clips are decided without the frames that an unlabelled filter
    drops.
    """
    found, selection = contents.read_predictions(folder / run.PREDICTIONS), config.train.selection
    kept = np.ones(len(found["ids"]), bool)
    for t, (fold, mask) in enumerate(zip(folds, tests, strict=True)):
        dropped = dataset.ids[fold.test[~mask]]
        kept &= ~(
            (found["trial"] == t) & (found["split"] == "test") & np.isin(found["ids"], dropped)
        )
    return clip_rules.compare(found, selection, config.evaluate.resamples, kept=kept)


def describe_filter(
    name: str,
    dataset: Dataset,
    folds: Sequence[Fold],
    masks: Sequence[tuple[Bool[np.ndarray, " _"], Bool[np.ndarray, " _"]]],
) -> FilterRow:
    """The share of training and of test frames that a filter keeps, over all folds.

    Where the release knows what frames show: the precision and recall of those that show their
    emotion, from half of their clip's apex on. Neutral clips show none and are left out of both.
    `precision` is None where nothing is kept.

    Args:
      masks: of each fold, the training and the test rows that are kept (`filtering.masks`).
    """
    row: FilterRow = {"name": name}
    for i, side in enumerate(("train", "test")):
        rows, mask = (
            np.concatenate([getattr(fold, side) for fold in folds]),
            np.concatenate([pair[i] for pair in masks]),
        )
        row[side] = {"kept": float(mask.mean())}
        if "shown" in dataset.extras:
            emotional = np.array(dataset.class_names)[dataset.labels[rows]] != "neutral"
            good, chosen = dataset.extras["shown"][rows][emotional] >= EXPRESSIVE, mask[emotional]
            row[side] |= {
                "precision": float(good[chosen].mean()) if chosen.any() else None,
                "recall": float(chosen[good].mean()),
            }
    return row


def every_frame(dataset: Dataset, folds: Sequence[Fold]) -> FilterRow:
    """The row of no filter: its precision is the share of frames that show their emotion."""
    return describe_filter(
        filter_stages.ALL,
        dataset,
        folds,
        [(np.ones(len(f.train), bool), np.ones(len(f.test), bool)) for f in folds],
    )
