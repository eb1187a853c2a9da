"""Reads the sheets of an untrusted Excel workbook, within limits and cell by cell."""

from __future__ import annotations

import contextlib
import io
import warnings
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import openpyxl

from fexpr.errors import UserError
from fexpr.storage import bounded, packed
from fexpr.storage.bounded import Unreadable

_LAST_ROW = 2**20  # Excel's
MOST_BYTES = 32 * bounded.MIB  # packed and unpacked; the releases' workbooks have less than one


KINDS = (".xlsx", ".xls", ".xlsb")  # the first is read


def spreadsheets(folder: Path) -> list[Path]:
    """The workbooks in a folder, without hidden files and Excel's lock files (`~$...`)."""
    return sorted(
        path
        for path in folder.iterdir()
        if path.suffix.lower() in KINDS
        and not path.name.startswith("~$")
        and not bounded.is_hidden(path)
    )


class Sheets:
    """The sheets of an open workbook, read row by row: only the cells that the file contains, so
    that one stray cell in Excel's last row or column costs nothing.
    """

    def __init__(self, content: io.BytesIO):
        self._content = content
        self._values = openpyxl.load_workbook(content, read_only=True, data_only=True)
        self.titles = [sheet.title for sheet in self._values.worksheets]

    def rows(self, title: str) -> Iterator[tuple[int, Sequence[Any]]]:
        """Yields numbers (from 1) and values of the rows that are not blank."""
        for number, cells in self._filled(self._values, title):
            values = [cell.value for cell in cells]
            if not all(map(is_blank, values)):
                yield number, values

    def formulas(self, title: str) -> dict[tuple[int, int], str]:
        """(row from 1, column from 0) -> the formula of each cell that has one."""
        workbook = openpyxl.load_workbook(self._content, read_only=True)
        return {
            (number, column): getattr(cell.value, "text", None) or str(cell.value)
            for number, cells in self._filled(workbook, title)
            for column, cell in enumerate(cells)
            if cell.data_type == "f"
        }

    @staticmethod
    def _filled(workbook: openpyxl.Workbook, title: str) -> Iterator[tuple[int, Sequence[Any]]]:
        sheet = workbook[title]
        sheet.reset_dimensions()  # the file may claim any size
        for number, cells in enumerate(sheet.iter_rows(), 1):
            if number > _LAST_ROW:
                raise ValueError(f"sheet {title!r} has rows below {_LAST_ROW:,}, Excel's last")
            if cells:
                yield number, cells


@contextlib.contextmanager
def open_sheets(path: Path) -> Iterator[Sheets]:
    """Raises UserError: the workbook is missing, is not an .xlsx, or is damaged."""
    if not bounded.is_there(path):
        raise UserError(
            f"the workbook {path} does not exist", fix="copy the release's workbook there"
        )
    try:
        data = io.BytesIO(bounded.read_bytes(path, MOST_BYTES))
    except Unreadable as e:
        raise UserError(
            f"cannot read the workbook {path}: {e}", fix="copy the release's workbook there"
        ) from e
    try:
        with warnings.catch_warnings():
            # openpyxl's warnings about styles and extensions, which do not matter here
            warnings.simplefilter("ignore")
            with zipfile.ZipFile(data) as archive:
                packed.check_size(archive.infolist(), MOST_BYTES)
                for name in archive.namelist():
                    if b"<!DOCTYPE" in packed.read_member(archive, name, MOST_BYTES):
                        raise ValueError(f"{name} declares a document type, as Excel never does")
            yield Sheets(data)
    except UserError:
        raise
    except Exception as e:
        # a damaged file: zipfile, zlib, the XML parser and openpyxl each raise their own errors
        raise UserError(
            f"{path} is not an Excel workbook (.xlsx), or is damaged: {e}",
            fix="copy it again from the release; a file of another kind (.xls, .csv, with a "
            "password): save it as .xlsx in Excel",
        ) from e


def is_blank(cell: object) -> bool:
    return cell is None or (isinstance(cell, str) and not cell.strip())
