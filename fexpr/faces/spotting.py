"""Finds short movements of a face in the motion of its parts over time (motion.py)."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import numpy as np

from fexpr.faces.motion import LIDS, REGIONS

if TYPE_CHECKING:  # checked in the tests (tests/conftest.py)
    from jaxtyping import Float

LONGEST, SHORTEST = 0.8, 0.1  # seconds from onset to offset
BASELINE = 1.6  # seconds: over twice the longest, so that a movement does not move its own baseline
LEAST_NOISE = 0.12  # percent of the distance between the eyes: the flow is not better
LEAST_MOTION = 0.35  # percent, of the apex
SCORE = 3.5  # the least
END = 0.4  # share of the apex's score at onset and offset
TOGETHER = 3  # regions: their mean is the score
BLINK = 3.0  # times as far as anything else move the lids in a blink
HEAD_MOVES = 2.0  # percent of the distance between the eyes: more is head motion


@dataclasses.dataclass(frozen=True)
class Spotted:
    """A movement.

    Attributes:
      onset, apex, offset: row numbers of the input. score: the apex's motion in units of the noise
        that was measured in the same video. motion: of the apex, in percent of the distance between
        the eyes. regions: those that move most, in decreasing order.
    """

    onset: int
    apex: int
    offset: int
    score: float
    motion: float
    regions: tuple[str, ...]


def spot(
    displacement: Float[np.ndarray, "T R 2"], seconds: Float[np.ndarray, " T"]
) -> list[Spotted]:
    """Movements in order of time. Each region's distance from a running median is divided by that
    distance's median over the video, the noise; the score of a frame is the mean over the
    `TOGETHER` regions that moved most. A movement is a peak of the score with both flanks, not
    longer than `LONGEST`.

    Args:
      displacement: [T, R, 2] of `motion.REGIONS`, percent of the distance between the eyes.
      seconds: [T], ascending.
    """
    if len(seconds) < 5:
        return []
    rate = 1 / max(1e-3, float(np.median(np.diff(seconds))))
    distance = _smooth(
        np.linalg.norm(displacement - _running_median(displacement, rate), axis=2), rate
    )
    # the median of a Rayleigh distribution is 1.18 of its scale
    noise = np.maximum(LEAST_NOISE, np.median(distance, axis=0) / 1.18)
    lids, parts = (distance / noise)[:, LIDS].max(axis=1), (distance / noise)[:, : LIDS.start]
    score = np.sort(parts, axis=1)[:, -TOGETHER:].mean(axis=1)
    found: list[Spotted] = []
    free = np.ones(len(score), bool)
    while (free & (score >= SCORE)).any():
        apex = int(np.argmax(np.where(free, score, -np.inf)))
        onset, offset = _flanks(score, apex)
        free[onset : offset + 1] = False
        best = np.argsort(-distance[apex, : LIDS.start])[:TOGETHER]
        motion = float(distance[apex, best].mean())
        length = seconds[offset] - seconds[onset]
        blink = lids[onset : offset + 1].max() > BLINK * score[apex]
        if motion >= LEAST_MOTION and SHORTEST <= length <= LONGEST and not blink:
            names = tuple(list(REGIONS)[i] for i in best)
            found.append(Spotted(onset, apex, offset, float(score[apex]), motion, names))
    return sorted(found, key=lambda one: one.onset)


def answer(found: list[Spotted], points: Float[np.ndarray, "T 5 2"]) -> str:
    """A decision about a video: 'facial movement', or, with none spotted, 'no facial movement'
    where the head moves and 'no movement' where it does not.

    `points`: [T, 5, 2] landmarks of the face in each frame.
    """
    if found:
        return "facial movement"
    eyes = np.linalg.norm(points[:, 1] - points[:, 0], axis=1).mean()
    centre = points.mean(axis=1)
    span = np.linalg.norm(np.percentile(centre, 95, axis=0) - np.percentile(centre, 5, axis=0))
    return "no facial movement" if 100 * span / eyes > HEAD_MOVES else "no movement"


def _flanks(score: Float[np.ndarray, " T"], apex: int) -> tuple[int, int]:
    """The rows on both sides at which the score has fallen to `END` of the apex's."""
    low = END * score[apex]
    onset = apex
    while onset > 0 and score[onset - 1] > low:
        onset -= 1
    offset = apex
    while offset < len(score) - 1 and score[offset + 1] > low:
        offset += 1
    return max(0, onset - 1), min(len(score) - 1, offset + 1)


def _running_median(values: Float[np.ndarray, "T R 2"], rate: float) -> Float[np.ndarray, "T R 2"]:
    """The median over `BASELINE` seconds around each row of [T, R, 2]; less at both ends, but
    always symmetric, so that a drift does not look like a movement.
    """
    half, last = max(2, round(BASELINE * rate / 2)), len(values) - 1
    widths = [min(half, i, last - i) for i in range(len(values))]
    return np.stack([np.median(values[i - w : i + w + 1], axis=0) for i, w in enumerate(widths)])


def _smooth(values: Float[np.ndarray, "T R"], rate: float) -> Float[np.ndarray, "T R"]:
    """The mean over about 0.1 s, of [T, R]."""
    half = max(1, round(0.05 * rate))
    return np.stack(
        [values[max(0, i - half) : i + half + 1].mean(axis=0) for i in range(len(values))]
    )
