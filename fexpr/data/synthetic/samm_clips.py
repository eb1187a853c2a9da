"""A synthetic SAMM release, for machines without data: drawn subjects, coded micro-expressions, the
real release's own layout.

It exercises the whole path from raw data, and does not replace real results. It is realistic in
that subjects differ in face, look, place, noise and way of moving, heads drift, some clips contain
a blink, coders leave out or misjudge things, and rare action units stay rare; it is learnable in
that the motion from onset to apex follows from the coded action units (drawn_face.py).
"""

from __future__ import annotations

import dataclasses
import math
import os
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from itertools import repeat
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np
import pandas as pd

from fexpr import terminal
from fexpr.data.synthetic.drawn_face import (
    HEIGHT,
    WIDTH,
    Face,
    Unit,
    folds,
    lid_closure,
    motion,
    random_face,
)
from fexpr.data.synthetic.drawn_portrait import Portrait
from fexpr.data.synthetic.samm_workbook import write_samm_workbook
from fexpr.errors import UserError
from fexpr.storage.run import atomic_path

if TYPE_CHECKING:  # checked in the tests (tests/conftest.py)
    from jaxtyping import Int, UInt8

JPEG_QUALITY = 92
POINTS = ("left_eye", "right_eye", "nose", "mouth_left", "mouth_right")
README = """SYNTHETIC DATA. No person is shown here, and no result on it says anything about people.

fexpr drew this release (fexpr/data/synthetic/samm_clips.py) in the layout of the SAMM
micro-expression database, because no real one was found: frames in SAMM/<subject>/<clip>/, FACS
codes in SAMM_Micro_FACS_Codes_v2.xlsx, face landmarks of each clip's onset frame, in pixels, in
landmarks.csv (left is the image's left). {clips} clips of {subjects} subjects, seed {seed}.
"""

# Action units that occur together, how often in 160 clips (long-tailed, as in SAMM), the emotion
# they are taken for, and their objective class (Davison et al., arXiv 1708.07549, table 2: I
# happiness, II surprise, III anger, IV disgust, V sadness, VI fear, VII the rest).
COMBINATIONS: tuple[tuple[tuple[int, ...], int, str, int], ...] = (
    ((7,), 20, "Anger", 7),
    ((4,), 15, "Anger", 3),
    ((12,), 13, "Happiness", 1),
    ((2,), 11, "Surprise", 7),
    ((4, 7), 9, "Anger", 3),
    ((5,), 7, "Surprise", 2),
    ((14,), 7, "Contempt", 7),
    ((7, 43), 5, "Other", 7),
    ((1, 2), 5, "Surprise", 2),
    ((24,), 5, "Anger", 7),
    ((6, 12), 5, "Happiness", 1),
    ((20,), 4, "Fear", 6),
    ((10,), 4, "Disgust", 4),
    ((17,), 4, "Other", 7),
    ((), 4, "Other", 7),
    ((7, 12), 3, "Happiness", 1),
    ((9,), 3, "Disgust", 4),
    ((15, 17), 3, "Sadness", 5),
    ((25, 26), 3, "Surprise", 2),
    ((4, 7, 43), 3, "Anger", 7),
    ((1,), 2, "Sadness", 5),
    ((12, 14), 2, "Contempt", 7),
    ((12, 24), 2, "Other", 7),
    ((4, 9), 2, "Disgust", 4),
    ((14, 17), 2, "Contempt", 7),
    ((12, 25), 2, "Happiness", 7),
    ((10, 25, 26), 2, "Disgust", 7),
    ((5, 20, 25, 26), 2, "Fear", 7),
    ((18, 39), 2, "Other", 7),
    ((6, 12, 15), 1, "Other", 7),
    ((4, 6, 7, 9, 43), 1, "Disgust", 7),
    ((18, 25), 1, "Other", 7),
    ((1, 2, 14), 1, "Other", 7),
    ((26,), 1, "Surprise", 7),
)
# how often an action unit is unilateral
ONE_SIDED = {2: 0.6, 14: 0.6, 10: 0.4, 12: 0.3, 1: 0.2, 20: 0.2, 4: 0.08, 7: 0.08}
ASYMMETRIC = {12: 0.15, 7: 0.08, 14: 0.1, 1: 0.15}
MISTAKEN = {12: 14, 14: 12}  # alternative units that an unsure coder adds


@dataclasses.dataclass(frozen=True)
class Clip:
    """One clip of the plan: what is drawn (`units`; `resting` ones are already present before the
    onset) and what was coded.
    """

    subject: str
    name: str
    onset: int
    apex: int
    offset: int
    units: tuple[Unit, ...]
    resting: tuple[Unit, ...]
    code: str
    emotion: str
    objective_class: int


