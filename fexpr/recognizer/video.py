"""Videos and cameras, frame by frame in batches, in constant memory."""

from __future__ import annotations

import dataclasses
import os
import time
from collections import deque
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np
import pandas as pd

from fexpr.data.preparation.prepare import BadInput
from fexpr.errors import UserError
from fexpr.faces import Face, Tracker
from fexpr.recognizer import face_finder, images
from fexpr.recognizer.clip import ClipSums
from fexpr.recognizer.ensemble import Ensemble
from fexpr.recognizer.prediction_table import with_faces
from fexpr.recognizer.row_status import NO_FACE, OK, UNREADABLE
from fexpr.storage import bounded

if TYPE_CHECKING:  # checked in the tests (tests/conftest.py)
    from jaxtyping import UInt8

# seconds between onset and apex when neither is given: micro-expressions last up to half a second
INTERVAL = 0.2
LONGEST = 10**6  # seconds of an interval
ALIGNMENTS = ("detect", "none")


@dataclasses.dataclass
class Frame:
    """A frame of a video: its number from 0, its time in seconds, RGB uint8 [H, W, 3]."""

    number: int
    seconds: float
    pixels: np.ndarray


class Video:
    """A video file, or a camera by its number. Iterating gives `Frame`s.

    Attributes:
      fps: frames a second on average, 0 where unknown. count: frames according to the file, 0 if
          unknown. size: (width, height). decoded: frames decoded so far.

    Raises:
      UserError: it cannot be opened, or no frame of it can be decoded.
    """

    def __init__(self, source: Path | str | int):
        self.source = source
        what = f"camera {source}" if isinstance(source, int) else str(source)
        if not isinstance(source, int) and not bounded.is_file(Path(source)):
            raise UserError(
                f"{what} does not exist"
                if not bounded.exists(Path(source))
                else f"{what} is not a file",
                fix="give a video file",
            )
        # an absolute path: FFmpeg would take the beginning of '12:30 talk.mp4' for a protocol
        self._capture = cv2.VideoCapture(
            source if isinstance(source, int) else str(Path(source).absolute())
        )
        opened, self._first = self._capture.read() if self._capture.isOpened() else (False, None)
        try:
            is_cut = not opened and not isinstance(source, int) and lacks_index(Path(source))
        except OSError as e:
            raise UserError(f"{what} cannot be read: {e.strerror}", fix="check the disk") from e
        if is_cut:
            raise UserError(
                f"{what} is incomplete: the index at the end of the MP4 file is missing",
                fix="copy it again, or repair it with a program for that purpose",
            )
        if not opened or self._first is None:
            raise UserError(
                f"{what} cannot be opened"
                if isinstance(source, int)
                else f"{what} is not a video that OpenCV can decode",
                fix="is it connected, and free?"
                if isinstance(source, int)
                else "convert it, to H.264 in .mp4 for instance",
            )
        fps, count = (self._capture.get(p) for p in (cv2.CAP_PROP_FPS, cv2.CAP_PROP_FRAME_COUNT))
        self.fps, self.count = (max(0.0, float(v)) if np.isfinite(v) else 0.0 for v in (fps, count))
        self.size, self._stopped, self.decoded = self._first.shape[1::-1], False, 0
        self._started = time.monotonic()

    def stop(self) -> None:
        """Ends the iteration after the current frame."""
        self._stopped = True

    @property
    def break_off(self) -> str:
        """After the iteration: how much of a file that breaks off could be decoded, else ''."""
        if self._stopped or self.decoded >= 0.98 * self.count - 1:  # some headers estimate
            return ""
        return f"breaks off: {self.decoded} of {self.count:.0f} frames can be decoded"

    def __iter__(self) -> Iterator[Frame]:
        image, shown = self._first, -np.inf
        while image is not None:
            shown = self._seconds(shown)
            self.decoded += 1
            yield Frame(self.decoded - 1, shown, cv2.cvtColor(image, cv2.COLOR_BGR2RGB))
            decoded, image = self._capture.read()
            if not decoded or self._stopped:
                break
        self._capture.release()

    def _seconds(self, before: float) -> float:
        """The time of the last decoded frame: the container's time stamp, or the clock for a
        camera. For streams without time stamps, which give 0 for every frame, it is computed from
        the frame rate.
        """
        if isinstance(self.source, int):
            return time.monotonic() - self._started
        stamp = self._capture.get(cv2.CAP_PROP_POS_MSEC) / 1000
        if np.isfinite(stamp) and stamp > before:
            return float(max(0.0, stamp))
        return before + 1 / self.fps if self.fps else np.nan


