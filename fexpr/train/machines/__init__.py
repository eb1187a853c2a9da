"""Classifiers without epochs: functions of kernel matrices or feature vectors, fitted on one
trial's training rows.

Imports no library, so that a config is checked without scikit-learn.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from fexpr.config import Entry, Problem

# the function that scores rows: (Rows, Task, points of the grid) -> scores [point, row, class]
# (rows.py). `reads`: its hyper-parameters, each one value or several to choose from.
MACHINES: dict[str, Entry] = {
    "svm_linear": Entry("fexpr.train.machines.support_vectors:linear", ("C",)),
    "svm_rbf": Entry("fexpr.train.machines.support_vectors:rbf", ("C", "gamma")),
    "pca_logistic": Entry("fexpr.train.machines.linear:logistic", ("C", "components")),
    "lda": Entry("fexpr.train.machines.linear:discriminant", ("shrinkage", "components")),
    "boosted_trees": Entry(
        "fexpr.train.machines.trees:boosted", ("iterations", "learning_rate", "leaves")
    ),
}


def _positive(value: object) -> bool:
    return isinstance(value, (int, float)) and 0 < value < float("inf")


def _whole(least: int) -> Callable[[object], bool]:
    return lambda value: type(value) is int and value >= least


# for each hyper-parameter a description of its values, and a check
FORMS: dict[str, tuple[str, Callable[[object], bool]]] = {
    "C": ("a number above 0", _positive),
    "gamma": ("a number above 0", _positive),
    "learning_rate": ("a number above 0", _positive),
    "shrinkage": (
        "a number from 0 to 1, or 'auto'",
        lambda v: v == "auto" or (isinstance(v, (int, float)) and 0 <= v <= 1),
    ),
    "components": ("a whole number, 0 for all features of a vector", _whole(0)),
    "iterations": ("a whole number of at least 1", _whole(1)),
    "leaves": ("a whole number of at least 2", _whole(2)),
}


def values_of(argument: object) -> tuple:
    """The value, or the values to choose from, as a tuple."""
    return tuple(argument) if isinstance(argument, (tuple, list)) else (argument,)


def problems(model: Mapping[str, Any]) -> Iterator[Problem]:
    """Problems of `config.model` for a machine: in its name and hyper-parameters."""
    name, given = model.get("name"), {k: v for k, v in model.items() if k != "name"}
    if name not in MACHINES:
        yield Problem("model.name", name, f"one of {', '.join(map(repr, MACHINES))}")
        return
    wanted = MACHINES[name].reads or ()
    for argument in wanted:
        if not values_of(given.get(argument, ())):
            yield Problem(f"model.{argument}", None, f"a value, or several, of {name}")
    for argument, values in given.items():
        if argument not in wanted:
            yield Problem(f"model.{argument}", values, f"no other than {', '.join(wanted)}")
            continue
        form, is_such = FORMS[argument]
        for value in values_of(values):
            if not is_such(value):
                yield Problem(f"model.{argument}", value, form)
