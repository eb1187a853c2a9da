"""SMIC-HS (Li et al., FG 2013): three classes, no action units. Its folder names are its only
labels: subject, class, clip, frames.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pandas as pd
from ml_collections import ConfigDict

from fexpr.data.preparation import alignment
from fexpr.data.releases import map_names
from fexpr.data.releases.clip_files import find_layout, numbered_frames, read_landmarks
from fexpr.data.releases.clip_release import Database, Release
from fexpr.data.releases.skipped_clips import SKIP, leave_out
from fexpr.data.releases.workbook_format import canonical_subject
from fexpr.errors import UserError
from fexpr.storage import bounded

SMIC = Database(
    "smic",
    "SMIC",
    (("SMIC_all_cropped/HS", True), ("SMIC_all_raw/HS", False)),
    "{subject}_{clip}",
    "s{}".format,
)


def survey(
    folder: Path,
    config: ConfigDict,
    skipped: set[str],
    select: Callable[[pd.DataFrame], pd.DataFrame] | None = None,
) -> Release:
    """Finds the frames `<subject>/micro/<class>/<clip>/*.bmp` of SMIC-HS.

    The release gives no apex: the middle frame of the clip is used instead (papers spot one, each
    by its own method), the first frame is the onset, the last the offset.

    Args:
      config: `config.data`; its `align`, `maps` and `map_scale` are read.
      skipped: ids ('s1_s1_ne_01') of clips that the user leaves out.
      select: a function from the table of all clips to the rows to use; by default all.

    Raises:
      UserError: no clips, clips of fewer than three frames (all listed), nothing to align the faces
          with.
    """
    _, root, aligned = find_layout(SMIC, folder, "frames")
    places = bounded.folders_among(bounded.find(root, "*/micro/*/*"))
    if not places:
        raise UserError(
            f"{root} contains no clips",
            fix="lay them out as the release does: <subject>/micro/<class>/<clip>/*.bmp",
        )
    odd = [
        f"{path.relative_to(root)}: the name {problem}"
        for path in places
        for part in path.parts[-4:]
        if (problem := bounded.name_problem(part))
    ]
    if odd:
        raise UserError(f"{root} holds folders that cannot be used", odd, "rename them")
    rows = [
        (canonical_subject(path.parts[-4], SMIC.subject), path.parts[-2].lower(), path.name, path)
        for path in places
    ]
    table = pd.DataFrame(rows, columns=["subject", "emotion", "clip", "place"])
    ids = pd.Series(SMIC.ids(table))
    if twice := sorted(set(ids[ids.duplicated()])):
        raise UserError(
            f"{root} contains repeated clips", twice, "give each subject and each clip one folder"
        )
    table = table.assign(id=ids)
    table = leave_out(select(table) if select else table, skipped, root)
    maps, scale = map_names.asked_for(config)
    moments, files, problems = map_names.moments(maps), {}, []
    for id_, place in zip(table["id"], table["place"], strict=True):
        frames, _ = numbered_frames(place)
        numbers = sorted(frames)
        if len(numbers) < 3:
            problems.append(f"{place} holds {len(numbers)} frames")
        else:
            onset, apex, offset = numbers[0], numbers[len(numbers) // 2], numbers[-1]
            files[id_] = (
                frames[onset],
                *(
                    frames[apex]
                    if percent is None
                    else map_names.frame_at(frames, onset, offset, percent)
                    for percent in moments
                ),
            )
    if problems:
        raise UserError(
            f"clips in {root} are too short: at least three frames are needed",
            problems,
            f"copy the missing frames, or {SKIP}",
        )
    key, landmarks, csv = read_landmarks(folder, "frames")
    align = alignment.choose(config.align, key == "clip", aligned, folder)
    points = {}
    if align == "landmarks":
        missing = sorted(files.keys() - landmarks.keys())
        if missing:
            raise UserError(f"{csv} lacks clips", missing, f"add them, or {SKIP}")
        points = {clip: landmarks[clip] for clip in files}
    inputs = [*([csv] if points else []), *(path for paths in files.values() for path in paths)]
    return Release(folder, table, files, align, points, inputs, maps, scale)
