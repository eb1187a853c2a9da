"""Part A of CAS(ME)^3 (Li et al., TPAMI 2022): frames and its workbook of micro-expressions.

Columns and folders as the public code of MEB (github.com/tvaranka/meb) reads them; this project
does not have the release. A video holds several micro-expressions, which share its name: their ids
end with the onset. Frames are read from the release's videos (`part_A/<subject>/<video>/color`),
or from the folder of micro-expressions that MEB's tool copies out of them (`ME_A`), where the
second of a video is called after it with a 2, and so on.
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
    "onset": "Onset",
    "apex": "Apex",
    "offset": "Offset",
    "code": "AU",
    "emotion": "emotion",
}
_BOOK = Format(
    "cas(me)3_part_A_ME",
    _COLUMNS,
    (*_COLUMNS.values(), "Objective class", "Expression type"),
    "spNO.{}".format,
    ("subject", "clip", "onset"),
    unknown="/",
    kind="Expression type",
)
CASME3A = Database(
    "casme3a",
    "CAS(ME)^3 part A",
    (("ME_A_cropped", True), ("part_A", False), ("ME_A", False)),
    "{subject}_{clip}_{onset}",
    _BOOK.subject,
    _BOOK,
    places=("{subject}/{clip}/color", "{subject}/{clip}[0-9]*/color"),
)


def load(config: ConfigDict) -> Dataset:
    """Loads part A of CAS(ME)^3 by `coded_clips.load`; ids are for example 'spNO.1_a_120'."""
    return coded_clips.load(CASME3A, config, turn=3)
