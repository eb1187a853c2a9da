"""Videos and cameras: frame after frame, a batch at a time, in constant memory."""

from __future__ import annotations

import dataclasses
from collections import deque
from collections.abc import Iterator, Sequence
from pathlib import Path

import cv2
import numpy as np
import pandas as pd

from fexpr.data.preparation import pairs
from fexpr.data.preparation.prepare import BadInput
from fexpr.errors import UserError
from fexpr.recognizer import face_finder
from fexpr.recognizer.protocol import Reader

# seconds between onset and apex when neither is given: micro-expressions last up to half a second
INTERVAL = 0.2
ALIGNMENTS = ("detect", "none")

Box = tuple[int, int, int, int]


@dataclasses.dataclass
class Frame:
    """A frame of a video: its number from 0, its time in seconds, RGB uint8 [H, W, 3] and, once
    looked for, the face.
    """

    number: int
    seconds: float
    pixels: np.ndarray
    box: Box | None = None


class Video:
    """A video file, or a camera by its number. Iterating gives `Frame`s.

    Attributes:
      fps: frames a second, 0 where unknown. count: frames as the file says, 0 where unknown. size:
          (width, height).

    Raises:
      UserError: it cannot be opened, or holds no frame that can be decoded.
    """

    def __init__(self, source: Path | str | int):
        self.source = source
        what = f"camera {source}" if isinstance(source, int) else str(source)
        if not isinstance(source, int) and not Path(source).is_file():
            raise UserError(
                f"{what} does not exist" if not Path(source).exists() else f"{what} is no file",
                fix="give a video file",
            )
        self._capture = cv2.VideoCapture(source if isinstance(source, int) else str(source))
        there, self._first = self._capture.read() if self._capture.isOpened() else (False, None)
        if not there:
            raise UserError(
                f"{what} cannot be opened"
                if isinstance(source, int)
                else f"{what} is no video that OpenCV can decode",
                fix="is it connected, and free?"
                if isinstance(source, int)
                else "convert it, to H.264 in .mp4 for instance",
            )
        fps, count = (self._capture.get(p) for p in (cv2.CAP_PROP_FPS, cv2.CAP_PROP_FRAME_COUNT))
        self.fps, self.count = (max(0.0, float(v)) if np.isfinite(v) else 0.0 for v in (fps, count))
        self.size, self._stopped = self._first.shape[1::-1], False

    def stop(self) -> None:
        """Ends the iteration after the present frame."""
        self._stopped = True

    def __iter__(self) -> Iterator[Frame]:
        image, number = self._first, 0
        while image is not None:
            yield Frame(
                number,
                number / self.fps if self.fps else np.nan,
                cv2.cvtColor(image, cv2.COLOR_BGR2RGB),
            )
            there, image = self._capture.read()
            number += 1
            if not there or self._stopped:
                break
        self._capture.release()


