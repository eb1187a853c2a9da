"""The numbers of FACS and their names, and the coded units of one clip.

Numbers and names: Ekman, Friesen & Hager, Facial Action Coding System, 2002; A-E as 0.2 ... 1.0 is
this project's scale.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

FACS = {
    0: "neutral",
    1: "inner brow raiser",
    2: "outer brow raiser",
    4: "brow lowerer",
    5: "upper lid raiser",
    6: "cheek raiser",
    7: "lid tightener",
    8: "lips toward each other",
    9: "nose wrinkler",
    10: "upper lip raiser",
    11: "nasolabial deepener",
    12: "lip corner puller",
    13: "sharp lip puller",
    14: "dimpler",
    15: "lip corner depressor",
    16: "lower lip depressor",
    17: "chin raiser",
    18: "lip pucker",
    19: "tongue show",
    20: "lip stretcher",
    21: "neck tightener",
    22: "lip funneler",
    23: "lip tightener",
    24: "lip pressor",
    25: "lips part",
    26: "jaw drop",
    27: "mouth stretch",
    28: "lip suck",
    29: "jaw thrust",
    30: "jaw sideways",
    31: "jaw clencher",
    32: "lip bite",
    33: "cheek blow",
    34: "cheek puff",
    35: "cheek suck",
    36: "tongue bulge",
    37: "lip wipe",
    38: "nostril dilator",
    39: "nostril compressor",
    40: "sniff",
    41: "lid droop",
    42: "slit",
    43: "eyes closed",
    44: "squint",
    45: "blink",
    46: "wink",
    50: "speech",
    51: "head turn left",
    52: "head turn right",
    53: "head up",
    54: "head down",
    55: "head tilt left",
    56: "head tilt right",
    57: "head forward",
    58: "head back",
    59: "nod with 17+24",
    60: "head shake side to side",
    61: "eyes turn left",
    62: "eyes turn right",
    63: "eyes up",
    64: "eyes down",
    65: "walleye",
    66: "cross-eye",
    68: "upward rolling of eyes",
    69: "eyes to other person",
    80: "swallow",
    81: "chewing",
    82: "shoulder shrug",
    83: "head upward and to the side",
    84: "head shake back and forth",
    85: "head nod up and down",
    91: "flash",
    92: "partial flash",
    97: "shiver or tremble",
    98: "fast up-down look",
}
INTENSITY = {"A": 0.2, "B": 0.4, "C": 0.6, "D": 0.8, "E": 1.0}
CD6ME = (1, 2, 4, 5, 6, 7, 9, 10, 12, 14, 15, 17)  # of the benchmark over six data sets (MEB)
# of the published SAMM notebook, in its order
# fmt: off
NOTEBOOK_25 = (4, 7, 43, 15, 17, 25, 26, 20, 21, 5, 24, 2, 6, 12, 31, 9, 61, 14, 10, 1, 8, 39, 13,
               38, 56)
# fmt: on


@dataclasses.dataclass(frozen=True)
class ActionUnit:
    """One unit as the coder wrote it.

    Attributes:
      number: FACS number, a key of `FACS`.
      intensity, intensity_or: 'A' to 'E'; the second if the coder left two open (`10A/B`).
      side, side_or: 'L', 'R' (unilateral), 'A' (both sides, asymmetric), 'T', 'B' (top, bottom);
          the second as in `A/L12`.
      alternative: units that share this number (the index of the first of them in the code) are
        alternatives: ONE of them is meant. None: no alternative.
      already_present: inside `ref()`: already present at onset.
      uncertain: marked `?` (SAMM: its offset is unclear; CASME II: the coder was not sure).
    """

    number: int
    intensity: str | None = None
    intensity_or: str | None = None
    side: str | None = None
    side_or: str | None = None
    alternative: int | None = None
    already_present: bool = False
    uncertain: bool = False

    @property
    def value(self) -> float:
        """Intensity in (0, 1]: A-E as 0.2 to 1.0, the mean if two were left open, 1.0 if none is
        given.
        """
        letters = [letter for letter in (self.intensity, self.intensity_or) if letter]
        return sum(INTENSITY[letter] for letter in letters) / len(letters) if letters else 1.0


@dataclasses.dataclass(frozen=True)
class Code:
    """All of one clip's units, in the coder's order, and the parts that are remarks rather than
    units ('soft focus', '?').
    """

    units: tuple[ActionUnit, ...] = ()
    notes: tuple[str, ...] = ()


def names(numbers: Sequence[int]) -> tuple[str, ...]:
    """Class names as the field writes them: 4 -> 'AU04'."""
    return tuple(f"AU{number:02d}" for number in numbers)
