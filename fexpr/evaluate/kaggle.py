"""FER2013's leaderboard: where an accuracy would have stood in the Kaggle competition of 2013,
which was decided on PrivateTest.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:  # checked in the tests (tests/conftest.py)
    from jaxtyping import Shaped

# private leaderboard
TOP_TEN = (0.71161, 0.69267, 0.68821, 0.67483, 0.65254, 0.65087, 0.64474, 0.64224, 0.63109, 0.6219)
TEAMS = 56
PRIVATE = "PrivateTest"
CLASSES = frozenset(("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral"))


def kaggle_rank(accuracy: float) -> int | None:
    """The rank, 1 to 10, that an accuracy on PrivateTest takes among the published top ten (an
    equal one shares the rank); None below the tenth, as lower ranks are not published."""
    better = sum(accuracy < score for score in TOP_TEN)
    return better + 1 if better < len(TOP_TEN) else None


def rank_in_words(rank: int | None) -> str:
    return f"rank {rank} of {TEAMS}" if rank else f"below the top ten of {TEAMS}"


def kaggle(
    parts: dict[str, dict], source: str, class_names: Shaped[np.ndarray, " K"]
) -> dict[str, dict]:
    """The entry `kaggle` of metrics.json: part of the release -> `accuracy`, `rank`,
    `decided_here`, `text`. Empty unless `source` is FER2013 with its own seven classes.

    Args:
      parts: name of the part -> its M.
    """
    if not source.startswith("fer2013@") or set(map(str, class_names)) != CLASSES:
        return {}
    table = {}
    for part, m in parts.items():
        accuracy = m["accuracy"]
        rank = kaggle_rank(accuracy["value"])
        text = f"{accuracy['value']:.4f} on {part}: {rank_in_words(rank)}"
        if accuracy["low"] is not None and (best := kaggle_rank(accuracy["high"])) != (
            worst := kaggle_rank(accuracy["low"])
        ):
            text += (
                f" (by the ends of the interval: {best or 'below ten'} to {worst or 'below ten'})"
            )
        if part != PRIVATE:
            text += (
                f"; the competition was decided on {PRIVATE}, which is another part: this is not "
                "its rank"
            )
        table[part] = {
            "accuracy": accuracy["value"],
            "rank": rank,
            "decided_here": part == PRIVATE,
            "text": text,
        }
    return table
