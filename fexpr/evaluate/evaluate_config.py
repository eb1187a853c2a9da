"""The fields of `config.evaluate`."""

from __future__ import annotations

import dataclasses

from fexpr.config import field

FEWEST, MOST = 10, 1_000_000  # resamples of a bootstrap
CLIP_RULES = {  # from a clip's frames to the clip (clip_rules.py)
    "sum": "mean posterior",
    "vote": "mode of the frames' decisions",
    "weighted_vote": "half the share of votes, half their share of confidence",
    "count_vote": "half the votes, counted, half the mean confidence, as published",
    "centred": "summed posteriors, minus each class's mean",
    "zscored": "summed posteriors, minus the mean, over the deviation",
    "product": "product of the posteriors",
    "calibrated": "mean posterior after temperature scaling of the frames",
}


@dataclasses.dataclass(frozen=True)
class EvaluateConfig:
    """how predictions are evaluated."""

    resamples: int = field(1000, "of the bootstrap over subjects", ge=FEWEST, le=MOST, debug=50)
    clips: str = field(
        "sum", "rule that decides a clip from its frames' posteriors", one_of=CLIP_RULES
    )
    min_train_positives: int = field(
        5, "action units with fewer are reported, and left out of the headline macro", ge=1, debug=1
    )
