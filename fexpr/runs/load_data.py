"""The data of a config, or of a finished run, and which of its rows do what."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
from ml_collections import ConfigDict

from fexpr import extensions
from fexpr.data import data_sets
from fexpr.data.dataset import Dataset
from fexpr.data.loaders import LOADERS
from fexpr.data.records import chosen
from fexpr.data.splits import duplicates
from fexpr.data.splits.fold import Fold
from fexpr.data.splits.protocols import make_folds
from fexpr.errors import UserError


def load(config: ConfigDict) -> tuple[Dataset, list[Fold]]:
    """The data set, without the classes that `data.leave_out` names, and its folds, without the
    copies that `data.duplicates` drops and with `split.train_share` of their training rows.

    Raises:
      UserError: a fault of the release or config that the user can fix.
    """
    dataset = data(config.data)
    # runs of older versions lack the field
    if config.train.get("auxiliary", "none") == "action_units":
        from fexpr.data.releases import unit_codes  # readers of workbooks, for this task alone

        dataset = unit_codes.with_units(dataset, config.data)
    folds = make_folds(config.split, dataset)
    rule = config.data.get("duplicates", "keep")  # runs of older versions lack the field
    if rule != "keep":
        copies = duplicates.copies_of(dataset)
        folds = [duplicates.leave_out(fold, copies, rule, dataset.groups) for fold in folds]
    if config.split.train_share < 1:
        folds = [
            with_share(fold, dataset, config.split.train_share, [config.split.seed, i])
            for i, fold in enumerate(folds)
        ]
    return dataset, folds


def data(config: ConfigDict) -> Dataset:
    """The data set of `config.data`. Errors as in `load`."""
    dataset = data_sets.load(config)
    # runs of older versions lack the field
    left_out = [name.strip() for name in config.get("leave_out", "").split(",") if name.strip()]
    return without_classes(dataset, left_out) if left_out else dataset


def without_classes(dataset: Dataset, names: list[str]) -> Dataset:
    """The rows of the other classes, with class ids renumbered.

    Raises:
      UserError: no such class, fewer than two left, or rows with several classes.
    """
    problems = [
        f"{name}: expected one of {', '.join(dataset.class_names)}"
        for name in names
        if name not in dataset.class_names
    ]
    kept = [name for name in dataset.class_names if name not in names]
    if dataset.multilabel:
        problems = [
            "rows here have several classes at once: choose action units with data.vocabulary"
        ]
    elif len(kept) < 2:
        problems.append(f"{len(kept)} classes are left, at least 2 are needed")
    if problems:
        raise UserError(
            "data.leave_out cannot be applied",
            problems,
            fix="name classes, for example data.leave_out=surprise",
        )
    stays = np.array([name in kept for name in dataset.class_names])
    rows = np.flatnonzero(stays[dataset.labels])
    cut = {
        name: value[rows]
        for name in ("groups", "ids", "split")
        if (value := getattr(dataset, name)) is not None
    }
    # votes cover all classes
    extras = {name: value[rows] for name, value in dataset.extras.items() if name != "soft"}
    labels = (np.cumsum(stays) - 1)[dataset.labels[rows]].astype(np.int32)
    return dataclasses.replace(
        dataset,
        images=chosen(dataset.images, rows),
        labels=labels,
        class_names=tuple(kept),
        extras=extras,
        **cut,
    )


def with_share(fold: Fold, dataset: Dataset, share: float, seed: list[int]) -> Fold:
    """The fold with that share of its training rows: of each class, rounded up; with action units,
    of all rows.
    """
    rng = np.random.default_rng(seed)
    labels = np.zeros(len(fold.train), int) if dataset.multilabel else dataset.labels[fold.train]
    kept = [
        rng.permutation(rows)[: int(np.ceil(share * len(rows)))]
        for rows in (np.flatnonzero(labels == k) for k in np.unique(labels))
    ]
    return dataclasses.replace(
        fold, train=fold.train[np.sort(np.concatenate(kept))], groups=dataset.groups
    )


def of_run(run_dir: Path, content: dict, root: str | None = None) -> Dataset:
    """The data that the run was made from.

    Raises:
      UserError: they are missing any more, or are others now.
    """
    missing = extensions.load_recorded(content["config"].get("extensions", ()), run_dir)
    if content["config"]["data"]["name"] not in LOADERS:
        extensions.refuse_missing(
            missing, f"the data set {content['config']['data']['name']} of {run_dir}"
        )
    config, source = ConfigDict(content["config"]["data"]), content["data"]["source"]
    config.root = root or config.root
    if root and config.get("path"):
        config.path = root
    try:
        dataset = data(config)
    except UserError as e:
        raise UserError(
            f"the data of {run_dir} cannot be read: {e.title}",
            e.problems,
            fix=f"give the releases' present folder by --root=DIR; {e.fix}" if e.fix else "",
        ) from e
    if dataset.source != source:
        raise UserError(
            f"the data are not those of {run_dir}",
            [f"the run was made from {source}, found {dataset.source}"],
            fix="give the releases' present folder by --root=DIR",
        )
    return dataset
