"""Micro-expression clips on disk: from a release's frames and workbook, or its published flow maps,
to prepared rows.

What releases have in common; what tells them apart is a `Database`.
"""

from __future__ import annotations

import dataclasses
import filecmp
import glob
import re
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
from ml_collections import ConfigDict

from fexpr.data.preparation import alignment, pairs, prepare
from fexpr.data.preparation.prepare import BadInput, read_image
from fexpr.data.releases import map_names, workbook
from fexpr.data.releases.map_names import MAPS
from fexpr.errors import UserError
from fexpr.storage import bounded, pictures
from fexpr.terminal import say

VERSION = 2  # of everything that turns a release into flow maps: raise it when their pixels change
LAYOUTS = ("auto", "frames", "flow")
IMAGES = (".jpg", ".jpeg", ".png", ".bmp")
COPY = re.compile(r"\([0-9]+\)$|(^| - |[ _])copy( ?\([0-9]+\))?$", re.IGNORECASE)
SKIP = "list clips that are to be left out on purpose in config.data.skip_clips"


@dataclasses.dataclass(frozen=True)
class Database:
    """What tells one release from another.

    Attributes:
      name: of its folder below the data root.
      title: as people call it.
      frames: folders of frames, the preferred first, and whether each shows the aligned face alone.
      id: what names a clip within the release, made from its row's `subject`, `clip` and `onset`;
          `landmarks.csv` names clips so too.
      subject: makes the subject's one name of its number ('6' -> '006').
      book: how its workbook is written.
      no_apex: ids of clips for which the published workbook gives no apex after the onset; they are
          left out, with a message.
      places: where a clip's frames lie below the folder of frames, patterns of pathlib's glob; the
          first that leads to its onset and apex. They, and `id`, name columns of the workbook's key
          alone, whose cells are names that lead to no other folder.
    """

    name: str
    title: str
    frames: tuple[tuple[str, bool], ...]
    id: str
    subject: Callable[[str], str]
    book: workbook.Format | None = None
    no_apex: tuple[str, ...] = ()
    places: tuple[str, ...] = ("{subject}/{clip}",)

    def ids(self, table: pd.DataFrame) -> list[str]:
        return [self.id.format_map(row) for row in table.to_dict("records")]

    def map_names(self, table: pd.DataFrame) -> list[str]:
        """What the published maps of these rows are called, without suffix and 'sub'."""
        name = self.id if "{onset}" in self.id else "{subject}_{clip}"
        return [name.format_map(row).removeprefix("sub") for row in table.to_dict("records")]


@dataclasses.dataclass(frozen=True)
class Release:
    """What lies on the disk, checked without decoding an image.

    Attributes:
      folder: the release.
      table: the rows that are used, sorted by `id`; also `subject`, `clip`, `emotion`, and `code`
          where there is a workbook.
      files: id -> the onset frame, and the frame that each map ends with; or the maps.
      align: 'landmarks', 'detect', 'none'; 'flow' where the maps are made already.
      landmarks: id -> float32 [5, 2]; in the onset's pixels, or for flow maps in the 224x224
          face's.
      inputs: every file that the prepared rows depend on.
      maps: their names, as `files` has them.
      scale: of maps that are made of frames, as of `flow.encode`.
    """

    folder: Path
    table: pd.DataFrame
    files: dict[str, tuple[Path, ...]]
    align: str
    landmarks: dict[str, np.ndarray]
    inputs: list[Path]
    maps: tuple[str, ...] = (MAPS,)
    scale: str = "minmax"

    def file_names(self) -> list[str]:
        """Of each clip the file that stands for it, below the folder: its first map, or the frame
        that this map ends with.
        """
        which = 0 if self.align == "flow" else 1
        paths = [paths[which] for paths in self.files.values()]
        return [path.relative_to(self.folder).as_posix() for path in paths]


