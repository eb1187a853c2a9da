"""Workbooks of micro-expression releases: one row a clip, with frame numbers and FACS code. Read,
checked, and SAMM's written.
"""

from __future__ import annotations

import contextlib
import dataclasses
import difflib
import io
import re
import warnings
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import openpyxl
import pandas as pd

from fexpr.errors import UserError
from fexpr.storage import bounded, packed
from fexpr.storage.bounded import Unreadable
from fexpr.storage.run import atomic_path

SHEET = "MICRO_ONLY"
HEADER_ROW = 14  # of the release; the reader finds it by its names among the first rows
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

# Slips of the published workbook: (clip, onset, apex, offset) as printed there -> the apex that was
# meant.
ERRATA = {("032_3_1", 4896, 1930, 4970): 4930}

_SEARCHED_ROWS = 40
_LAST_ROW = 2**20  # Excel's
_MOST_BYTES = 32 * bounded.MIB  # packed and unpacked; the releases' workbooks have less than one
_KEY = (
    "Symbol Key:",
    '"/" = or',
    '"?" = some AU\'s continue for a while and have unclear offset',
    None,
    "AU Help:",
    '"L2 or R2" = Unilateral AU 2 on left side of face / right side of face',
    '"A2" = Asymmetric AU 2. Occurs on both sides of face but stronger on one side',
)


def find_workbook(folder: Path | str, form: Format = SAMM) -> Path:
    """The folder's one workbook: `SAMM_Micro_FACS_Codes*.xlsx` (as `form` has it) if there is one,
    else its only `*.xlsx`.

    Hidden files and Excel's lock files (`~$...`) do not count.

    Raises:
      UserError: no folder, no workbook, or several between which nothing decides.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise UserError(
            f"{folder} is not a folder",
            fix="set config.data.root, or $FEXPR_DATA_DIR, to where the release lies",
        )
    found = sorted(
        p
        for p in folder.iterdir()
        if p.suffix.lower() == ".xlsx" and not p.name.startswith("~$") and not bounded.is_hidden(p)
    )
    candidates = [p for p in found if p.name.lower().startswith(form.files.lower())] or found
    if not candidates:
        old = sorted(p.name for p in folder.iterdir() if p.suffix.lower() in (".xls", ".xlsb"))
        raise UserError(
            f"no FACS workbook ({form.files}*.xlsx) in {folder}",
            [f"{name} is of an older kind" for name in old],
            "open it in Excel and save it as .xlsx" if old else "copy the release's workbook there",
        )
    if len(candidates) > 1:
        raise UserError(
            f"several workbooks in {folder}",
            [p.name for p in candidates],
            "leave only the one to be used there",
        )
    return candidates[0]


def read_samm_workbook(path: Path | str) -> pd.DataFrame:
    """`read_workbook` of SAMM's."""
    return read_workbook(path, SAMM)


def read_workbook(path: Path | str, form: Format) -> pd.DataFrame:
    """One row a clip, in the workbook's order.

    Returns:
      A table with `subject` (text, '006' or 'sub01'), `clip` (text), `onset`, `apex`, `offset`
      (Int64 frame numbers, NA where blank), `code` (the raw cell: text, a number or None; see
      `facs.parse_all`), `emotion` (text), SAMM's also
      `objective_class` (Int64), and `row` (Excel's row number). `attrs["errata"]` lists in words
      the slips that were mended (`ERRATA`), `attrs["notes"]` the oddities left as they are (apex
      after offset).

    Raises:
      UserError: missing, not a workbook, no header, columns renamed or twice; or, all at once, each
        row without subject or clip, with a clip named before, a subject that is not the one in the
        clip's name, a frame that is no number; no code at all.
    """
    path = Path(path)
    with _opened(path) as sheets:
        title, header, columns, cells = _find_header(sheets, path, form)
        formulas = sheets.formulas(title)
    rows, problems, first_row, others = [], [], {}, 0
    for number, values in cells:
        raw = {
            name: values[column] if column < len(values) else None
            for name, column in columns.items()
        }
        computed = {name for name, column in columns.items() if (number, column) in formulas}
        if all(_blank(cell) for cell in raw.values()) and not computed:
            continue
        if not _label(raw.pop(KIND, MICRO)).casefold().startswith(MICRO):
            others += 1
            continue
        row, found = _read_row(raw, form)
        # the result of a formula is not what was typed: of =4+7 it is the action unit 11
        found += [
            f"{form.columns[name]} is the formula {formulas[number, columns[name]]}, expected what "
            "it stands for"
            for name in columns
            if name in computed and (name == "code" or _blank(raw[name]))
        ]
        key = tuple(row[name] for name in form.key)
        if key in first_row:
            found.append(f"this clip is in row {first_row[key]} already")
        elif all(key):
            first_row[key] = number
        problems += [
            f"row {number}, clip {row['clip'] or '(none)'}: {problem}" for problem in found
        ]
        rows.append({**row, "row": number})
    if not rows:
        problems.append(f"sheet {title!r} has no rows below its header in row {header}")
    elif all(_blank(row["code"]) for row in rows):
        problems.append(
            f"column {form.columns['code']!r} of sheet {title!r} is empty in all {len(rows)} rows"
        )
    if problems:
        raise UserError(
            f"the workbook {path} cannot be used", problems, "correct these cells in the workbook"
        )
    table = pd.DataFrame(rows)
    table = _mend(
        table.astype({"code": object, **{name: "Int64" for name in WHOLE_NUMBERS if name in table}})
    )
    if others:
        text = f"{path.name}: {others} rows are of no micro-expression ({form.kind}); left out"
        table.attrs["errata"].append(text)
    return table


