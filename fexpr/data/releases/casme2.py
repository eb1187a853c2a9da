"""CASME II (Yan et al., PLoS ONE 2014): frames, or published flow maps, and its coding workbook
(docs/data.md shows the layout).
"""

from __future__ import annotations

from ml_collections import ConfigDict

from fexpr.data.dataset import Dataset
from fexpr.data.releases import coded_clips, workbook_format
from fexpr.data.releases.clip_release import Database

CASME2 = Database(
    "casme2",
    "CASME II",
    (("Cropped", True), ("CASME2_RAW_selected", False), ("CASME2-RAW", False)),
    "{subject}_{clip}",
    workbook_format.CASME2.subject,
    workbook_format.CASME2,
    no_apex=("sub04_EP12_01f", "sub05_EP09_05f"),
)


def load(config: ConfigDict) -> Dataset:
    """Loads CASME II by `coded_clips.load`; ids are for example 'sub01_EP02_01f', as clip names
    repeat between subjects.
    """
    return coded_clips.load(CASME2, config, turn=1)
