"""Finds, reads and checks workbooks of micro-expression releases: one row per clip, with its frame
numbers and FACS code.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from fexpr.data.releases.workbook_format import (
    KIND,
    MICRO,
    SAMM,
    WHOLE_NUMBERS,
    Format,
    canonical_subject,
)
from fexpr.data.releases.workbook_sheets import Sheets, is_blank, open_sheets, spreadsheets
from fexpr.errors import UserError
from fexpr.storage import bounded

# Errors of the published workbook: (clip, onset, apex, offset) as printed -> the intended apex.
ERRATA = {("032_3_1", 4896, 1930, 4970): 4930}

_SEARCHED_ROWS = 40


def find_workbook(folder: Path | str, form: Format = SAMM) -> Path:
    """The folder's one workbook: `SAMM_Micro_FACS_Codes*.xlsx` (as `form` has it) if there is one,
    else its only `*.xlsx`.

    Hidden files and Excel's lock files (`~$...`) do not count.

    Raises:
      UserError: no folder, no workbook, or several candidates.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise UserError(
            f"{folder} is not a folder",
            fix="set config.data.root, or $FEXPR_DATA_DIR, to where the release is",
        )
    books = spreadsheets(folder)
    found = [p for p in books if p.suffix.lower() == ".xlsx"]
    candidates = [p for p in found if p.name.lower().startswith(form.files.lower())] or found
    if not candidates:
        old = [p.name for p in books]
        raise UserError(
            f"no FACS workbook ({form.files}*.xlsx) in {folder}",
            [f"{name} is of an older kind" for name in old],
            "open it in Excel and save it as .xlsx" if old else "copy the release's workbook there",
        )
    if len(candidates) > 1:
        raise UserError(
            f"several workbooks in {folder}",
            [p.name for p in candidates],
            "keep only the one to use in that folder",
        )
    return candidates[0]


def read_workbook(path: Path | str, form: Format = SAMM) -> pd.DataFrame:
    """One row per clip, in the workbook's order.

    Returns:
      A table with `subject` (text, '006' or 'sub01'), `clip` (text), `onset`, `apex`, `offset`
      (Int64 frame numbers, NA where blank), `code` (the raw cell: text, a number or None; see
      `facs.parse_all`), `emotion` (text), SAMM's also
      `objective_class` (Int64), and `row` (Excel's row number). `attrs["errata"]` lists the
      corrected errors (`ERRATA`) in words, `attrs["notes"]` the oddities that were left unchanged
      (apex after offset).

    Raises:
      UserError: missing, not a workbook, no header, columns renamed or repeated; or rows without
          subject or clip, with a repeated clip, a subject that contradicts the clip's name, or a
          frame that is not a number (all are listed); no code at all.
    """
    path = Path(path)
    with open_sheets(path) as sheets:
        title, header, columns, cells = _find_header(sheets, path, form)
        formulas = sheets.formulas(title)
    rows, problems, first_row, others = [], [], {}, 0
    for number, values in cells:
        raw = {
            name: values[column] if column < len(values) else None
            for name, column in columns.items()
        }
        computed = {name for name, column in columns.items() if (number, column) in formulas}
        if all(is_blank(cell) for cell in raw.values()) and not computed:
            continue
        if not text_of(raw.pop(KIND, MICRO)).casefold().startswith(MICRO):
            others += 1
            continue
        row, found = _read_row(raw, form)
        # the result of a formula is not what was meant: =4+7 would become action unit 11
        found += [
            f"{form.columns[name]} is the formula {formulas[number, columns[name]]}, expected what "
            "it stands for"
            for name in columns
            if name in computed and (name == "code" or is_blank(raw[name]))
        ]
        key = tuple(row[name] for name in form.key)
        if key in first_row:
            found.append(f"this clip is already in row {first_row[key]}")
        elif all(key):
            first_row[key] = number
        problems += [
            f"row {number}, clip {row['clip'] or '(none)'}: {problem}" for problem in found
        ]
        rows.append({**row, "row": number})
    if not rows:
        problems.append(f"sheet {title!r} has no rows below its header in row {header}")
    elif all(is_blank(row["code"]) for row in rows):
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
        text = f"{path.name}: {others} rows are not micro-expressions ({form.kind}); left out"
        table.attrs["errata"].append(text)
    return table


def places(table: pd.DataFrame, workbook: Path | str = "") -> list[str]:
    """The location of each row, for messages: "codes.xlsx row 37, clip 014_2_3" (without the file
    if none is given).
    """
    prefix = f"{Path(workbook).name} " if workbook else ""
    return [
        f"{prefix}row {row}, clip {clip}"
        for row, clip in zip(table["row"], table["clip"], strict=True)
    ]


