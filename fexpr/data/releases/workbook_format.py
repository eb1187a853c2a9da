"""How releases write their workbooks: columns, names of subjects, signs."""

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
COLUMNS = {  # ours -> the workbook's; all of them must be there
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
KIND, MICRO = "kind", "micro"  # of a row, where a workbook has a column for it


@dataclasses.dataclass(frozen=True)
class Format:
    """How a release writes its workbook.

    Attributes:
      files: how the file's name begins; compared without case.
      columns: our name -> its column; all of them must be there.
      header: all its columns, those that are not read too.
      subject: makes the subject's name of the number that the workbook may give instead.
      key: the columns, of ours, that together name a clip.
      sheet: the one that is tried before the others.
      unknown: what it writes for a frame number that is not known, besides an empty cell.
      recode: writes a code in the grammar of `facs`, where the release has signs of its own.
      kind: the column that tells micro-expressions from others, read where there is one.
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
    """One name for one person, however a table spells it: of '6', '006', 's6', 'Sub006', 'spNO.6'
    and 'subject 6' always `name('6')`; of a text without a number the text itself.
    """
    number = re.fullmatch(
        r"(?:subject|subj|sub|spno\.|s)?[ _-]?0*([0-9]+)", text.strip(), re.IGNORECASE
    )
    return name(number[1]) if number else text.strip()
