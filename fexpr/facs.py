"""The grammar of FACS codes, as the SAMM workbook and CASME II write them.

    code     := blank | '?' | '/' | part ('+' part)*         '4+7',  '' (nothing coded)
    part     := group | reference | note | '?'
    reference:= 'ref(' group ('+' group)* ')' '?'?           'ref(7B)': on the face already at onset
    group    := options | '(' options ')' '?'?               '(R6 or R12)'
    options  := unit (('or' | '/') unit)*                    'L12 or L14', '4/7': one is meant
    unit     := 'AU'? side? number intensity? '?'?           'L12C', 'AU4', '15?'
    side     := letter ('/' letter)?, letters L R A T B      'A/L12': left, right, asymmetric (both
                                                             sides), top, bottom
    intensity:= letter ('/' letter)?, letters A to E         '10A/B'
    note     := two or more words of letters                 'soft focus'

`or` binds tighter than `+`: '4+L12 or L14' is 4, and L12 or L14. Case, blanks around signs and
fullwidth signs do not matter. Blank, '?' and '/' alone mean that no unit could be coded. Anything
else is an error: a typo must never become a label. Numbers and names: Ekman, Friesen & Hager,
Facial Action Coding System, 2002; A-E as 0.2 ... 1.0 is this project's scale.
"""

from __future__ import annotations

import dataclasses
import datetime
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from numbers import Real
from typing import Any

import numpy as np

from fexpr.errors import UserError

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
# its order too
CD6ME = (1, 2, 4, 5, 6, 7, 9, 10, 12, 14, 15, 17)  # of the benchmark over six data sets (MEB)
NOTEBOOK_25 = (
    4,
    7,
    43,
    15,
    17,
    25,
    26,
    20,
    21,
    5,
    24,
    2,
    6,
    12,
    31,
    9,
    61,
    14,
    10,
    1,
    8,
    39,
    13,
    38,
    56,
)

_FULLWIDTH = {code: code - 0xFEE0 for code in range(0xFF01, 0xFF5F)} | {0x3000: " ", 0xA0: " "}
_FLAGS = re.IGNORECASE | re.ASCII
# an intensity after a '/' is none where a number follows: in '4A/B18' the B is the side of 18
_UNIT = re.compile(
    r"""(?:AU\s*)?
    (?:(?P<side>[LRATB]) (?:\s*/\s*(?P<side_or>[LRATB]))? \s*)?
    (?P<number>[0-9]+)
    (?:(?P<intensity>[A-E]) (?:\s*/\s*(?P<intensity_or>[A-E])(?![A-Z0-9]|\s+[0-9]))?)?
    (?:\s*(?P<uncertain>\?))?""",
    _FLAGS | re.VERBOSE,
)
_OR = re.compile(r"\s*(?:or|/)\s*", _FLAGS)
_REFERENCE = re.compile(r"ref\s*\((.*)\)\s*(\?)?", _FLAGS | re.DOTALL)
_BRACKETS = re.compile(r"\((.*)\)\s*(\?)?", _FLAGS | re.DOTALL)
_GRAMMAR_WORDS = {"or", "ref", "au"}


class FacsError(ValueError):
    """A code that is not FACS: `token` is the part that cannot be read, `reason` says why."""

    def __init__(self, token: str, reason: str):
        self.token, self.reason = token, reason
        super().__init__(f"{token!r}: {reason}")


@dataclasses.dataclass(frozen=True)
class ActionUnit:
    """One unit as the coder wrote it.

    Attributes:
      number: FACS number, a key of `FACS`.
      intensity, intensity_or: 'A' to 'E'; the second where the coder left two open (`10A/B`).
      side, side_or: 'L', 'R' (unilateral), 'A' (both sides, asymmetric), 'T', 'B' (top, bottom);
          the second as in `A/L12`.
      alternative: units that share this number (the index of the first of them in the code) are
        alternatives: ONE of them is meant. None: no alternative.
      already_present: inside `ref()`: on the face at onset already.
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
        """Intensity in (0, 1]: A-E as 0.2 to 1.0, the mean where two were left open, 1.0 where none
        is given.
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


