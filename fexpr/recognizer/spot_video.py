"""Finds movements of the faces in a video, and recognises them by the flow from onset to apex."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pandas as pd

from fexpr.data.preparation.prepare import BadInput
from fexpr.errors import UserError
from fexpr.faces import Tracker
from fexpr.faces.motion import MotionMeter
from fexpr.faces.spotting import Spotted, answer, spot
from fexpr.recognizer import face_finder
from fexpr.recognizer.ensemble import Ensemble
from fexpr.recognizer.row_status import NO_FACE, OK, UNREADABLE
from fexpr.recognizer.video import Frame, Video, grey_frames

GAP = 0.3  # seconds without a face after which its motion is measured from scratch
COLUMNS = ("face", "onset", "apex", "offset", "seconds", "duration", "score", "motion", "regions")


@dataclasses.dataclass
class Stretch:
    """A face in successive frames: their numbers and time stamps, landmarks [T, 5, 2] and
    displacement [T, R, 2] of its regions.
    """

    face: int
    meter: MotionMeter
    numbers: list[int] = dataclasses.field(default_factory=list)
    seconds: list[float] = dataclasses.field(default_factory=list)
    points: list[np.ndarray] = dataclasses.field(default_factory=list)
    displacement: list[np.ndarray] = dataclasses.field(default_factory=list)


def spot_video(recognizer: Ensemble, path: Path | str) -> pd.DataFrame:
    """One row per movement, in the order of faces and of time; if there is none, one row that says
    so (`decision` 'no facial movement', 'no movement' or 'no face').

    Columns: `decision`, `status`; `face`; numbers of the frames `onset`, `apex`, `offset`;
    `seconds` of the onset's stamp and `duration`; `score`, the apex's motion in units of the noise
    that was measured in the video; `motion`, in percent of the distance between the eyes; `regions`
    that moved most; then as in `Recognizer.predict_pair`.

    Raises:
      UserError: a run that was not trained on flow; a video that cannot be read.
    """
    if recognizer.kind != "flow":
        raise UserError(
            f"the run was trained on images of kind {recognizer.kind!r}, and a movement is "
            "recognised by its flow",
            fix="use a run that was trained on flow",
        )
    video = Video(path)
    stretches = measure(video)
    found = [
        (stretch, one)
        for stretch in stretches
        for one in spot(np.array(stretch.displacement), np.array(stretch.seconds))
    ]
    if found:
        rows = _recognised(recognizer, path, found)
    else:
        longest = max(stretches, key=lambda s: len(s.numbers), default=None)
        decision = NO_FACE if longest is None else answer([], np.array(longest.points))
        rows = _without(recognizer, decision, OK if longest else NO_FACE)
    if video.break_off:
        rows = pd.concat(
            [rows, _without(recognizer, UNREADABLE, f"{UNREADABLE}: {video.break_off}")]
        )
    return rows


def measure(frames: Iterator[Frame] | Video) -> list[Stretch]:
    """Follows every face of a video and measures how its parts move."""
    tracker, done = Tracker(), []
    current: dict[int, Stretch] = {}
    for frame in frames:
        grey = cv2.cvtColor(frame.pixels, cv2.COLOR_RGB2GRAY)
        for face in tracker.update(frame.pixels, frame.seconds):
            stretch = current.get(face.track)
            if stretch is None or frame.seconds - stretch.seconds[-1] > GAP:
                stretch = current[face.track] = Stretch(face.track, MotionMeter())
                done.append(stretch)
            stretch.numbers.append(frame.number)
            stretch.seconds.append(frame.seconds)
            stretch.points.append(face.points)
            stretch.displacement.append(stretch.meter.update(grey, face.mesh, frame.seconds))
    return sorted(done, key=lambda s: (s.face, s.numbers[0]))


def _recognised(
    recognizer: Ensemble, path: Path | str, found: list[tuple[Stretch, Spotted]]
) -> pd.DataFrame:
    data = recognizer.content["config"]["data"]
    numbers = [[s.numbers[one.onset], s.numbers[one.apex]] for s, one in found]
    greys = grey_frames(path, sorted({n for pair in numbers for n in pair}))
    by_number = dict(zip(sorted({n for pair in numbers for n in pair}), greys, strict=True))
    pixels = np.zeros((len(found), *recognizer.picture), np.uint8)
    status, known = [], []
    for i, ((stretch, one), (onset, apex)) in enumerate(zip(found, numbers, strict=True)):
        try:
            frames, points = (by_number[onset], by_number[apex]), stretch.points[one.onset]
            pixels[i] = face_finder.motion_map(*frames, points, recognizer.shape, data)
            status.append(OK)
        except BadInput as e:
            status.append(f"{UNREADABLE}: {e}")
        start, end = stretch.seconds[one.onset], stretch.seconds[one.offset]
        values = stretch.face, onset, apex, stretch.numbers[one.offset], round(start, 6)
        measured = round(end - start, 6), round(one.score, 2), round(one.motion, 2)
        known.append((*values, *measured, ", ".join(one.regions)))
    rows = recognizer.tabulate([f"{onset} -> {apex}" for onset, apex in numbers], pixels, status)
    return _with_columns(rows, known)


def _without(recognizer: Ensemble, decision: str, status: str) -> pd.DataFrame:
    """A single row that contains no movement."""
    rows = recognizer.tabulate([""], np.zeros((1, *recognizer.picture), np.uint8), [NO_FACE])
    rows["decision"], rows["status"] = decision, status
    return _with_columns(rows, [(np.nan,) * (len(COLUMNS) - 1) + (None,)])


def _with_columns(rows: pd.DataFrame, known: list[tuple]) -> pd.DataFrame:
    rows.index.name = "frame"
    for i, name in enumerate(COLUMNS):
        rows.insert(2 + i, name, [values[i] for values in known])
    rows = rows.astype(dict.fromkeys(COLUMNS[:4], "Int64"))
    return rows