def places(table: pd.DataFrame, workbook: Path | str = "") -> list[str]:
    """Where each row stands, for messages: "codes.xlsx row 37, clip 014_2_3" (without the file if
    none is given).
    """
    prefix = f"{Path(workbook).name} " if workbook else ""
    return [
        f"{prefix}row {row}, clip {clip}"
        for row, clip in zip(table["row"], table["clip"], strict=True)
    ]


def frame_problems(table: pd.DataFrame) -> list[str]:
    """Rows whose onset-to-apex movement cannot be cut out: a frame number missing, or an apex that
    is not after the onset.

    To be asked only where frames are read: published flow maps need no frame numbers.
    """
    problems = []
    for place, onset, apex in zip(places(table), table["onset"], table["apex"], strict=True):
        if pd.isna(onset) or pd.isna(apex):
            problems.append(f"{place}: {'onset' if pd.isna(onset) else 'apex'} frame is missing")
        elif onset >= apex:
            problems.append(f"{place}: apex frame {apex} is not after onset frame {onset}")
    return problems


def write_samm_workbook(
    path: Path | str, table: pd.DataFrame, title: str = "SAMM Dataset - Master FACS Codes"
) -> None:
    """Writes `table` (columns as from `read_samm_workbook`; `row` is not needed) in the release's
    layout: sheet, key, header row.

    Raises:
      UserError: the folder cannot be written to.
    """
    workbook = openpyxl.Workbook()
    sheet = workbook.active
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


class _Sheets:
    """The sheets of an open workbook, read row by row: only the cells that the file holds, so that
    one stray cell in Excel's last row or column costs nothing.
    """

    def __init__(self, content: io.BytesIO):
        self._content = content
        self._values = openpyxl.load_workbook(content, read_only=True, data_only=True)
        self.titles = [sheet.title for sheet in self._values.worksheets]

    def rows(self, title: str) -> Iterator[tuple[int, Sequence[Any]]]:
        """Numbers (from 1) and values of the rows that are not blank."""
        for number, cells in self._filled(self._values, title):
            values = [cell.value for cell in cells]
            if not all(map(_blank, values)):
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
def _opened(path: Path) -> Iterator[_Sheets]:
    """Raises UserError: the workbook is not there, is no .xlsx, or turns out to be damaged."""
    if not bounded.is_there(path):
        raise UserError(
            f"the workbook {path} does not exist", fix="copy the release's workbook there"
        )
    try:
        data = io.BytesIO(bounded.read_bytes(path, _MOST_BYTES))
    except Unreadable as e:
        raise UserError(
            f"cannot read the workbook {path}: {e}", fix="copy the release's workbook there"
        ) from e
    try:
        with warnings.catch_warnings():
            # openpyxl's, about styles and extensions that play no part here
            warnings.simplefilter("ignore")
            with zipfile.ZipFile(data) as archive:
                packed.check_size(archive.infolist(), _MOST_BYTES)
                for name in archive.namelist():
                    if b"<!DOCTYPE" in packed.read_member(archive, name, _MOST_BYTES):
                        raise ValueError(f"{name} declares a document type, as Excel never does")
            yield _Sheets(data)
    except UserError:
        raise
    except Exception as e:
        # a damaged file: zipfile, zlib, the XML parser and openpyxl each raise their own
        raise UserError(
            f"{path} is not an Excel workbook (.xlsx), or is damaged: {e}",
            fix="copy it again from the release; a file of another kind (.xls, .csv, with a "
            "password): save it as .xlsx in Excel",
        ) from e


