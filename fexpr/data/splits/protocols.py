"""The protocols: the test rows of each fold. validation_groups.py draws validation rows from the
others.
"""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

import numpy as np
from ml_collections import ConfigDict

from fexpr.config import resolve
from fexpr.data.dataset import Dataset
from fexpr.data.releases.ravdess_names import published_folds
from fexpr.data.splits.fold import Fold
from fexpr.data.splits.fold_file import read_folds
from fexpr.data.splits.official_parts import official_rows
from fexpr.data.splits.split_config import PROTOCOLS
from fexpr.data.splits.validation_groups import Tests, draw_validation, with_validation
from fexpr.errors import UserError

if TYPE_CHECKING:  # checked in the tests (tests/conftest.py)
    from jaxtyping import Int, Num, Shaped

MAX_LOSO = 1000  # largest number of folds; more groups must be images of unknown people


def make_folds(config: ConfigDict, dataset: Dataset) -> list[Fold]:
    """The folds of `config.protocol`, one of `PROTOCOLS`.

    Args:
      config: `config.split`: protocol, test_fraction, val_fraction, folds, repeats, seed, file,
          val, test (split_config.py).

    Raises:
      UserError: unknown protocol; too few groups for it; a fold file that cannot be used.
      ValueError: a group crosses sides (a subject of two data sets under leave_one_dataset_out).
    """
    if config.protocol not in PROTOCOLS:
        raise UserError(
            f"config.split.protocol is {config.protocol!r}",
            fix=f"set it to one of {', '.join(PROTOCOLS)}",
        )
    return resolve(PROTOCOLS[config.protocol])(config, dataset)


def group_holdout(
    groups: Shaped[np.ndarray, " N"], test_fraction: float, val_fraction: float, seed: int
) -> Fold:
    """One subject-exclusive holdout; `test` is exactly scikit-learn's GroupShuffleSplit(test_size,
    random_state=seed).

    `val` is `val_fraction` of the remaining groups, drawn the same way.

    Raises:
      UserError: too few groups to leave at least one on every side.
    """
    found = len(np.unique(groups))
    if found < 3:
        raise UserError(
            f"{found} subjects cannot be split into training, validation and test subjects",
            fix="at least 3 are needed",
        )
    try:
        rest, test = _draw(groups, test_fraction, seed)
        train, val = _draw(groups[rest], val_fraction, seed)
    except ValueError as e:
        raise UserError(
            f"split.test_fraction={test_fraction}, split.val_fraction={val_fraction}: {e}",
            fix=f"choose fractions that leave at least one of the {found} subjects on every side",
        ) from e
    return Fold("holdout", rest[train], rest[val], test, groups)


