"""Fits the maps of `calibration_maps` on validation rows: temperature scaling, vector scaling,
isotonic regression, structured vector and structured matrix scaling.

A map is fitted on validation rows only: every fit takes the `split` of its rows and refuses any but
'val'. Usable on the logits of any model:

    val = np.full(len(val_labels), "val")
    calibrated = fit_temperature(val_logits, val_labels, val)
    p = fexpr.evaluate.calibration.probabilities(calibrated(test_logits), multilabel=False)

For a model that only gives probabilities, take their logarithm as logits. Scaling all logits
changes no fitted probability, as every fit first divides by the logits' own scale.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Literal, overload

import numpy as np

from fexpr.evaluate import calibration
from fexpr.evaluate.calibration_maps import Isotonic, Map, Vector
from fexpr.probabilities import Structured, Temperature, inputs_of

if TYPE_CHECKING:  # checked in the tests (tests/conftest.py)
    from jaxtyping import Bool, Float, Num, Shaped

# precision of a normal prior of vector scaling around a common temperature: parameters stay finite
# where validation rows separate perfectly
PRIOR = 1e-3
# largest |log temperature| for logits of scale 1; beyond it probabilities are 0, 1 or equal
WIDEST = 16.0
SMALLEST_SLOPE = 0.01  # smallest slope of an action unit's map, which so keeps the order of rows


def fit_temperature(
    logits: Num[np.ndarray, "R K"], labels: Num[np.ndarray, ...], split: Shaped[np.ndarray, " _"]
) -> Temperature:
    """The temperature of highest likelihood on validation rows, smoothed as if one of n + 1 rows
    could be of any class (probmetrics' `ts-mix`).

    Args:
      logits: float [R, K]. labels: int [R], class ids; or [R, K], present where above 0 (action
        units, which share one temperature).
      split: str [R], the part of each row; only 'val' is allowed.

    Raises:
      ValueError: a row is not a validation row; shapes, labels or logits cannot be those of a
          classifier.
    """
    z, presence, multilabel = _checked(logits, labels, split)
    unit, scale = _normalized(z, multilabel)

    def slope(log_factor: float) -> float:  # of the mean negative log likelihood
        p = calibration.probabilities(np.exp(log_factor) * unit, multilabel)
        return float(((p - presence) * unit).sum() / len(unit))

    if slope(-WIDEST) >= 0:
        log_factor = -WIDEST
    elif slope(WIDEST) <= 0:
        log_factor = WIDEST
    else:
        from scipy.optimize import brentq  # comes with scikit-learn

        log_factor = float(np.asarray(brentq(slope, -WIDEST, WIDEST, xtol=1e-10)))
    return Temperature(scale * float(np.exp(-log_factor)), 1 / (len(z) + 1), multilabel)


def fit_vector(
    logits: Num[np.ndarray, "R K"], labels: Num[np.ndarray, ...], split: Shaped[np.ndarray, " _"]
) -> Vector:
    """A scale and a bias for each class, of highest likelihood on validation rows. One-of-K only.
    Arguments and errors as in `fit_temperature`.
    """
    z, presence, _ = _checked(logits, labels, split, one_of_k=True)
    _, scale = _normalized(z, False)
    base = fit_temperature(logits, labels, split)
    common = np.clip(scale / base.temperature, 1e-3, 1e3)
    k = z.shape[1]
    centre = np.hstack([common * np.eye(k), np.zeros((k, 1))])
    theta = _most_likely(z / scale, presence, centre, np.full((k, k + 1), PRIOR / 2), diagonal=True)
    return Vector(theta.diagonal() / scale, theta[:, -1])


def fit_svs(
    logits: Num[np.ndarray, "R K"], labels: Num[np.ndarray, ...], split: Shaped[np.ndarray, " _"]
) -> Structured:
    """Structured vector scaling: after a temperature a scale and a bias for each class, with a
    ridge penalty of K / R towards the identity (Berta et al. 2026; probmetrics' `svs`).
    Multi-label: a scale and a bias for each unit, with a ridge of 2 / R, as in that formula for two
    classes. Arguments and errors as in `fit_temperature`.
    """
    return _structured(logits, labels, split, diagonal=True)


def fit_sms(
    logits: Num[np.ndarray, "R K"], labels: Num[np.ndarray, ...], split: Shaped[np.ndarray, " _"]
) -> Structured:
    """Structured matrix scaling: `fit_svs` and, with a ridge of K (K - 1) / R, a weight of each
    class's log probability in the logit of each other class (Berta et al. 2026; probmetrics'
    `sms`). One-of-K only. Arguments and errors as in `fit_temperature`.
    """
    return _structured(logits, labels, split, diagonal=False)


def fit_isotonic(
    logits: Num[np.ndarray, "R K"], labels: Num[np.ndarray, ...], split: Shaped[np.ndarray, " _"]
) -> Isotonic:
    """After a temperature one isotonic regression per class, one against the rest, on validation
    rows. One-of-K only. Arguments and errors as in `fit_temperature`.

    Probabilities are limited to between half a row and R - 1/2 rows of R: a step that happens to
    contain no row of the class does not make it impossible, and the likelihood of a test row there
    stays finite.
    """
    from sklearn.isotonic import IsotonicRegression  # a second, for those alone who fit

    z, presence, _ = _checked(logits, labels, split, one_of_k=True)
    base = fit_temperature(logits, labels, split)
    p, half = calibration.probabilities(base(z), False), 0.5 / len(z)
    curves = []
    for column, positive in zip(p.T, presence.T, strict=True):
        fitted = IsotonicRegression(y_min=half, y_max=1 - half, out_of_bounds="clip").fit(
            column, positive
        )
        curves.append((fitted.X_thresholds_, fitted.y_thresholds_))
    return Isotonic(base, tuple(curves))


FITS: dict[str, Callable[[np.ndarray, np.ndarray, np.ndarray], Map]] = {
    "temperature": fit_temperature,
    "vector": fit_vector,
    "svs": fit_svs,
    "sms": fit_sms,
    "isotonic": fit_isotonic,
}
OF_UNITS = ("temperature", "svs")  # maps of multi-label tasks


@overload
def fit_trial(
    predictions: dict, selection: str, trial: int, name: Literal["temperature"]
) -> Temperature: ...
@overload
def fit_trial(predictions: dict, selection: str, trial: int, name: str) -> Map: ...
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


def _structured(
    logits: Num[np.ndarray, "R K"],
    labels: Num[np.ndarray, ...],
    split: Shaped[np.ndarray, " _"],
    diagonal: bool,
) -> Structured:
    z, presence, multilabel = _checked(logits, labels, split, one_of_k=not diagonal)
    base = fit_temperature(logits, labels, split)
    x, (n, k) = inputs_of(base, z), z.shape
    if multilabel:
        slope, bias = _most_likely_units(x, presence, 2 / n)
        return Structured(base, np.diag(slope), bias)
    ridge = np.full((k, k + 1), float(k * (k - 1)))
    ridge[np.arange(k), np.arange(k)] = ridge[:, -1] = k
    theta = _most_likely(x, presence, np.eye(k, k + 1), ridge, diagonal)
    return Structured(base, theta[:, :-1], theta[:, -1])


def _most_likely(
    x: Float[np.ndarray, "R K"],
    presence: Bool[np.ndarray, "R K"],
    centre: Float[np.ndarray, "K K+1"],
    ridge: Float[np.ndarray, "K K+1"],
    diagonal: bool,
) -> Float[np.ndarray, "K K+1"]:
    """The weights and, as last column, biases [K, K + 1] of the logits weights @ x + bias that
    minimise the negative log likelihood of the rows plus `ridge` x (weights - centre)^2. Convex.

    Args:
      x: [R, K]. presence: bool [R, K], one-hot. centre, ridge: [K, K + 1]. diagonal: all other
        weights are 0.
    """
    n, k = x.shape
    padded = np.hstack([x, np.ones((n, 1))])
    free = np.eye(k, k + 1, dtype=bool) if diagonal else np.ones((k, k + 1), bool)
    free[:, -1] = True
    penalty, start = ridge[free] / n, centre[free]

    def weights_of(theta: np.ndarray) -> np.ndarray:
        weights = np.zeros((k, k + 1))
        weights[free] = theta
        return weights

    def loss(theta: np.ndarray) -> tuple[float, np.ndarray]:
        log_p = calibration.log_probabilities(padded @ weights_of(theta).T, False)
        slopes = (np.exp(log_p) - presence).T @ padded / n
        moved = theta - start
        return (
            float(-log_p[presence].mean() + penalty @ moved**2),
            slopes[free] + 2 * penalty * moved,
        )

    def hessian(theta: np.ndarray) -> np.ndarray:
        p = calibration.probabilities(padded @ weights_of(theta).T, False)
        parts = (p[:, :, None] * padded[:, None, :]).reshape(n, -1)
        whole = -parts.T @ parts
        for c in range(k):
            own = slice(c * (k + 1), (c + 1) * (k + 1))
            whole[own, own] += parts[:, own].T @ padded
        rows = np.flatnonzero(free)
        return whole[np.ix_(rows, rows)] / n + 2 * np.diag(penalty)

    from scipy.optimize import minimize  # comes with scikit-learn

    found = minimize(
        loss, start, jac=True, hess=hessian, method="trust-exact", options={"gtol": 1e-8}
    )
    return weights_of(found.x)


def _most_likely_units(
    x: Float[np.ndarray, "R K"], presence: Bool[np.ndarray, "R K"], ridge: float
) -> tuple[Float[np.ndarray, " K"], Float[np.ndarray, " K"]]:
    """The slope and bias [K] of each unit's logit, of highest likelihood with the penalty `ridge` x
    ((slope - 1)^2 + bias^2); slopes are at least SMALLEST_SLOPE. `x`, `presence`: [R, K].
    """
    n, k = x.shape

    def loss(theta: np.ndarray) -> tuple[float, np.ndarray]:
        slope, bias = theta[:k], theta[k:]
        logits = slope * x + bias
        nll = calibration.nll_per_row(presence, logits, True).mean() * k
        wrong = (calibration.probabilities(logits, True) - presence) / n
        return nll + ridge * (((slope - 1) ** 2).sum() + (bias**2).sum()), np.concatenate(
            [
                (wrong * x).sum(axis=0) + 2 * ridge * (slope - 1),
                wrong.sum(axis=0) + 2 * ridge * bias,
            ]
        )

    bounds = [(SMALLEST_SLOPE, None)] * k + [(None, None)] * k
    options = {"ftol": 1e-14, "gtol": 1e-9, "maxiter": 5000, "maxfun": 10_000}
    from scipy.optimize import minimize  # comes with scikit-learn

    theta = minimize(
        loss, np.repeat([1.0, 0.0], k), jac=True, method="L-BFGS-B", bounds=bounds, options=options
    ).x
    return theta[:k], theta[k:]


def _normalized(
    logits: Float[np.ndarray, "R K"], multilabel: bool
) -> tuple[Float[np.ndarray, "R K"], float]:
    """The logits divided by their mean distance from the row's mean (from 0 if multi-label), and
    that scale; 1 where all are equal. One-of-K: each row's largest is then 0.
    """
    distance = logits if multilabel else logits - logits.mean(axis=1, keepdims=True)
    scale = float(np.abs(distance).mean()) or 1.0
    return (distance if multilabel else logits - logits.max(axis=1, keepdims=True)) / scale, scale


def _checked(
    logits: Num[np.ndarray, "R K"],
    labels: Num[np.ndarray, ...],
    split: Shaped[np.ndarray, " _"],
    one_of_k: bool = False,
) -> tuple[Float[np.ndarray, "R K"], Bool[np.ndarray, "R K"], bool]:
    """Logits, presence bool [R, K] and whether the task is multi-label."""
    logits, labels, split = np.asarray(logits, np.float64), np.asarray(labels), np.asarray(split)
    foreign = sorted(set(split.tolist()) - {"val"})
    if foreign:
        raise ValueError(
            f"calibration maps are fitted on validation rows only; got rows of {foreign}"
        )
    if not len(logits):
        raise ValueError("no validation rows to fit a calibration map on")
    multilabel = labels.ndim == 2
    expected = logits.shape if multilabel else logits.shape[:1]
    if logits.ndim != 2 or labels.shape != expected or split.shape != logits.shape[:1]:
        turned = logits.ndim == 2 and labels.shape == logits.shape[1:]
        raise ValueError(
            f"expected logits [R, K] with labels [R] (or [R, K]) and split [R], found "
            f"{logits.shape}, {labels.shape}, {split.shape}"
            + (": the logits are transposed, classes go along the second axis" if turned else "")
        )
    if multilabel and one_of_k:
        raise ValueError("this map needs one class per row, these labels have several [R, K]")
    if not multilabel and (
        labels.dtype.kind not in "iu" or labels.min() < 0 or labels.max() >= logits.shape[1]
    ):
        raise ValueError(
            f"labels: expected class ids 0 to {logits.shape[1] - 1}, found {labels.dtype} "
            f"{labels.min()} to {labels.max()}"
        )
    if not np.isfinite(logits).all():
        raise ValueError("logits contain NaN or infinity")
    presence = labels > 0 if multilabel else labels[:, None] == np.arange(logits.shape[1])
    return logits, presence, multilabel
