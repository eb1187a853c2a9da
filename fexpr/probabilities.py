"""From logits to probabilities, through the calibration map that a run applies, and to prediction
sets. Needs only NumPy: the package evaluate fits and chooses maps and thresholds, the recogniser
and exports apply them.

A map takes logits [R, K] and returns logits [R, K]. With `multilabel` every column is an
independent decision (action units), else the columns exclude one another.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:  # checked in the tests (tests/conftest.py)
    from jaxtyping import Bool, Float, Num

APPLIED_IN_WORDS = {
    "none": "the model's own",
    "temperature": "temperature scaling",
    "svs": "structured vector scaling",
    "sms": "structured matrix scaling",
}
EPSILON = 1e-12  # tolerance when scores are compared: rounding must not drop a class


def probabilities(logits: Num[np.ndarray, "R K"], multilabel: bool) -> Float[np.ndarray, "R K"]:
    """Sigmoid (multi-label) or softmax of `logits` [R, K], in float64."""
    return np.exp(log_probabilities(logits, multilabel))


def log_probabilities(logits: Num[np.ndarray, "R K"], multilabel: bool) -> Float[np.ndarray, "R K"]:
    """log of the softmax of logits [R, K], or of the sigmoid of each: float64 [R, K]."""
    logits = logits.astype(np.float64)
    return (
        -np.logaddexp(0.0, -logits)
        if multilabel
        else logits - np.logaddexp.reduce(logits, axis=1, keepdims=True)
    )


@dataclasses.dataclass(frozen=True)
class Identity:
    """The model's logits, unchanged."""

    def __call__(self, logits: Num[np.ndarray, "R K"]) -> Float[np.ndarray, "R K"]:
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

    def __call__(self, logits: Num[np.ndarray, "R K"]) -> Float[np.ndarray, "R K"]:
        scaled = np.asarray(logits, np.float64) / self.temperature
        return _smoothed(scaled, self.smoothing, self.multilabel) if self.smoothing else scaled

    def parameters(self) -> dict[str, float | list]:
        return {"temperature": self.temperature, "smoothing": self.smoothing}


@dataclasses.dataclass(frozen=True)
class Structured:
    """weights [K, K] @ (log probabilities after `base`) + bias [K], both regularised towards the
    identity (Berta et al. 2026): structured vector scaling where `weights` is diagonal, else
    structured matrix scaling. Multi-label: a scale and a bias of each unit's logit. May change the
    class of a row."""

    base: Temperature
    weights: Float[np.ndarray, "K K"]
    bias: Float[np.ndarray, " K"]

    def __call__(self, logits: Num[np.ndarray, "R K"]) -> Float[np.ndarray, "R K"]:
        return inputs_of(self.base, logits) @ self.weights.T + self.bias

    def parameters(self) -> dict[str, float | list]:
        return self.base.parameters() | {
            "weights": self.weights.tolist(),
            "bias": self.bias.tolist(),
        }


Applied = Identity | Temperature | Structured


def inputs_of(base: Temperature, logits: Num[np.ndarray, "R K"]) -> Float[np.ndarray, "R K"]:
    """The inputs of `Structured`'s linear map, [R, K]: log probabilities, or logits in multi-label
    tasks.
    """
    scaled = base(logits)
    return scaled if base.multilabel else log_probabilities(scaled, False)


def name_of(fitted: Applied) -> str:
    """The name of a map that may be applied: 'none', 'temperature', 'svs' or 'sms'."""
    if isinstance(fitted, Structured):
        diagonal = np.diag(fitted.weights.diagonal())
        return "svs" if np.array_equal(fitted.weights, diagonal) else "sms"
    return "temperature" if isinstance(fitted, Temperature) else "none"


def to_json(fitted: Applied) -> dict:
    """A map that may be applied (`Identity`, `Temperature`, `Structured`) as plain values."""
    kinds = {Identity: "none", Temperature: "temperature", Structured: "structured"}
    found: dict = {"kind": kinds[type(fitted)]} | fitted.parameters()
    if isinstance(fitted, Temperature | Structured):
        base = fitted if isinstance(fitted, Temperature) else fitted.base
        found["multilabel"] = base.multilabel
    return found


def from_json(values: dict) -> Applied:
    """The map of `to_json`.

    Raises:
      KeyError, ValueError: the values do not describe a map.
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
    fitted: Applied, classes: int
) -> tuple[float, float, Float[np.ndarray, "K K"], Float[np.ndarray, " K"]]:
    """Temperature, smoothing, weights [K, K] and bias [K] of one formula for all maps that may be
    applied, so that any language can apply them.

    One-of-K: p = (1 - smoothing) softmax(logits / temperature) + smoothing / K, then
    softmax(weights @ log p + bias). Multi-label: q = (1 - smoothing) sigmoid(logits / temperature)
    + smoothing / 2, then sigmoid(weights @ logit(q) + bias), `weights` being diagonal.
    """
    if isinstance(fitted, Structured):
        return (fitted.base.temperature, fitted.base.smoothing, fitted.weights, fitted.bias)
    t = fitted if isinstance(fitted, Temperature) else Temperature(1.0)
    return t.temperature, t.smoothing, np.eye(classes), np.zeros(classes)


def _smoothed(
    logits: Float[np.ndarray, "R K"], share: float, multilabel: bool
) -> Float[np.ndarray, "R K"]:
    """Logits of (1 - share) p + share x uniform, computed from logarithms."""
    keep = np.log1p(-share)
    log_p = log_probabilities(logits, multilabel) + keep
    if not multilabel:
        return np.logaddexp(log_p, np.log(share / logits.shape[1]))
    log_absent = log_probabilities(-logits, True) + keep
    half = np.log(share / 2)
    return np.logaddexp(log_p, half) - np.logaddexp(log_absent, half)


def lac(
    p: Float[np.ndarray, "*shape"], u: Float[np.ndarray, " R"] | None = None
) -> Float[np.ndarray, "*shape"]:
    """1 - p: the least ambiguous sets on average (Sadinle et al. 2019). `u` is not used."""
    del u
    return 1 - p


def sets(
    scores: Float[np.ndarray, "*shape"], limit: Float[np.ndarray, "*#shape"] | float
) -> Bool[np.ndarray, "*shape"]:
    """The classes whose score is at or below `limit`, which may differ by row, class or trial."""
    return scores <= np.asarray(limit) + EPSILON


def never_empty(
    found: Bool[np.ndarray, "R K"], p: Float[np.ndarray, "R K"]
) -> Bool[np.ndarray, "R K"]:
    """The sets, with the most probable class added to empty ones. `found`, `p`: [R, K]."""
    top = p.argmax(axis=1)[:, None] == np.arange(p.shape[1])
    return np.where(found.any(axis=1, keepdims=True), found, top)
