"""Finds the files of a release of micro-expression clips: its workbook, and the frames or published
flow maps of every clip, checked without decoding an image.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pandas as pd
from ml_collections import ConfigDict

from fexpr.data.preparation import alignment
from fexpr.data.releases import map_names, workbook
from fexpr.data.releases.clip_files import (
    find_frames,
    find_layout,
    find_maps,
    landmarks_of,
    read_landmarks,
)
from fexpr.data.releases.clip_release import Database, Release
from fexpr.data.releases.skipped_clips import SKIP, leave_out
from fexpr.errors import UserError
from fexpr.terminal import say


def survey(
    database: Database,
    folder: Path,
    config: ConfigDict,
    skipped: set[str],
    select: Callable[[pd.DataFrame, Path], pd.DataFrame] | None = None,
) -> Release:
    """Reads the workbook and finds every clip's files; nothing is decoded, so that mistakes are
    reported within a second.

    Args:
      config: `config.data`; its `layout`, `align`, `maps` and `map_scale` are read.
      skipped: ids of clips that the user leaves out.
      select: a function (the workbook's table with `id`, the workbook) -> the rows to use; by
          default all.

    Raises:
      UserError: anything wrong with config, workbook or files; all problems of a kind at once.
    """
    layout, frames, aligned = find_layout(database, folder, config.layout)
    if database.book is None:
        raise ValueError(f"{database.title} has no workbook")
    book = workbook.find_workbook(folder, database.book)
    table = workbook.read_workbook(book, database.book)
    for note in table.attrs["errata"] + (table.attrs["notes"] if layout == "frames" else []):
        say(note)
    table = table.assign(id=database.ids(table), map=database.map_names(table))
    names = set(table["map"])
    table = leave_out(select(table, book) if select else table, skipped, book)
    key, landmarks, csv = read_landmarks(folder, layout)
    maps, scale = map_names.asked_for(config)
    if layout == "flow":
        align, found = "flow", find_maps(folder / maps[0], table, names)
        places = dict(zip(table["id"], workbook.places(table), strict=True))
        files = map_names.stack_files(folder, maps, found, places, book)
        table = table[table["id"].isin(files)].reset_index(drop=True)
        landmarks = {clip: landmarks[name] for clip, name in found.items() if name in landmarks}
    else:
        align = alignment.choose(config.align, key == "clip", aligned, folder)
        table = _with_motion(database, table, book)
        files = find_frames(database, frames, table, map_names.moments(maps))
        landmarks = landmarks_of(table, landmarks, csv) if align == "landmarks" else {}
    if not files:
        raise UserError(
            f"no clip of {book} is left",
            fix="shorten config.data.skip_clips, or add the maps of other clips",
        )
    inputs = [
        book,
        *([csv] if landmarks else []),
        *(path for paths in files.values() for path in paths),
    ]
    return Release(folder, table, files, align, landmarks, inputs, maps, scale)


def _with_motion(database: Database, table: pd.DataFrame, book: Path) -> pd.DataFrame:
    """The rows with usable onset and apex; those for which the published workbook has none are left
    out, and this is printed.
    """
    hopeless = table["id"].isin(database.no_apex) & ~(table["apex"] > table["onset"]).fillna(
        False
    ).astype(bool)
    for place in workbook.places(table[hopeless], book):
        say(f"{place}: the workbook gives no apex after the onset; left out")
    table = table[~hopeless].reset_index(drop=True)
    problems = workbook.frame_problems(table)
    if problems:
        raise UserError(
            f"{book} has clips without a usable onset and apex",
            problems,
            f"correct the workbook, or {SKIP}",
        )
    return table
