"""Miniature CASME II and SMIC releases, and the challenge's lists of flow maps, each in its
release's own layout.
"""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import openpyxl

from tests.data import samm_release as mini

HEADER = (
    "Subject",
    "Filename",
    None,
    "OnsetFrame",
    "ApexFrame",
    "OffsetFrame",
    None,
    "Action Units",
    "Estimated Emotion",
)

# subject as the workbook has it, clip, onset, apex, offset, code, emotion; two subjects share a
# clip's name, as in the release
CLIPS = (
    (1, "EP02_01f", 46, 50, 54, "12", "happiness"),
    (1, "EP19_05f", 9, 12, 15, "4+L10", "disgust"),
    (2, "EP02_01f", 30, 34, 38, "AU1+2", "surprise"),
    (2, "EP03_02", 5, 8, 11, 4, "repression"),
    (4, "EP12_01f", 20, "/", 26, "4?", "disgust"),
    (5, "EP13_01", 3, 6, 9, "?", "others"),
)


def write_workbook(folder: Path, clips=CLIPS) -> Path:
    book = openpyxl.Workbook()
    book.active.append(HEADER)
    for subject, clip, onset, apex, offset, code, emotion in clips:
        book.active.append((subject, clip, None, onset, apex, offset, None, code, emotion))
    path = folder / "CASME2-coding-20140508.xlsx"
    book.save(path)
    return path


def write_casme2(root: Path, clips=CLIPS) -> Path:
    folder = root / "casme2"
    for seed, (subject, clip, onset, _, offset, *_) in enumerate(clips):
        place = folder / "Cropped" / f"sub{subject:02}" / clip
        place.mkdir(parents=True)
        for number in range(onset, offset + 1):
            frame = mini.moved(mini.texture(seed), min(number - onset, 3) / 2).astype(np.uint8)
            cv2.imwrite(str(place / f"reg_img{number}.jpg"), frame)
    write_workbook(folder, clips)
    return folder


def write_smic(
    root: Path,
    clips=(("s1", "negative", "s1_ne_01"), ("s3", "surprise", "s3_sur_02")),
    frames: int = 5,
) -> Path:
    for seed, (subject, emotion, clip) in enumerate(clips):
        place = root / "smic" / "SMIC_all_cropped" / "HS" / subject / "micro" / emotion / clip
        place.mkdir(parents=True)
        for number in range(frames):
            frame = mini.moved(mini.texture(seed), number / 2).astype(np.uint8)
            cv2.imwrite(str(place / f"reg_image{32757 + number:06d}.bmp"), frame)
    return root / "smic"


def write_list(root: Path, name: str, rows: list[tuple[str, str, str]]) -> Path:
    """Maps and megc2019.csv of (subject, clip, class)."""
    folder = root / name
    (folder / "flow").mkdir(parents=True)
    lines = ["dataset,subject,clip,emotion,flow"]
    for i, (subject, clip, emotion) in enumerate(rows):
        lines.append(f"{name},{subject},{clip},{emotion},{subject}_{clip}.png")
        cv2.imwrite(
            str(folder / "flow" / f"{subject}_{clip}.png"), np.roll(mini.ramp(), i, 0)[..., ::-1]
        )
    (folder / "megc2019.csv").write_text("\n".join(lines) + "\n")
    return folder
