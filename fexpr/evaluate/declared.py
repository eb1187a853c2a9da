"""Metrics that are declared in one place: formula, name in words, direction, decimals.

An entry of METRICS is measured on every split and selection, with interval and baselines, and
shown in the tables of the terminal, the report and sweeps. An extension adds its own.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import TYPE_CHECKING, Literal

import numpy as np

from fexpr.evaluate import metrics
from fexpr.evaluate.scored_rows import ScoredRows

if TYPE_CHECKING:  # checked in the tests (tests/conftest.py)
    from jaxtyping import Float, Num


@dataclasses.dataclass(frozen=True)
class Metric:
    """A metric of the rows of one seed.

    Attributes:
      words: its name in the report.
      compute: (rows, weights float64 [B, R]) -> float64 [B], the figure under each of B weightings
        of the R rows (a bootstrap resample is one); NaN where it is undefined. `rows.scores` are
        NaN for the rows of failed trials.
      task: the labels that it applies to: one class per row ('multiclass'), several ('multilabel'),
          or 'both'.
      lower_is_better: the direction. decimals: in tables.
      short: its name on the terminal; '': it is only in the report. limits: the range of its
          values, to which intervals are clipped.
    """

    words: str
    compute: Callable[[ScoredRows, np.ndarray], np.ndarray]
    task: Literal["multiclass", "multilabel", "both"] = "both"
    lower_is_better: bool = False
    decimals: int = 3
    short: str = ""
    limits: tuple[float, float] = (-np.inf, np.inf)

    @property
    def heading(self) -> str:
        """The metric's name, with an arrow if lower is better."""
        return self.words + " ↓" * self.lower_is_better


METRICS: dict[str, Metric] = {
    "exact_match": Metric(
        "exact match",
        lambda rows, w: metrics.exact_match(rows.presence, rows.decisions, w),
        "multilabel",
        short="exact match",
        limits=(0, 1),
    ),
    "hamming": Metric(
        "Hamming loss",
        lambda rows, w: metrics.hamming_loss(rows.presence, rows.decisions, w),
        "multilabel",
        lower_is_better=True,
        limits=(0, 1),
    ),
}


def measures(
    rows: ScoredRows, weights: Num[np.ndarray, "B R"]
) -> dict[str, Float[np.ndarray, " B"]]:
    """Name -> float64 [B] for every entry of METRICS that applies to the rows' task; `weights` is
    [B, R].

    Raises:
      ValueError: an entry returns another shape.
    """
    task, found = "multilabel" if rows.multilabel else "multiclass", {}
    for name, metric in METRICS.items():
        if metric.task in (task, "both"):
            found[name] = np.asarray(metric.compute(rows, weights), np.float64)
            if found[name].shape != (len(weights),):
                raise ValueError(
                    f"metric {name!r} returns shape {list(found[name].shape)}, expected "
                    f"[{len(weights)}]: "
                    "a value for each row of weights"
                )
    return found


def decimals(name: str) -> int:
    """The number of decimals of a metric in tables; 3 unless declared otherwise."""
    return METRICS[name].decimals if name in METRICS else 3