def frame_problems(table: pd.DataFrame) -> list[str]:
    """Problems of rows without a usable onset and apex: a missing frame number, or an apex that is
    not after the onset.

    Only needed if frames are read, as published flow maps need no frame numbers.
    """
    problems = []
    for place, onset, apex in zip(places(table), table["onset"], table["apex"], strict=True):
        if pd.isna(onset) or pd.isna(apex):
            problems.append(f"{place}: {'onset' if pd.isna(onset) else 'apex'} frame is missing")
        elif onset >= apex:
            problems.append(f"{place}: apex frame {apex} is not after onset frame {onset}")
    return problems


def _find_header(
    sheets: Sheets, path: Path, form: Format
) -> tuple[str, int, dict[str, int], list[tuple[int, Sequence[Any]]]]:
    """The sheet's title, the header's row (1-based), {our name: column (0-based)}, and the rows
    below; `form.sheet` is tried before the other sheets.
    """
    best: tuple[int, str, int, list[str]] = (0, "", 0, [])
    for title in sorted(sheets.titles, key=lambda title: title != form.sheet):
        for number, cells in sheets.rows(title):
            if number > _SEARCHED_ROWS:
                break
            names = ["" if is_blank(cell) else " ".join(str(cell).split()) for cell in cells]
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
        return f"column {wanted!r} occurs more than once"
    spare = {_plain(name): name for name in names if _plain(name) not in map(_plain, form.header)}
    near = difflib.get_close_matches(_plain(wanted), spare, n=1)
    return f"column {wanted!r} is missing" + (
        f"; the nearest is {spare[near[0]]!r}" if near else ""
    )


def _read_row(raw: Mapping[str, object], form: Format) -> tuple[dict[str, object], list[str]]:
    """One row's values and their problems."""
    subject = text_of(raw["subject"])
    names = {"subject": canonical_subject(subject, form.subject), "clip": text_of(raw["clip"])}
    # become parts of the names of folders and prepared files
    texts = [name for name in dict.fromkeys(("subject", "clip", *form.key)) if name != "onset"]
    problems = [f"{form.columns[name]} is missing" for name in texts if is_blank(raw[name])]
    problems += [
        f"{form.columns[name]} {text!r} {problem}"
        for name in texts
        if (problem := bounded.name_problem(text := names.get(name, text_of(raw[name]))))
    ]
    prefix = re.match(r"\d{3}(?=_)", names["clip"])
    if not problems and prefix and prefix[0] != names["subject"]:
        problems.append(f"Subject is {names['subject']}, but the clip's name says {prefix[0]}")
    code = raw["code"]
    row: dict[str, object] = {
        **names,
        "code": form.recode(code) if form.recode and isinstance(code, str) else code,
        "emotion": text_of(raw["emotion"]),
    }
    for name in WHOLE_NUMBERS:
        if name in raw:
            row[name] = _whole(raw[name], form.columns[name], form.unknown, problems)
    return {name: row[name] for name in form.columns}, problems


def text_of(cell: object) -> str:
    """The text of a cell; Excel stores a subject typed as 6 as the number 6 or 6.0."""
    if isinstance(cell, float) and cell.is_integer():
        cell = int(cell)
    return "" if cell is None else str(cell).strip()


def _whole(cell: object, column: str, unknown: str, problems: list[str]) -> int | None:
    text = text_of(cell)
    if is_blank(cell) or (unknown and text == unknown):
        return None
    if not re.fullmatch(r"[0-9]{1,9}", text):
        problems.append(f"{column} is {text!r}, expected a whole number")
        return None
    return int(text)


def _mend(table: pd.DataFrame) -> pd.DataFrame:
    """Applies `ERRATA`, and records corrections and oddities."""
    errata, notes = [], []
    columns = (table[name] for name in ("clip", "onset", "apex", "offset"))
    rows = zip(places(table), *columns, strict=True)
    for index, (place, clip, onset, apex, offset) in enumerate(rows):
        if pd.isna(apex) or pd.isna(onset) or pd.isna(offset):
            continue
        if (clip, onset, apex, offset) in ERRATA:
            table.at[index, "apex"] = ERRATA[clip, onset, apex, offset]
            errata.append(
                f"{place}: apex frame {apex} is an error of the published workbook, read as "
                f"{table.at[index, 'apex']}"
            )
        elif apex > offset:
            notes.append(f"{place}: apex frame {apex} is after offset frame {offset}")
    table.attrs.update(errata=errata, notes=notes)
    return table
