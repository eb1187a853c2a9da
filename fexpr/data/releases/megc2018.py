"""The MEGC2018 composite (Yap et al., FG 2018): SAMM and CASME II in five objective classes, which
are defined by action units rather than by the emotion that a clip was meant to show.
"""

from __future__ import annotations

from collections import Counter
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
from ml_collections import ConfigDict

from fexpr import facs
from fexpr.data.dataset import Dataset
from fexpr.data.preparation.prepare import resolve_source
from fexpr.data.releases import composite, flow_clips, workbook
from fexpr.data.releases.casme2 import CASME2
from fexpr.data.releases.clip_release import Database, Release
from fexpr.data.releases.samm import SAMM
from fexpr.terminal import say

CLASSES = ("happiness", "surprise", "anger", "disgust", "sadness")  # classes I to V
DATABASES = {database.name: database for database in (SAMM, CASME2)}
# clips of each class, and subjects (Yap et al.)
OFFICIAL = {"samm": (24, 13, 20, 8, 3), "casme2": (25, 15, 99, 26, 20)}
# Davison et al., arXiv 1708.07549, table 2. Of SAMM's 68 clips of these classes, whose workbook
# gives the class, 59 have one of these combinations, always of that class; no other clip has.
COMBINATIONS = {
    "happiness": ("6", "12", "6+12", "6+7+12", "7+12"),
    "surprise": ("1+2", "5", "25", "1+2+25", "25+26", "5+24"),
    "anger": ("23", "4", "4+7", "4+5", "4+5+7", "17+24", "4+6+7", "4+38"),
    "disgust": (
        *("10", "9", "4+9", "4+40", "4+5+40", "4+7+9", "4+9+17", "4+7+10", "4+5+7+9"),
        "7+10",
    ),
    "sadness": ("1", "15", "1+4", "6+15", "15+17"),
}
_BY_UNITS = {
    frozenset(map(int, units.split("+"))): name
    for name, combinations in COMBINATIONS.items()
    for units in combinations
}


def load(config: ConfigDict) -> Dataset:
    """Reads the composite; flow maps are made once for each release and kept in the cache.

    The class is the workbook's where it has a column of objective classes (SAMM's), else that of
    the clip's action units by the table of Davison et al. Clips of classes VI and VII, and of
    combinations that are not in the table, take no part.

    Args:
      config: `config.data` (fexpr/data/data_config.py documents the fields).

    Returns:
      One row per clip, release after release: images uint8 [N, S, S, 3 x maps], labels int32 [N]
      (ids of `CLASSES`); groups, ids and extras as in `composite.Rows.dataset`.

    Raises:
      UserError: anything wrong with config, workbooks or files; all problems of one kind in one
          release are listed together.
    """
    is_synthetic = resolve_source(config) == "synthetic"
    if is_synthetic:
        releases = composite.synthetic(config, partial(_select, composite.SYNTHETIC_LAYOUT))
    else:
        databases = composite.with_workbooks(config, DATABASES)
        releases = composite.surveys(config, databases, partial(_survey, config))
    rows = composite.read(releases, config.image_size, is_synthetic)
    if not is_synthetic:
        for name, table in rows.table.groupby("dataset", sort=False):
            name = str(name)
            expected: dict[str, int] = dict(zip(CLASSES, OFFICIAL[name], strict=True))
            composite.compare_counts(name, Counter(table["emotion"]), expected, None, "MEGC2018")
    labels = np.array([CLASSES.index(name) for name in rows.table["emotion"]], np.int32)
    return rows.dataset(labels, CLASSES)


def class_of(code: facs.Code) -> str | None:
    """The objective class of a clip's units; None if it has none of these classes, or several
    possible ones.
    """
    if any(unit.alternative is not None for unit in code.units):
        return None
    return _BY_UNITS.get(frozenset(facs.intensities(code)))


def _survey(config: ConfigDict, database: Database, folder: Path, skipped: set[str]) -> Release:
    return flow_clips.survey(database, folder, config, skipped, partial(_select, database))


def _select(database: Database, table: pd.DataFrame, book: Path) -> pd.DataFrame:
    """The workbook's rows of the five classes, the class as `emotion`."""
    if "objective_class" in table:
        numbers = table["objective_class"].tolist()
        classes = [
            CLASSES[n - 1] if pd.notna(n) and 1 <= n <= len(CLASSES) else None for n in numbers
        ]
    else:
        codes = facs.parse_all(table["code"].tolist(), workbook.places(table, book))
        classes = [class_of(code) for code in codes]
    kept = np.array([name is not None for name in classes])
    if not kept.all():
        say(
            f"{database.title}: {np.sum(~kept)} of {len(kept)} clips belong to none of the 5 "
            "classes"
        )
    return table.assign(emotion=pd.Series(classes, table.index))[kept].reset_index(drop=True)