def grey_frames(path: Path | str, numbers: Sequence[int | None]) -> list[np.ndarray]:
    """The frames of these numbers, from 0, of a video: grey uint8 [H, W].

    Raises:
      UserError: a number is None, or the video has no such frame; or as of `Video`.
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
    recognizer: Reader,
    path: Path | str | int,
    *,
    every: int | None = None,
    interval: float = INTERVAL,
    align: str = "detect",
) -> Iterator[pd.DataFrame]:
    """The rows of a video, some at a time; see `batches`."""
    for _, rows in batches(recognizer, Video(path), every, interval, align):
        yield rows


def batches(
    recognizer: Reader,
    video: Video,
    every: int | None = None,
    interval: float = INTERVAL,
    align: str = "detect",
) -> Iterator[tuple[list[Frame], pd.DataFrame]]:
    """Frames with their rows (`table.table`, and `seconds` in front), `recognizer.batch` at a time;
    no more are held in memory.

    A run trained on faces reads frame after frame; `face_x`, `face_y`, `face_width`, `face_height`
    say where. One trained on flow reads the motion from a frame to the one `interval` later, named
    '12 -> 52'.

    Args:
      every: of so many frames one is read (1: all); of flow, so many frames lie between two onsets
          (default: `interval`).
      interval: seconds from onset to apex, of flow alone.
      align: 'detect': the face is found first; 'none': frames show the face alone, cropped as in
          training.

    Raises:
      UserError: arguments that cannot be used.
    """
    flow = recognizer.kind == "flow"
    gap = round(interval * video.fps)
    problems = (
        []
        if align in ALIGNMENTS
        else [f"align: expected one of {', '.join(map(repr, ALIGNMENTS))}; found {align!r}"]
    )
    if every is not None and every < 1:
        problems.append(f"every: expected at least 1, found {every}")
    if recognizer.picture[2] not in (1, 3):
        problems.append(
            f"the run reads {recognizer.kind} of {recognizer.picture[2]} channels, which a "
            "video does not come with"
        )
    if flow and gap < 1:
        problems.append(
            f"interval: {interval:g} s is less than a frame of {video.source} ({video.fps:g} "
            "frames a second)"
        )
    if flow and recognizer.content["config"]["data"]["regions"] == "landmarks":
        problems.append(
            "the run reads regions around landmarks, which a video does not come with: use "
            "predict_pair"
        )
    if problems:
        raise UserError("the video cannot be read so", problems)
    if align == "detect":
        face_finder.need_detector()
    prepared = (
        _pairs(recognizer, video, every or gap, gap, align)
        if flow
        else _faces(recognizer, video, every or 1, align)
    )
    waiting: list[tuple[str, Frame, np.ndarray | None]] = []
    for one in prepared:
        waiting.append(one)
        if len(waiting) == recognizer.batch:
            yield _tabulated(recognizer, waiting)
            waiting = []
    if waiting:
        yield _tabulated(recognizer, waiting)


def _faces(
    recognizer: Reader, video: Video, every: int, align: str
) -> Iterator[tuple[str, Frame, np.ndarray | None]]:
    """Names, frames and what the network is to see of them, None where there is no face."""
    height, width, channels = recognizer.picture
    box, looked = None, -face_finder.HOLD
    for frame in video:
        if frame.number % every:
            continue
        pixels = frame.pixels if channels == 3 else cv2.cvtColor(frame.pixels, cv2.COLOR_RGB2GRAY)
        if align == "none":
            image = cv2.resize(pixels, (width, height), interpolation=cv2.INTER_AREA)
        else:
            if box is None or frame.number - looked >= face_finder.HOLD:
                box, looked = face_finder.box_of(frame.pixels), frame.number
            frame.box, image = box, None if box is None else face_finder.cut(pixels, box, height)
        yield str(frame.number), frame, None if image is None else image.reshape(recognizer.picture)


def _pairs(
    recognizer: Reader, video: Video, every: int, gap: int, align: str
) -> Iterator[tuple[str, Frame, np.ndarray | None]]:
    scale = face_finder.scale_of(recognizer.content["config"]["data"])
    held: deque[tuple[int, np.ndarray]] = deque(maxlen=gap + 1)
    for frame in video:
        grey = cv2.cvtColor(frame.pixels, cv2.COLOR_RGB2GRAY)
        held.append((frame.number, grey))
        number, onset = held[0]
        if frame.number - number < gap or number % every:
            continue
        try:
            transform = pairs.transform_of(onset, align)
            image = pairs.motion_map(onset, grey, transform, recognizer.shape[0], scale)
        except BadInput:  # no face, for all frames of a video are of one size
            image = None
        yield f"{number} -> {frame.number}", frame, image


def _tabulated(
    recognizer: Reader, waiting: list[tuple[str, Frame, np.ndarray | None]]
) -> tuple[list[Frame], pd.DataFrame]:
    names, frames, seen = zip(*waiting, strict=True)
    pixels = np.stack(
        [np.zeros(recognizer.picture, np.uint8) if image is None else image for image in seen]
    )
    rows = recognizer.tabulate(list(names), pixels, np.array([image is not None for image in seen]))
    rows.index.name = "frame"
    rows.insert(0, "seconds", [frame.seconds for frame in frames])
    if recognizer.kind != "flow":
        boxes = np.array([frame.box or (np.nan,) * 4 for frame in frames], float).T
        for i, (name, values) in enumerate(zip(("x", "y", "width", "height"), boxes, strict=True)):
            rows.insert(1 + i, f"face_{name}", values)
    return list(frames), rows
