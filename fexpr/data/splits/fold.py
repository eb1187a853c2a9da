"""`Fold`: the training, validation and test rows of a split. A fold in which a group is on two
sides is refused.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:  # checked in the tests (tests/conftest.py)
    from jaxtyping import Int, Shaped


@dataclasses.dataclass(frozen=True)
class Fold:
    """Row numbers of one split: `train` to fit, `val` (from the training groups) to select, `test`
    to report.

    `left_out` counts the rows that data.duplicates removed from `train` and `val`, by side and kind
    (duplicates.leave_out).

    Args:
      groups: the group of every row of the data set. final: nothing is selected, so `val` may be
          empty.

    Raises:
      ValueError: a row or a group is on two sides, or a side is empty.
    """

    name: str
    train: Int[np.ndarray, " n"]
    val: Int[np.ndarray, " m"]
    test: Int[np.ndarray, " t"]
    groups: dataclasses.InitVar[Shaped[np.ndarray, " N"]]
    final: bool = False
    left_out: dict[str, dict[str, int]] = dataclasses.field(default_factory=dict)

    def __post_init__(self, groups: Shaped[np.ndarray, " N"]):
        sides = {"train": self.train, "val": self.val, "test": self.test}
        for side, rows in sides.items():
            if len(rows) == 0 and not (self.final and side == "val"):
                raise ValueError(f"fold {self.name}: no {side} rows")
            if len(np.unique(rows)) != len(rows):
                raise ValueError(f"fold {self.name}: a row is twice in {side}")
        for a, b in (("train", "val"), ("train", "test"), ("val", "test")):
            shared = np.intersect1d(groups[sides[a]], groups[sides[b]])
            if len(shared):
                raise ValueError(
                    f"fold {self.name}: leak: {', '.join(map(str, shared[:5]))} in both {a} and {b}"
                )