def survey(
    database: Database,
    folder: Path,
    config: ConfigDict,
    skipped: set[str],
    select: Callable[[pd.DataFrame, Path], pd.DataFrame] | None = None,
) -> Release:
    """Reads the workbook and finds every clip's files; nothing is decoded, so that mistakes come to
    light within a second.

    Args:
      config: `config.data`; its `layout`, `align`, `maps` and `map_scale` are read.
      skipped: ids of clips that the user leaves out.
      select: (the workbook's table with `id`, the workbook) -> its rows that are wanted, all if not
          given.

    Raises:
      UserError: anything wrong with config, workbook or files; all problems of a kind at once.
    """
    layout, frames, aligned = find_layout(database, folder, config.layout)
    book = workbook.find_workbook(folder, database.book)
    table = workbook.read_workbook(book, database.book)
    for note in table.attrs["errata"] + (table.attrs["notes"] if layout == "frames" else []):
        say(note)
    table = table.assign(id=database.ids(table), map=database.map_names(table))
    names = set(table["map"])
    table = leave_out(select(table, book) if select else table, skipped, book)
    key, landmarks, csv = read_landmarks(folder, layout)
    maps, scale = map_names.asked_for(config)
    if layout == "flow":
        align, found = "flow", _find_maps(folder / maps[0], table, names)
        places = dict(zip(table["id"], workbook.places(table), strict=True))
        files = map_names.stack_files(folder, maps, found, places, book)
        table = table[table["id"].isin(files)].reset_index(drop=True)
        landmarks = {clip: landmarks[name] for clip, name in found.items() if name in landmarks}
    else:
        align = alignment.choose(config.align, key == "clip", aligned, folder)
        table = _with_motion(database, table, book)
        files = _find_frames(database, frames, table, map_names.moments(maps))
        landmarks = _landmarks_of(table, landmarks, csv) if align == "landmarks" else {}
    if not files:
        raise UserError(
            f"no clip of {book} is left",
            fix="shorten config.data.skip_clips, or add the maps of other clips",
        )
    inputs = [
        book,
        *([csv] if landmarks else []),
        *(path for paths in files.values() for path in paths),
    ]
    return Release(folder, table, files, align, landmarks, inputs, maps, scale)


def flow_maps(name: str, release: Release, size: int) -> tuple[dict[str, np.ndarray], str]:
    """The release's prepared rows, in the order of its table, and their fingerprint.

    Returns:
      Columns `id`, `group` (subject), `image` uint8 [N, size, size, 3 x maps] (u, v, optical
      strain of each map in turn),
      `landmarks` float32 [N, 5, 2] ((x, y) in pixels of the 224x224 aligned face, NaN where
      unknown), `code` and `emotion` (text).

    Raises:
      UserError: files that cannot be decoded, or have the wrong size, all of them; a scale that
          published maps do not have.
    """
    settings = {
        "version": VERSION,
        "align": release.align,
        "size": size,
        "clips": list(release.files),
    }
    if release.align == "detect":
        settings["detector"] = "mesh"  # older maps were aligned by the box of another detector
    if release.maps != (MAPS,):
        settings["maps"] = list(release.maps)
    if release.scale != "minmax":
        settings["scale"] = release.scale
        if release.align == "flow":
            raise UserError(
                f"config.data.map_scale={release.scale!r}: the maps in {release.folder} are "
                "published ones, scaled min to max, whose level of no motion is not known",
                fix="set config.data.map_scale=minmax and config.train.normalize=median, which "
                "takes each channel's median for it",
            )
    fingerprint = prepare.fingerprint(release.folder, release.inputs, settings)
    return prepare.prepared(
        name, fingerprint, lambda folder: _rows(release, folder, size)
    ), fingerprint


def parse_skipped(text: str) -> set[str]:
    """'032_3_1, 028_4_1' as a set."""
    return {clip.strip() for clip in text.split(",") if clip.strip()}


def leave_out(table: pd.DataFrame, skipped: set[str], source: Path) -> pd.DataFrame:
    """The rows whose `id` is not skipped, sorted by `id`.

    Raises:
      UserError: an id that is not there; `source` is where the table is from.
    """
    unknown = sorted(skipped - set(table["id"]))
    if unknown:
        raise UserError(
            f"config.data.skip_clips names clips that are not among those of {source}",
            unknown,
            "correct the names",
        )
    return table[~table["id"].isin(skipped)].sort_values("id", ignore_index=True)


