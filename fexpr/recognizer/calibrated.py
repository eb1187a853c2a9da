"""The calibration map of each member of a finished run, and the thresholds of its prediction
sets.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from fexpr.errors import UserError
from fexpr.probabilities import (
    APPLIED_IN_WORDS,
    Applied,
    Identity,
    Temperature,
    from_json,
    lac,
    name_of,
    never_empty,
    probabilities,
    sets,
)

if TYPE_CHECKING:  # checked in the tests (tests/conftest.py)
    from jaxtyping import Bool, Float

ROUNDING = 1e-6  # of probabilities in float32
COVERAGE = 0.9  # coverage of the sets in a table if none is requested


@dataclasses.dataclass(frozen=True)
class SetLimits:
    """The largest score of a class in a set: `limits` [T, L] of T members at L rising `levels` of
    coverage; infinity if there were too few calibration rows."""

    levels: Float[np.ndarray, " levels"]
    limits: Float[np.ndarray, "T levels"]

    def at(self, coverage: float) -> Float[np.ndarray, " T"]:
        """The limits [T] of the lowest level that reaches `coverage`.

        Raises:
          UserError: no level does.
        """
        if not self.levels[0] <= coverage <= self.levels[-1]:
            raise UserError(
                f"coverage={coverage}: expected a number from {self.levels[0]} to {self.levels[-1]}"
            )
        return self.limits[:, np.searchsorted(self.levels, coverage - 1e-9)]

    def to_json(self) -> dict:
        """For model.json: a class is in a set where 1 - its probability is at or below the limit;
        null: every class is in it."""
        plain = [[v if np.isfinite(v) else None for v in row] for row in self.limits.tolist()]
        return {"score": "1 - probability", "levels": self.levels.tolist(), "limits": plain}

    def sets(
        self, members: Float[np.ndarray, "T N K"], coverage: float, multilabel: bool
    ) -> Bool[np.ndarray, "N K"]:
        """bool [N, K]: the set of each row, from probabilities [T, N, K]. For an ensemble, the
        classes in more than half of its members' sets: their coverage is at least 1 - 2 (1 -
        coverage) and usually `coverage` (Gasparin and Ramdas 2024). One of K: never empty.
        """
        # a picture among the calibration rows may be exactly at the limit, up to rounding
        held = sets(lac(members), self.at(coverage)[:, None, None] + ROUNDING)
        found = held.mean(axis=0) > 0.5
        return found if multilabel else never_empty(found, members.mean(axis=0))


def maps(
    metrics: dict, selection: str, members: Sequence[int], of_clips: bool = False
) -> tuple[Applied, ...] | None:
    """Each member's map, as chosen when the run was evaluated; None if metrics.json describes
    another epoch, or has no validation rows. If clips were evaluated, `calibration` describes clips
    (`of_clips`); the network's own map is that of its frames. Runs of older versions have a
    temperature for each trial, which was always applied.
    """
    if metrics["selection"] != selection:
        return None
    frames = "clips" in metrics and not of_clips
    table = metrics["clips"]["frames"] if frames else metrics.get("calibration") or {}
    if table.get("applied"):
        applied = table["applied"]
        found = [from_json(values) for values in applied["maps"]]
        numbers = [applied["of_trial"][t] for t in members]
        return None if None in numbers else tuple(found[i] for i in numbers)
    older = table if frames else table.get("temperature", {}).get("parameters", {})
    values = [older["temperature"][t] for t in members] if "temperature" in older else [None]
    return None if None in values else tuple(Temperature(t) for t in values if t is not None)


def set_limits(
    metrics: dict, selection: str, members: Sequence[int], of_clips: bool = False
) -> SetLimits | None:
    """The limits of prediction sets. None as in `maps`; if clips were evaluated (unless
    `of_clips`), as their sets are not those of frames; and for runs of versions without sets.
    """
    saved = metrics.get("sets")
    if metrics["selection"] != selection or ("clips" in metrics and not of_clips) or not saved:
        return None
    numbers = [saved["of_trial"][t] for t in members]
    if None in numbers:
        return None
    limits = [[np.inf if v is None else v for v in saved["limits"][i]] for i in numbers]
    return SetLimits(np.array(saved["levels"]), np.array(limits, np.float64))


def in_words(found: Sequence[Applied] | None, further: bool = False) -> str:
    """How the probabilities are calibrated, as a sentence without its full stop; `further`: the
    network was trained further.
    """
    if found is None:
        why = "the run's map was fitted to the network before it was trained further"
        why = why if further else "the run has no map for this epoch"
        return f"Probabilities are not calibrated: {why}"
    names = ["none" if isinstance(o, Identity) else APPLIED_IN_WORDS[name_of(o)] for o in found]
    if all(isinstance(one, Identity) for one in found):
        why = "no map was significantly better on validation rows that it was not fitted on"
        return f"Probabilities are not calibrated: {why}"
    counted = [
        name if names.count(name) == len(names) else f"{name} ({names.count(name)} of {len(names)})"
        for name in dict.fromkeys(names)
    ]
    return f"Probabilities are calibrated by {', '.join(counted)}"


def thresholds(
    per_trial: Float[np.ndarray, "T K"], found: Sequence[Applied] | None
) -> Float[np.ndarray, " K"]:
    """Decision thresholds [K] on calibrated probabilities, from those on the model's own
    probabilities [T, K]; for an ensemble, the mean. A map keeps the order of a unit's rows, so a
    single network's decisions do not change.
    """
    if found is None:
        return np.mean(per_trial, axis=0)
    p = np.clip(per_trial, 1e-9, 1 - 1e-9)
    logits = np.log(p) - np.log1p(-p)
    moved = [
        own if isinstance(one, Identity) else probabilities(one(z[None]), True)[0]
        for own, one, z in zip(per_trial, found, logits, strict=True)
    ]
    return np.mean(moved, axis=0)
