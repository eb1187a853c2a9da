"""MMEW (Ben et al., TPAMI 2021), its micro-expressions: frames and their workbook.

Columns and folders as the public code of MEB (github.com/tvaranka/meb) reads them; this project
does not have the release. Folders of clips are in one folder per emotion; if its name differs from
the workbook's, the clip is looked for in all of them.
"""

from __future__ import annotations

from ml_collections import ConfigDict

from fexpr.data.dataset import Dataset
from fexpr.data.releases import coded_clips
from fexpr.data.releases.clip_release import Database
from fexpr.data.releases.workbook_format import Format

_COLUMNS = {
    "subject": "Subject",
    "clip": "Filename",
    "onset": "OnsetFrame",
    "apex": "ApexFrame",
    "offset": "OffsetFrame",
    "code": "Action Units",
    "emotion": "Estimated Emotion",
}
_BOOK = Format(
    "MMEW_Micro_Exp",
    _COLUMNS,
    (*_COLUMNS.values(), "remarks"),
    lambda number: f"S{number.zfill(2)}",
    ("emotion", "clip"),
    unknown="/",
)
MMEW = Database(
    "mmew",
    "MMEW",
    (("Micro_Expression", True),),
    "{emotion}_{clip}",
    _BOOK.subject,
    _BOOK,
    places=("{emotion}/{clip}", "*/{clip}"),
)


def load(config: ConfigDict) -> Dataset:
    """Loads MMEW by `coded_clips.load`; ids are for example 'happiness_S01-01-001'."""
    return coded_clips.load(MMEW, config, turn=4)
