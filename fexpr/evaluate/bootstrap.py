"""The group bootstrap: subjects (or actors), not rows, are drawn with replacement, since rows of
one subject are similar.

A resample is a vector of row weights: how often the row's group was drawn. The groups are sorted
before the draw, so that two statistics on rows of the same groups see the same resamples under one
seed, which makes their difference a paired one.

Intervals are percentiles of the resamples, widened about the value where there are few groups: a
percentile interval is too narrow by sqrt((G - 1) / G), and uses the normal distribution instead of
Student's t (Hesterberg 2015, "What teachers should know about the bootstrap", section 5.3). For a
macro F1 with 5 groups it covers in about 85 % of cases instead of 95; widened, in 95.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:  # checked in the tests (tests/conftest.py)
    from jaxtyping import Float, Shaped

RESAMPLES = 1000
LEVEL = 0.95
_CHUNK = 2**18  # weights per block, 2 MiB: twice as fast if they fit into the CPU's cache


def resample_weights(
    groups: Shaped[np.ndarray, " R"], resamples: int = RESAMPLES, seed: int = 0
) -> Iterator[Float[np.ndarray, "b R"]]:
    """Yields blocks float64 [b, R] of `resamples` rows in all. The draws do not depend on the size
    of the chunks.
    """
    names, index = np.unique(groups, return_inverse=True)
    rng = np.random.default_rng(seed)
    chunk = max(1, _CHUNK // max(len(groups), 1))
    for start in range(0, resamples, chunk):
        b, g = min(chunk, resamples - start), len(names)
        drawn = rng.integers(0, g, size=(b, g)) + g * np.arange(b)[:, None]
        yield np.bincount(drawn.ravel(), minlength=b * g).reshape(b, g)[:, index].astype(np.float64)


def bootstrap(
    statistic: Callable[[Float[np.ndarray, "b R"]], dict[str, Shaped[np.ndarray, "b ..."]]],
    groups: Shaped[np.ndarray, " R"],
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> dict[str, Shaped[np.ndarray, "resamples ..."]]:
    """Calls `statistic(weights [B, R])`, which returns named arrays [B, ...], block by block;
    returns the same names with all resamples, [resamples, ...].
    """
    parts = [statistic(weights) for weights in resample_weights(groups, resamples, seed)]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def widening(groups: int, level: float = LEVEL) -> float:
    """The factor by which a percentile interval over this many groups is widened: 1.58 for 5, 1.12
    for 16.
    """
    from scipy.special import ndtri, stdtrit  # comes with scikit-learn

    upper = (1 + level) / 2
    return float(stdtrit(groups - 1, upper) / ndtri(upper) * np.sqrt(groups / (groups - 1)))


def interval(
    samples: Float[np.ndarray, " B"],
    value: float,
    groups: int,
    limits: tuple[float, float] = (-np.inf, np.inf),
    level: float = LEVEL,
) -> tuple[float, float, int]:
    """Percentile interval of `samples` [B], widened about `value` for this many groups: (low, high,
    resamples used), within `limits`, the range of the figure. It always includes `value`, even if
    all resamples are on one side of it: a row that is drawn twice ranks next to itself, which
    raises the average precision of few rows.

    Resamples where the statistic is undefined (NaN) are left out, and the returned count is of the
    others. NaN, NaN, 0 if none is left, or with a single group, which does not show how groups
    differ.
    """
    defined = samples[np.isfinite(samples)]
    if not len(defined) or groups < 2:
        return np.nan, np.nan, 0
    ends = np.quantile(defined, [(1 - level) / 2, (1 + level) / 2])
    ends = np.minimum(ends[0], value), np.maximum(ends[1], value)
    low, high = np.clip(value + widening(groups, level) * (np.array(ends) - value), *limits)
    return float(low), float(high), len(defined)


def norm_interval(
    samples: Float[np.ndarray, " B"],
    noise: Float[np.ndarray, " B"],
    value: float,
    groups: int,
    level: float = LEVEL,
) -> tuple[float, float, int]:
    """The interval of an error that is a norm of gaps, such as the calibration error: `value` =
    |d|, where the gaps d are the true ones plus noise e.

    Such a value is biased upwards, and a resample's value upwards again, so percentiles do not
    cover: a perfect model lies below its own interval. But | |d| - |d - e| | <= |e|, so the true
    error is above |d| minus the 97.5 % quantile of the noise; and since a norm is convex, |d| is on
    average above the true error, which is therefore below |d| plus the downward deviation of |d|.

    Args:
      samples: [B], |d*| of the resamples. noise: [B], |d* - d|.
    """
    defined = np.isfinite(samples) & np.isfinite(noise)
    if not defined.any() or groups < 2:
        return np.nan, np.nan, 0
    samples, out, wider = samples[defined], (1 - level) / 2, widening(groups, level)
    low = max(0.0, value - wider * np.quantile(noise[defined], 1 - out))
    high = min(1.0, value + wider * (samples.mean() - np.quantile(samples, out)))
    return float(low), float(high), int(defined.sum())
