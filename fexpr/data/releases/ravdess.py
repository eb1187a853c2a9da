"""RAVDESS frame by frame: 48x48 grey faces, a saliency map beside each, emotions and actors from
the clips' names (docs/data.md).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from ml_collections import ConfigDict

from fexpr.data.dataset import SYNTHETIC, Dataset
from fexpr.data.preparation import openface, prepare
from fexpr.data.preparation.clip_frames import as_clips
from fexpr.data.preparation.face_images import (
    BLOCK,
    SIDE,
    Stack,
    choose_map,
    prepared,
    read_grey,
    stored_strip,
    with_map,
)
from fexpr.data.preparation.prepare import BadInput
from fexpr.data.releases.ravdess_aus import INTENSITIES
from fexpr.data.releases.ravdess_frames import Clips, decode, survey
from fexpr.data.releases.ravdess_names import EMOTIONS
from fexpr.data.releases.skipped_clips import parse_skipped
from fexpr.data.synthetic import ravdess_clips
from fexpr.errors import UserError
from fexpr.storage import bounded, delimited
from fexpr.storage.delimited import BadTable
from fexpr.terminal import say

VERSION = 2  # version of the code that turns files into images: raise it when their pixels change
OPENFACE, TRUTH = "openface", "truth.csv"


def load(config: ConfigDict) -> Dataset:
    """Reads cropped frames, or decodes and crops the videos; prepared once, clip by clip, and kept
    in the cache.

    Args:
      config: `config.data`; its root, source, layout, map, clip_frames, skip_clips, streamed and
          synthetic_* are read.

    Returns:
      images uint8 [N, 48, 48, 1] or, with a map as second channel, [N, 48, 48, 2]; labels int32
      [N]; groups actors; ids '<clip>/<frame>', by clip and frame. Extras: `video` str [N]; `frame`
      int32 [N]; `action_units` float32 [N, 17] where there are OpenFace tables (NaN where they lack
      a frame); of a synthetic release `shown` float32 [N] and `blink` bool [N], the truth. With
      clip_frames a row is a clip (clip_frames.as_clips). Streamed images are Records.

    Raises:
      UserError: nothing is found, or something is faulty: all problems at once.
    """
    is_synthetic = prepare.resolve_source(config) == "synthetic"
    folder = (
        ravdess_clips.release(config, frames=True)
        if is_synthetic
        else prepare.data_root(config)[0] / "ravdess"
    )
    clips = survey(folder, config.layout, parse_skipped(config.skip_clips))
    if clips.unused:
        say(
            f"ravdess: {clips.unused:,} clips are not 01-01-… (audio-video, speech) and are "
            "left out"
        )
    how = _choose(config.map, folder, clips)
    maps = folder / (OPENFACE if how == "openface" else config.map)
    read = (
        [maps / name / path.name for name, frames in clips.frames.items() for _, path in frames]
        if how == "folder"
        else []
    )
    read += [maps / f"{name}.csv" for name in clips.videos] if how == "openface" else []
    _need(folder, read)
    inputs = clips.files + read
    fingerprint = prepare.fingerprint(folder, inputs, {"version": VERSION, "map": how})
    ids, images = prepared(
        "ravdess",
        fingerprint,
        lambda kept: _make(clips, how, maps, kept),
        config.get("streamed", False),
    )
    if how == "openface":
        masks = (images[i : i + BLOCK][..., 1] for i in range(0, len(images), BLOCK))
        if blank := sum(int((~mask.any(axis=(1, 2))).sum()) for mask in masks):
            say(
                f"ravdess: {blank:,} of {len(images):,} frames have no landmarks: their masks "
                "are black",
                style="yellow",
            )
    video = np.array([id_.partition("/")[0] for id_ in ids])
    frame = np.array([int(id_.partition("/")[2]) for id_ in ids], np.int32)
    clip = {str(name): name for name in clips.names}
    extras = (
        {"video": video, "frame": frame}
        | _action_units(folder / OPENFACE, video, frame, list(clip))
        | _truth(folder, ids)
    )
    frames = Dataset(
        images,
        np.array([clip[v].label for v in video], np.int32),
        np.array([clip[v].group for v in video]),
        np.array(ids),
        EMOTIONS,
        SYNTHETIC if is_synthetic else f"ravdess@{fingerprint[:12]}",
        extras=extras,
        kind="face",
    )
    count = config.get("clip_frames", 0)  # runs of older versions lack the field
    return as_clips(frames, count) if count else frames


def _choose(how: str, folder: Path, clips: Clips) -> str:
    """What `config.data.map` resolves to: 'none', 'folder', 'spectral', or 'openface' (masks of
    landmarks, drawn from tables of videos).

    Raises:
      UserError: as in choose_map; landmarks of videos are required and there are no tables.
    """
    if how == "landmarks" and clips.videos:
        if not bounded.is_folder(folder / OPENFACE):
            raise UserError(
                "masks of landmarks are drawn from OpenFace's tables of the videos, but there are "
                "no such tables",
                [f"looked for the folder {folder / OPENFACE}"],
                "docs/data.md shows the layout",
            )
        return "openface"
    chosen = choose_map(how, folder)
    if chosen == "folder" and clips.videos:
        say(
            f"ravdess: {how} maps are only read for folders of frames; for videos, spectral "
            "residuals are computed",
            style="yellow",
        )
        return "spectral"
    return chosen


def _need(folder: Path, files: Sequence[Path]) -> None:
    missing = [
        f"{path.relative_to(folder)} is missing" for path in files if not bounded.is_file(path)
    ]
    if missing:
        raise UserError(
            f"maps of RAVDESS' frames are missing in {folder}",
            missing,
            "name a map after its frame, and a table of landmarks after its clip (docs/data.md)",
        )


def _make(clips: Clips, how: str, maps: Path, kept: Path) -> Iterator[Stack]:
    """Yields, clip by clip, ids '<clip>/<frame>' and frames uint8 [F, 48, 48, C]; each clip is
    saved as soon as it is made.
    """

    def clip_images(name: str) -> np.ndarray:
        if clips.videos:
            faces, transform = decode(clips.videos[name])
            if how == "openface":
                return np.stack(
                    [
                        faces,
                        openface.landmark_masks(maps / f"{name}.csv", len(faces), transform, SIDE),
                    ],
                    axis=-1,
                )
            return np.stack([with_map(face, how, None) for face in faces])
        return np.stack(
            [
                with_map(read_grey(path), how, maps / name / path.name)
                for _, path in clips.frames[name]
            ]
        )

    def strip(name: str) -> np.ndarray:
        return stored_strip(kept / "clips" / f"{name}.png", lambda: clip_images(name))

    names = [str(name) for name in clips.names]
    prepare.gather(
        {name: lambda name=name: len(strip(name)) for name in names},
        "reading RAVDESS",
        "clips of RAVDESS cannot be used",
        "repair these, or leave them out by config.data.skip_clips",
    )
    for name in names:
        images = strip(name)
        numbers = [i for i, _ in clips.frames[name]] if clips.frames else range(len(images))
        yield [f"{name}/{i}" for i in numbers], images[..., : 1 if how == "none" else 2]


def _action_units(
    folder: Path, video: np.ndarray, frame: np.ndarray, names: list[str]
) -> dict[str, np.ndarray]:
    """Intensities 0 to 5 of each frame from <clip>.csv; OpenFace counts frames from 1, clips' files
    from 0 or 1.

    Raises:
      UserError: tables that are missing or faulty, all of them.
    """
    if not bounded.is_folder(folder):
        return {}
    values, problems, first = (
        np.full((len(video), len(INTENSITIES)), np.nan, np.float32),
        [],
        min(int(frame.min()), 1),
    )
    starts = np.flatnonzero(np.r_[True, video[1:] != video[:-1]])
    rows_of = {
        video[a]: np.arange(a, b) for a, b in zip(starts, [*starts[1:], len(video)], strict=True)
    }
    for name in names:
        try:
            numbers, units = openface.read(folder / f"{name}.csv", INTENSITIES)
        except BadInput as e:
            problems.append(str(e))
            continue
        rows = rows_of[name]
        at = np.searchsorted(numbers, frame[rows] - first + 1)
        known = (at < len(numbers)) & (
            numbers[np.minimum(at, len(numbers) - 1)] == frame[rows] - first + 1
        )
        values[rows[known]] = units[at[known]]
    if problems:
        raise UserError(
            f"OpenFace's tables in {folder} cannot be used",
            problems,
            "one table per clip, or remove the folder",
        )
    lacking = int(np.isnan(values).any(1).sum())
    if lacking:
        say(f"ravdess: {lacking:,} of {len(video):,} frames have no action units", style="yellow")
    return {"action_units": values}


def _truth(folder: Path, ids: Sequence[str]) -> dict[str, np.ndarray]:
    """The truth about each frame of a synthetic release.

    Raises:
      UserError: the file that records it is incomplete.
    """
    path = folder / TRUTH
    if not bounded.is_there(path):
        return {}
    fix = f"{TRUTH} belongs only to synthetic releases: copy it again with its frames, or remove it"
    try:
        table = delimited.read(path, ("path", "shown", "blink"), separators=";")
        row = {name: i for i, name in enumerate(table.columns["path"])}
        rows = [row[f"{id_}.png"] for id_ in ids]
        shown, blink = (np.array(table.columns[c], np.float32)[rows] for c in ("shown", "blink"))
    except BadTable as e:
        raise UserError(f"{path} cannot be used", e.problems, fix) from e
    except (KeyError, ValueError) as e:
        raise UserError(f"{path} does not fit the frames", [str(e)], fix) from e
    return {"shown": shown, "blink": blink == 1}
