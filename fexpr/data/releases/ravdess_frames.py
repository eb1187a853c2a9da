"""RAVDESS on the disk: folders of cropped frames with their table, or the release's videos; decodes
only the faces of videos.
"""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np

from fexpr.data.preparation import alignment, prepare
from fexpr.data.preparation.face_images import SIDE
from fexpr.data.preparation.prepare import BadInput
from fexpr.data.releases.ravdess_names import SHAPE, ClipName, parse
from fexpr.errors import UserError
from fexpr.storage import bounded, delimited
from fexpr.storage.bounded import Unreadable
from fexpr.storage.delimited import BadTable

if TYPE_CHECKING:  # checked in the tests (tests/conftest.py)
    from jaxtyping import Float, UInt8

FRAMES, TABLE = "frames", "frames.csv"
VIDEOS = (".mp4", ".avi", ".mkv", ".mov", ".webm", ".m4v")
COLUMNS = ("path", "emotion", "actor", "video_name", "frame_i")
# frames of a video in which its face is looked for; one transform serves all its frames, so that
# the face's own motion stays
LOOKS = 5
MOST_PIXELS = 4 * 10**8  # pixels of all frames of a clip; the release's have 110 frames of 1280x720
SLACK = (
    0.02  # share of the promised frames: containers round, and count frames that are no pictures
)
FIX = "docs/data.md shows the layout; clips to leave out on purpose go into config.data.skip_clips"


@dataclasses.dataclass(frozen=True)
class Clips:
    """The clips that were found.

    Attributes:
      folder: the release.
      names: the clips that are used, ascending.
      frames: clip -> numbers and files of its frames, ascending; empty where clips are videos.
      videos: clip -> file; empty where clips are folders of frames.
      unused: how many clips were of another modality or channel.
    """

    folder: Path
    names: list[ClipName]
    frames: dict[str, list[tuple[int, Path]]]
    videos: dict[str, Path]
    unused: int

    @property
    def files(self) -> list[Path]:
        return [
            *self.videos.values(),
            *(path for frames in self.frames.values() for _, path in frames),
        ]


def survey(folder: Path, layout: str, skipped: set[str]) -> Clips:
    """Finds clips and frames, and checks file names against frames.csv if it exists.

    Args:
      layout: 'auto' (frames if there are any, else videos), 'frames', 'videos'.
      skipped: clips that the user leaves out.

    Raises:
      UserError: nothing of that layout is found; invalid names; a table with other frames, emotions
          or actors: all of them.
    """
    if layout not in ("auto", "frames", "videos"):
        raise UserError(
            f"config.data.layout is {layout!r}", fix="for RAVDESS set it to auto, frames or videos"
        )
    by_frames = layout == "frames" or (layout == "auto" and bounded.is_folder(folder / FRAMES))
    found, twice = _clips(folder, by_frames)
    if not found:
        what = (
            f"{FRAMES}/<clip>/<frame>.png"
            if by_frames
            else f"{FRAMES}/<clip>/<frame>.png or Actor_*/<clip>.mp4"
        )
        raise UserError(
            f"{folder} contains no {what}",
            [f"it {prepare.contents(folder)}", f"clips are named {SHAPE}"],
            FIX,
        )
    problems = [
        f"config.data.skip_clips names {name}, which is missing"
        for name in sorted(skipped - set(found))
    ]
    problems += twice
    clips = {}
    for name in sorted(set(found) - skipped):
        try:
            clips[name] = parse(name)
        except BadInput as e:
            problems.append(f"{found[name].relative_to(folder)}: {e}")
    used = sorted(name for name, clip in clips.items() if clip.used)
    frames = {name: _frames(found[name], problems) for name in used} if by_frames else {}
    if by_frames and bounded.is_there(folder / TABLE):
        problems += _against_table(folder, {name: clips[name] for name in used}, frames, skipped)
    if problems or not used:
        raise UserError(
            f"RAVDESS in {folder} cannot be used",
            problems or ["no clip is 01-01-… (audio-video, speech)"],
            FIX,
        )
    videos = {} if by_frames else {name: found[name] for name in used}
    return Clips(folder, [clips[name] for name in used], frames, videos, len(clips) - len(used))


def _clips(folder: Path, by_frames: bool) -> tuple[dict[str, Path], list[str]]:
    """Name -> folder of frames or video (suffixes in any case), and names shared by two files;
    hidden files are skipped.
    """
    paths = bounded.find(folder, f"{FRAMES}/*" if by_frames else "Actor_*/*")
    if by_frames:
        paths = bounded.folders_among(paths)
    found, twice = {}, []
    for path in paths:
        if bounded.is_hidden(path) or not (by_frames or path.suffix.lower() in VIDEOS):
            continue
        name = path.name if by_frames else path.stem
        if found.setdefault(name, path) != path:
            twice.append(f"{path.relative_to(folder)}: {name} is also in {found[name].parent.name}")
    return found, twice