def _find_header(
    sheets: _Sheets, path: Path, form: Format
) -> tuple[str, int, dict[str, int], list[tuple[int, Sequence[Any]]]]:
    """The sheet's title, the header's row (1-based), {our name: column (0-based)}, and the rows
    below; `form.sheet` is tried before the other sheets.
    """
    best: tuple[int, str, int, list[str]] = (0, "", 0, [])
    for title in sorted(sheets.titles, key=lambda title: title != form.sheet):
        for number, cells in sheets.rows(title):
            if number > _SEARCHED_ROWS:
                break
            names = ["" if _blank(cell) else " ".join(str(cell).split()) for cell in cells]
            known = len({_plain(name) for name in names} & set(map(_plain, form.header)))
            if known > best[0]:
                best = (known, title, number, names)
    known, title, number, names = best
    if known < 3:
        raise UserError(
            f"the workbook {path} has no header row among the first {_SEARCHED_ROWS} rows of "
            "its sheets "
            f"({', '.join(sheets.titles)})",
            [f"expected the columns {', '.join(form.columns.values())}"],
            "use the release's own workbook, unchanged",
        )
    plain = [_plain(name) for name in names]
    problems = [
        _column_problem(theirs, names, form)
        for theirs in form.columns.values()
        if plain.count(_plain(theirs)) != 1
    ]
    if problems:
        problems.append(f"found the columns {', '.join(name for name in names if name)}")
        raise UserError(
            f"the header of the workbook {path} (sheet {title!r}, row {number}) is not "
            "the release's",
            problems,
            "give the columns the release's names",
        )
    wanted = dict(form.columns)
    if form.kind and _plain(form.kind) in plain:
        wanted[KIND] = form.kind
    return (
        title,
        number,
        {ours: plain.index(_plain(theirs)) for ours, theirs in wanted.items()},
        [row for row in sheets.rows(title) if row[0] > number],
    )


def _plain(name: str) -> str:
    return " ".join(name.casefold().split())


def _column_problem(wanted: str, names: list[str], form: Format) -> str:
    if any(_plain(name) == _plain(wanted) for name in names):
        return f"column {wanted!r} is there more than once"
    spare = {_plain(name): name for name in names if _plain(name) not in map(_plain, form.header)}
    near = difflib.get_close_matches(_plain(wanted), spare, n=1)
    return f"column {wanted!r} is missing" + (
        f"; the nearest is {spare[near[0]]!r}" if near else ""
    )


def _read_row(raw: dict[str, object], form: Format) -> tuple[dict[str, object], list[str]]:
    """One row's values and what is wrong with them."""
    subject = _label(raw["subject"])
    row: dict[str, object] = {
        "subject": canonical_subject(subject, form.subject),
        "clip": _label(raw["clip"]),
    }
    # parts of the names of folders and of prepared files
    texts = [name for name in dict.fromkeys(("subject", "clip", *form.key)) if name != "onset"]
    problems = [f"{form.columns[name]} is missing" for name in texts if _blank(raw[name])]
    problems += [
        f"{form.columns[name]} {text!r} {problem}"
        for name in texts
        if (problem := bounded.name_problem(text := row.get(name, _label(raw[name]))))
    ]
    prefix = re.match(r"\d{3}(?=_)", row["clip"])
    if not problems and prefix and prefix[0] != row["subject"]:
        problems.append(f"Subject is {row['subject']}, but the clip's name says {prefix[0]}")
    code = raw["code"]
    row |= {
        "code": form.recode(code) if form.recode and isinstance(code, str) else code,
        "emotion": _label(raw["emotion"]),
    }
    for name in WHOLE_NUMBERS:
        if name in raw:
            row[name] = _whole(raw[name], form.columns[name], form.unknown, problems)
    return {name: row[name] for name in form.columns}, problems


def canonical_subject(text: str, name: Callable[[str], str]) -> str:
    """One name for one person, however a table spells it: of '6', '006', 's6', 'Sub006', 'spNO.6'
    and 'subject 6' always `name('6')`; of a text without a number the text itself.
    """
    number = re.fullmatch(
        r"(?:subject|subj|sub|spno\.|s)?[ _-]?0*([0-9]+)", text.strip(), re.IGNORECASE
    )
    return name(number[1]) if number else text.strip()


def _blank(cell: object) -> bool:
    return cell is None or (isinstance(cell, str) and not cell.strip())


def _label(cell: object) -> str:
    """Text of a cell; Excel stores a subject typed as 6 as the number 6 or 6.0."""
    if isinstance(cell, float) and cell.is_integer():
        cell = int(cell)
    return "" if cell is None else str(cell).strip()


def _whole(cell: object, column: str, unknown: str, problems: list[str]) -> int | None:
    text = _label(cell)
    if _blank(cell) or (unknown and text == unknown):
        return None
    if not re.fullmatch(r"[0-9]{1,9}", text):
        problems.append(f"{column} is {text!r}, expected a whole number")
        return None
    return int(text)


def _mend(table: pd.DataFrame) -> pd.DataFrame:
    """Applies `ERRATA` and writes down what was mended and what is odd."""
    errata, notes = [], []
    for index, place in enumerate(places(table)):
        clip, onset, apex, offset = (
            table.at[index, name] for name in ("clip", "onset", "apex", "offset")
        )
        if pd.isna(apex) or pd.isna(onset) or pd.isna(offset):
            continue
        if (clip, onset, apex, offset) in ERRATA:
            table.at[index, "apex"] = ERRATA[clip, onset, apex, offset]
            errata.append(
                f"{place}: apex frame {apex} is a slip of the published workbook, read as "
                f"{table.at[index, 'apex']}"
            )
        elif apex > offset:
            notes.append(f"{place}: apex frame {apex} is after offset frame {offset}")
    table.attrs.update(errata=errata, notes=notes)
    return table
