"""Who trains, who validates, who tests. Every split is a `Fold`, and a Fold in which a group crosses sides cannot be made."""

from __future__ import annotations

import dataclasses

import numpy as np
from sklearn.model_selection import GroupShuffleSplit

from fexpr.errors import UserError


@dataclasses.dataclass(frozen=True)
class Fold:
    """Row numbers of one split: `train` to fit, `val` (taken from the training groups) to select, `test` to report.

    Raises:
      ValueError: a row or a group stands on two sides (DESIGN.md rule 4), or a side is empty.
    """

    name: str
    train: np.ndarray
    val: np.ndarray
    test: np.ndarray
    groups: dataclasses.InitVar[np.ndarray]

    def __post_init__(self, groups: np.ndarray):
        sides = {"train": self.train, "val": self.val, "test": self.test}
        for side, rows in sides.items():
            if len(rows) == 0:
                raise ValueError(f"fold {self.name}: no {side} rows")
            if len(np.unique(rows)) != len(rows):
                raise ValueError(f"fold {self.name}: a row stands twice in {side}")
        for a, b in (("train", "val"), ("train", "test"), ("val", "test")):
            shared = np.intersect1d(groups[sides[a]], groups[sides[b]])
            if len(shared):
                raise ValueError(f"fold {self.name}: leak: {', '.join(map(str, shared[:5]))} in both {a} and {b}")


def group_holdout(groups: np.ndarray, test_fraction: float, val_fraction: float, seed: int) -> Fold:
    """One subject-exclusive holdout; `test` is exactly scikit-learn's GroupShuffleSplit(test_size, random_state=seed).

    `val` is `val_fraction` of the remaining groups, drawn the same way.

    Raises:
      UserError: too few groups to leave at least one on every side.
    """
    found = len(np.unique(groups))
    if found < 3:
        raise UserError(f"{found} subjects cannot be split into training, validation and test subjects", fix="at least 3 are needed")
    try:
        rest, test = _draw(groups, test_fraction, seed)
        train, val = _draw(groups[rest], val_fraction, seed)
    except ValueError as e:
        raise UserError(f"split.test_fraction={test_fraction}, split.val_fraction={val_fraction}: {e}",
                        fix=f"choose fractions that leave a subject on every side of {found}") from e
    return Fold("holdout", rest[train], rest[val], test, groups)


def _draw(groups: np.ndarray, fraction: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    draw = GroupShuffleSplit(n_splits=1, test_size=fraction, random_state=seed)
    return next(draw.split(np.zeros(len(groups)), groups=groups))