def lacks_index(path: Path) -> bool:
    """Whether a file is an MP4 or MOV that lacks the box `moov`, which locates all frames, because
    the recording was cut off (ISO/IEC 14496-12, section 4.2: size and name of each box).
    """
    with path.open("rb") as file:
        names, end = [], os.fstat(file.fileno()).st_size
        while len(header := file.read(8)) == 8:
            size, name = int.from_bytes(header[:4], "big"), header[4:]
            names.append(name)
            if size == 1:
                size = int.from_bytes(file.read(8), "big") - 8
            if names[0] != b"ftyp" or not 8 <= size <= end:
                break
            file.seek(size - 8, os.SEEK_CUR)
    return names[:1] == [b"ftyp"] and b"moov" not in names


def grey_frames(path: Path | str, numbers: Sequence[int | None]) -> list[UInt8[np.ndarray, "H W"]]:
    """The frames with these numbers, from 0, of a video: grey uint8 [H, W].

    Raises:
      UserError: a number is None, or the video has no such frame; or as in `Video`.
    """
    found, count = {}, 0
    for frame in Video(path):
        count += 1
        if frame.number in numbers:
            found[frame.number] = cv2.cvtColor(frame.pixels, cv2.COLOR_RGB2GRAY)
        if len(found) == len(set(numbers)):
            return [found[number] for number in numbers]
    wrong = [
        f"expected a number from 0 to {count - 1}, found {number}"
        for number in numbers
        if number not in found
    ]
    raise UserError(f"{path}: onset and apex must both be frames of the video", wrong)


def tables(
    recognizer: Ensemble,
    path: Path | str | int,
    *,
    every: int | None = None,
    interval: float = INTERVAL,
    align: str = "detect",
    mesh: bool = False,
) -> Iterator[pd.DataFrame]:
    """Yields the rows of a video in batches; see `batches`."""
    for _, rows in batches(recognizer, Video(path), every, interval, align, mesh):
        yield rows


def batches(
    recognizer: Ensemble,
    video: Video,
    every: int | None = None,
    interval: float = INTERVAL,
    align: str = "detect",
    mesh: bool = False,
    sums: ClipSums | None = None,
) -> Iterator[tuple[list[Frame], pd.DataFrame]]:
    """Yields frames with their rows (`prediction_table.table`, preceded by `seconds`),
    `recognizer.batch` at a time; no more are kept in memory.

    Every face in a frame has a row, with the columns of `prediction_table.with_faces`; a frame
    without a face has a row that says so, and so has the missing part of an incomplete file. A run
    trained on faces reads single frames; one trained on flow reads the motion from a frame to the
    one `interval` later, named '12 -> 52'.

    Args:
      every: read every n-th frame (1: all); for flow, the number of frames between two onsets
          (default: `interval`).
      interval: seconds from onset to apex, for flow only. align: 'detect': the face is found first;
          'none': frames show only the face, cropped as in training.
      mesh: whether the 468 points of each face are given.
      sums: collects the rows of each person, for a decision on the whole clip.

    Raises:
      UserError: arguments that cannot be used.
    """
    flow, fix = recognizer.kind == "flow", ""
    problems = (
        []
        if align in ALIGNMENTS
        else [f"align: expected one of {', '.join(map(repr, ALIGNMENTS))}; found {align!r}"]
    )
    if every is not None and every < 1:
        problems.append(f"every: expected at least 1, found {every}")
    if recognizer.picture[2] not in (1, 3):
        problems.append(
            f"the run reads {recognizer.kind} of {recognizer.picture[2]} channels, which a video "
            "does not have"
        )
        fix = (
            "give Recognizer.predict an array of images like the run's data, or train a run that "
            "reads faces alone (config.data.map=none) or a map computed from them (spectral)"
        )
    if flow and not 0 < interval <= LONGEST:
        problems.append(f"interval: expected seconds above 0, at most {LONGEST}; found {interval}")
    elif flow and round(interval * video.fps) < 1:
        problems.append(
            f"interval: {interval:g} s is less than a frame of {video.source} ({video.fps:g} "
            "frames a second)"
        )
    if flow and align == "none" and recognizer.content["config"]["data"]["regions"] == "landmarks":
        problems.append(
            "the run reads regions around landmarks: with align='none' no landmarks are found"
        )
    if problems:
        raise UserError("the video cannot be read with these arguments", problems, fix)
    prepared = (
        _pairs(recognizer, video, every, interval, align)
        if flow
        else _faces(recognizer, video, every or 1, align)
    )
    held: list[Row] = []
    last: Frame | None = None
    for rows in prepared:  # rows of one frame stay together
        held += rows
        last = rows[-1].frame
        if len(held) >= recognizer.batch:
            yield _tabulated(recognizer, held, mesh, sums)
            held = []
    if video.break_off and last is not None:
        name = f"{video.decoded} ... {video.count - 1:.0f}"
        held.append(Row(name, last, None, f"{UNREADABLE}: {video.break_off}"))
    if held:
        yield _tabulated(recognizer, held, mesh, sums)


