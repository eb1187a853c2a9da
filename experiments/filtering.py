"""The filters of frames by name, and the frames of a fold that each keeps: for training (labels are
known) and for testing (they are not).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
from ml_collections import ConfigDict

from experiments import frame_filters as filters
from fexpr.data.dataset import Dataset
from fexpr.data.releases import au_gaussians
from fexpr.data.releases.ravdess_names import EMOTIONS
from fexpr.data.splits.fold import Fold
from fexpr.errors import UserError

if TYPE_CHECKING:  # checked in the tests (tests/conftest.py)
    from jaxtyping import Bool, Float, Int, Shaped


@dataclasses.dataclass(frozen=True)
class Frames:
    """The inputs of a filter, for all N frames. `labels` are UNKNOWN except for the fold's own
    training rows.
    """

    posteriors: Float[np.ndarray, "N K"]
    labels: Int[np.ndarray, " N"]
    video: Shaped[np.ndarray, " N"]
    number: Int[np.ndarray, " N"]
    action_units: Float[np.ndarray, "N D"] | None

    def at(self, rows: Int[np.ndarray, " R"]) -> Frames:
        units = None if self.action_units is None else self.action_units[rows]
        return Frames(
            self.posteriors[rows], self.labels[rows], self.video[rows], self.number[rows], units
        )


@dataclasses.dataclass(frozen=True)
class Filter:
    """`train(frames, value, gaussians)` and `test(frames, value, gaussians)` -> bool [N]; `test`
    gets no labels.
    """

    train: Callable[..., np.ndarray]
    test: Callable[..., np.ndarray]
    low: float
    high: float
    needs_units: bool = False


def _gaussian(per_video: bool) -> Filter:
    return Filter(
        lambda f, q, g: filters.gaussian(
            filters.mahalanobis(f.action_units, g), f.labels, f.video, q, per_video
        ),
        lambda f, q, g: filters.gaussian_unlabelled(
            filters.mahalanobis(f.action_units, g), f.video, q
        ),
        0,
        100,
        True,
    )


NEUTRAL_AND_CALM = (EMOTIONS.index("neutral"), EMOTIONS.index("calm"))

FILTERS = {
    "threshold": Filter(
        lambda f, t, _: filters.threshold(f.posteriors, f.labels, t),
        lambda f, t, _: filters.threshold_unlabelled(f.posteriors, f.video, t),
        0,
        1,
    ),
    "threshold_balanced": Filter(
        lambda f, t, _: filters.balanced(filters.threshold(f.posteriors, f.labels, t), f.labels),
        lambda f, t, _: filters.threshold_unlabelled(f.posteriors, f.video, t),
        0,
        1,
    ),
    "percentile": Filter(
        lambda f, q, _: filters.percentile(f.posteriors, f.labels, f.video, q),
        lambda f, q, _: filters.percentile_unlabelled(f.posteriors, f.video, q),
        0,
        99,
    ),
    "au45": Filter(
        lambda f, most, _: filters.eyes_open_unlabelled(f.action_units, f.video, most),
        lambda f, most, _: filters.eyes_open_unlabelled(f.action_units, f.video, most),
        0,
        5,
        True,
    ),
    "gaussian": _gaussian(False),
    # one percentile per emotion, as published
    "gaussian_emotion": Filter(
        lambda f, q, g: filters.gaussian_by_emotion(
            filters.mahalanobis(f.action_units, g), f.labels, q, [NEUTRAL_AND_CALM]
        ),
        lambda f, q, g: filters.gaussian_unlabelled(
            filters.mahalanobis(f.action_units, g), f.video, q
        ),
        0,
        100,
        True,
    ),
    "gaussian_video": _gaussian(True),
    "every": Filter(
        lambda f, n, _: filters.every(f.number, int(n)),
        lambda f, n, _: np.ones(len(f.video), bool),
        1,
        30,
    ),
}


def parse(text: str) -> tuple[Filter, float]:
    """Parses 'percentile=35' into the filter and its value.

    Raises:
      UserError: unknown name, or a value out of range.
    """
    name, _, value = text.partition("=")
    fix = f"expected NAME=VALUE with a name of {', '.join(FILTERS)}, for example percentile=35"
    if name not in FILTERS:
        raise UserError(f"config.filter.stages: {text!r} is not a filter", fix=fix)
    try:
        number = float(value)
    except ValueError as e:
        raise UserError(
            f"config.filter.stages: {text!r}: {value!r} is not a number", fix=fix
        ) from e
    chosen = FILTERS[name]
    if not chosen.low <= number <= chosen.high:
        raise UserError(
            f"config.filter.stages: {text!r}: expected a value from {chosen.low:g} to "
            f"{chosen.high:g}",
            fix=fix,
        )
    return chosen, number


def gaussians(config: ConfigDict, dataset: Dataset) -> filters.Gaussians | None:
    """The Gaussians of `config.filter.gaussians`; None if each fold fits them to its training
    frames.

    Raises:
      UserError: files that cannot be used, or data without RAVDESS' classes.
    """
    if not config.filter.gaussians:
        return None
    if dataset.class_names != EMOTIONS:
        raise UserError(
            f"filter.gaussians: expected data with RAVDESS' emotions, {config.data.name} has "
            f"{', '.join(dataset.class_names)}"
        )
    return filters.Gaussians(*au_gaussians.read(config.filter.gaussians))


def masks(
    text: str,
    dataset: Dataset,
    fold: Fold,
    posteriors: Float[np.ndarray, "N K"],
    gaussians: filters.Gaussians | None = None,
) -> tuple[Bool[np.ndarray, " train"], Bool[np.ndarray, " test"]]:
    """The fold's training rows to keep, bool [train], and the test rows that count, bool [test].
    The labels of validation and test rows are hidden from filters. Unless Gaussians are given, they
    are fitted to the training rows.

    Args:
      posteriors: float32 [N, K], the model's for every frame.
    """
    chosen, value = parse(text)
    outside = np.setdiff1d(np.arange(len(dataset)), fold.train)
    labels = filters.hidden(dataset.labels, outside)
    units = dataset.extras.get("action_units")
    if chosen.needs_units and units is None:
        raise UserError(
            f"the filter {text} needs action units of every frame",
            fix="add OpenFace's tables (docs/data.md), or leave it out",
        )
    frames = Frames(posteriors, labels, dataset.extras["video"], dataset.extras["frame"], units)
    if text.startswith("gaussian") and gaussians is None and units is not None:
        gaussians = filters.fit_gaussians(
            units[fold.train], labels[fold.train], len(dataset.class_names)
        )
    return chosen.train(frames.at(fold.train), value, gaussians), chosen.test(
        frames.at(fold.test), value, gaussians
    )


def filtered(text: str, fold: Fold, mask: Bool[np.ndarray, " train"], dataset: Dataset) -> Fold:
    """The fold with only the training rows that are kept.

    Raises:
      UserError: a class has lost all of them.
    """
    before, after = (
        np.bincount(dataset.labels[rows], minlength=len(dataset.class_names))
        for rows in (fold.train, fold.train[mask])
    )
    lost = [
        name for name, b, a in zip(dataset.class_names, before, after, strict=True) if b and not a
    ]
    if lost:
        raise UserError(
            f"the filter {text} leaves fold {fold.name} no frame of {', '.join(lost)}",
            fix="choose a less strict value",
        )
    return Fold(fold.name, fold.train[mask], fold.val, fold.test, dataset.groups)
