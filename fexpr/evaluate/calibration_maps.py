"""Maps from a classifier's logits to better calibrated ones: those of fexpr.probabilities, which a
run may apply, and two that are shown beside them.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import numpy as np

from fexpr.probabilities import Temperature, probabilities

if TYPE_CHECKING:  # checked in the tests (tests/conftest.py)
    from jaxtyping import Float


@runtime_checkable
class Map(Protocol):
    """A fitted map: logits [R, K] -> calibrated logits [R, K]."""

    def __call__(self, logits: Float[np.ndarray, "R K"]) -> Float[np.ndarray, "R K"]: ...

    def parameters(self) -> dict[str, float | list]:
        """The fitted numbers, for metrics.json."""
        ...


@dataclasses.dataclass(frozen=True)
class Vector:
    """The map scale [K] * logits + bias [K] (Guo et al. 2017, section 4.2); may change the class of
    a row.
    """

    scale: Float[np.ndarray, " K"]
    bias: Float[np.ndarray, " K"]

    def __call__(self, logits: Float[np.ndarray, "R K"]) -> Float[np.ndarray, "R K"]:
        return np.asarray(logits, np.float64) * self.scale + self.bias

    def parameters(self) -> dict[str, float | list]:
        return {"scale": self.scale.tolist(), "bias": self.bias.tolist()}


@dataclasses.dataclass(frozen=True)
class Isotonic:
    """A rising step curve for each class, from its probability after `base` to how often it was
    right, straight between the `curves`' points (x, y); then renormalised over the classes
    (Zadrozny and Elkan 2002). May change the class of a row."""

    base: Temperature
    curves: tuple[tuple[np.ndarray, np.ndarray], ...]

    def __call__(self, logits: Float[np.ndarray, "R K"]) -> Float[np.ndarray, "R K"]:
        columns = probabilities(self.base(logits), False).T
        p = np.stack(
            [np.interp(column, x, y) for column, (x, y) in zip(columns, self.curves, strict=True)],
            axis=1,
        )
        return np.log(p / p.sum(axis=1, keepdims=True))

    def parameters(self) -> dict[str, float | list]:
        return {"steps": [len(np.unique(y)) for _, y in self.curves]}
