"""Reads CSV files from any program; used for all tables of releases."""

from __future__ import annotations

import csv
import dataclasses
import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from fexpr.storage import bounded
from fexpr.storage.bounded import Unreadable

if TYPE_CHECKING:
    from _csv import Reader  # what csv.reader returns


@dataclasses.dataclass(frozen=True)
class Table:
    """The requested columns of a table, as text.

    Attributes:
      header: all names in the file, without blanks and quotes around them.
      lines: of each row, the line of the file on which it ends.
      columns: name -> texts of all rows, without blanks around them; '' where a row is too short.
      short: lines of rows with fewer cells than the header, as in a truncated file.
    """

    header: tuple[str, ...]
    lines: list[int]
    columns: dict[str, list[str]]
    short: list[int]

    def __len__(self) -> int:
        return len(self.lines)

    def rows(self) -> Iterator[tuple[int, dict[str, str]]]:
        """Yields line number and cells, row by row."""
        names = tuple(self.columns)
        for line, *cells in zip(self.lines, *self.columns.values(), strict=True):
            yield line, dict(zip(names, cells, strict=True))


class BadTable(Exception):
    """A file is not such a table: `problems` lists all faults, one text each."""

    def __init__(self, problems: Sequence[str]):
        super().__init__("; ".join(problems))
        self.problems = tuple(problems)


def read(
    path: Path | str,
    columns: Sequence[str],
    optional: Sequence[str] = (),
    separators: str = ",",
    names: Sequence[str] = (),
) -> Table:
    """Reads these columns of a CSV file in UTF-8, with or without a byte-order mark.

    A separator at the end of every row does not make a column. Empty lines are skipped.

    Args:
      columns: those that are required. optional: those that may be present.
      separators: possible separators; the one that is most frequent in the header is used.
      names: of all columns, for files without a header; a first line that begins with the first of
        them is a header all the same.

    Raises:
      BadTable: it cannot be read (bounded.read_text), lacks columns or has one twice; rows with
        more cells than the header; all of them.
    """
    try:
        with bounded.open_file(path, bounded.TABLE_BYTES) as file:
            lines = bounded.text_lines(file)
            top = []  # empty lines, and the first that is not
            for line in lines:
                top.append(line)
                if line.strip():
                    break
            separator = max(separators, key="".join(top).count)
            reader = csv.reader(itertools.chain(top, lines), delimiter=separator)
            return _read(reader, columns, optional, names)
    except OSError as e:
        raise BadTable([f"it cannot be read: {e}"]) from e
    except csv.Error as e:
        raise BadTable([f"it is not a table: {e}"]) from e


def _read(
    reader: Reader,
    columns: Sequence[str],
    optional: Sequence[str],
    names: Sequence[str],
) -> Table:
    top = next((row for row in reader if any(cell.strip() for cell in row)), [])
    header = tuple(bare(name) for name in top)
    kept: list[list[str]] = []
    lines: list[int] = []
    short: list[int] = []
    problems = []
    if names and header[:1] != tuple(names[:1]):
        rest = iter([top])  # the first line is a row
        header = tuple(names)
        start = reader.line_num
    else:
        rest, start = iter(()), 0
    if missing := [name for name in columns if name not in header]:
        more = f" and {len(missing) - 20} more" if len(missing) > 20 else ""
        problems.append(f"no column {', '.join(missing[:20])}{more}")
    problems += [
        f"column {name} occurs more than once"
        for name in (*columns, *optional)
        if header.count(name) > 1
    ]
    if problems:
        found = ", ".join(header)[:500]
        raise BadTable([*problems, f"found: {found or 'nothing'}"])
    wanted = [name for name in (*columns, *optional) if name in header]
    places = [header.index(name) for name in wanted]

    def add(line: int, row: list[str]) -> None:
        if not any(cell.strip() for cell in row):
            return
        if len(row) > len(header) and any(cell.strip() for cell in row[len(header) :]):
            problems.append(f"line {line}: {len(row)} cells, the header has {len(header)}")
            return
        if len(row) < len([name for name in header if name]):
            short.append(line)
        lines.append(line)
        kept.append([row[place].strip() if place < len(row) else "" for place in places])

    for row in rest:
        add(start, row)
    try:
        for row in reader:
            add(reader.line_num, row)
    except csv.Error as e:
        problems.append(f"line {reader.line_num}: {e}")
    except Unreadable as e:
        problems.append(str(e))
    if problems:
        raise BadTable(problems)
    texts = {name: [row[i] for row in kept] for i, name in enumerate(wanted)}
    return Table(header, lines, texts, short)


def safe_cell(value: object) -> object:
    """A text as a cell that spreadsheets display instead of evaluating: they treat text that begins
    with = + - or @ as a formula, which may open programs and addresses. Names of files, clips and
    classes are untrusted; numbers and other texts are unchanged.
    """
    if isinstance(value, str) and value[:1] in tuple("=+-@\t\r"):
        return f"'{value}"
    return value


def bare(name: str) -> str:
    """A column's name without blanks, and without quotes, which csv keeps after a blank."""
    name = name.strip("\ufeff \t\r\n")
    return name[1:-1].strip() if len(name) > 1 and name[0] == name[-1] == '"' else name
