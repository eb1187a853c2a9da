"""Selective prediction: a model that may abstain answers only its most confident rows. Risk is the
share of wrong answers among them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:  # checked in the tests (tests/conftest.py)
    from jaxtyping import Bool, Float, Num

COVERAGES = (0.9, 0.8, 0.7)
ACCURACIES = (0.9, 0.8)  # accuracies at which the share of rows that can be answered is measured
NAMES = (
    "aurc",
    *(f"{kind}_at_{c}" for c in COVERAGES for kind in ("accuracy", "gain")),
    *(f"coverage_at_{a}" for a in ACCURACIES),
)
CURVE = np.linspace(0.01, 1.0, 100)  # coverages at which a curve is drawn


def measures(
    confidence: Float[np.ndarray, " R"], right: Bool[np.ndarray, " R"]
) -> Callable[[Num[np.ndarray, "B R"]], dict[str, Float[np.ndarray, " B"]]]:
    """The function weights [B, R] -> `aurc`; `accuracy_at_<coverage>` of COVERAGES and
    `gain_at_<coverage>`, how much that is above the accuracy on all rows; `coverage_at_<accuracy>`
    of ACCURACIES: the largest share of rows that can be answered with that accuracy, 0 if none.
    Each is [B].

    AURC, the area under the risk-coverage curve: the mean over rows of the risk at the smallest
    coverage that includes the row (Geifman and El-Yaniv 2017). Rows of equal confidence are
    answered together or not at all, so that their order in the file does not matter: the accuracy
    at a coverage is that of the smallest set of most confident rows that reaches it. NaN
    confidences make all figures NaN.

    Args:
      confidence: [R]. right: bool [R].
    """
    if np.isnan(confidence).any():
        return lambda weights: {name: np.full(len(weights), np.nan) for name in NAMES}
    order, starts = _steps(confidence)

    def of(weights: Num[np.ndarray, "B R"]) -> dict[str, Float[np.ndarray, " B"]]:
        by_row = np.ascontiguousarray(weights.T)[order]
        rows = np.add.reduceat(by_row, starts, axis=0)
        answered = np.cumsum(rows, axis=0)
        wrong = np.cumsum(np.add.reduceat(by_row * ~right[order, None], starts, axis=0), axis=0)
        risk = np.divide(wrong, answered, out=np.zeros_like(wrong), where=answered > 0)
        values = {"aurc": np.einsum("ub,ub->b", rows, risk) / answered[-1]}
        for coverage in COVERAGES:
            step = (answered < coverage * answered[-1] - 1e-9).sum(axis=0)
            accuracy = 1 - risk[step, np.arange(len(weights))]
            values[f"accuracy_at_{coverage}"] = accuracy
            values[f"gain_at_{coverage}"] = accuracy - (1 - risk[-1])
        for accuracy in ACCURACIES:
            enough = np.where(1 - risk >= accuracy - 1e-12, answered, 0.0)
            values[f"coverage_at_{accuracy}"] = enough.max(axis=0) / answered[-1]
        return values

    return of


def is_one(name: str) -> bool:
    """Whether `measures` gives a figure of this name."""
    return name in NAMES


def curve(
    confidence: Float[np.ndarray, " R"],
    right: Bool[np.ndarray, " R"],
    coverage: Float[np.ndarray, " C"] = CURVE,
) -> Float[np.ndarray, " C"]:
    """The risk at each `coverage`, as in `measures`; [R], bool [R], [C] -> [C]."""
    order, starts = _steps(confidence)
    answered = np.append(starts[1:], len(order))
    wrong = np.cumsum(~right[order])[answered - 1]
    step = np.searchsorted(answered, coverage * len(order) - 1e-9)
    return wrong[step] / answered[step]


def _steps(confidence: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rows by decreasing confidence, and where each distinct confidence starts among them."""
    order = np.argsort(-confidence, kind="stable")
    return order, np.flatnonzero(np.diff(confidence[order], prepend=np.inf))
