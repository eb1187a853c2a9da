"""CASME (Yan et al., FG 2013): frames and its coding workbook.

Columns and folders as the public code of MEB (github.com/tvaranka/meb) reads them; this project
does not have the release.
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
    "onset": "OnsetF",
    "apex": "ApexF1",
    "offset": "OffsetF",
    "code": "AU",
    "emotion": "Emotion",
}
_BOOK = Format(
    "casme",
    _COLUMNS,
    (*_COLUMNS.values(), "ApexF2"),
    lambda number: f"sub{number.zfill(2)}",
    ("subject", "clip"),
    unknown="/",
)
CASME = Database(
    "casme",
    "CASME",
    (("Cropped", True), ("CASME_raw_selected", False)),
    "{subject}_{clip}",
    _BOOK.subject,
    _BOOK,
)


def load(config: ConfigDict) -> Dataset:
    """Loads CASME by `coded_clips.load`; ids are for example 'sub01_EP01_12', as in CASME II."""
    return coded_clips.load(CASME, config, turn=2)