@dataclasses.dataclass(frozen=True)
class Policy:
    """What the units that are not plainly there count as.

    Attributes:
      alternatives: of the units of which ONE is meant, count the `first` named (the coder's best
        guess; the default), `all` (adds positives that cannot all be right) or `none` (drops a
        movement that surely took place).
      references: units in `ref()` are `absent` (the default: there already at onset, they are not
        part of the onset-to-apex movement) or `present` (right for a model that sees the apex frame
        alone).
      uncertain: units marked `?` are `present` (the default: in SAMM only the offset is in doubt)
          or `absent`.

    Raises:
      UserError: a value that is none of these.
    """

    alternatives: str = "first"
    references: str = "absent"
    uncertain: str = "present"

    def __post_init__(self):
        presence = ("present", "absent")
        allowed = {
            "alternatives": ("first", "all", "none"),
            "references": presence,
            "uncertain": presence,
        }
        problems = [
            f"{name} is {getattr(self, name)!r}, expected one of {', '.join(values)}"
            for name, values in allowed.items()
            if getattr(self, name) not in values
        ]
        if problems:
            raise UserError(
                "the policy for FACS codes has unknown values",
                problems,
                "correct them in the config",
            )


def parse(code: object) -> Code:
    """Reads one cell: text, a whole number (Excel stores `4` as one), or a blank (None, NaN, NA).

    Raises:
      FacsError: the cell is no FACS code; nothing of it is guessed.
    """
    text = _text(code).translate(_FULLWIDTH).strip()
    if text in ("", "?", "/"):
        return Code(notes=(text,) if text else ())
    units: list[ActionUnit] = []
    notes: list[str] = []
    for part in _split(text, text):
        if part == "?" or _is_note(part):
            notes.append(part)
            continue
        reference = _REFERENCE.fullmatch(part)
        for group in _split(reference[1], part) if reference else [part]:
            units += _group(group, part, len(units), reference)
    return Code(tuple(units), tuple(notes))


def parse_all(codes: Sequence[object], where: Sequence[str]) -> list[Code]:
    """Reads every cell; `where[i]` names the place of `codes[i]` ("codes.xlsx row 37, clip
    014_2_3").

    Raises:
      UserError: lists every cell that is no FACS code, with its place, the token and the reason.
    """
    parsed, problems = [], []
    for code, place in zip(codes, where, strict=True):
        try:
            parsed.append(parse(code))
        except FacsError as e:
            problems.append(f"{place}: {e.token!r} in {str(code)!r}: {e.reason}")
    if problems:
        raise UserError(
            f"{len(problems)} of {len(codes)} action-unit codes cannot be read",
            problems,
            "correct these cells. A unit is a side (L, R, A, T, B) if any, a FACS number, an "
            "intensity (A to E) if any; "
            "for example 4+L12C, ref(7B)+43, L12 or L14. A remark needs two words, or goes "
            "into the Notes column",
        )
    return parsed


def intensities(code: Code, policy: Policy = Policy()) -> dict[int, float]:
    """{number: intensity in (0, 1]} of the units that are present under `policy`; a number named
    twice has its maximum.

    Number 0 (neutral) says that nothing moved: it is no label.
    """
    present: dict[int, float] = {}
    groups_seen: set[int] = set()
    for unit in code.units:
        later = unit.alternative in groups_seen
        if unit.alternative is not None:
            groups_seen.add(unit.alternative)
            if policy.alternatives == "none" or (policy.alternatives == "first" and later):
                continue
        if (unit.already_present and policy.references == "absent") or (
            unit.uncertain and policy.uncertain == "absent"
        ):
            continue
        if unit.number:
            present[unit.number] = max(present.get(unit.number, 0.0), unit.value)
    return present


