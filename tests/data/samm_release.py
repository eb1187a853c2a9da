"""Miniature SAMM releases: textures that are moved by a known amount, in the release's own
layout.
"""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
from ml_collections import ConfigDict

from fexpr.data.dataset import Dataset
from fexpr.data.loaders import LOADERS
from fexpr.data.preparation import alignment
from fexpr.data.synthetic.samm_workbook import write_samm_workbook
from fexpr.errors import UserError

# subject, clip, onset, apex, offset, code
CLIPS = (
    ("006", "006_1_2", 10, 14, 18, "4+7"),
    ("006", "006_1_3", 30, 33, 36, "4B"),
    ("007", "007_2_1", 5, 9, 12, "L12 or L14"),
    ("011", "011_3_1", 100, 104, 109, "ref(7B)+4"),
)
SIDE = 48


def table(clips=CLIPS) -> pd.DataFrame:
    frame = pd.DataFrame(clips, columns=["subject", "clip", "onset", "apex", "offset", "code"])
    return frame.assign(emotion="Anger", objective_class=3)


def texture(seed: int, side: int = SIDE) -> np.ndarray:
    noise = cv2.GaussianBlur(
        np.random.default_rng(seed).normal(size=(side, side)).astype(np.float32), (0, 0), 2
    )
    return cv2.normalize(noise, None, 0, 255, cv2.NORM_MINMAX)


def moved(image: np.ndarray, amount: float) -> np.ndarray:
    """`amount` pixels to the right and half as much up, in the middle of the image."""
    side = len(image)
    y, x = np.mgrid[:side, :side].astype(np.float32)
    bump = amount * np.exp(-((x - side / 2) ** 2 + (y - side / 2) ** 2) / (side / 5) ** 2)
    return cv2.remap(
        image, x - bump, y + bump / 2, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT
    ).clip(0, 255)


def write_frames(
    root: Path, clips=CLIPS, side: int = SIDE, prefix: str = "", suffix: str = ".png"
) -> None:
    for seed, (subject, clip, onset, apex, offset, _) in enumerate(clips):
        folder = root / f"{prefix}{subject}" / clip
        folder.mkdir(parents=True)
        image = texture(seed, side)
        for number in range(onset, offset + 1):
            share = min(number - onset, apex - onset) / (apex - onset)
            cv2.imwrite(
                str(folder / f"{subject}_{number:05d}{suffix}"),
                moved(image, 2 * share).astype(np.uint8),
            )


def write_maps(root: Path, clips=CLIPS, size: int = 28) -> None:
    root.mkdir(parents=True)
    for subject, clip, *_ in clips:
        # OpenCV writes B, G, R
        cv2.imwrite(str(root / f"{subject}_{clip}.png"), ramp(size)[..., ::-1])


def ramp(size: int = 28) -> np.ndarray:
    """A map whose channels differ: u rises to the right, v downwards, strain is 7 everywhere."""
    y, x = np.mgrid[:size, :size]
    return np.stack([x * 9, y * 9, np.full_like(x, 7)], -1).astype(np.uint8)


def write_landmarks(path: Path, key: str, points: dict[str, np.ndarray]) -> None:
    lines = [
        ",".join([key, *alignment.COLUMNS]),
        *(",".join([name, *map(str, p.ravel())]) for name, p in points.items()),
    ]
    path.write_text("\n".join(lines) + "\n")


def write_release(root: Path, layout: str = "normalised", clips=CLIPS) -> Path:
    """A release under `root`/samm; `layout` is 'normalised', 'frames' or 'flow'."""
    folder = root / "samm"
    if layout == "normalised":
        write_frames(folder / "SAMM_Normalized_TM", clips, prefix="sub")
    elif layout == "frames":
        write_frames(folder / "SAMM", clips, side=288, suffix=".jpg")
        points = (alignment.TEMPLATE * 1.1 + 20).astype(np.float32)
        write_landmarks(folder / "landmarks.csv", "clip", {clip[1]: points for clip in clips})
    else:
        write_maps(folder / "flow", clips)
    write_samm_workbook(folder / "SAMM_Micro_FACS_Codes_v2.xlsx", table(clips))
    return folder


def rewrite(folder: Path, **cells: dict) -> None:
    """Writes the workbook of CLIPS anew, with other values: column={clip: value}."""
    frame = table().astype(object)
    for column, values in cells.items():
        for clip, value in values.items():
            frame.loc[frame["clip"] == clip, column] = value
    write_samm_workbook(folder / "SAMM_Micro_FACS_Codes_v2.xlsx", frame)


def config(root: Path | str = "", **changes: object) -> ConfigDict:
    fields = {
        "name": "samm",
        "root": str(root),
        "source": "auto",
        "layout": "auto",
        "image_size": 28,
        "align": "auto",
        "vocabulary": "data",
        "min_positives": 1,
        "alternatives": "first",
        "references": "absent",
        "uncertain": "present",
        "skip_clips": "",
        "synthetic_subjects": 2,
        "synthetic_clips": 3,
        "synthetic_seed": 0,
    }
    return ConfigDict({**fields, **changes})


def load(root: Path | str, **changes: object) -> Dataset:
    return LOADERS["samm"](config(root, **changes))


def message(root: Path | str, **changes: object) -> str:
    """What a load that must fail says."""
    with pytest.raises(UserError) as e:
        load(root, **changes)
    return e.value.text()