def find_layout(database: Database, folder: Path, wanted: str) -> tuple[str, Path, bool]:
    """'frames' or 'flow', the folder of the subjects or of the maps, and whether frames show the
    aligned face alone.

    Frames come first: they hold more.

    Raises:
      UserError: unknown layout, or none of the folders is there.
    """
    if wanted not in LAYOUTS:
        raise UserError(
            f"config.data.layout is {wanted!r}", fix=f"set it to one of {', '.join(LAYOUTS)}"
        )
    candidates = [("frames", folder / name, aligned) for name, aligned in database.frames] + [
        ("flow", folder / MAPS, True)
    ]
    candidates = [candidate for candidate in candidates if wanted in ("auto", candidate[0])]
    for candidate in candidates:
        if bounded.is_folder(candidate[1]):
            return candidate
    looked_for = [f"{path} ({layout})" for layout, path, _ in candidates]
    title = f"{folder} holds none of the folders that a {database.title} release is read from"
    raise UserError(
        title,
        [*looked_for, f"it {prepare.contents(folder)}"],
        "lay the release out as docs/data.md shows",
    )


def read_landmarks(folder: Path, layout: str) -> tuple[str, dict[str, np.ndarray], Path]:
    """What the rows of the folder's landmarks.csv are named by, the rows, and the file; without any
    if they do not fit the layout.
    """
    csv = folder / "landmarks.csv"
    key, landmarks = alignment.read_landmarks(csv) if bounded.is_there(csv) else ("", {})
    if key and (key == "flow") != (layout == "flow"):
        say(
            f"{csv} gives landmarks by {key}: they are of no use for the layout {layout!r} "
            "and are not used"
        )
        return "", {}, csv
    return key, landmarks, csv


def _find_maps(folder: Path, table: pd.DataFrame, known: set[str]) -> dict[str, str]:
    """id -> the name of its published map, in the table's order. A clip without one is normal; a
    map that is not `known` is not.
    """
    if not folder.is_dir():
        raise UserError(
            f"{folder} does not exist",
            [f"{folder.parent} {prepare.contents(folder.parent)}"],
            "name folders of maps in config.data.maps",
        )
    maps = {
        p.stem.removeprefix("sub"): p
        for p in sorted(folder.iterdir())
        if p.suffix.lower() == ".png" and not bounded.is_hidden(p)
    }
    named = "a map is called <subject>_<clip>.png, as 006_006_1_2.png"
    if not maps:
        raise UserError(f"{folder} holds no maps", fix=named)
    strange = [path.name for stem, path in maps.items() if stem not in known]
    if strange:
        raise UserError(
            f"{folder} holds maps of clips that the workbook lacks",
            strange,
            f"rename or remove them; {named}",
        )
    files = {row.id: maps[row.map].name for row in table.itertuples() if row.map in maps}
    if len(files) < len(table):
        say(
            f"{len(table) - len(files)} of {len(table)} clips of the workbook have no flow "
            "map and are left out"
        )
    return files


def _with_motion(database: Database, table: pd.DataFrame, book: Path) -> pd.DataFrame:
    """The rows whose onset-to-apex movement can be cut out; those that the published workbook
    cannot tell are left out aloud.
    """
    hopeless = table["id"].isin(database.no_apex) & ~(table["apex"] > table["onset"]).fillna(
        False
    ).astype(bool)
    for place in workbook.places(table[hopeless], book):
        say(f"{place}: the workbook gives no apex after the onset; left out")
    table = table[~hopeless].reset_index(drop=True)
    problems = workbook.frame_problems(table)
    if problems:
        raise UserError(
            f"{book} has clips whose motion cannot be cut out",
            problems,
            f"correct the workbook, or {SKIP}",
        )
    return table


