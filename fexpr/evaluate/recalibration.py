"""Maps from a classifier's logits to better calibrated ones: temperature scaling, vector scaling,
isotonic regression.

A map is fitted on validation rows and on nothing else: every fit is handed the `split` of its rows
and refuses any but 'val', and
`fit_trial` takes the validation rows of one trial out of predictions.npz by itself. Usable on the
logits of any model:

    val = np.full(len(val_labels), "val") calibrated = fit_temperature(val_logits, val_labels, val)
    probabilities = fexpr.evaluate.calibration.probabilities(calibrated(test_logits),
    multilabel=False)

For a model that only gives probabilities, take their logarithm as logits.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Protocol

import numpy as np
from scipy.optimize import minimize  # comes with scikit-learn

from fexpr.evaluate import calibration
from fexpr.evaluate.calibration import log_probabilities

# precision of a normal prior around the identity: parameters stay finite where validation rows
# separate perfectly
PRIOR = 1e-3
LARGEST_TEMPERATURE = 10_000  # what T is where likelihood is highest at no information at all


class Map(Protocol):
    def __call__(self, logits: np.ndarray) -> np.ndarray:
        """Logits [R, K] -> calibrated logits [R, K]; their softmax are the probabilities."""

    def parameters(self) -> dict[str, float | list]: ...


@dataclasses.dataclass(frozen=True)
class Temperature:
    """logits / T with one T > 0 for all classes, which never changes the class of a row (Guo et al.
    2017, section 4.2).
    """

    temperature: float

    def __call__(self, logits: np.ndarray) -> np.ndarray:
        return np.asarray(logits, np.float64) / self.temperature

    def parameters(self) -> dict[str, float | list]:
        return {"temperature": self.temperature}


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
class Isotonic:
    """A rising step curve for each class, from its probability to how often it was right, straight
    between the `curves`' points (x, y); then renormalised over the classes (Zadrozny and Elkan
    2002). May change the class of a row."""

    curves: tuple[tuple[np.ndarray, np.ndarray], ...]

    def __call__(self, logits: np.ndarray) -> np.ndarray:
        columns = calibration.probabilities(np.asarray(logits), False).T
        p = np.stack(
            [np.interp(column, x, y) for column, (x, y) in zip(columns, self.curves, strict=True)],
            axis=1,
        )
        return np.log(p / p.sum(axis=1, keepdims=True))

    def parameters(self) -> dict[str, float | list]:
        return {"steps": [len(np.unique(y)) for _, y in self.curves]}


def fit_temperature(logits: np.ndarray, labels: np.ndarray, split: np.ndarray) -> Temperature:
    """The temperature of highest likelihood on validation rows.

    Args:
      logits: float [R, K]. labels: int [R], class ids. split: str [R], what each row is; only 'val'
          is let in.

    Raises:
      ValueError: a row is not a validation row; shapes, labels or logits cannot be those of a
          classifier.
    """
    z, labels = _checked(logits, labels, split)
    y = _one_hot(labels, z)

    def slopes(scale: np.ndarray, p: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        mean = (p * z).sum(axis=1)
        return np.array([((p - y) * z).sum()]), np.array([[(p * z**2).sum() - (mean**2).sum()]])

    (scale,) = _most_likely(np.ones(1), lambda scale: scale * z, slopes, y)
    return Temperature(float(1 / max(scale, 1 / LARGEST_TEMPERATURE)))


def fit_vector(logits: np.ndarray, labels: np.ndarray, split: np.ndarray) -> Vector:
    """A scale and a bias for each class, of highest likelihood on validation rows. Arguments and
    errors as in `fit_temperature`.
    """
    z, labels = _checked(logits, labels, split)
    y, (_, k) = _one_hot(labels, z), z.shape

    def slopes(theta: np.ndarray, p: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        parts = np.concatenate([p * z, p], axis=1)
        hessian = -parts.T @ parts
        scales, biases = np.arange(k), np.arange(k, 2 * k)
        hessian[scales, scales] += (p * z**2).sum(axis=0)
        hessian[biases, biases] += p.sum(axis=0)
        hessian[scales, biases] += (p * z).sum(axis=0)
        hessian[biases, scales] += (p * z).sum(axis=0)
        return np.concatenate([((p - y) * z).sum(axis=0), (p - y).sum(axis=0)]), hessian

    theta = _most_likely(
        np.repeat([1.0, 0.0], k), lambda theta: theta[:k] * z + theta[k:], slopes, y
    )
    return Vector(theta[:k], theta[k:])


def fit_isotonic(logits: np.ndarray, labels: np.ndarray, split: np.ndarray) -> Isotonic:
    """One isotonic regression a class, one against the rest, on validation rows. Arguments and
    errors as in `fit_temperature`.

    A class is never given a probability below that of half a row among the R, nor above that of all
    but half a row: a step that happens to hold no row of the class does not make it impossible, and
    the likelihood of a test row there stays finite.
    """
    z, labels = _checked(logits, labels, split)
    p, half = calibration.probabilities(z, False), 0.5 / len(z)
    from sklearn.isotonic import IsotonicRegression  # a second, for those alone who fit

    curves = []
    for k, column in enumerate(p.T):
        fitted = IsotonicRegression(y_min=half, y_max=1 - half, out_of_bounds="clip").fit(
            column, labels == k
        )
        curves.append((fitted.X_thresholds_, fitted.y_thresholds_))
    return Isotonic(tuple(curves))


FITS: dict[str, Callable[[np.ndarray, np.ndarray, np.ndarray], Map]] = {
    "temperature": fit_temperature,
    "vector": fit_vector,
    "isotonic": fit_isotonic,
}


def fit_trial(predictions: dict, selection: str, trial: int, name: str) -> Map:
    """The map `name` of FITS, fitted on the validation rows that `trial` has under `selection` in
    (checked) predictions.

    Raises:
      ValueError: the trial has no validation rows, or as in `fit_temperature`.
    """
    mine = (
        (predictions["selection"] == selection)
        & (predictions["trial"] == trial)
        & (predictions["split"] == "val")
    )
    return FITS[name](
        predictions["logits"][mine], predictions["labels"][mine], predictions["split"][mine]
    )


def _checked(
    logits: np.ndarray, labels: np.ndarray, split: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    logits, labels, split = np.asarray(logits, np.float64), np.asarray(labels), np.asarray(split)
    foreign = sorted(set(split.tolist()) - {"val"})
    if foreign:
        raise ValueError(
            f"calibration maps are fitted on validation rows only; got rows of {foreign}"
        )
    if not len(logits):
        raise ValueError("no validation rows to fit a calibration map on")
    if logits.ndim != 2 or labels.shape != logits.shape[:1] or split.shape != labels.shape:
        turned = logits.ndim == 2 and labels.shape == logits.shape[1:]
        raise ValueError(
            f"expected logits [R, K] with labels [R] and split [R], found {logits.shape}, "
            f"{labels.shape}, {split.shape}"
            + (": the logits are transposed, classes go along the second axis" if turned else "")
        )
    if labels.dtype.kind not in "iu" or labels.min() < 0 or labels.max() >= logits.shape[1]:
        raise ValueError(
            f"labels are class ids 0 to {logits.shape[1] - 1}, found {labels.dtype} "
            f"{labels.min()} to {labels.max()}"
        )
    if not np.isfinite(logits).all():
        raise ValueError("logits hold NaN or infinity")
    return logits, labels


def _one_hot(labels: np.ndarray, logits: np.ndarray) -> np.ndarray:
    return labels[:, None] == np.arange(logits.shape[1])


def _most_likely(
    start: np.ndarray, logits_of: Callable, slopes: Callable, y: np.ndarray
) -> np.ndarray:
    """The parameters of least negative log likelihood, which is convex in those of both scalings.

    Args:
      start: [J], the identity map, where PRIOR is centred too. logits_of: parameters -> logits [R,
          K].
      slopes: parameters, probabilities -> gradient [J], Hessian [J, J]. y: bool [R, K].
    """

    def loss(theta: np.ndarray) -> tuple[float, np.ndarray]:
        log_p, moved = log_probabilities(logits_of(theta), False), theta - start
        return -log_p[y].sum() + PRIOR / 2 * (moved**2).sum(), slopes(theta, np.exp(log_p))[
            0
        ] + PRIOR * moved

    def hessian(theta: np.ndarray) -> np.ndarray:
        return slopes(theta, np.exp(log_probabilities(logits_of(theta), False)))[
            1
        ] + PRIOR * np.eye(len(theta))

    theta = minimize(
        loss, start, jac=True, hess=hessian, method="trust-exact", options={"gtol": 1e-9 * len(y)}
    ).x

    def judged(theta: np.ndarray) -> float:
        return (
            calibration.nll_per_row(y, logits_of(theta), False).sum()
            + PRIOR / 2 * ((theta - start) ** 2).sum()
        )

    # by the measure that reports show
    if min(judged(0.99 * theta), judged(1.01 * theta)) < judged(theta) - 1e-9 * len(y):
        raise ValueError(
            "the fitted scale is not the most likely one on the validation rows: was a "
            "softmax taken over the wrong axis?"
        )
    return theta
