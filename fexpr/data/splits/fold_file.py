"""Folds from a CSV that assigns each row to the training, validation or test part."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from fexpr.errors import UserError
from fexpr.storage import delimited
from fexpr.storage.delimited import BadTable

if TYPE_CHECKING:  # checked in the tests (tests/conftest.py)
    from jaxtyping import Shaped

PARTS = ("train", "val", "test")


def read_folds(
    path: Path | str, ids: Shaped[np.ndarray, " N"], groups: Shaped[np.ndarray, " N"]
) -> dict[str, Shaped[np.ndarray, " N"]]:
    """Reads a CSV with the columns `id`, `fold` and, optionally, `part`.

    Without `part`, `fold` is the fold that tests the row; every other fold trains on it; every id
    has one line. With `part` ('train', 'val' or 'test'), a line assigns an id to a part of one
    fold; an id without a line for a fold is not used in it.

    Args:
      path: the file, in UTF-8. ids: str [N], those of the data set.
      groups: str [N].

    Returns:
      Fold name -> str [N], 'train', 'val', 'test' or ''; in the order in which the file names them.

    Raises:
      UserError: lists every problem: missing columns, unknown ids, ids without a line, an id twice
        in a fold, an unknown part, a group on two sides, a fold without training or test rows.
    """
    fix = "the columns are id,fold (the fold that tests it) or id,fold,part (train, val or test)"
    if not str(path):
        raise UserError(
            "split.protocol=file, but config.split.file is empty",
            fix=f"name a CSV file there: {fix}",
        )
    try:
        table = delimited.read(path, ("id", "fold"), optional=("part",))
    except BadTable as e:
        raise UserError(
            f"{path} is not a table of folds",
            e.problems,
            f"correct it, or config.split.file; {fix}",
        ) from e
    rows = list(table.rows())
    folds, problems = _place(rows, ids)
    if not problems:
        problems = _crossings(folds, groups)
    if problems or not folds:
        raise UserError(
            f"the folds in {path} cannot be used",
            problems or ["it has no rows"],
            f"correct these; {fix}",
        )
    return folds


def _place(
    rows: list[tuple[int, dict[str, str]]], ids: np.ndarray
) -> tuple[dict[str, np.ndarray], list[str]]:
    explicit = bool(rows) and "part" in rows[0][1]
    number = {name: i for i, name in enumerate(ids.tolist())}
    width = f"<U{max(map(len, PARTS))}"
    folds = defaultdict(lambda: np.full(len(ids), "", width))
    problems, first = [], {}
    for line, row in rows:
        part = row.get("part", "test")
        bad = [f"no {name}" for name in ("id", "fold") if not row[name]]
        if row["id"] and row["id"] not in number:
            bad.append("there is no such id in the data set")
        if part not in PARTS:
            bad.append(f"part is {part!r}, expected train, val or test")
        key = (row["id"], row["fold"] if explicit else "")
        if first.setdefault(key, line) != line:
            bad.append(f"this id is already in line {first[key]}")
        problems += [f"line {line}, {row['id'] or 'unnamed'}: {problem}" for problem in bad]
        if not bad:
            folds[row["fold"]][number[row["id"]]] = part
    named = {row["id"] for _, row in rows}
    problems += [
        f"{name}: this id of the data set is not in the file"
        for name in ids.tolist()
        if name not in named
    ]
    if not explicit:
        for part in folds.values():
            part[part == ""] = "train"
    return dict(folds), problems


def _crossings(folds: dict[str, np.ndarray], groups: np.ndarray) -> list[str]:
    problems = []
    for name, part in folds.items():
        problems += [
            f"fold {name}: no {side} rows" for side in ("train", "test") if not (part == side).any()
        ]
        for group in np.unique(groups):
            sides = [side for side in PARTS if (part[groups == group] == side).any()]
            if len(sides) > 1:
                problems.append(f"fold {name}: {group} is in {' and '.join(sides)}")
    return problems