def _draw(groups: np.ndarray, fraction: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    from sklearn.model_selection import GroupShuffleSplit

    draw = GroupShuffleSplit(n_splits=1, test_size=fraction, random_state=seed)
    return next(draw.split(np.zeros(len(groups)), groups=groups))


def leave_one_group_out(groups: Shaped[np.ndarray, " N"]) -> Tests:
    """Tests every group once, training on the others (leave one subject out). Folds have the
    groups' names, sorted.

    Raises:
      UserError: more than MAX_LOSO groups.
    """
    names = np.unique(groups)
    if len(names) > MAX_LOSO:
        raise UserError(
            f"split.protocol=loso would make {len(names):,} folds",
            fix="use group_k_fold, or official",
        )
    return [(str(group), np.flatnonzero(groups == group)) for group in names]


def group_k_fold(groups: Shaped[np.ndarray, " N"], k: int, seed: int) -> Tests:
    """Divides the sorted groups into k parts with equal numbers of groups, up to one:
    scikit-learn's KFold(k, shuffle=True, random_state=seed) over them.

    Raises:
      UserError: fewer than k groups.
    """
    from sklearn.model_selection import KFold

    names = np.unique(groups)
    _enough(len(names), k)
    folds = KFold(k, shuffle=True, random_state=seed).split(names)
    return [
        (f"fold {i}", np.flatnonzero(np.isin(groups, names[test])))
        for i, (_, test) in enumerate(folds, 1)
    ]


def stratified_group_k_fold(
    labels: Shaped[np.ndarray, "N ..."], groups: Shaped[np.ndarray, " N"], k: int, seed: int
) -> Tests:
    """Divides whole groups into k parts, with class shares as even as scikit-learn's
    StratifiedGroupKFold makes them. Rows with several labels are stratified by their rarest one
    (`rarest_label`). If every row is a group of its own, StratifiedKFold is used, which does the
    same quickly: for 32,000 groups the other takes minutes.

    Raises:
      UserError: fewer than k groups, or groups too uneven to leave each part one.
    """
    from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold

    _enough(len(np.unique(groups)), k)
    classes = _classes(labels)
    splitter = StratifiedKFold if len(np.unique(groups)) == len(groups) else StratifiedGroupKFold
    with warnings.catch_warnings():
        # 'the least populated class has only n members': it is spread over as many parts as
        # possible
        warnings.simplefilter("ignore", UserWarning)
        try:
            folds = list(
                splitter(k, shuffle=True, random_state=seed).split(classes, classes, groups)
            )
        except ValueError as e:  # no class has k rows
            raise UserError(f"split.folds={k}: {e}", fix="lower split.folds") from e
    if any(len(test) == 0 for _, test in folds):
        raise UserError(
            f"split.folds={k}: the {len(np.unique(groups))} subjects are too uneven to give "
            "each fold one",
            fix="lower split.folds, or use split.protocol=group_k_fold",
        )
    return [(f"fold {i}", test) for i, (_, test) in enumerate(folds, 1)]


def rarest_label(labels: Num[np.ndarray, "N K"]) -> Int[np.ndarray, " N"]:
    """One class for each row of labels [N, K]: its positive label with the fewest positives over
    all rows; K where it has none.
    """
    order = np.argsort((labels > 0).sum(0), kind="stable")
    positive = labels[:, order] > 0
    return np.where(positive.any(1), order[positive.argmax(1)], labels.shape[1])


def _classes(labels: np.ndarray) -> np.ndarray:
    return labels if labels.ndim == 1 else rarest_label(labels)


def repeated_holdout(
    groups: Shaped[np.ndarray, " N"], fraction: float, repeats: int, seed: int
) -> Tests:
    """Draws `fraction` of the groups for testing, `repeats` times independently: scikit-learn's
    GroupShuffleSplit. The first is the holdout's.

    Raises:
      UserError: a fraction that leaves one side without a group.
    """
    from sklearn.model_selection import GroupShuffleSplit

    try:
        draws = list(
            GroupShuffleSplit(repeats, test_size=fraction, random_state=seed).split(
                groups, groups=groups
            )
        )
    except ValueError as e:
        raise UserError(
            f"split.test_fraction={fraction}: {e}",
            fix="choose a fraction that leaves subjects on both sides",
        ) from e
    return [(f"repeat {i}", test) for i, (_, test) in enumerate(draws, 1)]


def leave_one_dataset_out(datasets: Shaped[np.ndarray, " N"]) -> Tests:
    """Tests every data set once, training on the others (Varanka et al., CD6ME). Folds have the
    data sets' names, in order of appearance.

    Raises:
      UserError: a single data set.
    """
    names = list(dict.fromkeys(datasets.tolist()))
    if len(names) < 2:
        raise UserError(
            f"split.protocol=leave_one_dataset_out needs two data sets, found {', '.join(names)}",
            fix="add another release to the data root, or choose another protocol",
        )
    return [(name, np.flatnonzero(datasets == name)) for name in names]


def _enough(groups: int, k: int) -> None:
    if groups < k or k < 2:
        raise UserError(
            f"split.folds={k} with {groups} subjects", fix=f"choose from 2 to {groups} folds"
        )


def _datasets(dataset: Dataset) -> np.ndarray:
    if "dataset" not in dataset.extras:
        raise UserError(
            "split.protocol=leave_one_dataset_out needs a composite of data sets",
            fix="use it with data.name=megc2018, megc2019 or cd6me",
        )
    return dataset.extras["dataset"]


# The functions for the names in split_config.PROTOCOLS: (config.split, data set) -> folds.


def draw_holdout(config: ConfigDict, dataset: Dataset) -> list[Fold]:
    """One fold, by `group_holdout`."""
    return [group_holdout(dataset.groups, config.test_fraction, config.val_fraction, config.seed)]


def leave_each_group_out(config: ConfigDict, dataset: Dataset) -> list[Fold]:
    """A fold for each group, by `leave_one_group_out`."""
    return with_validation(leave_one_group_out(dataset.groups), config, dataset)


def deal_groups(config: ConfigDict, dataset: Dataset) -> list[Fold]:
    """`split.folds` folds, by `group_k_fold`."""
    tests = group_k_fold(dataset.groups, config.folds, config.seed)
    return with_validation(tests, config, dataset)


def deal_stratified(config: ConfigDict, dataset: Dataset) -> list[Fold]:
    """`split.folds` folds, by `stratified_group_k_fold`."""
    tests = stratified_group_k_fold(dataset.labels, dataset.groups, config.folds, config.seed)
    return with_validation(tests, config, dataset)


def draw_repeatedly(config: ConfigDict, dataset: Dataset) -> list[Fold]:
    """`split.repeats` folds, by `repeated_holdout`."""
    tests = repeated_holdout(dataset.groups, config.test_fraction, config.repeats, config.seed)
    return with_validation(tests, config, dataset)


def leave_each_dataset_out(config: ConfigDict, dataset: Dataset) -> list[Fold]:
    """A fold for each data set, by `leave_one_dataset_out`. Raises a UserError if the rows do not
    name theirs.
    """
    return with_validation(leave_one_dataset_out(_datasets(dataset)), config, dataset)


def take_published(config: ConfigDict, dataset: Dataset) -> list[Fold]:
    """The folds of actors that others have published, by `published_folds`."""
    return with_validation(published_folds(dataset.groups), config, dataset)


def take_official(config: ConfigDict, dataset: Dataset) -> list[Fold]:
    """One fold of the release's own parts, by `official_rows`."""
    rows = official_rows(config, dataset.split, _classes(dataset.labels))
    return [Fold("official", *rows, dataset.groups, final=config.val == "none")]


def read_file(config: ConfigDict, dataset: Dataset) -> list[Fold]:
    """The folds of `split.file`, by `read_folds`; validation rows are drawn where it has none."""
    folds = []
    for i, (name, part) in enumerate(read_folds(config.file, dataset.ids, dataset.groups).items()):
        train, val, test = (np.flatnonzero(part == side) for side in ("train", "val", "test"))
        if len(val) == 0:
            train, val = draw_validation(
                name, train, dataset.labels, dataset.groups, config.val_fraction, [config.seed, i]
            )
        folds.append(Fold(name, train, val, test, dataset.groups))
    return folds
