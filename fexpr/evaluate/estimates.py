"""A figure with its interval, as in metrics.json: `value`, `low`, `high`, `resamples`, and with
several seeds `seed_std` and `seeds`. Decides which kind of interval a metric has.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from fexpr.evaluate import calibration, declared
from fexpr.evaluate.bootstrap import interval, norm_interval

# norms of gaps, with their own kind of interval; for the largest gap, often of two or three rows,
# resamples are useless
NORMS = (*calibration.NORMS, "smooth_ece")
WITHOUT_INTERVAL = ("mce",)
LIMITS = {  # ranges of metrics that are neither a share of rows or classes nor in declared.METRICS
    "nll": (0, np.inf),
    "nll_refinement": (0, np.inf),
    "nll_calibration": (-np.inf, np.inf),
    "brier": (0, 2),
    "brier_refinement": (0, 2),
    "brier_calibration": (-2, 2),
    "over_confidence": (-1, 1),
    "under_confidence": (-1, 1),
    "size": (0, np.inf),  # size of a prediction set
}


@dataclasses.dataclass(frozen=True)
class Measured:
    """Point values of S seeds [S, …] and bootstrap samples of their mean [B, …] of each metric, and
    the classes that each macro metric averages. A name that begins with _ is not a metric, but is
    needed for the interval of one.
    """

    point: dict[str, np.ndarray]
    samples: dict[str, np.ndarray]
    classes: dict[str, int]
    groups: int

    def summary(self) -> dict:
        """Every metric's `of`; not those of single classes."""
        names = (n for n, value in self.point.items() if value.ndim == 1 and n[0] != "_")
        return {name: self.of(name) for name in names}

    def of(self, name: str) -> dict:
        """A metric for metrics.json: `value`, the mean over seeds, and its interval `low`, `high`;
        of a macro metric also `classes`, the number of classes in the mean.
        """
        classes = {"classes": self.classes[name]} if name in self.classes else {}
        if name == "debiased_rms":
            return self._root()
        return _estimate(self.point[name], self._interval(name)) | classes

    def _interval(self, name: str) -> tuple[float, float, int]:
        samples = self.samples[name]
        if name in WITHOUT_INTERVAL:
            return np.nan, np.nan, 0
        if name in NORMS:
            noise = self.samples[f"_noise_{name}"]
            return norm_interval(samples, noise, self.point[name].mean(), self.groups)
        return interval(samples, self.point[name].mean(), self.groups, limits_of(name))

    def _root(self) -> dict:
        """The root of the debiased mean squared gap. The interval of the square is the basic
        bootstrap, value - (sample - value): a resample adds the bias a second time, so it is
        centred on the debiased value.
        """
        raw, samples = self.point["debiased_rms"], self.samples["debiased_rms"]
        root = lambda square: np.sqrt(np.maximum(square, 0))
        squares = raw - self.point["_bias_debiased_rms"]
        mirrored = 2 * raw.mean() - samples
        low, high, used = interval(mirrored, mirrored.mean(), self.groups, (0, 1))
        estimate = _estimate(root(squares), (root(low), root(high), used))
        return estimate | {"value": _plain(root(squares.mean()))}

    def of_class(self, name: str, k: int) -> dict:
        """The same of a metric of class k (`measure.CLASS_METRICS`)."""
        point, samples = (of[f"class_{name}"][:, k] for of in (self.point, self.samples))
        return _estimate(point, interval(samples, point.mean(), self.groups, (0, 1)))

    def minus(self, other: Measured, name: str) -> dict:
        """The paired difference to `other`, on the same rows of the same resamples."""
        return self._difference(other, name, self.point[name] - other.point[name])

    def less(self, other: Measured, name: str) -> dict:
        """The difference to another model with unrelated seeds: of the means over seeds."""
        means = np.array([self.point[name].mean() - other.point[name].mean()])
        return self._difference(other, name, means)

    def _difference(self, other: Measured, name: str, values: np.ndarray) -> dict:
        """For two norms, the samples are shifted so that their mean is the value: each norm is
        biased upwards, a resample's twice.
        """
        samples = self.samples[name] - other.samples[name]
        if name in NORMS:
            samples = samples - samples.mean() + values.mean()
        if name in WITHOUT_INTERVAL:
            return _estimate(values, (np.nan, np.nan, 0))
        lowest, highest = limits_of(name)
        limits = (lowest - highest, highest - lowest)
        return _estimate(values, interval(samples, values.mean(), self.groups, limits))


def limits_of(name: str) -> tuple[float, float]:
    """The range of a metric's values."""
    if name in declared.METRICS:
        return declared.METRICS[name].limits
    return LIMITS.get(name, (-1, 1) if name.startswith("gain_") else (0, 1))


def _estimate(seeds: np.ndarray, found: tuple[float, float, int]) -> dict:
    """`found`: low, high and the resamples used. An undefined value has no interval."""
    value = seeds.mean()
    low, high, used = found if np.isfinite(value) else (np.nan, np.nan, 0)
    estimate = dict(zip(("value", "low", "high"), map(_plain, (value, low, high)), strict=True)) | {
        "resamples": used
    }
    if len(seeds) > 1:
        estimate |= {"seed_std": _plain(seeds.std(ddof=1)), "seeds": [_plain(v) for v in seeds]}
    return estimate


def _plain(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