def _find_frames(
    database: Database, root: Path, table: pd.DataFrame, moments: tuple[int | None, ...]
) -> dict[str, tuple[Path, ...]]:
    """id -> the onset frame, and those of `moments` (map_names); every clip must have all."""
    subjects, files, problems = {}, {}, []
    for path in sorted(p for p in root.iterdir() if bounded.is_folder(p)):
        if subjects.setdefault(_person(path.name), path) != path:
            first = subjects[_person(path.name)].name
            problems.append(f"the folders {first} and {path.name} are of one person: join them")
    rows = table.to_dict("records")
    for place, row in zip(workbook.places(table), rows, strict=True):
        numbers = {"onset": int(row["onset"]), "apex": int(row["apex"])}
        subject = subjects.get(_person(row["subject"]), root / row["subject"]).name
        folder, frames, twice = _frames_of(
            database, root, row | {"subject": subject}, set(numbers.values())
        )
        if any(moments) and not (pd.notna(row["offset"]) and row["offset"] > row["onset"]):
            problems.append(
                f"{place}: no offset frame after the onset, which config.data.maps needs"
            )
            continue
        if not frames:
            problems.append(
                f"{place}: {folder} " + ("holds no frames" if folder.is_dir() else "does not exist")
            )
            continue
        held = f"{folder} holds frames {min(frames)}..{max(frames)}"
        problems += [
            f"{place}: no {name} frame {n}; {held}"
            for name, n in numbers.items()
            if n not in frames
        ]
        problems += [
            f"{place}: two files are {name} frame {n} in {folder}"
            for name, n in numbers.items()
            if n in twice
        ]
        if numbers["onset"] in frames and numbers["apex"] in frames:
            onset = numbers["onset"]
            files[row["id"]] = (
                frames[onset],
                *(
                    frames[numbers["apex"]]
                    if percent is None
                    else map_names.frame_at(frames, onset, int(row["offset"]), percent)
                    for percent in moments
                ),
            )
    if problems:
        raise UserError(
            f"clips of the workbook lack frames in {root}",
            problems,
            f"copy the missing frames, or {SKIP}",
        )
    return files


def _frames_of(
    database: Database, root: Path, row: dict[str, object], wanted: set[int]
) -> tuple[Path, dict[int, Path], set[int]]:
    """The folder that holds a clip's frames, its frames by number, and the numbers of which two
    different files are found; of no place with the frames `wanted` the first that exists.
    """
    escaped = {name: glob.escape(str(value)) for name, value in row.items()}
    candidates = []
    for pattern in database.places:
        folders = sorted(filter(bounded.is_folder, root.glob(pattern.format_map(escaped))))
        found = [(folder, *numbered_frames(folder)) for folder in folders]
        holding = [place for place in found if wanted <= place[1].keys()]
        if holding:
            folder, frames, twice = holding[0]
            different = {  # a clip's frames copied out of its video are the same in both places
                n
                for _, others, _ in holding[1:]
                for n in wanted
                if not filecmp.cmp(frames[n], others[n], shallow=False)
            }
            return folder, frames, twice | different
        candidates += found
    if candidates:
        return candidates[0]
    return root / database.places[0].format_map(row), {}, set()


def _person(name: str) -> str:
    """'006', 'sub006', 's6' and '6' are one person."""
    return workbook.canonical_subject(name, str).casefold()


def numbered_frames(folder: Path) -> tuple[dict[int, Path], set[int]]:
    """Frame number (the last digits of the name) -> file, and the numbers that two files claim.

    A file manager's copies ('006_00010 (1).png', 'img37 - Copy.jpg') are no frames, nor are hidden
    files.
    """
    images = (
        sorted(
            p
            for p in folder.iterdir()
            if p.suffix.lower() in IMAGES and not bounded.is_hidden(p) and not COPY.search(p.stem)
        )
        if bounded.is_folder(folder)
        else []
    )
    numbered = [
        (int(digits[-1]), path) for path in images if (digits := re.findall(r"[0-9]+", path.stem))
    ]
    return dict(numbered), {
        number for number, count in Counter(number for number, _ in numbered).items() if count > 1
    }