def _frames(folder: Path, problems: list[str]) -> list[tuple[int, Path]]:
    found = []
    for path in folder.iterdir():
        if path.suffix.lower() in (".png", ".jpg", ".jpeg") and not bounded.is_hidden(path):
            if re.fullmatch("[0-9]{1,9}", path.stem):
                found.append((int(path.stem), path))
            else:
                problems.append(f"{folder.name}/{path.name}: expected a frame's number")
    if not found:
        problems.append(f"{folder.name}: no frame in it")
    return sorted(found)


def _against_table(
    folder: Path,
    clips: dict[str, ClipName],
    frames: dict[str, list[tuple[int, Path]]],
    skipped: set[str],
) -> list[str]:
    path = folder / TABLE
    try:
        table = delimited.read(path, COLUMNS, separators=";,\t")
    except BadTable as e:
        return [f"{path.name}: {text}" for text in e.problems]
    on_disk = {f"{name}/{file.name}" for name, files in frames.items() for _, file in files}
    listed, problems = set(), []
    for line, row in table.rows():
        name = row["video_name"]
        clip = clips.get(name)
        if clip is None:
            known = bounded.name_problem(name) == "" and bounded.is_folder(folder / FRAMES / name)
            if name not in skipped and not known:
                problems.append(f"{path.name} line {line}: {name!r} is no clip of {FRAMES}/")
            continue  # left out, or of another modality or channel
        key = "/".join(Path(row["path"]).parts[-2:])
        declared = {"emotion": (row["emotion"], clip.label), "actor": (row["actor"], clip.actor)}
        bad = [
            f"{column} is {cell!r}, the file name says {value}"
            for column, (cell, value) in declared.items()
            if cell != str(value)
        ]
        bad += (
            [f"path {row['path']!r} is not in the folder {name}"]
            if key.partition("/")[0] != name
            else []
        )
        bad += [f"{row['path']} is missing"] if key not in on_disk else []
        bad += ["this frame is listed twice"] if key in listed else []
        listed.add(key)
        problems += [f"{path.name} line {line}: {text}" for text in bad]
    return problems + [f"{name}: {TABLE} does not list it" for name in sorted(on_disk - listed)]


def decode(path: Path) -> tuple[UInt8[np.ndarray, "F 48 48"], Float[np.ndarray, "2 3"]]:
    """The face in every frame of a video, uint8 [F, 48, 48]: upright, by one transform for all
    frames, from the median of the landmarks that are found in a few.

    And the transform [2, 3] that has cut it out, from pixels of the video to those of the face.

    Raises:
      BadInput: it cannot be decoded, or no face is found.
    """
    frames = _decoded(path)
    looks = {int(i) for i in np.linspace(0, len(frames) - 1, LOOKS)}
    found = [alignment.detect(frames[i]) for i in sorted(looks)]
    found = [points for points in found if points is not None]
    if not found:
        raise BadInput(f"{path}: no face is found in {len(looks)} of its {len(frames)} frames")
    transform = alignment.similarity(np.median(found, axis=0), SIDE)
    return np.stack([alignment.align(frame, transform, SIDE) for frame in frames]), transform


def _decoded(path: Path) -> list[np.ndarray]:
    """All frames of a video, grey.

    Raises:
      BadInput: it cannot be decoded; fewer frames can than its container promises; it holds more
        pixels than a clip of the release.
    """
    try:
        bounded.open_file(path).close()
    except Unreadable as e:
        raise BadInput(f"{path}: {e}") from e
    video, frames, pixels = cv2.VideoCapture(str(path)), [], 0
    try:
        promised = int(video.get(cv2.CAP_PROP_FRAME_COUNT))
        while pixels <= MOST_PIXELS:
            there, frame = video.read()
            if not there:
                break
            frames.append(cv2.cvtColor(frame, cv2.COLOR_BGR2GRAY))
            pixels += frames[-1].size
    finally:
        video.release()
    if pixels > MOST_PIXELS:
        raise BadInput(f"{path}: is too long or too large, a clip has about 110 frames")
    if not frames:
        raise BadInput(f"{path}: no frame can be decoded from it")
    if promised - len(frames) > SLACK * promised:
        raise BadInput(f"{path}: is cut off: {len(frames)} of its {promised} frames can be decoded")
    return frames
