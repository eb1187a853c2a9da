"""The formats of releases' workbooks: columns, names of subjects, notation."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Mapping

SHEET = "MICRO_ONLY"
HEADER = (
    "Subject",
    "Filename",
    "Inducement Code",
    "Onset Frame",
    "Apex Frame",
    "Offset Frame",
    "Duration",
    "Micro",
    "Action Units",
    "Estimated Emotion",
    "Objective Classes",
    "Notes",
)
COLUMNS = {  # our name -> the workbook's; all of them must exist
    "subject": "Subject",
    "clip": "Filename",
    "onset": "Onset Frame",
    "apex": "Apex Frame",
    "offset": "Offset Frame",
    "code": "Action Units",
    "emotion": "Estimated Emotion",
    "objective_class": "Objective Classes",
}
WHOLE_NUMBERS = ("onset", "apex", "offset", "objective_class")
KIND, MICRO = "kind", "micro"  # kind of a row, if a workbook has a column for it


@dataclasses.dataclass(frozen=True)
class Format:
    """The format of a release's workbook.

    Attributes:
      files: the start of the file's name, in any case. columns: our name -> its column; all of them
          must exist. header: all its columns, also those that are not read. subject: makes the
          subject's name from its number. key: the columns (our names) that together identify a
          clip. sheet: the one that is tried first. unknown: its text for an unknown frame number,
          besides an empty cell. recode: rewrites a code in the grammar of `facs`, if the release
          has its own notation.
      kind: the column that distinguishes micro-expressions from others, read if it exists.
    """

    files: str
    columns: Mapping[str, str]
    header: tuple[str, ...]
    subject: Callable[[str], str]
    key: tuple[str, ...]
    sheet: str = ""
    unknown: str = ""
    recode: Callable[[str], str] | None = None
    kind: str = ""


SAMM = Format(
    "SAMM_Micro_FACS_Codes", COLUMNS, HEADER, lambda number: number.zfill(3), ("clip",), SHEET
)
_CASME2_COLUMNS = {
    "subject": "Subject",
    "clip": "Filename",
    "onset": "OnsetFrame",
    "apex": "ApexFrame",
    "offset": "OffsetFrame",
    "code": "Action Units",
    "emotion": "Estimated Emotion",
}
CASME2 = Format(
    "CASME2-coding",
    _CASME2_COLUMNS,
    tuple(_CASME2_COLUMNS.values()),
    lambda number: f"sub{number.zfill(2)}",
    ("subject", "clip"),
    unknown="/",
)


def canonical_subject(text: str, name: Callable[[str], str]) -> str:
    """One name for one person, however a table spells it: `name('6')` for '6', '006', 's6',
    'Sub006', 'spNO.6' and 'subject 6'; a text without a number is unchanged.
    """
    number = re.fullmatch(
        r"(?:subject|subj|sub|spno\.|s)?[ _-]?0*([0-9]+)", text.strip(), re.IGNORECASE
    )
    return name(number[1]) if number else text.strip()
