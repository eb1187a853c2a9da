"""The MEGC2019 composite (See et al., FG 2019): SAMM, CASME II and SMIC in three classes, as many
of the three as are on the disk; further releases in the same classes on request.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
from ml_collections import ConfigDict

from fexpr.config import allowed
from fexpr.data.data_config import DataConfig
from fexpr.data.dataset import Dataset
from fexpr.data.preparation import regions
from fexpr.data.preparation.prepare import resolve_source
from fexpr.data.releases import composite, flow_clips, smic
from fexpr.data.releases.casme import CASME
from fexpr.data.releases.casme2 import CASME2
from fexpr.data.releases.casme3a import CASME3A
from fexpr.data.releases.clip_files import find_layout, read_landmarks
from fexpr.data.releases.clip_release import Database, Release
from fexpr.data.releases.four_dme import FOUR_DME
from fexpr.data.releases.map_names import MAPS, asked_for, stack_files
from fexpr.data.releases.mmew import MMEW
from fexpr.data.releases.samm import SAMM
from fexpr.data.releases.skipped_clips import leave_out
from fexpr.data.releases.workbook_format import canonical_subject
from fexpr.data.releases.workbook_sheets import spreadsheets
from fexpr.errors import UserError
from fexpr.storage import bounded, delimited
from fexpr.storage.delimited import BadTable
from fexpr.terminal import say

CLASSES = ("negative", "positive", "surprise")
STANDARD = ("samm", "casme2", "smic")  # the challenge's own
DATABASES = {
    database.name: database
    for database in (SAMM, CASME2, smic.SMIC, CASME, CASME3A, MMEW, FOUR_DME)
}
# clips of each class
OFFICIAL = {"samm": (92, 26, 15), "casme2": (88, 32, 25), "smic": (70, 51, 43)}
SUBJECTS = {"samm": 28, "casme2": 24, "smic": 16}
# the challenge's own list of a release's clips; where it is missing, the workbook's emotions are
# mapped
LIST = "megc2019.csv"
COLUMNS = ("dataset", "subject", "clip", "emotion", "flow")

# Emotions of the workbooks, in small letters. Clips of any other emotion ('other', 'others') do not
# take part, nor do CASME II's few of fear and sadness.
_NEGATIVE = dict.fromkeys(("anger", "contempt", "disgust", "fear", "sadness"), "negative")
EMOTIONS = {
    "samm": {**_NEGATIVE, "happiness": "positive", "surprise": "surprise"},
    "casme2": {
        "disgust": "negative",
        "repression": "negative",
        "happiness": "positive",
        "surprise": "surprise",
    },
}
# releases that the challenge did not use, by the same rule
FURTHER = {
    **_NEGATIVE,
    "sad": "negative",
    "repression": "negative",
    "negative": "negative",
    "happiness": "positive",
    "happy": "positive",
    "positive": "positive",
    "surprise": "surprise",
}


def load(config: ConfigDict) -> Dataset:
    """Reads the composite; flow maps are made once for each release and kept in the cache.

    Args:
      config: `config.data` (fexpr/data/data_config.py documents the fields); `subsets` and
          `regions` are this loader's own.

    Returns:
      One row per clip, release after release: images uint8 [N, S, S, 3 x maps] (u, v, optical
      strain of each map; the whole face, or four regions of it joined), labels int32 [N] (ids of
      `CLASSES`), groups 'casme2/sub01', ids 'casme2/sub01_EP02_01f'; extras `dataset`, `file`
      (flow map or apex frame, below the release's folder) and, where any are known,
      `landmarks` float32 [N, 5, 2], (x, y) in pixels of the 224x224 face, NaN for the clips
      without.

    Raises:
      UserError: anything wrong with config, lists, workbooks or files; all problems of one kind in
          one release are listed together.
    """
    known = allowed(DataConfig, "regions")
    if config.regions not in known:
        raise UserError(
            f"config.data.regions is {config.regions!r}", fix=f"set it to one of {', '.join(known)}"
        )
    if config.regions == "landmarks" and config.image_size % 4:
        raise UserError(
            f"config.data.image_size is {config.image_size}",
            fix="regions of landmarks need a size divisible by 4",
        )
    is_synthetic = resolve_source(config) == "synthetic"
    rows = composite.read(_releases(config), config.image_size, is_synthetic)
    if config.regions == "landmarks":
        filled = _filled(rows.landmarks, rows.table["dataset"].to_numpy(str))
        rows = dataclasses.replace(rows, images=regions.join_regions(rows.images, filled))
    if not is_synthetic:
        _compare_counts(rows.table)
    labels = np.array([CLASSES.index(emotion) for emotion in rows.table["emotion"]], np.int32)
    return rows.dataset(labels, CLASSES)


def folders(config: ConfigDict) -> dict[str, tuple[Database, Path]]:
    """Release name -> how its files are laid out, and its folder, for the releases of the composite
    in `config.data`.
    """
    is_synthetic = resolve_source(config) == "synthetic"
    return {
        name: (composite.SYNTHETIC_LAYOUT if is_synthetic else DATABASES[name], release.folder)
        for name, release in _releases(config).items()
    }


def _releases(config: ConfigDict) -> dict[str, Release]:
    if resolve_source(config) == "synthetic":
        return composite.synthetic(
            config, partial(_select, composite.SYNTHETIC_LAYOUT, None, Path(LIST))
        )
    survey = partial(_survey, config)
    return composite.surveys(config, DATABASES, survey, STANDARD)


def _survey(config: ConfigDict, database: Database, folder: Path, skipped: set[str]) -> Release:
    """One release's clips with their class as `emotion`, from the challenge's list, the workbook or
    SMIC's folders.
    """
    layout, *_ = find_layout(database, folder, config.layout)
    path = folder / LIST
    listed = _read_list(path, database) if bounded.is_there(path) else None
    if layout == "flow" and listed is not None:
        table = leave_out(listed, skipped, path)
        return _listed_maps(folder, config, table)
    if layout == "flow" and (database.book is None or not spreadsheets(folder)):
        fix = f"its columns are {','.join(COLUMNS)}, one row for each map in {folder / MAPS}"
        raise UserError(f"{path} is missing, which gives the classes of the maps", fix=fix)
    if database.book is None:
        select = None if listed is None else partial(_listed_clips, listed, path)
        release = smic.survey(folder, config, skipped, select)
        unknown = sorted(set(release.table["emotion"]) - set(CLASSES))
        if unknown:
            raise UserError(
                f"{folder} has folders of classes that are not known",
                unknown,
                f"expected {', '.join(CLASSES)}",
            )
        return release
    return flow_clips.survey(
        database, folder, config, skipped, partial(_select, database, listed, path)
    )


def _select(
    database: Database, listed: pd.DataFrame | None, path: Path, table: pd.DataFrame, book: Path
) -> pd.DataFrame:
    """The workbook's rows that belong to the composite, with their class as `emotion`."""
    if listed is None:
        classes = table["emotion"].str.lower().map(EMOTIONS.get(database.name, FURTHER))
        others = Counter(table["emotion"][classes.isna()])
        if others:
            text = ", ".join(f"{name or 'none'} ({n})" for name, n in others.most_common())
            say(f"{database.title}: emotions that are left out: {text}")
    else:
        strange = [
            f"line {row.row}: {row.id}"
            for row in listed[~listed["id"].isin(table["id"])].itertuples()
        ]
        if strange:
            raise UserError(
                f"{path} lists clips that {book} does not have", strange, "correct the list"
            )
        classes = table["id"].map(dict(zip(listed["id"], listed["emotion"], strict=True)))
    return table.assign(emotion=classes)[classes.notna()].reset_index(drop=True)


def _listed_clips(listed: pd.DataFrame, path: Path, table: pd.DataFrame) -> pd.DataFrame:
    """The rows of folders of frames that the challenge's list names, with the list's classes;
    prints where list and folders differ.
    """
    folders = dict(zip(table["id"], table["emotion"], strict=True))
    for row in listed.itertuples():
        if row.id not in folders:
            say(f"{path} line {row.row}: there are no frames of {row.id}", style="yellow")
        elif folders[row.id] != row.emotion:
            say(
                f"{path} line {row.row}: {row.id} is {row.emotion}, its folder says "
                f"{folders[row.id]}; the list's class is used",
                style="yellow",
            )
    classes = table["id"].map(dict(zip(listed["id"], listed["emotion"], strict=True)))
    if left_out := int(classes.isna().sum()):
        say(f"smic: {left_out:,} clips are not in {path.name} and take no part")
    return table.assign(emotion=classes)[classes.notna()].reset_index(drop=True)


def _read_list(path: Path, database: Database) -> pd.DataFrame:
    """The rows of a release's megc2019.csv with `id` and `row` (the line).

    Raises:
      UserError: columns are missing; or rows of another data set, without subject or clip, with an
          unknown class, or with a repeated clip (all are listed).
    """
    try:
        found = delimited.read(path, COLUMNS)
    except BadTable as e:
        raise UserError(
            f"{path} is not a list of clips", e.problems, f"the columns are {','.join(COLUMNS)}"
        ) from e
    rows = [
        {**row, "subject": canonical_subject(row["subject"], database.subject)}
        for _, row in found.rows()
    ]
    problems, first = [], {}
    for line, row in zip(found.lines, rows, strict=True):
        bad = [f"no {name}" for name in ("subject", "clip", "flow") if not row[name]]
        bad += [
            f"{name} {row[name]!r} {problem}"
            for name in ("subject", "clip", "flow")
            if (problem := bounded.name_problem(row[name]))
        ]
        if row["dataset"] != database.name:
            bad.append(f"dataset is {row['dataset']!r}, expected {database.name!r}")
        if row["emotion"] not in CLASSES:
            bad.append(f"emotion is {row['emotion']!r}, expected one of {', '.join(CLASSES)}")
        key = row["subject"], row["clip"]
        if first.setdefault(key, line) != line:
            bad.append(f"this clip is already in line {first[key]}")
        problems += [f"line {line}, {row['subject']} {row['clip']}: {problem}" for problem in bad]
    if problems or not rows:
        raise UserError(
            f"{path} cannot be used", problems or ["it has no rows"], "correct these rows"
        )
    table = pd.DataFrame(rows, dtype=object)
    return table.assign(id=database.ids(table), row=found.lines)


def _listed_maps(folder: Path, config: ConfigDict, table: pd.DataFrame) -> Release:
    """The release's published maps as the challenge's list names them."""
    (maps, scale), names = asked_for(config), dict(zip(table["id"], table["flow"], strict=True))
    places = {id_: f"line {row}" for id_, row in zip(table["id"], table["row"], strict=True)}
    files = stack_files(folder, maps, names, places, folder / LIST)
    if not files:
        raise UserError(f"no clip of {folder / LIST} is left", fix="shorten config.data.skip_clips")
    _, landmarks, path = read_landmarks(folder, "flow")
    points = {clip: landmarks[name] for clip, name in names.items() if name in landmarks}
    read = [path for paths in files.values() for path in paths]
    inputs = [folder / LIST, *([path] if points else []), *read]
    return Release(folder, table, files, "flow", points, inputs, maps, scale)


def _filled(landmarks: np.ndarray, dataset: np.ndarray) -> np.ndarray:
    """Landmarks for every clip: a clip without landmarks gets the mean of its data set, as the
    protocol tests every clip.
    """
    filled, bare = landmarks.copy(), []
    for name in dict.fromkeys(dataset.tolist()):
        rows = dataset == name
        missing = np.isnan(landmarks[rows]).any((1, 2)).sum()
        if missing == rows.sum():
            bare.append(f"{name}: none of its {missing} clips has landmarks")
            continue
        if missing:
            say(
                f"{name}: {missing} of {rows.sum()} clips have no landmarks; their regions are "
                "placed at the mean landmarks of the other clips"
            )
        filled[rows] = regions.fill_landmarks(landmarks[rows])
    if bare:
        fix = (
            "add landmarks.csv (docs/data.md), leave the data set out with config.data.subsets, "
            "or set config.data.regions=whole"
        )
        raise UserError("config.data.regions is 'landmarks', but there are no landmarks", bare, fix)
    return filled


def _compare_counts(tables: pd.DataFrame) -> None:
    """Prints where the clips differ from those of the challenge."""
    for name, rows in tables.groupby("dataset", sort=False):
        name = str(name)
        if name in OFFICIAL:
            expected: dict[str, int] = dict(zip(CLASSES, OFFICIAL[name], strict=True))
            people = rows["subject"].nunique(), SUBJECTS[name]
            composite.compare_counts(name, Counter(rows["emotion"]), expected, people, "MEGC2019")
