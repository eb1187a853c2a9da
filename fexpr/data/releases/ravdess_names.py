"""The parts of a RAVDESS file name (Livingstone and Russo 2018, doi 10.1371/journal.pone.0196391),
and the published folds of its actors.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from fexpr.data.preparation.prepare import BadInput
from fexpr.errors import UserError

if TYPE_CHECKING:  # checked in the tests (tests/conftest.py)
    from jaxtyping import Int, Shaped

# 01 to 08 of a name, 0 to 7 of a table
EMOTIONS = ("neutral", "calm", "happy", "sad", "angry", "fearful", "disgust", "surprised")
NAME = re.compile("-".join(["([0-9][0-9])"] * 7))
SHAPE = (
    "modality-channel-emotion-intensity-statement-repetition-actor, for example "
    "01-01-06-01-02-01-12"
)
LIMITS = (3, 2, len(EMOTIONS), 2, 2, 2, 24)
AUDIO_VIDEO, SPEECH = 1, 1  # the 1440 clips in use: 60 of each actor
# NumPy's seed 2020 and scikit-learn's KFold(5, shuffle=True) over the 24 actors
FOLDS = (
    (2, 5, 14, 15, 16),
    (3, 6, 7, 13, 18),
    (10, 11, 12, 19, 20),
    (8, 17, 21, 23, 24),
    (1, 4, 9, 22),
)


class ClipName(NamedTuple):
    """The seven parts of a name, as numbers from 1."""

    modality: int
    channel: int
    emotion: int
    intensity: int
    statement: int
    repetition: int
    actor: int

    @property
    def label(self) -> int:
        """The class id, 0 to 7."""
        return self.emotion - 1

    @property
    def group(self) -> str:
        return f"actor{self.actor:02d}"

    @property
    def used(self) -> bool:
        return self.modality == AUDIO_VIDEO and self.channel == SPEECH

    @property
    def kind(self) -> str:
        """The first two parts, in words: '02-01 (video only, speech)'."""
        modality = ("audio-video", "video only", "audio only")[self.modality - 1]
        channel = ("speech", "song")[self.channel - 1]
        return f"{self.modality:02d}-{self.channel:02d} ({modality}, {channel})"

    def __str__(self) -> str:
        return "-".join(f"{part:02d}" for part in self)


def parse(name: str) -> ClipName:
    """Parses a name such as '01-01-06-01-02-01-12' into numbers; an extension is ignored.

    Raises:
      BadInput: it is not such a name; the text says what is wrong with it.
    """
    found = NAME.fullmatch(name.partition(".")[0])
    if not found:
        raise BadInput(f"{name!r} is not {SHAPE}")
    parts = ClipName(*map(int, found.groups()))
    wrong = [
        f"{part} is {value:02d}, expected 01 to {most:02d}"
        for part, value, most in zip(ClipName._fields, parts, LIMITS, strict=True)
        if not 1 <= value <= most
    ]
    if parts.emotion == 1 and parts.intensity == 2:
        wrong.append("neutral has no strong intensity")
    if wrong:
        raise BadInput(f"{name!r}: {', '.join(wrong)}")
    return parts


def published_folds(groups: Shaped[np.ndarray, " N"]) -> list[tuple[str, Int[np.ndarray, " _"]]]:
    """Name and test rows of the five published folds, by actor; folds without a row (if only a part
    of the release is present) are left out.

    Args:
      groups: str [N], 'actor01' to 'actor24'.

    Raises:
      UserError: other groups, or fewer than two folds with rows.
    """
    known = {f"actor{actor:02d}" for actors in FOLDS for actor in actors}
    strange = sorted(set(groups.tolist()) - known)
    if strange:
        raise UserError(
            "split.protocol=ravdess needs RAVDESS' actors",
            [f"found the subjects {', '.join(strange[:5])}"],
            "use group_k_fold, which makes folds from split.seed",
        )
    rows_of = {
        actors: np.flatnonzero(np.isin(groups, [f"actor{a:02d}" for a in actors]))
        for actors in FOLDS
    }
    folds = [
        ("actors " + ",".join(map(str, actors)), rows)
        for actors, rows in rows_of.items()
        if len(rows)
    ]
    if len(folds) < 2:
        raise UserError(
            "split.protocol=ravdess: all actors that were found are in one fold",
            fix="use group_k_fold, or add actors",
        )
    return folds
