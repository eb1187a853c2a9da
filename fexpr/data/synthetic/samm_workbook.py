"""Writes a workbook in the layout of SAMM."""

from __future__ import annotations

import re
import warnings
from pathlib import Path

import openpyxl
import pandas as pd

from fexpr.data.releases.workbook_format import COLUMNS, HEADER, SHEET
from fexpr.storage.run import atomic_path

HEADER_ROW = 14  # of the release; the reader finds it by its names among the first rows
_KEY = (
    "Symbol Key:",
    '"/" = or',
    '"?" = some AU\'s continue for a while and have unclear offset',
    None,
    "AU Help:",
    '"L2 or R2" = Unilateral AU 2 on left side of face / right side of face',
    '"A2" = Asymmetric AU 2. Occurs on both sides of face but stronger on one side',
)


def write_samm_workbook(
    path: Path | str, table: pd.DataFrame, title: str = "SAMM Dataset - Master FACS Codes"
) -> None:
    """Writes `table` (columns as from `read_workbook`; `row` is not needed) in the release's
    layout: sheet, key, header row.

    Raises:
      UserError: the folder cannot be written to.
    """
    workbook = openpyxl.Workbook()
    sheet = workbook.worksheets[0]
    sheet.title = SHEET
    sheet["A1"] = title
    for line, text in enumerate(_KEY, 6):
        sheet.cell(line, 1, text)
    for column, name in enumerate(HEADER, 1):
        sheet.cell(HEADER_ROW, column, name)
    for number, row in enumerate(table.to_dict("records"), HEADER_ROW + 1):
        cells = {
            theirs: None if pd.isna(row[ours]) else row[ours] for ours, theirs in COLUMNS.items()
        }
        induced = re.fullmatch(r"[^_]+_(\d+)_[^_]+", row["clip"])  # subject_inducement_count
        cells["Inducement Code"] = int(induced[1]) if induced else None
        if cells["Onset Frame"] is not None and cells["Offset Frame"] is not None:
            cells["Duration"] = cells["Offset Frame"] - cells["Onset Frame"] + 1
        cells["Micro"] = "Micro - 1/2"
        for column, name in enumerate(HEADER, 1):
            sheet.cell(number, column, cells.get(name))
    with atomic_path(path) as partial, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        workbook.save(partial)