def _landmarks_of(
    table: pd.DataFrame, landmarks: dict[str, np.ndarray], csv: Path
) -> dict[str, np.ndarray]:
    places = zip(workbook.places(table), table["id"], strict=True)
    missing = [f"{place}: no row" for place, clip in places if clip not in landmarks]
    if missing:
        raise UserError(f"{csv} lacks clips of the workbook", missing, f"add them, or {SKIP}")
    return {clip: landmarks[clip] for clip in table["id"]}


def _rows(release: Release, folder: Path, size: int) -> Iterator[dict[str, object]]:
    """The rows of the prepared set; whatever can be wrong with pixels is found here, for all clips
    at once.
    """
    if release.align == "flow":
        jobs = {clip: partial(_read_maps, paths, size) for clip, paths in release.files.items()}
        doing, title = "reading flow maps", "some flow maps cannot be used"
        fix = "replace these maps; if all are of another size, set config.data.image_size"
    else:
        jobs = {clip: partial(_make_maps, release, clip, folder, size) for clip in release.files}
        doing, title, fix = (
            "optical flow",
            "some frames cannot be used",
            f"replace these files, or {SKIP}",
        )
    images = prepare.gather(jobs, doing, f"{release.folder}: {title}", fix)
    for row in release.table.to_dict("records"):
        code = row.get("code")
        yield {
            "id": row["id"],
            "group": row["subject"],
            "image": images[row["id"]],
            "landmarks": _points_in_face(release, row["id"]),
            "code": "" if pd.isna(code) else code if isinstance(code, str) else f"{code:g}",
            "emotion": row["emotion"],
        }


def _read_maps(paths: tuple[Path, ...], size: int) -> np.ndarray:
    return np.concatenate([_read_map(path, size) for path in paths], -1)


def _read_map(path: Path, size: int) -> np.ndarray:
    image = read_image(path, cv2.IMREAD_UNCHANGED)
    if not pictures.is_lossless(path):
        raise BadInput(f"{path} is a JPEG under the name of a PNG: its motion is not what it was")
    if image.shape != (size, size, 3) or image.dtype != np.uint8:
        mode = "grey" if image.ndim == 2 else {3: "RGB", 4: "RGBA"}[image.shape[2]]
        raise BadInput(
            f"{path} is {image.shape[1]}x{image.shape[0]} {mode} {image.dtype}, expected "
            f"{size}x{size} RGB uint8"
        )
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)


def _make_maps(release: Release, clip: str, folder: Path, size: int) -> np.ndarray:
    """The maps of a clip, each kept below `folder` until the set is whole."""
    onset, *others = release.files[clip]
    points, made = release.landmarks.get(clip), []
    for name, other in zip(release.maps, others, strict=True):
        make = partial(_make_map, (onset, other), release.align, points, size, release.scale)
        made.append(prepare.cached_png(folder / name / f"{clip}.png", make))
    return np.concatenate(made, -1)


def _make_map(
    paths: tuple[Path, Path], align: str, points: np.ndarray | None, size: int, scale: str
) -> np.ndarray:
    """Reads onset and apex, moves both by the one transform found on the onset, and maps the motion
    between them.
    """
    onset, apex = (read_image(path, cv2.IMREAD_GRAYSCALE) for path in paths)
    try:
        transform = pairs.transform_of(onset, align, points)
    except BadInput as e:
        raise BadInput(f"{paths[0]}: {e}") from e
    return pairs.motion_map(
        onset, apex, transform, size, scale, (f"the onset frame {paths[0].name}", str(paths[1]))
    )


def _points_in_face(release: Release, clip: str) -> np.ndarray:
    """Landmarks in pixels of the 224x224 aligned face, float32 [5, 2]; NaN where they are
    unknown.
    """
    points = release.landmarks.get(clip, np.full((5, 2), np.nan, np.float32))
    if release.align == "landmarks":
        points = points @ (transform := alignment.similarity(points))[:, :2].T + transform[:, 2]
    return np.float32(points)
