"""Predictions of models trained elsewhere: an .npz or a CSV is converted to the arrays of
predictions.npz, or refused with one message that lists all faults.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from fexpr.errors import UserError
from fexpr.evaluate import calibration
from fexpr.evaluate.external_files import Raw, number_of, read_file

LAYOUTS = """\
An .npz, without pickles, that holds
  logits [N, K] or probabilities [N, K], labels [N] (class ids from 0, or names), and, where known,
  class_names [K], split [N] ('val' or 'test'), ids [N], groups [N] (subjects: they are resampled
  whole), dataset [N] (parts to be shown apart);
  or everything that a run of fexpr saves as predictions.npz.
A CSV with one line per row and a header:
  p_<class> for each class (probabilities), or logit_<class> for each; label (class id from 0 in the
  order of these columns, or name); and, where known, split, id, group, dataset. Other columns are
  not used.
Probabilities of a row sum to 1 within 0.01. Rows without a split are test rows.
Labels that are all among the class names are names, also where both are numbers (1, 1.0); else
they are class ids from 0."""
# a probability of 0 is replaced by this, as in scikit-learn's log_loss
EPS = np.finfo(np.float64).eps
TOLERANCE = 0.01  # of the sum of a row's probabilities: they may have been written with few digits
LARGEST = 1e300  # of a logit: differences of two stay finite
MOST_CLASSES = 1000  # whose confusions fit into memory and a figure
SHOWN = 8  # rows that a problem lists


def read_predictions(
    path: Path, val: Path | None = None, class_names: list[str] | None = None
) -> dict[str, np.ndarray]:
    """The arrays that `evaluate` takes, from a file laid out as LAYOUTS says.

    Args:
      path: the predictions. val: another such file with the validation rows that calibration maps
          are fitted on.
      class_names: K names, in the order of the columns; they replace those of the file.

    Raises:
      UserError: a file cannot be read or has forbidden content; all problems of both files at
          once.
    """
    raw = read_file(path)
    if isinstance(raw, dict):
        if val or class_names:
            raise UserError(
                f"{path} holds the validation rows and class names of a run of fexpr",
                fix="leave out --val and --labels",
            )
        return raw
    tables, problems = [_table(raw, class_names)], list(raw.problems)
    if val:
        other = read_file(val)
        if isinstance(other, dict):
            raise UserError(
                f"{val} is the predictions.npz of a run of fexpr",
                fix="leave out --val: the file contains its own validation rows",
            )
        tables.append(_table(other, class_names))
        problems += [f"{val.name}: {p}" for p in other.problems]
        problems += [] if problems else _val_problems(raw, other, *tables)
    if problems:
        raise UserError(
            f"{path} cannot be evaluated",
            problems,
            fix="see python -m fexpr.evaluate --help for the layouts",
        )
    table = {name: np.concatenate([t[name] for t in tables]) for name in tables[0]}
    return _complete(table, raw, class_names) | {
        "given": np.array(raw.kind),
        "notes": np.array(raw.notes, str),
    }


def notes(predictions: dict[str, np.ndarray]) -> list[str]:
    """Notes on the data that are not errors, but explain figures that look odd."""
    if "counts_from" not in predictions:
        return []
    log_p = calibration.log_probabilities(predictions["logits"], False)
    true = np.take_along_axis(log_p, predictions["labels"][:, None], axis=1)[:, 0]
    # the sum of a row's probabilities may be off by TOLERANCE
    low = true <= np.log(EPS) + 2 * TOLERANCE
    found = predictions["notes"].tolist()
    if not low.any():
        return found
    if str(predictions["given"]) == "probabilities":
        why = (
            f"give their true class a probability of exactly 0, perhaps by rounding; it counts as "
            f"{EPS:.1e}, that is {-np.log(EPS):.0f} in the negative log likelihood of the row."
        )
    else:
        share = true[low].sum() / true.sum()
        why = (
            f"give their true class a probability below {EPS:.1e}; they make up {share:.0%} of the "
            "negative log likelihood."
        )
    return [*found, f"{int(low.sum()):,} rows {why}"]


def _table(raw: Raw, class_names: list[str] | None) -> dict[str, np.ndarray]:
    """The arrays logits, labels (ids), split, ids, groups and dataset; problems are added to
    `raw.problems`, and then {} is returned.
    """
    problems, n = raw.problems, len(raw.values)
    if raw.values.ndim != 2 or raw.values.shape[1] < 2 or not n:
        problems.append(
            f"{raw.kind} have the shape {raw.values.shape}, expected (rows, classes) with at "
            "least one row and two classes"
        )
        return {}
    if raw.values.shape[1] > MOST_CLASSES:
        problems.append(f"{raw.values.shape[1]:,} classes, at most {MOST_CLASSES:,} are measured")
        return {}
    turned = f": {raw.kind} are transposed" if len(raw.labels) == raw.values.shape[1] != n else ""
    problems += [
        f"{name} have the shape {a.shape}, expected ({n},) for {raw.kind} "
        f"{raw.values.shape}{turned}"
        for name, a in {"labels": raw.labels, **raw.given}.items()
        if a.shape != (n,)
    ]
    names = class_names or raw.names or [str(k) for k in range(raw.values.shape[1])]
    if len(names) != raw.values.shape[1]:
        problems.append(
            f"{len(names)} class names ({', '.join(names[:12])}), {raw.kind} have "
            f"{raw.values.shape[1]} columns"
        )
    elif len(set(names)) < len(names):
        problems.append(f"class names repeat: {', '.join(names)}")
    elif moved := _moved(raw.names or [], names):
        problems.append(
            f"the class names given are those of the file in another order ({', '.join(moved)}): "
            "they name its columns from left to right"
        )
    if problems:
        return {}
    labels = _labels(raw, [raw.names, names])
    problems += _value_problems(raw)
    split = raw.given.get("split", np.full(n, "test"))
    problems += _at(
        raw, ~np.isin(split, ("val", "test")), "split is neither 'val' nor 'test'", split
    )
    if "ids" in raw.given:  # a row that is given twice would count twice
        _, first = np.unique(raw.given["ids"], return_index=True)
        again = ~np.isin(np.arange(n), first)
        problems += _at(raw, again, "the id of an earlier row", raw.given["ids"])
    logits = raw.values if raw.kind == "logits" else np.log(np.maximum(raw.values, EPS))
    ids = raw.given.get("ids", np.array([f"{raw.path.name}:{r}" for r in raw.rows]))
    return {
        "logits": logits,
        "labels": labels,
        "split": split,
        "ids": ids,
        "groups": raw.given.get("groups", ids),
        **({"dataset": raw.given["dataset"]} if "dataset" in raw.given else {}),
    }


def _moved(names: list[str], given: list[str]) -> list[str]:
    """The names of the file that are in another position among those given."""
    at = {name.casefold(): i for i, name in enumerate(names)}
    return [name for i, name in enumerate(given) if at.get(name.casefold(), i) != i]


def _labels(raw: Raw, vocabularies: list[list[str] | None]) -> np.ndarray:
    """Class ids int32 [N]. Labels are names if all of them are among the class names (of the file
    or given), also as numbers: 1.0 is the class called 1. Else they are ids.
    """
    k, text = raw.values.shape[1], np.char.strip(raw.labels.astype(str))
    numbers = [number_of(t) for t in text]
    for names in filter(None, vocabularies):
        values = [number_of(name) for name in names]
        are_numbers = None not in values and len(set(values)) == k and values != list(range(k))
        if np.isin(text, names).all():
            ids = [names.index(t) for t in text]
        elif None not in values and len(set(values)) == k and set(numbers) <= set(values):
            ids = [values.index(v) for v in numbers]
        else:
            raw.numbers_are = "ids" if are_numbers else raw.numbers_are
            continue
        if are_numbers:
            raw.numbers_are = "names"
            if all(v in range(k) for v in numbers):
                raw.notes.append(
                    f"{raw.path.name}: labels are numbers, and so are the class names; they were "
                    "read as class names, not as class ids from 0."
                )
        return np.array(ids, np.int32)
    ids = np.array(
        [-1 if v is None or v != v or v % 1 or abs(v) > 2**31 - 1 else int(v) for v in numbers]
    )
    words = ", ".join(vocabularies[1] or [])
    expected = f"label is neither a class id from 0 to {k - 1} nor one of {words}"
    raw.problems.extend(_at(raw, (ids < 0) | (ids >= k), expected, text))
    return ids.astype(np.int32)


def _value_problems(raw: Raw) -> list[str]:
    broken = ~np.all(np.isfinite(raw.values), axis=1)
    problems = _at(raw, broken, f"{raw.kind} hold NaN or infinity")
    if raw.kind == "logits":
        huge = ~broken & np.any(np.abs(raw.values) > LARGEST, axis=1)
        return problems + _at(raw, huge, f"logits beyond {LARGEST:.0e}")
    sums = raw.values.sum(axis=1)
    off = ~broken & (np.abs(sums - 1) > TOLERANCE)
    turned = (
        off.any() and not broken.any() and np.allclose(raw.values.sum(axis=0), 1, atol=TOLERANCE)
    )
    hint = (
        "; the columns do: the softmax was taken over the rows instead of the classes"
        if turned
        else ""
    )
    problems += _at(raw, ~broken & np.any(raw.values < 0, axis=1), "probabilities below 0")
    return problems + _at(
        raw,
        off,
        f"probabilities do not sum to 1{hint}",
        np.char.add("sum ", np.char.mod("%.4f", sums)),
    )


def _at(raw: Raw, bad: np.ndarray, what: str, found: np.ndarray | None = None) -> list[str]:
    """One problem for all rows with the same fault: 'rows 3 (sum 0.9000), 8 (...) and 41 more:
    what'.
    """
    at = np.flatnonzero(bad)
    if not len(at):
        return []
    listed = ", ".join(
        f"{raw.rows[i]}" + (f" ({found[i]})" if found is not None else "") for i in at[:SHOWN]
    )
    more = f" and {len(at) - SHOWN} more" if len(at) > SHOWN else ""
    return [f"{raw.word}{'s' if len(at) > 1 else ''} {listed}{more}: {what}"]


def _val_problems(raw: Raw, other: Raw, test: dict, val: dict) -> list[str]:
    """Problems if the validation rows are not other rows of the same classes. Marks the rows of the
    two files as test and validation.
    """
    problems, name = [], other.path.name
    if other.values.shape[1] != raw.values.shape[1] or other.names != raw.names:
        theirs, ours = (", ".join(r.names) if r.names else r.values.shape[1] for r in (other, raw))
        problems.append(f"{name}: other classes ({theirs}) than {raw.path.name} ({ours})")
    if set(test) != set(val):
        problems.append(
            f"{name}: has {', '.join(sorted(set(test) ^ set(val)))} where {raw.path.name} has "
            "none, or the other way round"
        )
    if (test["split"] == "val").any() or (
        ("split" in other.given) and (val["split"] == "test").any()
    ):
        problems.append(
            f"with a file of validation rows, split must be 'test' throughout {raw.path.name} "
            f"and 'val' throughout {name}"
        )
    if raw.numbers_are != other.numbers_are:
        problems.append(
            f"{name}: labels are numbers, and so are the class names; those of one file can only "
            "be class ids, those of the other only names: write names in both"
        )
    for what in ("ids", "groups"):
        shared = (
            np.intersect1d(test[what], val[what])
            if what in raw.given and what in other.given
            else np.array([])
        )
        if len(shared):
            problems.append(
                f"{name}: {len(shared)} {what} are also in {raw.path.name}, such as "
                f"{shared[0]}: no test row may be fitted on"
            )
    if np.array_equal(raw.values, other.values):
        problems.append(
            f"{name}: the same rows as in {raw.path.name}: a map fitted on test rows would be "
            "tested on rows that it has seen"
        )
    val["split"] = np.full(len(val["split"]), "val")
    return problems


def _complete(
    rows: dict[str, np.ndarray], raw: Raw, class_names: list[str] | None
) -> dict[str, np.ndarray]:
    """Completes the arrays as a single trial, selection 'last'. Its training rows are unknown: the
    constant predictors are counted in the validation rows or, without any, in the test rows.
    """
    n, k = rows["logits"].shape
    val = rows["split"] == "val"
    problems = [] if (~val).any() else ["no row is a test row"]
    if "groups" in raw.given:
        shared = np.intersect1d(rows["groups"][val], rows["groups"][~val])
        problems += (
            [f"{len(shared)} groups have validation and test rows, such as {shared[0]}"]
            if len(shared)
            else []
        )
    if problems:
        raise UserError(
            f"{raw.path} cannot be evaluated",
            problems,
            fix="see python -m fexpr.evaluate --help for the layouts",
        )
    counted = val if val.any() else ~val
    return rows | {
        "trial": np.zeros(n, np.int32),
        "selection": np.full(n, "last"),
        "class_names": np.array(class_names or raw.names or [str(i) for i in range(k)]),
        "train_positives": np.bincount(rows["labels"][counted], minlength=k)[None].astype(
            np.float32
        ),
        "train_rows": np.array([counted.sum()], np.int32),
        "counts_from": np.array("validation" if val.any() else "test"),
    }
