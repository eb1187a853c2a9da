"""From the frames of a clip to one decision: rules on sums over its frames. Needs only NumPy: the
package evaluate measures the rules, the recogniser applies a run's rule to videos of any length.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import numpy as np

from fexpr.probabilities import log_probabilities

if TYPE_CHECKING:  # checked in the tests (tests/conftest.py)
    from jaxtyping import Float, Int, Num

FLOOR = 1e-6


@dataclasses.dataclass(frozen=True)
class FrameSums:
    """Sums over the frames of V clips, for K mutually exclusive classes.

    Attributes:
      frames: [V, 1], how many. posteriors, log_posteriors: [V, K]. votes: [V, K], frames in which
          the class has the highest posterior. confidence: [V, K], the sum of these posteriors.
    """

    frames: Num[np.ndarray, "V 1"]
    posteriors: Float[np.ndarray, "V K"]
    log_posteriors: Float[np.ndarray, "V K"]
    votes: Float[np.ndarray, "V K"]
    confidence: Float[np.ndarray, "V K"]

    def __add__(self, other: FrameSums) -> FrameSums:
        """The sums with further frames of the same clips added."""
        names = [one.name for one in dataclasses.fields(self)]
        return FrameSums(*(getattr(self, name) + getattr(other, name) for name in names))


def frame_sums(
    logits: Num[np.ndarray, "R K"], index: Int[np.ndarray, " R"], count: int
) -> FrameSums:
    """The sums over frames with `logits` [R, K]; `index` [R] gives the clip of each, from 0 to
    `count` - 1.
    """

    def total(values: np.ndarray) -> np.ndarray:
        made = np.zeros((count, logits.shape[1]))
        np.add.at(made, index, values)
        return made

    logs = log_probabilities(logits, False)
    posteriors = np.exp(logs)
    votes = posteriors.argmax(axis=1)[:, None] == np.arange(logits.shape[1])
    frames = np.bincount(index, minlength=count)[:, None]
    return FrameSums(frames, *map(total, (posteriors, logs, votes, votes * posteriors)))


def pooled(
    sums: FrameSums,
    rule: str,
    mean: Float[np.ndarray, " K"] | None = None,
    deviation: Float[np.ndarray, " K"] | None = None,
) -> Float[np.ndarray, "V K"]:
    """Log probabilities of clips [V, K], not all normalised, by one of
    `evaluate_config.CLIP_RULES`.

    sum: the mean posterior; calibrated: the same, of logits that were divided by a temperature
    before they were summed. vote: the share of frames that vote for a class; weighted_vote: half
    that, half these frames' share of all confidence (ties, and classes without a vote, by the mean
    posterior). count_vote: half the number of those frames plus half the mean of their confidence,
    divided by the sum over classes: as in the publication, where the number of votes decides except
    in ties. centred: mean posterior, minus the class's mean over validation frames, shifted to stay
    positive; zscored: that divided by the class's deviation there, as a logit. product: the sum of
    log posteriors.

    Args: mean, deviation: [K] of validation frames' posteriors, for centred and zscored.
    """
    if rule == "product":
        return sums.log_posteriors
    answer = sums.posteriors / sums.frames
    if rule in ("vote", "weighted_vote", "count_vote"):
        share, confidence = sums.votes / sums.frames, sums.confidence / sums.frames
        if rule == "count_vote":
            score = 0.5 * sums.votes + 0.5 * confidence / np.maximum(share, FLOOR)
            share = score / score.sum(axis=1, keepdims=True)
        if rule == "weighted_vote":
            share = 0.5 * share + 0.5 * confidence / confidence.sum(axis=1, keepdims=True)
        answer = (share + FLOOR * answer) / (1 + FLOOR)
    elif rule in ("centred", "zscored"):
        assert mean is not None
        assert deviation is not None
        away = answer - mean
        if rule == "zscored":
            return away / np.maximum(deviation, FLOOR)
        answer = np.maximum(away + 1 / len(mean), FLOOR)
    return np.log(np.maximum(answer, 1e-300))