def vocabulary(rows: Sequence[Mapping[int, float]], minimum_positives: int) -> tuple[int, ...]:
    """The numbers present in at least `minimum_positives` rows, ascending."""
    counts = Counter(number for row in rows for number in row)
    return tuple(sorted(number for number, count in counts.items() if count >= minimum_positives))


def label_matrix(rows: Sequence[Mapping[int, float]], numbers: Sequence[int]) -> np.ndarray:
    """Intensities as float32 [N, K], K = len(numbers), 0 = absent. Units outside `numbers` are left
    out.
    """
    matrix = np.array([[row.get(number, 0.0) for number in numbers] for row in rows], np.float32)
    return matrix.reshape(len(rows), len(numbers))


def names(numbers: Sequence[int]) -> tuple[str, ...]:
    """Class names as the field writes them: 4 -> 'AU04'."""
    return tuple(f"AU{number:02d}" for number in numbers)


def _text(code: object) -> str:
    if isinstance(code, str):
        return code
    # pandas' blanks, without importing pandas here
    if code is None or type(code).__name__ in ("NAType", "NaTType"):
        return ""
    if isinstance(code, datetime.date):
        raise FacsError(
            str(code),
            "is a date: Excel turns codes such as 4/7 into dates; type it again into a column "
            "of text",
        )
    if isinstance(code, Real) and not isinstance(code, bool):
        if code != code:  # NaN, the blank of pandas' float columns
            return ""
        if abs(code) < 1000 and code == int(code):
            return str(int(code))
    raise FacsError(str(code), "is neither text nor a whole number")


def _split(text: str, token: str) -> list[str]:
    """Cuts at each `+` outside parentheses; `token` is what an error names."""
    parts, depth = [""], 0
    for character in text:
        depth += (character == "(") - (character == ")")
        if depth < 0:
            raise FacsError(token, "a parenthesis is closed that was never opened")
        if character == "+" and depth == 0:
            parts.append("")
        else:
            parts[-1] += character
    if depth:
        raise FacsError(token, "a parenthesis is not closed")
    parts = [part.strip() for part in parts]
    if "" in parts:
        raise FacsError(token, "a unit is missing")
    return parts


def _is_note(part: str) -> bool:
    """Two or more words of letters, one of three letters at least ('L A' is a slip), none of them a
    word of the grammar.
    """
    words = part.lower().split()
    return (
        len(words) > 1
        and all(map(str.isalpha, words))
        and max(map(len, words)) > 2
        and not _GRAMMAR_WORDS & set(words)
    )


def _group(
    text: str, token: str, alternative: int, reference: re.Match[str] | None
) -> list[ActionUnit]:
    """The options of one group, in parentheses or not; where there are several, `alternative` ties
    them together.
    """
    brackets = _BRACKETS.fullmatch(text)
    # a `?` behind the closing parenthesis
    doubted = bool((brackets and brackets[2]) or (reference and reference[2]))
    matches = _options(brackets[1].strip() if brackets else text, token)
    return [
        dataclasses.replace(
            _unit(match, token),
            uncertain=doubted or bool(match["uncertain"]),
            already_present=reference is not None,
            alternative=alternative if len(matches) > 1 else None,
        )
        for match in matches
    ]


def _options(text: str, token: str) -> list[re.Match[str]]:
    matches, position, more = [], 0, True
    while more and (unit := _UNIT.match(text, position)):
        matches.append(unit)
        more = _OR.match(text, unit.end())
        position = more.end() if more else unit.end()
    if more or position < len(text):
        rest = text[position:].strip()
        raise FacsError(token, f"cannot read {rest!r}" if rest else "a unit is missing")
    return matches


def _unit(match: re.Match[str], token: str) -> ActionUnit:
    digits = match["number"]
    if len(digits) > 3 or int(digits) not in FACS:
        raise FacsError(token, f"{digits} is no number of FACS")
    letters: dict[str, Any] = {
        name: match[name].upper()
        for name in ("intensity", "intensity_or", "side", "side_or")
        if match[name]
    }
    return ActionUnit(int(digits), **letters)
