"""Filters that choose the frames of a clip to use: plain functions, arrays -> bool [N], usable
without the rest of fexpr.

N frames, K classes. `posteriors` [N, K]; `labels` int [N], the emotion of each frame's clip;
`video` str [N]; `action_units` [N, 17], OpenFace's intensities. Filters that look at labels are for
training rows. Those with `unlabelled` in their name are for validation and test rows: they take no
labels, and keep at least one frame of every clip. Rows whose labels are unknown have the label
UNKNOWN, and a filter that needs labels refuses them: pass `hidden(labels, test_rows)` to whatever
must not see the labels of test rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:  # checked in the tests (tests/conftest.py)
    from jaxtyping import Bool, Float, Int, Shaped

UNKNOWN = -1  # the label of a row that a filter may not see
AU45 = 16  # the column of blinks among the 17 intensities


class Gaussians(NamedTuple):
    """A normal distribution of action units for each class."""

    mean: Float[np.ndarray, "K D"]
    covariance: Float[np.ndarray, "K D D"]


def hidden(
    labels: Int[np.ndarray, " N"], rows: Int[np.ndarray, " R"] | Bool[np.ndarray, " N"]
) -> Int[np.ndarray, " N"]:
    """A copy of labels [N] in which those of `rows` (numbers or a mask) are UNKNOWN."""
    known = labels.copy()
    known[rows] = UNKNOWN
    return known


def every(frame: Int[np.ndarray, " N"], n: int) -> Bool[np.ndarray, " N"]:
    """Every n-th frame: 2 makes 15 frames a second of 30. `frame` int [N], numbers within the
    clip.
    """
    return frame % n == 0


def threshold(
    posteriors: Float[np.ndarray, "N K"], labels: Int[np.ndarray, " N"], t: float
) -> Bool[np.ndarray, " N"]:
    """Frames in which the emotion of their clip has a posterior of at least t. A clip may lose all
    of its frames.
    """
    return _of_label(posteriors, labels) >= t


def threshold_unlabelled(
    posteriors: Float[np.ndarray, "N K"], video: Shaped[np.ndarray, " N"], t: float
) -> Bool[np.ndarray, " N"]:
    """Frames whose highest posterior is at least t; if a clip has none, its frame with the
    highest.
    """
    confidence = posteriors.max(axis=1)
    return (confidence >= t) | _best(confidence, video)


def percentile(
    posteriors: Float[np.ndarray, "N K"],
    labels: Int[np.ndarray, " N"],
    video: Shaped[np.ndarray, " N"],
    q: float,
) -> Bool[np.ndarray, " N"]:
    """Frames in which the posterior of the clip's emotion is at or above that posterior's q-th
    percentile within the clip: about 100 - q % of each clip.
    """
    score = _of_label(posteriors, labels)
    return score >= _by_video(score, video, q)


def percentile_unlabelled(
    posteriors: Float[np.ndarray, "N K"], video: Shaped[np.ndarray, " N"], q: float
) -> Bool[np.ndarray, " N"]:
    """As `percentile`, with the class that the clip's summed posteriors favour in place of its
    emotion.
    """
    names, index = np.unique(video, return_inverse=True)
    total = np.zeros((len(names), posteriors.shape[1]))
    np.add.at(total, index, posteriors)
    return percentile(posteriors, total.argmax(axis=1)[index], video, q)


def balanced(
    mask: Bool[np.ndarray, " N"], labels: Int[np.ndarray, " N"], seed: int = 0
) -> Bool[np.ndarray, " N"]:
    """The mask with frames dropped at random until all classes in it have as many frames as the
    rarest.
    """
    _known(labels)
    kept, counts = np.unique(labels[mask], return_counts=True)
    rng, result = np.random.default_rng(seed), np.zeros_like(mask)
    for k in kept:
        result[rng.choice(np.flatnonzero(mask & (labels == k)), counts.min(), replace=False)] = True
    return result


def eyes_open_unlabelled(
    action_units: Float[np.ndarray, "N D"], video: Shaped[np.ndarray, " N"], most: float = 0.75
) -> Bool[np.ndarray, " N"]:
    """Frames with AU45_r (blink) <= most or without action units; if a clip has none, its frame
    with the lowest AU45_r.
    """
    closed = np.nan_to_num(action_units[:, AU45])
    return (closed <= most) | _best(-closed, video)


def fit_gaussians(
    action_units: Float[np.ndarray, "N D"],
    labels: Int[np.ndarray, " N"],
    classes: int,
    ridge: float = 1e-3,
) -> Gaussians:
    """Mean and covariance of each class's frames. `ridge` on the diagonal keeps a covariance of few
    frames invertible.

    Raises:
      ValueError: a class without two frames that have action units, or rows of unknown label.
    """
    _known(labels)
    whole = ~np.isnan(action_units).any(axis=1)
    few = [k for k in range(classes) if (whole & (labels == k)).sum() < 2]
    if few:
        raise ValueError(
            f"classes {few} have fewer than two frames with action units: no Gaussian can be fitted"
        )
    parts = [action_units[whole & (labels == k)].astype(np.float64) for k in range(classes)]
    unit = ridge * np.eye(action_units.shape[1])
    return Gaussians(
        np.stack([p.mean(0) for p in parts]), np.stack([np.cov(p.T) + unit for p in parts])
    )


def mahalanobis(
    action_units: Float[np.ndarray, "N D"], gaussians: Gaussians
) -> Float[np.ndarray, "N K"]:
    """Distances [N, K] of each frame to each class; NaN where a frame has no action units."""
    away = action_units[:, None, :].astype(np.float64) - gaussians.mean[None]
    solved = np.einsum("nkd,kde->nke", away, np.linalg.inv(gaussians.covariance))
    return np.sqrt(np.maximum((solved * away).sum(axis=2), 0.0))


def gaussian(
    distances: Float[np.ndarray, "N K"],
    labels: Int[np.ndarray, " N"],
    video: Shaped[np.ndarray, " N"],
    q: float,
    per_video: bool = False,
) -> Bool[np.ndarray, " N"]:
    """Frames whose distance to the Gaussian of their clip's emotion is at most the q-th percentile,
    of all frames or of those of the same clip. `distances` [N, K] come from `mahalanobis`. Frames
    without action units are dropped.
    """
    own = _of_label(distances, labels)
    limit = _by_video(own, video, q) if per_video else np.nanpercentile(own, q)
    return own <= limit


def gaussian_by_emotion(
    distances: Float[np.ndarray, "N K"],
    labels: Int[np.ndarray, " N"],
    q: float,
    sharing: Sequence[Sequence[int]] = (),
) -> Bool[np.ndarray, " N"]:
    """Frames whose distance to their clip's emotion is at most the q-th percentile among the frames
    of that emotion, as the publication of the filter defines it.

    Args:
      sharing: emotions that share a percentile; the publication's neutral and calm.
    """
    own, shared = _of_label(distances, labels), labels.copy()
    for first, *others in sharing:
        shared[np.isin(labels, others)] = first
    limit = np.full(len(own), np.nan)
    for k in np.unique(shared):
        known = own[(shared == k) & ~np.isnan(own)]
        if len(known):
            limit[shared == k] = np.percentile(known, q)
    return own <= limit


def gaussian_unlabelled(
    distances: Float[np.ndarray, "N K"], video: Shaped[np.ndarray, " N"], q: float
) -> Bool[np.ndarray, " N"]:
    """As `gaussian` within each clip, with the class of smallest mean distance in place of the
    clip's emotion.
    """
    names, index = np.unique(video, return_inverse=True)
    near = np.full(len(names), 0)
    for v in range(len(names)):
        mean = (
            np.nanmean(distances[index == v], axis=0)
            if (~np.isnan(distances[index == v])).any()
            else np.zeros(distances.shape[1])
        )
        near[v] = mean.argmin()
    kept = gaussian(distances, near[index], video, q, per_video=True)
    # clips without a single frame with action units stay whole
    lost = ~np.isin(names, names[np.unique(index[kept])])
    return kept | lost[index]


def _known(labels: np.ndarray) -> None:
    if (labels == UNKNOWN).any():
        raise ValueError(
            f"{(labels == UNKNOWN).sum()} rows have no label that a filter may see: use an "
            "unlabelled filter for them"
        )


def _of_label(values: np.ndarray, labels: np.ndarray) -> np.ndarray:
    _known(labels)
    return np.take_along_axis(values, labels[:, None].astype(np.int64), axis=1)[:, 0]


def _by_video(score: np.ndarray, video: np.ndarray, q: float) -> np.ndarray:
    """The q-th percentile of each frame's own clip, [N]; NaN scores are left out."""
    limit = np.empty(len(score))
    for rows in _rows_by_video(video):
        known = score[rows][~np.isnan(score[rows])]
        limit[rows] = np.percentile(known, q) if len(known) else np.nan
    return limit


def _best(score: np.ndarray, video: np.ndarray) -> np.ndarray:
    """The frame with the highest score of every clip."""
    best = np.zeros(len(score), bool)
    for rows in _rows_by_video(video):
        best[rows[score[rows].argmax()]] = True
    return best


def _rows_by_video(video: np.ndarray) -> list[np.ndarray]:
    order = np.argsort(video, kind="stable")
    return (
        np.split(order, np.flatnonzero(video[order][1:] != video[order][:-1]) + 1)
        if len(video)
        else []
    )
