"""The validation rows of a fold: whole groups, drawn from its training rows."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np
from ml_collections import ConfigDict

from fexpr.data.dataset import Dataset
from fexpr.data.splits.fold import Fold
from fexpr.errors import UserError

if TYPE_CHECKING:  # checked in the tests (tests/conftest.py)
    from jaxtyping import Int, Shaped

DRAWS = 200  # candidates for the validation groups of a fold
Tests = Iterable[tuple[str, np.ndarray]]  # name and test rows of every fold


def draw_validation(
    name: str,
    rows: Int[np.ndarray, " R"],
    labels: Shaped[np.ndarray, "N ..."],
    groups: Shaped[np.ndarray, " N"],
    fraction: float,
    seed: list[int],
) -> tuple[Int[np.ndarray, " train"], Int[np.ndarray, " val"]]:
    """Splits a fold's training rows by group into training and validation rows.

    Of `DRAWS` random sets of round(fraction x groups) groups (at least one, never all), the one in
    which the fewest classes are missing from either side; among these the one whose shares of the
    rows and of every class come nearest to `fraction` (sum of absolute differences); among these
    the first. So every class is on both sides if some draw achieves it.

    Args:
      name: the fold's, for messages.
      rows: row numbers; only their labels and groups are used.
      labels: [N] class ids or [N, K], positive where > 0.
      seed: of the draws; one for each fold.

    Returns:
      The numbers of the training rows and of the validation rows.

    Raises:
      UserError: fewer than two groups.
    """
    names, group = np.unique(groups[rows], return_inverse=True)
    if len(names) < 2:
        raise UserError(
            f"fold {name} trains only on the subject {names[0]}: none is left for validation",
            fix="at least two subjects must stay outside each fold's test rows",
        )
    counts = _class_counts(labels[rows], group)
    total = counts.sum(0)
    counts, total = counts[:, total > 0], total[total > 0]
    size = min(max(round(fraction * len(names)), 1), len(names) - 1)
    rng = np.random.default_rng(seed)
    chosen = np.zeros((DRAWS, len(names)), bool)
    chosen[
        np.arange(DRAWS)[:, None],
        rng.permuted(np.tile(np.arange(len(names)), (DRAWS, 1)), axis=1)[:, :size],
    ] = True
    share = chosen @ counts / total
    missing = ((share == 0) | (share == 1)).sum(1)
    best = np.lexsort((np.abs(share - fraction).sum(1).round(9), missing))[0]
    selects = chosen[best][group]
    return rows[~selects], rows[selects]


def validation_turn(
    fold: Fold, groups: Shaped[np.ndarray, " N"], parts: int, turn: int, seed: list[int]
) -> Fold:
    """The fold with other validation groups: all its groups but the tested ones are divided into
    `parts`, and part `turn` validates.

    Over the turns 0 to parts - 1 every training row validates once: an inner cross-validation that
    never sees the test rows. parts=0 returns the fold unchanged.

    Raises:
      UserError: fewer groups than parts, or a single part.
    """
    if parts == 0:
        return fold
    rows = np.sort(np.concatenate([fold.train, fold.val]))
    names = np.unique(groups[rows])
    if not 2 <= parts <= len(names):
        raise UserError(
            f"split.inner={parts}, but fold {fold.name} trains on {len(names)} subjects",
            fix=f"choose from 2 to {len(names)}, or 0",
        )
    chosen = np.isin(
        groups[rows],
        np.array_split(np.random.default_rng(seed).permutation(names), parts)[turn % parts],
    )
    return Fold(fold.name, rows[~chosen], rows[chosen], fold.test, groups)


def _class_counts(labels: np.ndarray, group: np.ndarray) -> np.ndarray:
    """Rows, then rows of each class, in every group: [G, 1 + K]."""
    classes = labels > 0 if labels.ndim == 2 else labels[:, None] == np.unique(labels)
    counts = np.zeros((group.max() + 1, 1 + classes.shape[1]))
    np.add.at(counts, group, np.column_stack([np.ones(len(group)), classes]))
    return counts


def with_validation(tests: Tests, config: ConfigDict, dataset: Dataset) -> list[Fold]:
    """The folds of a protocol that only gives test rows; validation groups are drawn from the
    others.

    Args:
      tests: name and test rows, int [r], of every fold. config: `config.split`.

    Raises:
      UserError: a fold that tests every row, or trains on one group alone.
    """
    folds = []
    for i, (name, test) in enumerate(tests):
        rest = np.setdiff1d(np.arange(len(dataset)), test)
        if len(rest) == 0:
            raise UserError(
                f"fold {name} tests every row: none is left for training",
                fix="at least 3 subjects are needed",
            )
        train, val = draw_validation(
            name, rest, dataset.labels, dataset.groups, config.val_fraction, [config.seed, i]
        )
        folds.append(Fold(name, train, val, test, dataset.groups))
    return folds
