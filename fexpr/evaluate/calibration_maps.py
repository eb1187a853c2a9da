"""Maps from a classifier's logits to better calibrated ones. NumPy alone: `recalibration` fits
them, `map_choice` decides whether one is applied.

A map takes logits [R, K] and returns logits [R, K], of which `calibration.probabilities` makes
probabilities. With `multilabel` every column is a decision of its own (action units), else the
columns exclude one another.
"""

from __future__ import annotations

import dataclasses
from typing import Protocol

import numpy as np

from fexpr.evaluate import calibration


class Map(Protocol):
    def __call__(self, logits: np.ndarray) -> np.ndarray: ...

    def parameters(self) -> dict[str, float | list]: ...


@dataclasses.dataclass(frozen=True)
class Identity:
    """The logits as the model gives them."""

    def __call__(self, logits: np.ndarray) -> np.ndarray:
        return np.asarray(logits, np.float64)

    def parameters(self) -> dict[str, float | list]:
        return {}


@dataclasses.dataclass(frozen=True)
class Temperature:
    """logits / T with one T > 0 for all classes (Guo et al. 2017, section 4.2), then a share
    `smoothing` of the uniform distribution, so that no class is impossible (Laplace smoothing, as
    in probmetrics). Never changes the class of a row."""

    temperature: float
    smoothing: float = 0.0
    multilabel: bool = False

    def __call__(self, logits: np.ndarray) -> np.ndarray:
        scaled = np.asarray(logits, np.float64) / self.temperature
        return _smoothed(scaled, self.smoothing, self.multilabel) if self.smoothing else scaled

    def parameters(self) -> dict[str, float | list]:
        return {"temperature": self.temperature, "smoothing": self.smoothing}


@dataclasses.dataclass(frozen=True)
class Vector:
    """scale [K] * logits + bias [K] (Guo et al. 2017, section 4.2); may change the class of a
    row.
    """

    scale: np.ndarray
    bias: np.ndarray

    def __call__(self, logits: np.ndarray) -> np.ndarray:
        return np.asarray(logits, np.float64) * self.scale + self.bias

    def parameters(self) -> dict[str, float | list]:
        return {"scale": self.scale.tolist(), "bias": self.bias.tolist()}


@dataclasses.dataclass(frozen=True)
class Structured:
    """weights [K, K] @ (log probabilities after `base`) + bias [K], both regularised towards the
    identity (Berta et al. 2026): structured vector scaling where `weights` is diagonal, else
    structured matrix scaling. Multi-label: a scale and a bias of each unit's logit. May change the
    class of a row."""

    base: Temperature
    weights: np.ndarray
    bias: np.ndarray

    def __call__(self, logits: np.ndarray) -> np.ndarray:
        return inputs_of(self.base, logits) @ self.weights.T + self.bias

    def parameters(self) -> dict[str, float | list]:
        return self.base.parameters() | {
            "weights": self.weights.tolist(),
            "bias": self.bias.tolist(),
        }


@dataclasses.dataclass(frozen=True)
class Isotonic:
    """A rising step curve for each class, from its probability after `base` to how often it was
    right, straight between the `curves`' points (x, y); then renormalised over the classes
    (Zadrozny and Elkan 2002). May change the class of a row."""

    base: Temperature
    curves: tuple[tuple[np.ndarray, np.ndarray], ...]

    def __call__(self, logits: np.ndarray) -> np.ndarray:
        columns = calibration.probabilities(self.base(logits), False).T
        p = np.stack(
            [np.interp(column, x, y) for column, (x, y) in zip(columns, self.curves, strict=True)],
            axis=1,
        )
        return np.log(p / p.sum(axis=1, keepdims=True))

    def parameters(self) -> dict[str, float | list]:
        return {"steps": [len(np.unique(y)) for _, y in self.curves]}


def inputs_of(base: Temperature, logits: np.ndarray) -> np.ndarray:
    """What `Structured` is linear in, [R, K]: log probabilities, or of multi-label tasks logits."""
    scaled = base(logits)
    return scaled if base.multilabel else calibration.log_probabilities(scaled, False)


def to_json(fitted: Map) -> dict:
    """A map that may be applied (`Identity`, `Temperature`, `Structured`) as plain values."""
    kinds = {Identity: "none", Temperature: "temperature", Structured: "structured"}
    found: dict = {"kind": kinds[type(fitted)]} | fitted.parameters()
    if isinstance(fitted, Temperature | Structured):
        base = fitted if isinstance(fitted, Temperature) else fitted.base
        found["multilabel"] = base.multilabel
    return found


def from_json(values: dict) -> Identity | Temperature | Structured:
    """The map of `to_json`.

    Raises:
      KeyError, ValueError: these are not the values of a map.
    """
    if values["kind"] == "none":
        return Identity()
    base = Temperature(
        float(values["temperature"]), float(values["smoothing"]), bool(values["multilabel"])
    )
    if values["kind"] == "temperature":
        return base
    if values["kind"] != "structured":
        raise ValueError(f"unknown calibration map {values['kind']!r}")
    weights, bias = (np.asarray(values[name], np.float64) for name in ("weights", "bias"))
    return Structured(base, weights, bias)


def affine(
    fitted: Identity | Temperature | Structured, classes: int
) -> tuple[float, float, np.ndarray, np.ndarray]:
    """Temperature, smoothing, weights [K, K] and bias [K] of one formula for all maps that may be
    applied: what another language needs to apply them.

    One-of-K: p = (1 - smoothing) softmax(logits / temperature) + smoothing / K, then
    softmax(weights @ log p + bias). Multi-label: q = (1 - smoothing) sigmoid(logits / temperature)
    + smoothing / 2, then sigmoid(weights @ logit(q) + bias), `weights` being diagonal.
    """
    if isinstance(fitted, Structured):
        return (fitted.base.temperature, fitted.base.smoothing, fitted.weights, fitted.bias)
    t = fitted if isinstance(fitted, Temperature) else Temperature(1.0)
    return t.temperature, t.smoothing, np.eye(classes), np.zeros(classes)


def _smoothed(logits: np.ndarray, share: float, multilabel: bool) -> np.ndarray:
    """Logits of (1 - share) p + share x uniform, computed from logarithms."""
    keep = np.log1p(-share)
    log_p = calibration.log_probabilities(logits, multilabel) + keep
    if not multilabel:
        return np.logaddexp(log_p, np.log(share / logits.shape[1]))
    log_absent = calibration.log_probabilities(-logits, True) + keep
    half = np.log(share / 2)
    return np.logaddexp(log_p, half) - np.logaddexp(log_absent, half)
