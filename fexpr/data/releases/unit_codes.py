"""Action units of a composite's clips, from its releases' workbooks: the second task that a network
may learn beside the classes.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
from ml_collections import ConfigDict

from fexpr import facs
from fexpr.data.dataset import Dataset
from fexpr.data.releases import megc2019, workbook
from fexpr.data.releases.clip_release import Database
from fexpr.data.releases.workbook_sheets import spreadsheets
from fexpr.errors import UserError
from fexpr.terminal import say


def with_units(dataset: Dataset, config: ConfigDict) -> Dataset:
    """The composite with `extras["auxiliary"]`, float32 [N, A]: which units of `facs.CD6ME` a clip
    shows, 0 or 1; NaN where no workbook codes it.

    Args:
      dataset: as `megc2019.load` returns it of this `config.data`.

    Raises:
      UserError: a workbook that cannot be read; no clip is coded.
    """
    known, lacking = {}, []
    for name, (database, folder) in megc2019.folders(config).items():
        if database.book is None or not spreadsheets(folder):
            lacking.append(database.title)
            continue
        present = _presences(database, database.book, folder)
        known |= {f"{name}/{clip}": row for clip, row in present.items()}
    rows = [known.get(clip) for clip in dataset.ids.tolist()]
    count = sum(row is not None for row in rows)
    if not count:
        raise UserError(
            "train.auxiliary='action_units', but no clip's action units are known",
            [f"{title}: no workbook" for title in lacking],
            "copy a release's workbook into its folder, or set train.auxiliary='none'",
        )
    say(f"auxiliary  action units of {count} of {len(rows)} clips")
    unknown = np.full(len(facs.CD6ME), np.nan, np.float32)
    units = np.stack([unknown if row is None else row for row in rows])
    return dataclasses.replace(dataset, extras=dataset.extras | {"auxiliary": units})


def _presences(database: Database, form: workbook.Format, folder: Path) -> dict[str, np.ndarray]:
    """By clip, float32 [A]; clips without a coded unit are left out."""
    path = workbook.find_workbook(folder, form)
    table = workbook.read_workbook(path, form)
    codes = facs.parse_all(table["code"].tolist(), workbook.places(table, path))
    rows = [facs.intensities(code) for code in codes]
    present = facs.label_matrix(rows, facs.CD6ME) > 0
    return {
        clip: units.astype(np.float32)
        for clip, row, units in zip(database.ids(table), rows, present, strict=True)
        if row
    }
