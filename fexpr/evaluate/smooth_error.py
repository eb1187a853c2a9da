"""The smooth calibration error and the kernel reliability diagram, whose area it is (Blasiok
and Nakkiran 2023, "Smooth ECE", arXiv 2309.12236).

Bins are replaced by a Gaussian kernel that is reflected at 0 and 1, and no width has to be chosen:
the bandwidth sigma is the one at which the average of the smoothed residual equals sigma, and that
value is the error. Unlike ECE, it changes little when confidences change little.

The kernel is the heat kernel of the interval, so smoothing multiplies each cosine coefficient by a
factor: residuals are put on a grid once, and every bandwidth and resample then costs one cosine
transform.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from fexpr.evaluate.bootstrap import LEVEL, RESAMPLES, resample_weights, widening

if TYPE_CHECKING:  # checked in the tests (tests/conftest.py)
    from jaxtyping import Float, Num, Shaped

if TYPE_CHECKING:
    from scipy.sparse import csr_array

CELLS = 256  # of the grid
REFINEMENTS = 10  # halvings of the bandwidth's interval, as in relplot
SMALLEST = 0.001  # bandwidth, as in relplot
MESH = 101  # points of a diagram
# of a point of a diagram: fewer rows within a bandwidth at either side, and nothing is drawn
FEWEST_ROWS = 10.0


def measures(
    confidence: Float[np.ndarray, "R M"], outcome: Shaped[np.ndarray, "R M"]
) -> Callable[[Num[np.ndarray, "B R"]], dict[str, Float[np.ndarray, " B"]]]:
    """The function weights [B, R] -> `smooth_ece` [B], and `_noise_smooth_ece` [B]: the smooth
    error of the difference between the weighted and the plain residuals (bootstrap.norm_interval).

    Args:
      confidence, outcome: [R, M], both in [0, 1]; the M decisions of a row share its weight.
    """
    residuals = _on_grid(confidence, confidence - outcome)
    plain = residuals.sum(axis=0)[None] / confidence.size

    def of(weights: Num[np.ndarray, "B R"]) -> dict[str, Float[np.ndarray, " B"]]:
        total = weights.sum(axis=1, keepdims=True) * confidence.shape[1]
        drawn = (weights @ residuals) / total
        errors, _ = _fixed_point(np.concatenate([drawn, drawn - plain]))
        value, noise = np.split(errors, 2)
        return {"smooth_ece": value, "_noise_smooth_ece": noise}

    return of


def smooth_error(
    confidence: Float[np.ndarray, "*shape"], outcome: Shaped[np.ndarray, "*shape"]
) -> tuple[float, float]:
    """The error and its bandwidth, of confidences and outcomes in [0, 1] of any (equal) shape."""
    c, y = (np.asarray(a, np.float64).reshape(-1, 1) for a in (confidence, outcome))
    value, sigma = _fixed_point(_on_grid(c, c - y).sum(axis=0)[None] / len(c))
    return float(value[0]), float(sigma[0])


def smooth_errors(
    confidence: Float[np.ndarray, " R"], outcomes: Shaped[np.ndarray, "D R"]
) -> Float[np.ndarray, " D"]:
    """The errors [D] of the same confidences [R] with other outcomes [D, R]."""
    points = _on_grid(confidence[:, None], np.ones((len(confidence), 1)))
    masses = (confidence - np.asarray(outcomes, np.float64)) @ points
    return _fixed_point(masses / len(confidence))[0]


def diagram(
    confidence: Float[np.ndarray, "R M"],
    outcome: Shaped[np.ndarray, "R M"],
    groups: Shaped[np.ndarray, " R"],
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> dict[str, list | float]:
    """The data of a kernel reliability diagram, at MESH confidences from 0 to 1.

    The curve is confidence + smoothed (outcome - confidence) / smoothed count, so that a perfect
    model's is the diagonal up to chance; its distance to the diagonal, averaged over the density,
    is the smooth error.

    Args:
      confidence, outcome: [R, M]. groups: str [R], resampled whole.

    Returns:
      `mesh`, `curve`, `low`, `high` (pointwise 95 % band over groups; None without one) and
      `density` (of the decisions, of mean 1), lists of MESH, None if too few rows are near;
      `bandwidth`.
    """
    c, y = (np.asarray(a, np.float64) for a in (confidence, outcome))
    residuals, counts = _on_grid(c, y - c), _on_grid(c, np.ones_like(c))
    _, sigma = _fixed_point(residuals.sum(axis=0)[None] / c.size)
    at = np.linspace(0, CELLS, MESH).round().astype(int)
    mesh = at / CELLS

    def smoothed(weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        gap, count = (_smooth(_cosines(weights @ m), sigma)[:, at] for m in (residuals, counts))
        near = count * 2 * sigma  # how many rows lie within a bandwidth, about
        gap = np.divide(gap, count, out=np.full_like(gap, np.nan), where=near > FEWEST_ROWS / 10)
        return np.clip(mesh + gap, 0, 1), near

    curve, near = (a[0] for a in smoothed(np.ones((1, len(c)))))
    shown = near >= FEWEST_ROWS
    names = len(np.unique(groups))
    low, high = np.full((2, MESH), np.nan)
    if names > 1 and shown.any():
        drawn = np.concatenate([smoothed(w)[0] for w in resample_weights(groups, resamples, seed)])
        ends = np.nanquantile(drawn[:, shown], [(1 - LEVEL) / 2, (1 + LEVEL) / 2], axis=0)
        middle = curve[shown]
        low[shown], high[shown] = np.clip(middle + widening(names) * (ends - middle), 0, 1)
    density = near / (2 * sigma[0]) / c.size
    return {
        "mesh": mesh.round(9).tolist(),
        "curve": _plain(np.where(shown, curve, np.nan)),
        "low": _plain(low),
        "high": _plain(high),
        "density": density.tolist(),
        "bandwidth": float(sigma[0]),
    }


def _on_grid(confidence: np.ndarray, values: np.ndarray) -> csr_array:
    """Puts the `values` [R, M] of each row on the grid, [R, CELLS + 1]: each is divided between the
    two grid points beside its confidence.
    """
    from scipy.sparse import csr_array  # comes with scikit-learn

    place = np.clip(confidence, 0, 1) * CELLS
    cell = np.minimum(place.astype(int), CELLS - 1)
    share = place - cell
    rows = np.broadcast_to(np.arange(len(confidence))[:, None], cell.shape)
    entries = [(values * (1 - share), cell), (values * share, cell + 1)]
    data, columns = (np.concatenate([e[i].ravel() for e in entries]) for i in (0, 1))
    return csr_array(
        (data, (np.tile(rows.ravel(), 2), columns)), shape=(len(confidence), CELLS + 1)
    )


def _cosines(masses: np.ndarray) -> np.ndarray:
    """Coefficients of the density of `masses` [B, CELLS + 1] on the grid in cosines over [0, 1];
    the first is doubled.
    """
    from scipy.fft import dct  # comes with scikit-learn

    doubled = np.array(masses, np.float64)
    doubled[:, [0, -1]] *= 2
    return np.asarray(dct(doubled, type=1, axis=1))


def _smooth(cosines: np.ndarray, sigma: np.ndarray) -> np.ndarray:
    """The density [B, CELLS + 1] at the grid points after the kernel of bandwidth `sigma` [B]."""
    from scipy.fft import dct  # comes with scikit-learn

    squares = -0.5 * (np.pi * np.arange(cosines.shape[1], dtype=cosines.dtype)) ** 2
    damped = cosines * np.exp(sigma.astype(cosines.dtype)[:, None] ** 2 * squares)
    return np.asarray(dct(damped, type=1, axis=1, overwrite_x=True)) / 2


def _average(density: np.ndarray) -> np.ndarray:
    """The integral of |density| over [0, 1], by the trapezoidal rule; [B]."""
    size = np.abs(density)
    return (size.sum(axis=1) - (size[:, 0] + size[:, -1]) / 2) / CELLS


def _fixed_point(masses: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The error and bandwidth, both [B], of residuals [B, CELLS + 1]. The error falls with the
    bandwidth, so there is one bandwidth that equals its own error.
    """
    cosines = _cosines(masses).astype(np.float32)  # twice as fast, and exact to 1e-6
    wide, narrow = np.ones(len(masses)), np.zeros(len(masses))
    for _ in range(REFINEMENTS):
        middle = (wide + narrow) / 2
        too_narrow = (middle < SMALLEST) | (middle < _average(_smooth(cosines, middle)))
        wide, narrow = np.where(too_narrow, wide, middle), np.where(too_narrow, middle, narrow)
    return _average(_smooth(cosines, wide)).astype(np.float64), wide


def _plain(values: np.ndarray) -> list[float | None]:
    return [None if np.isnan(v) else float(v) for v in values]
