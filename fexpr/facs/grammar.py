"""The grammar of FACS codes in the workbooks of SAMM and CASME II.

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
else is an error: a typo must never become a label.
"""

from __future__ import annotations

import dataclasses
import datetime
import re
from collections.abc import Sequence
from numbers import Real
from typing import Any

from fexpr.errors import UserError
from fexpr.facs.units import FACS, ActionUnit, Code

_FULLWIDTH = {code: code - 0xFEE0 for code in range(0xFF01, 0xFF5F)} | {0x3000: " ", 0xA0: " "}
_FLAGS = re.IGNORECASE | re.ASCII
# a letter after a '/' is not an intensity if a number follows: in '4A/B18' the B is the side of 18
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
    """A code that is not valid FACS: `token` is the part that cannot be read, `reason` says why."""

    def __init__(self, token: str, reason: str):
        self.token, self.reason = token, reason
        super().__init__(f"{token!r}: {reason}")


def parse(code: object) -> Code:
    """Reads one cell: text, a whole number (Excel stores `4` as one), or a blank (None, NaN, NA).

    Raises:
      FacsError: the cell is not a valid FACS code; nothing is guessed.
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
      UserError: lists every cell that is not a valid FACS code, with its place, the token and the
          reason.
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
        if code < 1000 and not code <= -1000 and code == round(code):
            return str(round(code))
    raise FacsError(str(code), "is neither text nor a whole number")


def _split(text: str, token: str) -> list[str]:
    """Splits at each `+` outside parentheses; `token` is named in errors."""
    parts, depth = [""], 0
    for character in text:
        depth += (character == "(") - (character == ")")
        if depth < 0:
            raise FacsError(token, "a parenthesis is closed, but was not opened")
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
    """Whether it is a note: two or more words, at least one of three letters or more ('L A' is a
    typo), none of them a word of the grammar.
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
    """Parses the options of one group, in parentheses or not; several options get the same
    `alternative`.
    """
    brackets = _BRACKETS.fullmatch(text)
    # a `?` after the closing parenthesis
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
