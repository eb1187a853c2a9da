"""The group bootstrap: subjects (or actors), not rows, are drawn with replacement, since rows of
one subject are alike.

A resample is a vector of row weights: how often the row's group was drawn. The groups are sorted
before the draw, so that two statistics on rows of the same groups see the same resamples under one
seed, which makes their difference a paired one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

RESAMPLES = 1000
LEVEL = 0.95
_CHUNK = 2**18  # weights held at a time, 2 MiB: what fits a cache is twice as fast


def resample_weights(
    groups: np.ndarray, resamples: int = RESAMPLES, seed: int = 0
) -> Iterator[np.ndarray]:
    """Yields float64 [b, R] until `resamples` rows were given. The draws do not depend on the size
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
    statistic: Callable[[np.ndarray], dict[str, np.ndarray]],
    groups: np.ndarray,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> dict[str, np.ndarray]:
    """`statistic(weights [B, R])` gives named arrays [B, ...]; returns the same names with all
    resamples, [resamples, ...].
    """
    parts = [statistic(weights) for weights in resample_weights(groups, resamples, seed)]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def interval(samples: np.ndarray, level: float = LEVEL) -> tuple[float, float, int]:
    """Percentile interval of `samples` [B]: (low, high, resamples used).

    Resamples where the statistic is undefined (NaN) are left out, and the count says how many were
    left. NaN, NaN, 0 if none is.
    """
    defined = samples[np.isfinite(samples)]
    if not len(defined):
        return np.nan, np.nan, 0
    low, high = np.quantile(defined, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high), len(defined)
