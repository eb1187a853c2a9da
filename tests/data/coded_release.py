"""Miniature releases in the layouts that the public code of MEB reads: a workbook of the release's
columns, and textures that are moved by a known amount as frames.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import cv2
import numpy as np
import openpyxl

from tests.data import samm_release as mini

# of each release: its workbook, the header (None: a column without a name), the rows
BOOKS = {
    "casme": (
        "casme.xlsx",
        ("Subject", "Filename", None, "OnsetF", "ApexF1", "ApexF2", "OffsetF", None, "AU")
        + ("Emotion",),
        (
            (1, "EP01_5", None, 11, 14, 0, 17, None, "4+L10", "disgust"),
            (1, "EP03_02", None, 3, 6, 0, 9, None, 12, "happiness"),
            (7, "EP01_5", None, 5, 8, 0, 11, None, "1+2", "surprise"),
            (9, "EP07_1", None, 5, 8, 0, 11, None, "4", "tense"),
        ),
    ),
    "casme3a": (
        "cas(me)3_part_A_ME_label_JpgIndex_v2.xlsx",
        ("Subject", "Filename", "Onset", "Apex", "Offset", "AU", "Objective class", "emotion"),
        (
            ("spNO.1", "a", 20, 23, 26, "4", 3, "disgust"),
            ("spNO.1", "a", 40, 43, 46, "12", 1, "happy"),
            ("spNO.1", "b", 7, 10, 13, "R14", 7, "others"),
            ("spNO.12", "a", 7, 10, 13, "1+2", 2, "surprise"),
        ),
    ),
    "mmew": (
        "MMEW_Micro_Exp.xlsx",
        ("Subject", "Filename", "OnsetFrame", "ApexFrame", "OffsetFrame", "Action Units")
        + ("Estimated Emotion", "remarks"),
        (
            (1, "S1-001", 1, 4, 7, "12", "happiness", None),
            (1, "S1-002", 1, 4, 7, "4+7", "anger", None),
            (2, "S2-001", 1, 4, 7, "5", "surprise", None),
            (30, "S30-001", 1, 4, 7, "4", "others", None),
        ),
    ),
    "4dme": (
        "4DME_Labelling_Micro_release v1.xlsx",
        ("sub_ID", "fold_name", "Onset", "Apex", "Offset", "AUs", "Positive", "Negative")
        + ("Surprise", "Repression", "Others", "Emotion", "fold"),
        (
            (3, "3_2", 101, 104, 107, "AU4+AU7(k)", 0, 1, 0, 0, 0, "Negative", 1),
            (3, "3_4", 12, 15, 18, "AU12", 1, 0, 0, 0, 0, "Positive", 1),
            (14, "14_1", 5, 8, 11, "AU1+AU2", 0, 0, 1, 0, 0, "Surprise", 2),
            (14, "14_2", 5, 8, 11, "AU45(k)", 0, 0, 0, 0, 1, "Others", 2),
        ),
    ),
}


def write(
    root: Path, name: str, rows: Sequence[tuple] | None = None, folders: str = "ME_A_cropped"
) -> Path:
    """The release `name` under `root`; `folders`: of casme3a, 'part_A', whose videos hold several
    micro-expressions, 'ME_A' or 'ME_A_cropped', with a folder of each.
    """
    folder = root / name
    folder.mkdir(parents=True)
    file, header, clips = BOOKS[name]
    rows = clips if rows is None else rows
    book = openpyxl.Workbook()
    for cells in (header, *rows):
        book.active.append(cells)
    book.save(folder / file)
    seen: dict[Path, int] = {}
    for seed, row in enumerate(rows):
        cells = {str(column).casefold(): cell for column, cell in zip(header, row, strict=True)}
        place = folder / _place(name, cells, folders)
        if name == "casme3a" and folders != "part_A":
            seen[place] = seen.get(place, 0) + 1
            if seen[place] > 1:
                place = place.parent.with_name(f"{place.parent.name}{seen[place]}") / "color"
        place.mkdir(parents=True, exist_ok=True)
        onset, offset = (
            next(cells[n] for n in names if n in cells)
            for names in (
                ("onset", "onsetf", "onsetframe"),
                ("offset", "offsetf", "offsetframe"),
            )
        )
        for number, frame in _frames(seed, onset, offset):
            cv2.imwrite(str(place / f"img{number}.jpg"), frame)
    return folder


def _place(name: str, row: dict, folders: str) -> str:
    if name == "casme":
        return f"Cropped/sub{row['subject']:02}/{row['filename']}"
    if name == "casme3a":
        return f"{folders}/{row['subject']}/{row['filename']}/color"
    if name == "mmew":
        return f"Micro_Expression/{row['estimated emotion']}/{row['filename']}"
    return f"gray_micro_crop/{row['sub_id']}/{row['fold_name']}"


def _frames(seed: int, onset: int, offset: int) -> Iterator[tuple[int, np.ndarray]]:
    for number in range(onset, offset + 1):
        yield number, mini.moved(mini.texture(seed), min(number - onset, 3) / 2).astype(np.uint8)
