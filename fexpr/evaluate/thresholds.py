"""Decision thresholds per action unit, from validation rows alone.

The rule: an action unit's own threshold is the one with the highest F1 on the trial's validation
rows (of several equally good ones, the middle one); the pooled threshold is the same for all action
units together. Own and pooled thresholds are averaged as logits, the own one weighted by its
validation positives, the pooled one by PRIOR positives: with two or three positives, as
micro-expression sets have them, the best-F1 threshold is mostly noise. Without a validation
positive this is the pooled threshold; if there is no validation positive at all, 0.5.

On 24 subject-exclusive splits made inside SAMM's training subjects the macro F1 of SimpleAUCNN was
0.437 by own thresholds, 0.465 by the pooled one and 0.469 by this rule (best_val epoch; at the last
epoch 0.448, 0.458, 0.471); weights from 3 to 8 differ by 0.001.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:  # checked in the tests (tests/conftest.py)
    from jaxtyping import Bool, Float, Shaped

OWN, POOLED, FIXED, FAILED = "own", "pooled", "fixed", "failed"
PRIOR = 5.0  # weight of the pooled threshold, in positives
RULE = (
    "highest F1 on the trial's validation rows; own: of the action unit, drawn towards that "
    "of all action units pooled the fewer "
    "validation positives it has; pooled: it has none; fixed: no validation positive at all, "
    "so 0.5; failed: the trial has no probabilities"
)


def fit_thresholds(
    probabilities: Float[np.ndarray, "R K"],
    presence: Bool[np.ndarray, "R K"],
    split: Shaped[np.ndarray, " R"],
) -> tuple[Float[np.ndarray, " K"], Shaped[np.ndarray, " K"]]:
    """Thresholds of one trial; an action unit is decided present where its probability is at or
    above its threshold.

    Args:
      probabilities: float [R, K].
      presence: bool [R, K].
      split: str [R], the part of each row; only 'val' is allowed.

    Returns:
      thresholds float64 [K] and where each came from, str [K]: 'own', 'pooled' or 'fixed'.

    Raises:
      ValueError: a row is not a validation row. Thresholds tuned on test rows are the field's
          favourite mistake.
    """
    foreign = sorted(set(np.asarray(split).tolist()) - {"val"})
    if foreign:
        raise ValueError(f"thresholds are chosen on validation rows only; got rows of {foreign}")
    k = probabilities.shape[1]
    if not presence.any():
        return np.full(k, 0.5), np.full(k, FIXED)
    pooled = best_f1_threshold(probabilities.ravel(), presence.ravel())
    own = np.array(
        [
            best_f1_threshold(p, y) if y.any() else pooled
            for p, y in zip(probabilities.T, presence.T, strict=True)
        ]
    )
    positives = presence.sum(0)
    mean = (positives * _logit(own) + PRIOR * _logit(pooled)) / (positives + PRIOR)
    return 1 / (1 + np.exp(-mean)), np.where(positives > 0, OWN, POOLED)


def _logit(p: np.ndarray | float) -> np.ndarray | float:
    p = np.clip(p, 1e-4, 1 - 1e-4)  # keeps the logit of a threshold of 0 (all present) finite
    return np.log(p / (1 - p))


def best_f1_threshold(
    probabilities: Float[np.ndarray, " R"], presence: Bool[np.ndarray, " R"]
) -> float:
    """The threshold that maximises F1 over [R]; candidates are 0 (all present) and the midpoints
    between distinct scores.
    """
    order = np.argsort(-probabilities, kind="stable")
    p, tp = probabilities[order], np.cumsum(presence[order])
    last_of_tie = np.flatnonzero(np.append(np.diff(p) != 0, True))
    f1 = 2 * tp[last_of_tie] / (last_of_tie + 1 + presence.sum())
    thresholds = np.append((p[last_of_tie[:-1]] + p[last_of_tie[1:]]) / 2, 0.0)
    best = np.flatnonzero(f1 >= f1.max() - 1e-12)
    return float(thresholds[best[(len(best) - 1) // 2]])
