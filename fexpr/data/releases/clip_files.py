"""Finds the files of each clip of a release: its frames or published maps, and its landmarks."""

from __future__ import annotations

import filecmp
import glob
import re
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from fexpr.data.preparation import alignment, prepare
from fexpr.data.releases import map_names, workbook, workbook_format
from fexpr.data.releases.clip_release import Database
from fexpr.data.releases.map_names import MAPS
from fexpr.data.releases.skipped_clips import SKIP
from fexpr.errors import UserError
from fexpr.storage import bounded
from fexpr.terminal import say

if TYPE_CHECKING:  # checked in the tests (tests/conftest.py)
    from jaxtyping import Float32

LAYOUTS = ("auto", "frames", "flow")
IMAGES = (".jpg", ".jpeg", ".png", ".bmp")
COPY = re.compile(r"\([0-9]+\)$|(^| - |[ _])copy( ?\([0-9]+\))?$", re.IGNORECASE)


def find_layout(database: Database, folder: Path, wanted: str) -> tuple[str, Path, bool]:
    """The layout ('frames' or 'flow'), the folder of the subjects or of the maps, and whether
    frames show only the aligned face. Frames are preferred, as they contain more.

    Raises:
      UserError: unknown layout, or none of the folders exists.
    """
    if wanted not in LAYOUTS:
        raise UserError(
            f"config.data.layout is {wanted!r}", fix=f"set it to one of {', '.join(LAYOUTS)}"
        )
    candidates = [("frames", folder / name, aligned) for name, aligned in database.frames] + [
        ("flow", folder / MAPS, True)
    ]
    candidates = [candidate for candidate in candidates if wanted in ("auto", candidate[0])]
    for candidate in candidates:
        if bounded.is_folder(candidate[1]):
            return candidate
    looked_for = [f"{path} ({layout})" for layout, path, _ in candidates]
    title = f"{folder} contains none of the folders that a {database.title} release is read from"
    raise UserError(
        title,
        [*looked_for, f"it {prepare.contents(folder)}"],
        "lay the release out as docs/data.md shows",
    )


def read_landmarks(
    folder: Path, layout: str
) -> tuple[str, dict[str, Float32[np.ndarray, "5 2"]], Path]:
    """The kind of name in the rows of the folder's landmarks.csv, the rows, and the file; without
    rows if they do not fit the layout.
    """
    csv = folder / "landmarks.csv"
    key, landmarks = alignment.read_landmarks(csv) if bounded.is_there(csv) else ("", {})
    if key and (key == "flow") != (layout == "flow"):
        say(
            f"{csv} gives landmarks by {key}: they cannot be used with the layout {layout!r} and "
            "are ignored"
        )
        return "", {}, csv
    return key, landmarks, csv


def find_maps(folder: Path, table: pd.DataFrame, known: set[str]) -> dict[str, str]:
    """A dict from id to the name of the published map, in the table's order. A clip may lack a map,
    but a map of an unknown clip is an error.
    """
    if not bounded.is_folder(folder):
        raise UserError(
            f"{folder} does not exist",
            [f"{folder.parent} {prepare.contents(folder.parent)}"],
            "name folders of maps in config.data.maps",
        )
    maps = {
        p.stem.removeprefix("sub"): p
        for p in sorted(folder.iterdir())
        if p.suffix.lower() == ".png" and not bounded.is_hidden(p)
    }
    named = "a map is named <subject>_<clip>.png, for example 006_006_1_2.png"
    if not maps:
        raise UserError(f"{folder} contains no maps", fix=named)
    strange = [path.name for stem, path in maps.items() if stem not in known]
    if strange:
        raise UserError(
            f"{folder} contains maps of clips that are not in the workbook",
            strange,
            f"rename or remove them; {named}",
        )
    pairs = zip(table["id"], table["map"], strict=True)
    files = {id_: maps[name].name for id_, name in pairs if name in maps}
    if len(files) < len(table):
        say(
            f"{len(table) - len(files)} of {len(table)} clips of the workbook have no flow "
            "map and are left out"
        )
    return files