@dataclasses.dataclass
class Row:
    """A row of a video's table: its name, the frame, the network's input (None: nothing),
    the status, and the face.
    """

    name: str
    frame: Frame
    image: np.ndarray | None
    status: str
    face: Face | None = None


def _faces(recognizer: Ensemble, video: Video, every: int, align: str) -> Iterator[list[Row]]:
    """Yields the rows of each frame."""
    height, width, channels = recognizer.picture
    tracker, framing = Tracker(), face_finder.frame_of(recognizer.content)
    for frame in video:
        if frame.number % every:
            continue
        name = str(frame.number)
        if align == "none":
            pixels = images.in_channels(frame.pixels, channels)
            image = cv2.resize(pixels, (width, height), interpolation=cv2.INTER_AREA)
            yield [Row(name, frame, image, OK)]
            continue
        yield [
            Row(name, frame, images.in_channels(cut, channels), OK, face)
            for face in tracker.update(frame.pixels, frame.seconds)
            for cut in [face_finder.cut(frame.pixels, face, height, framing)]
        ] or [Row(name, frame, None, NO_FACE)]


def _pairs(
    recognizer: Ensemble, video: Video, every: int | None, interval: float, align: str
) -> Iterator[list[Row]]:
    """Yields the row of each pair: an onset is paired with the frame whose stamp is closest to
    `interval` later. Without `every`, each pair starts where the previous one ends.
    """
    data, tracker = recognizer.content["config"]["data"], Tracker()
    onsets: deque[tuple[Frame, np.ndarray, list[Face | None]]] = deque()
    before, next_onset = -np.inf, 0
    for frame in video:
        grey = cv2.cvtColor(frame.pixels, cv2.COLOR_RGB2GRAY)
        tolerance = (frame.seconds - before) / 2 if np.isfinite(before) else 0.0
        before = frame.seconds
        while onsets and frame.seconds - onsets[0][0].seconds >= interval - tolerance:
            onset, first, found = onsets.popleft()
            name = f"{onset.number} -> {frame.number}"
            yield [
                _pair_row(recognizer, name, frame, (first, grey), face, align, data)
                for face in found
            ] or [Row(name, frame, None, NO_FACE)]
            next_onset = frame.number
        if frame.number % every == 0 if every else not onsets and frame.number >= next_onset:
            faces = tracker.update(frame.pixels, frame.seconds) if align == "detect" else [None]
            onsets.append((frame, grey, [*faces]))


def _pair_row(
    recognizer: Ensemble,
    name: str,
    frame: Frame,
    frames: tuple[np.ndarray, np.ndarray],
    face: Face | None,
    align: str,
    data: dict,
) -> Row:
    points = None if face is None else face.points
    try:
        image = face_finder.motion_map(*frames, points, recognizer.shape, data)
    except BadInput as e:
        return Row(name, frame, None, f"{UNREADABLE}: {e}", face)
    return Row(name, frame, image, OK, face)


def _tabulated(
    recognizer: Ensemble, held: list[Row], mesh: bool, sums: ClipSums | None
) -> tuple[list[Frame], pd.DataFrame]:
    """The frames of these rows, one for each, and their table."""
    pixels = np.zeros((len(held), *recognizer.picture), np.uint8)
    for i, row in enumerate(held):
        if row.image is not None:
            pixels[i] = row.image.reshape(recognizer.picture)
    logits, status = recognizer.members_logits(pixels), [row.status for row in held]
    seconds = [round(row.frame.seconds, 6) for row in held]
    if sums is not None:
        for i, row in enumerate(held):
            if row.status == OK:
                sums.add(row.face and row.face.track, logits[:, i : i + 1], seconds[i])
    rows = recognizer.tabulate_logits([row.name for row in held], logits, status)
    rows.index.name = "frame"
    rows = with_faces(rows, [row.face for row in held], mesh)
    rows.insert(0, "seconds", seconds)
    return [row.frame for row in held], rows
