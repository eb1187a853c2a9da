"""Test rows that a model may have seen: results with and without those of which the training or
validation rows hold a copy."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from fexpr.evaluate.measure import Measured
from fexpr.evaluate.predictions import rows_of
from fexpr.evaluate.scored_rows import ScoredRows

KINDS = ("exact", "near", "mirrored")  # values of the column `copy` of predictions.npz


def measure_copies(
    predictions: dict[str, np.ndarray],
    selection: str,
    test: ScoredRows,
    measure: Callable[[ScoredRows], Measured],
) -> dict:
    """The entry `copies` of metrics.json.

    Args:
      predictions: the arrays of predictions.npz; their `copy`, str [R], is the kind of copy that a
        test row has among the training and validation rows of its trial, or ''.
      test: the answer to the test rows of `selection`.
      measure: the function that measures an answer.

    Returns:
      {} where `copy` is missing. Else `rows`: the number of test rows of one seed, `all` of them
      and by kind of copy; and, where any row has a copy, the metrics of the rows `without_exact`
      copies, `without_near` (without exact, near and mirrored ones), and `only` (of rows with a
      copy of any kind), of those that are not empty.
    """
    if "copy" not in predictions:
        return {}
    kinds = predictions["copy"][rows_of(predictions, selection, "test")]
    first = kinds[test.pools()[0]]
    found: dict = {"rows": {"all": len(first), **{k: int((first == k).sum()) for k in KINDS}}}
    parts = {"without_exact": kinds != "exact", "without_near": kinds == "", "only": kinds != ""}
    if parts["only"].any():
        found |= {name: measure(test.at(r)).summary() for name, r in parts.items() if r.any()}
    return found
