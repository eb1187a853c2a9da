"""4DME (Li et al., TAC 2022), its micro-expressions in grey: frames and their workbook.

Columns and folders as the public code of MEB (github.com/tvaranka/meb) reads them; this project
does not have the release. A unit marked '(k)' is not counted there: it is read as one that was
present at onset.
"""

from __future__ import annotations

import re

from ml_collections import ConfigDict

from fexpr.data.dataset import Dataset
from fexpr.data.releases import coded_clips
from fexpr.data.releases.clip_release import Database
from fexpr.data.releases.workbook_format import Format

_COLUMNS = {
    "subject": "sub_ID",
    "clip": "fold_name",
    "onset": "Onset",
    "apex": "Apex",
    "offset": "Offset",
    "code": "AUs",
    "emotion": "Emotion",
}
_KEPT = re.compile(r"([^+]*?)\(k\)", re.IGNORECASE)


def mark_kept(code: str) -> str:
    """Rewrites 'AU4+AU7(k)' as 'AU4+ref(AU7)'."""
    return _KEPT.sub(lambda found: f"ref({found[1].strip()})", code)


_BOOK = Format(
    "4DME_Labelling_Micro",
    _COLUMNS,
    (*_COLUMNS.values(), "Positive", "Negative", "Surprise", "Repression", "Others", "eye blink"),
    lambda number: f"sub{number.zfill(2)}",
    ("subject", "clip"),
    unknown="/",
    recode=mark_kept,
)
FOUR_DME = Database(
    "4dme",
    "4DME",
    (("gray_micro_crop", True), ("gray_micro", False)),
    "{subject}_{clip}",
    _BOOK.subject,
    _BOOK,
)


def load(config: ConfigDict) -> Dataset:
    """Loads 4DME by `coded_clips.load`; ids are '<subject>_<folder>'."""
    return coded_clips.load(FOUR_DME, config, turn=5)