def write_samm(folder: Path, subjects: int = 24, clips: int = 160, seed: int = 0) -> None:
    """Draws a release under `folder`: SAMM/<subject>/<clip>/<subject>_<frame>.jpg, workbook,
    landmarks.csv, README.txt.

    Frames are grey JPEGs of 320x288, every one from onset to offset. The same arguments give the
    same bytes (the workbook: the same values). The release appears as a whole or not at all.

    Raises:
      ValueError: fewer than one subject, or fewer clips than subjects.
      UserError: `folder` exists and is not empty, or cannot be written to.
    """
    folder = Path(folder)
    if folder.exists() and any(folder.iterdir()):
        raise UserError(
            f"{folder} is not empty, and the synthetic release goes to a new folder",
            fix="remove it or name another",
        )
    plan = plan_clips(subjects, clips, seed)
    faces = {
        name: random_face(np.random.default_rng([seed, int(name)]))
        for name in sorted({clip.subject for clip in plan})
    }
    with (
        atomic_path(folder) as partial,
        ThreadPoolExecutor(os.cpu_count()) as pool,
        terminal.progress("drawing the synthetic SAMM release", total=len(plan)) as advance,
    ):
        portraits = dict(zip(faces, pool.map(Portrait, faces.values()), strict=True))
        seeds = [[seed, int(clip.subject), i] for i, clip in enumerate(plan)]
        jobs = pool.map(
            _write_clip, repeat(partial), plan, [portraits[clip.subject] for clip in plan], seeds
        )
        rows = []
        for clip, landmarks in zip(plan, jobs, strict=True):
            rows.append([clip.name, *landmarks.ravel()])
            advance(note=clip.name)
        columns = ["clip"] + [f"{point}_{axis}" for point in POINTS for axis in "xy"]
        pd.DataFrame(rows, columns=columns).to_csv(partial / "landmarks.csv", index=False)
        write_samm_workbook(partial / "SAMM_Micro_FACS_Codes_v2.xlsx", workbook_table(plan))
        (partial / "README.txt").write_text(
            README.format(clips=clips, subjects=subjects, seed=seed), encoding="utf-8"
        )


def workbook_table(plan: Iterable[Clip]) -> pd.DataFrame:
    """The plan as the rows of the workbook, one per clip."""
    fields = ["subject", "name", "onset", "apex", "offset", "code", "emotion", "objective_class"]
    table = pd.DataFrame(
        [[getattr(clip, field) for field in fields] for clip in plan], columns=fields
    )
    return table.rename(columns={"name": "clip"})


def plan_clips(subjects: int, clips: int, seed: int) -> list[Clip]:
    """Plans which subject shows which combination of units, with long-tailed shares of both,
    assigned at random; sorted by subject and clip.

    Raises:
      ValueError: fewer than one subject, or fewer clips than subjects.
    """
    if not 1 <= subjects <= clips:
        raise ValueError(
            f"a release needs at least one subject and a clip for each, got {subjects} "
            f"subjects and {clips} clips"
        )
    rng = np.random.default_rng(seed)
    deck = np.repeat(
        np.arange(len(COMBINATIONS)), apportion(clips, [count for _, count, _, _ in COMBINATIONS])
    )
    owners = np.repeat(
        np.arange(subjects), 1 + apportion(clips - subjects, 1 / (2 + rng.permutation(subjects)))
    )
    plan = []
    for owner, card in zip(owners, rng.permutation(deck), strict=True):
        subject, task = f"{6 + owner:03d}", int(rng.integers(1, 8))
        number = 1 + sum(
            clip.subject == subject and clip.name.startswith(f"{subject}_{task}_") for clip in plan
        )
        aus, _, emotion, objective_class = COMBINATIONS[card]
        plan.append(
            _clip(rng, subject, f"{subject}_{task}_{number}", aus, emotion, objective_class)
        )
    return sorted(plan, key=lambda clip: clip.name)


def apportion(total: int | np.integer, weights: Iterable[float]) -> Int[np.ndarray, " K"]:
    """Whole numbers that sum to `total`, in proportion to `weights` (largest remainder, ties to the
    first), int64 [len(weights)].
    """
    weights = np.asarray(list(weights), np.float64)
    exact = total * weights / np.sum(weights)
    shares = np.floor(exact).astype(np.int64)
    shares[np.argsort(shares - exact, kind="stable")[: total - shares.sum()]] += 1
    return shares


def _clip(
    rng: np.random.Generator,
    subject: str,
    name: str,
    aus: tuple[int, ...],
    emotion: str,
    objective_class: int,
) -> Clip:
    """Decides how the clip's action units are shown, when, and what the coder writes."""
    onset = int(rng.integers(100, 9900))
    offset = onset + int(rng.integers(6, 9))
    apex = onset + int(rng.integers(3, 5))
    drawn, resting, terms = [], [], []
    for place, au in enumerate(aus):
        unit, term = _coded_unit(rng, au, only=len(aus) == 1)
        if place and au in (6, 7, 43) and rng.random() < 0.12:
            resting.append(unit)
            terms.append(f"ref({term})")
        else:
            drawn.append(unit)
            terms.append(term)
    if rng.random() < 0.15:
        emotion = "Other"
    return Clip(
        subject,
        name,
        onset,
        apex,
        offset,
        tuple(drawn),
        tuple(resting),
        "+".join(terms),
        emotion,
        objective_class,
    )