def find_frames(
    database: Database, root: Path, table: pd.DataFrame, moments: tuple[int | None, ...]
) -> dict[str, tuple[Path, ...]]:
    """A dict from id to the onset frame and those of `moments` (map_names); every clip must have
    all of them.
    """
    subjects, files, problems = {}, {}, []
    for path in bounded.folders_among(sorted(root.iterdir())):
        if subjects.setdefault(_person(path.name), path) != path:
            first = subjects[_person(path.name)].name
            problems.append(f"the folders {first} and {path.name} are of one person: merge them")
    rows = [{str(name): v for name, v in row.items()} for row in table.to_dict("records")]
    for place, row in zip(workbook.places(table), rows, strict=True):
        numbers = {"onset": int(row["onset"]), "apex": int(row["apex"])}
        subject = subjects.get(_person(row["subject"]), root / row["subject"]).name
        folder, frames, twice = _frames_of(
            database, root, row | {"subject": subject}, set(numbers.values())
        )
        if any(moments) and not (pd.notna(row["offset"]) and row["offset"] > row["onset"]):
            problems.append(
                f"{place}: no offset frame after the onset, which config.data.maps needs"
            )
            continue
        if not frames:
            problems.append(
                f"{place}: {folder} "
                + ("contains no frames" if folder.is_dir() else "does not exist")
            )
            continue
        held = f"{folder} holds frames {min(frames)}..{max(frames)}"
        problems += [
            f"{place}: no {name} frame {n}; {held}"
            for name, n in numbers.items()
            if n not in frames
        ]
        problems += [
            f"{place}: two files are {name} frame {n} in {folder}"
            for name, n in numbers.items()
            if n in twice
        ]
        if numbers["onset"] in frames and numbers["apex"] in frames:
            onset = numbers["onset"]
            files[row["id"]] = (
                frames[onset],
                *(
                    frames[numbers["apex"]]
                    if percent is None
                    else map_names.frame_at(frames, onset, int(row["offset"]), percent)
                    for percent in moments
                ),
            )
    if problems:
        raise UserError(
            f"clips of the workbook lack frames in {root}",
            problems,
            f"copy the missing frames, or {SKIP}",
        )
    return files


def _frames_of(
    database: Database, root: Path, row: dict[str, object], wanted: set[int]
) -> tuple[Path, dict[int, Path], set[int]]:
    """The folder with a clip's frames, the frames by number, and the numbers with two different
    files; if no place has the frames `wanted`, the first that exists.
    """
    escaped = {name: glob.escape(str(value)) for name, value in row.items()}
    candidates = []
    for pattern in database.places:
        folders = bounded.folders_among(bounded.find(root, pattern.format_map(escaped)))
        found = [(folder, *numbered_frames(folder)) for folder in folders]
        holding = [place for place in found if wanted <= place[1].keys()]
        if holding:
            folder, frames, twice = holding[0]
            # frames of a clip that were copied from its video are the same in both
            # places
            different = {
                n
                for _, others, _ in holding[1:]
                for n in wanted
                if not filecmp.cmp(frames[n], others[n], shallow=False)
            }
            return folder, frames, twice | different
        candidates += found
    if candidates:
        return candidates[0]
    return root / database.places[0].format_map(row), {}, set()


def _person(name: str) -> str:
    """The person of a folder's name: '006', 'sub006', 's6' and '6' are the same."""
    return workbook_format.canonical_subject(name, str).casefold()


def numbered_frames(folder: Path) -> tuple[dict[int, Path], set[int]]:
    """Frame number (the last digits of the name) -> file, and the numbers that two files have. A
    file manager's copies ('006_00010 (1).png', 'img37 - Copy.jpg') and hidden files are ignored.
    """
    images = (
        sorted(
            p
            for p in folder.iterdir()
            if p.suffix.lower() in IMAGES and not bounded.is_hidden(p) and not COPY.search(p.stem)
        )
        if bounded.is_folder(folder)
        else []
    )
    numbered = [
        (int(digits[-1]), path) for path in images if (digits := re.findall(r"[0-9]+", path.stem))
    ]
    return dict(numbered), {
        number for number, count in Counter(number for number, _ in numbered).items() if count > 1
    }


def landmarks_of(
    table: pd.DataFrame, landmarks: dict[str, Float32[np.ndarray, "5 2"]], csv: Path
) -> dict[str, Float32[np.ndarray, "5 2"]]:
    """The landmarks [5, 2] of the clips of `table`, by id.

    Raises:
      UserError: `csv` lacks some of them.
    """
    places = zip(workbook.places(table), table["id"], strict=True)
    missing = [f"{place}: no row" for place, clip in places if clip not in landmarks]
    if missing:
        raise UserError(f"{csv} lacks clips of the workbook", missing, f"add them, or {SKIP}")
    return {clip: landmarks[clip] for clip in table["id"]}
