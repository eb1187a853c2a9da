"""From codes to labels: which units count as present, and how strongly."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from fexpr.errors import UserError
from fexpr.facs.units import Code

if TYPE_CHECKING:  # checked in the tests (tests/conftest.py)
    from jaxtyping import Float32


@dataclasses.dataclass(frozen=True)
class Policy:
    """How units that are not plainly present are counted.

    Attributes:
      alternatives: of units of which only ONE is meant, count the `first` named (the coder's best
          guess; the default), `all` (adds positives that cannot all be right) or `none` (drops a
          movement that certainly took place).
      references: units in `ref()` are `absent` (the default: as they are already present at onset,
          they are not part of the onset-to-apex movement) or `present` (right for a model that only
          sees the apex frame).
      uncertain: units marked `?` are `present` (the default: in SAMM only the offset is in doubt)
          or `absent`.

    Raises:
      UserError: another value.
    """

    alternatives: str = "first"
    references: str = "absent"
    uncertain: str = "present"

    def __post_init__(self):
        presence = ("present", "absent")
        allowed = {
            "alternatives": ("first", "all", "none"),
            "references": presence,
            "uncertain": presence,
        }
        problems = [
            f"{name} is {getattr(self, name)!r}, expected one of {', '.join(values)}"
            for name, values in allowed.items()
            if getattr(self, name) not in values
        ]
        if problems:
            raise UserError(
                "the policy for FACS codes has unknown values",
                problems,
                "correct them in the config",
            )


def intensities(code: Code, policy: Policy = Policy()) -> dict[int, float]:
    """{number: intensity in (0, 1]} of the units that are present under `policy`; a number named
    twice has its maximum.

    Number 0 (neutral) means that nothing moved, and is not a label.
    """
    present: dict[int, float] = {}
    groups_seen: set[int] = set()
    for unit in code.units:
        later = unit.alternative in groups_seen
        if unit.alternative is not None:
            groups_seen.add(unit.alternative)
            if policy.alternatives == "none" or (policy.alternatives == "first" and later):
                continue
        if (unit.already_present and policy.references == "absent") or (
            unit.uncertain and policy.uncertain == "absent"
        ):
            continue
        if unit.number:
            present[unit.number] = max(present.get(unit.number, 0.0), unit.value)
    return present


def vocabulary(rows: Sequence[Mapping[int, float]], minimum_positives: int) -> tuple[int, ...]:
    """The numbers of the units that are present in at least `minimum_positives` rows, ascending."""
    counts = Counter(number for row in rows for number in row)
    return tuple(sorted(number for number, count in counts.items() if count >= minimum_positives))


def label_matrix(
    rows: Sequence[Mapping[int, float]], numbers: Sequence[int]
) -> Float32[np.ndarray, "N K"]:
    """Intensities as float32 [N, K], K = len(numbers), 0 = absent. Units outside `numbers` are left
    out.
    """
    matrix = np.array([[row.get(number, 0.0) for number in numbers] for row in rows], np.float32)
    return matrix.reshape(len(rows), len(numbers))