def _coded_unit(rng: np.random.Generator, au: int, only: bool) -> tuple[Unit, str]:
    """An action unit with its side and intensity, and how the coder writes it: the side before, the
    intensity after it.
    """
    grade = int(rng.choice(5, p=[0.15, 0.3, 0.3, 0.15, 0.1]))
    chance = rng.random()
    one_sided, asymmetric = ONE_SIDED.get(au, 0.0), ASYMMETRIC.get(au, 0.0)
    left, right, prefix = 1.0, 1.0, ""
    if chance < one_sided + asymmetric:
        weak, prefix = (0.0, "LR"[int(rng.random() < 0.4)]) if chance < one_sided else (0.45, "A")
        left, right = (
            (weak, 1.0) if prefix == "R" or (prefix == "A" and rng.random() < 0.5) else (1.0, weak)
        )
    letter = "ABCDE"[grade] if rng.random() < 0.5 else ""
    term = f"{prefix}{au}{letter}"
    if grade and letter and rng.random() < 0.06:
        term = f"{prefix}{au}{'ABCDE'[grade - 1]}/{letter}"
    elif only and prefix in ("L", "R") and au in MISTAKEN and rng.random() < 0.15:
        term = f"{term} or {prefix}{MISTAKEN[au]}"
    return Unit(au, 0.2 * (grade + 1), left, right), term


def _write_clip(folder: Path, clip: Clip, portrait: Portrait, seed: list[int]) -> np.ndarray:
    """Writes the clip's frames; returns the onset's landmarks as a detector would find them, pixels
    [5, 2].
    """
    rng = np.random.default_rng(seed)
    path = folder / "SAMM" / clip.subject / clip.name
    path.mkdir(parents=True)
    for number, image in zip(
        range(clip.onset, clip.offset + 1), draw_clip(clip, portrait, rng), strict=True
    ):
        (path / f"{clip.subject}_{number:05d}.jpg").write_bytes(_jpeg(image))
    return np.round(portrait.face.landmarks() + rng.normal(0, 0.7, (5, 2)), 1)


def _jpeg(image: np.ndarray) -> bytes:
    done, data = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
    if not done:
        raise RuntimeError("OpenCV could not encode a JPEG")
    return data.tobytes()


def draw_clip(
    clip: Clip, portrait: Portrait, rng: np.random.Generator
) -> Iterable[UInt8[np.ndarray, "H W"]]:
    """Yields the frames of a clip from onset to offset, uint8 [H, W] each.

    On top of the coded units: head drift (about half a pixel at the apex), a faint motion that
    nobody coded, sometimes a blink or a glance, flicker of the light, sensor noise.
    """
    face = portrait.face
    rest, move = motion(face, clip.resting), motion(face, clip.units) + _uncoded_motion(rng, face)
    rest_folds, move_folds = folds(face, clip.resting), folds(face, clip.units)
    rest_lids, move_lids = lid_closure(clip.resting), lid_closure(clip.units)
    head = portrait.head_motion(rng.normal(0, 0.6, 2), rng.normal(0, 0.003))
    blink = rng.uniform(0.5, 3) * rng.choice([-1, 1]) + clip.apex if rng.random() < 0.2 else np.inf
    glance = rng.normal(0, 1.5) if rng.random() < 0.25 else 0.0
    for number in range(clip.onset, clip.offset + 1):
        share = _course(number, clip)
        drift = (number - clip.onset) / (clip.apex - clip.onset)
        lids = rest_lids + share * move_lids
        lids = np.minimum(np.maximum(lids, 1.05 * np.exp(-((number - blink) ** 2))), 1.05)
        image = portrait.frame(
            rest + share * move + drift * head,
            rest_folds + share * move_folds,
            lids,
            glance * min(drift, 1),
        )
        image *= 1 + rng.normal(0, 0.006)
        image += face.noise * rng.standard_normal((HEIGHT, WIDTH), np.float32)
        yield np.clip(image + 0.5, 0, 255).astype(np.uint8)


def _course(number: int, clip: Clip) -> float:
    """Share of the apex's motion in a frame: 0 at the onset, smoothly up to 1 at the apex, down to
    0.15 at the offset.
    """
    if number <= clip.apex:
        return 0.5 - 0.5 * math.cos(math.pi * (number - clip.onset) / (clip.apex - clip.onset))
    return 0.575 + 0.425 * math.cos(math.pi * (number - clip.apex) / (clip.offset - clip.apex))


def _uncoded_motion(rng: np.random.Generator, face: Face) -> np.ndarray:
    """Uncoded motion: a smooth random field of about a third of a pixel, float32 [H, W, 2]."""
    coarse = rng.standard_normal((9, 10, 2), np.float32) * np.float32(0.4 * face.scale)
    return cv2.resize(coarse, (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC)
