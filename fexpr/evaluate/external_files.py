"""Reads predictions of other programs from an .npz or a CSV; `external` checks them."""

from __future__ import annotations

import csv
import dataclasses
from collections import Counter
from pathlib import Path

import numpy as np

from fexpr.errors import UserError
from fexpr.storage import bounded, contents, npz

PREFIXES = {"p_": "probabilities", "logit_": "logits"}
# columns of a CSV -> names in an .npz
COLUMNS = {"split": "split", "id": "ids", "group": "groups", "dataset": "dataset"}
CONTRACT = (
    "ids",
    "groups",
    "labels",
    "logits",
    "trial",
    "split",
    "selection",
    "class_names",
    "train_positives",
    "train_rows",
)


@dataclasses.dataclass
class Raw:
    """The content of a file. `values` [N, K] are 'logits' or 'probabilities' (`kind`); `rows` [N]
    are the names of rows in messages.
    """

    path: Path
    kind: str
    values: np.ndarray
    labels: np.ndarray
    names: list[str] | None
    rows: np.ndarray
    word: str  # 'row' (from 0) or 'line' (of the file)
    given: dict[str, np.ndarray]  # of split, ids, groups, dataset what the file holds
    problems: list[str]
    notes: list[str] = dataclasses.field(default_factory=list)
    numbers_are: str = ""  # if labels and class names differ in being numbers: 'names' or 'ids'


def read_file(path: Path) -> Raw | dict[str, np.ndarray]:
    """The content of a file; for a run's predictions.npz, its arrays.

    Raises:
      UserError: it cannot be read, or lacks columns or arrays. Faults of its rows are in
        `Raw.problems`.
    """
    try:
        return _read_npz(path) if path.suffix == ".npz" else _read_csv(path)
    except (OSError, csv.Error) as e:
        if bounded.is_broken_link(path):
            raise UserError(f"{path} is a broken link", fix="mend it, or give another file") from e
        if not bounded.is_there(path):
            raise UserError(f"there is no file {path}", fix="give an .npz or a CSV") from e
        raise UserError(f"{path} cannot be read: {e}", fix="give an .npz or a CSV in UTF-8") from e


def _read_npz(path: Path) -> Raw | dict[str, np.ndarray]:
    try:
        arrays = npz.read(path)
    except npz.Pickled as e:
        raise UserError(
            f"{path} contains pickled arrays, which are never opened: a pickle can run any program",
            e.names,
            fix="save texts as NumPy strings: names.astype(str)",
        ) from e
    except OSError as e:
        raise UserError(
            f"{path} is not an .npz archive, or cannot be read",
            [str(e)],
            fix="write it with numpy.savez(path, logits=..., labels=...)",
        ) from e
    if {"trial", "selection"} <= set(arrays):
        if missing := [name for name in CONTRACT if name not in arrays]:
            raise UserError(
                f"{path} is not a complete predictions.npz of a run",
                [f"missing {name}" for name in missing],
            )
        contents.check_predictions(path, arrays, CONTRACT)
        return arrays
    kinds = [kind for kind in PREFIXES.values() if kind in arrays]
    if len(kinds) != 1 or "labels" not in arrays:
        raise UserError(
            f"{path}: expected labels and either logits or probabilities, found "
            f"{', '.join(sorted(arrays)) or 'nothing'}"
        )
    names = (
        [str(n) for n in np.atleast_1d(arrays["class_names"])] if "class_names" in arrays else None
    )
    given = {name: arrays[name].astype(str) for name in COLUMNS.values() if name in arrays}
    values = np.atleast_1d(arrays[kinds[0]])
    if values.dtype.kind not in "fiu":
        raise UserError(f"{path}: {kinds[0]} are {values.dtype}, expected numbers")
    return Raw(
        path,
        kinds[0],
        values.astype(np.float64),
        arrays["labels"],
        names,
        np.arange(len(values)),
        "row",
        given,
        [],
    )


def _read_csv(path: Path) -> Raw:
    with bounded.open_file(path, bounded.TABLE_BYTES) as f:
        reader = csv.reader(bounded.text_lines(f))
        header = [name.strip() for name in next(reader, [])]
        lines = [(reader.line_num, fields) for fields in reader if fields]
    by_kind = {
        kind: [i for i, name in enumerate(header) if name.startswith(prefix)]
        for prefix, kind in PREFIXES.items()
    }
    kinds = [kind for kind, columns in by_kind.items() if columns]
    if len(kinds) != 1 or "label" not in header:
        raise UserError(
            f"{path}: expected the columns label and p_<class>, or label and logit_<class>, "
            "for each class",
            [f"found {', '.join(header) or 'nothing'}"],
        )
    counts = sorted(Counter(header).items())  # of as many columns as a line has bytes
    problems = [f"column {name} occurs {count} times" for name, count in counts if count > 1]
    problems += [
        f"line {n}: {len(fields)} fields, the header has {len(header)}"
        for n, fields in lines
        if len(fields) != len(header)
    ]
    lines = [(n, fields) for n, fields in lines if len(fields) == len(header)]
    columns = by_kind[kinds[0]]
    values = np.array(
        [[number_of(fields[i]) for i in columns] for _, fields in lines], np.float64
    ).reshape(len(lines), len(columns))
    problems += [
        f"line {n}, {header[i]}: {fields[i]!r} is no number"
        for n, fields in lines
        for i in columns
        if number_of(fields[i]) is None
    ]
    at = {name: header.index(name) for name in ("label", *COLUMNS) if name in header}
    text = {
        name: np.array([fields[i].strip() for _, fields in lines], str) for name, i in at.items()
    }
    labels = text.pop("label")
    return Raw(
        path,
        kinds[0],
        values,
        labels,
        [header[i].partition("_")[2] for i in columns],
        np.array([n for n, _ in lines], int),
        "line",
        {COLUMNS[name]: column for name, column in text.items()},
        problems,
    )


def number_of(text: str) -> float | None:
    """The number that a cell holds; None if it holds none."""
    try:
        return float(text)
    except ValueError:
        return None
