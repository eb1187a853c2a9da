"""Selective prediction: a model that may decline answers its most confident rows only. Risk is the
share of wrong answers among them.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

COVERAGES = (0.9, 0.8, 0.7)
CURVE = np.linspace(0.01, 1.0, 100)  # coverages that a curve is drawn at


def measures(
    confidence: np.ndarray, right: np.ndarray
) -> Callable[[np.ndarray], dict[str, np.ndarray]]:
    """The function weights [B, R] -> `aurc` and `accuracy_at_<coverage>` of COVERAGES, each [B].

    AURC, the area under the risk-coverage curve: the mean over rows of the risk at the coverage
    that just holds the row (Geifman and El-Yaniv 2017). Rows of one confidence are answered
    together or not at all, so that their order in the file means nothing: the accuracy at a
    coverage is that of the fewest most confident rows that reach it. NaN confidences make all of it
    NaN.

    Args:
      confidence: [R]. right: bool [R].
    """
    if np.isnan(confidence).any():
        return lambda weights: {
            name: np.full(len(weights), np.nan) for name in ("aurc", *map(_key, COVERAGES))
        }
    order, starts = _steps(confidence)

    def of(weights: np.ndarray) -> dict[str, np.ndarray]:
        by_row = np.ascontiguousarray(weights.T)[order]
        rows = np.add.reduceat(by_row, starts, axis=0)
        answered = np.cumsum(rows, axis=0)
        wrong = np.cumsum(np.add.reduceat(by_row * ~right[order, None], starts, axis=0), axis=0)
        risk = np.divide(wrong, answered, out=np.zeros_like(wrong), where=answered > 0)
        values = {"aurc": np.einsum("ub,ub->b", rows, risk) / answered[-1]}
        for coverage in COVERAGES:
            step = (answered < coverage * answered[-1] - 1e-9).sum(axis=0)
            values[_key(coverage)] = 1 - risk[step, np.arange(len(weights))]
        return values

    return of


def curve(confidence: np.ndarray, right: np.ndarray, coverage: np.ndarray = CURVE) -> np.ndarray:
    """The risk at each `coverage`, as in `measures`; [R], bool [R], [C] -> [C]."""
    order, starts = _steps(confidence)
    answered = np.append(starts[1:], len(order))
    wrong = np.cumsum(~right[order])[answered - 1]
    step = np.searchsorted(answered, coverage * len(order) - 1e-9)
    return wrong[step] / answered[step]


def _steps(confidence: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rows by falling confidence, and where each distinct confidence starts among them."""
    order = np.argsort(-confidence, kind="stable")
    return order, np.flatnonzero(np.diff(confidence[order], prepend=np.inf))


def _key(coverage: float) -> str:
    return f"accuracy_at_{coverage}"
