"""The SAMM micro-expression release: frames, or published flow maps, and its FACS workbook (docs/data.md shows the layout)."""

from __future__ import annotations

import dataclasses
import hashlib
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
from ml_collections import ConfigDict

from fexpr import facs
from fexpr.data import faces, flow, prepare, synthetic, synthetic_face, workbook
from fexpr.data.dataset import SYNTHETIC, Dataset
from fexpr.data.prepare import BadInput, read_image, resolve_source
from fexpr.errors import UserError
from fexpr.run import cache_dir
from fexpr.terminal import say

NAME = "samm"
VERSION = 1  # of everything that turns a release into flow maps: raise it when their pixels change
FRAMES, NORMALISED, MAPS = "SAMM", "SAMM_Normalized_TM", "flow"
LAYOUTS = ("auto", "frames", "flow")
IMAGES = (".jpg", ".jpeg", ".png", ".bmp")
SKIP = "list clips that are to be left out on purpose in config.data.skip_clips"


@dataclasses.dataclass(frozen=True)
class Release:
    """What lies on the disk, checked without decoding an image.

    Attributes:
      folder: the release.
      table: the workbook's rows that are used, sorted by clip.
      units: the parsed FACS code of each row.
      files: clip -> (onset, apex) frames, or (flow map,).
      align: 'landmarks', 'detect', 'none'; 'flow' where the maps are made already.
      landmarks: clip -> float32 [5, 2]; in the onset's pixels, or for flow maps in the 224x224 face's.
      inputs: every file that the prepared rows depend on.
    """

    folder: Path
    table: pd.DataFrame
    units: list[facs.Code]
    files: dict[str, tuple[Path, ...]]
    align: str
    landmarks: dict[str, np.ndarray]
    inputs: list[Path]


def load(config: ConfigDict) -> Dataset:
    """Reads SAMM, or the synthetic release in its layout; flow maps are made once and kept in the cache.

    Args:
      config: `config.data` (configs/base.py documents the fields).

    Returns:
      One row a clip, sorted by clip: images uint8 [N, S, S, 3] (u, v, optical strain), labels float32 [N, K] (intensity),
      groups (subject), ids (clip), class names 'AU04'; extras `code` and `emotion` (text), and, where they are known,
      `landmarks` float32 [N, 5, 2], (x, y) in pixels of the 224x224 aligned face, NaN for the clips without.

    Raises:
      UserError: anything wrong with config, workbook or files; all problems of a kind at once, before any flow is computed.
    """
    policy = facs.Policy(config.alternatives, config.references, config.uncertain)
    invented = resolve_source(config) == "synthetic"
    release = survey(_synthetic(config) if invented else prepare.data_root(config)[0] / NAME, config)
    settings = {"version": VERSION, "align": release.align, "size": config.image_size, "clips": list(release.files)}
    mark = prepare.fingerprint(release.folder, release.inputs, settings)
    columns = prepare.prepared(NAME, mark, lambda folder: _rows(release, folder, config.image_size))
    intensities = [facs.intensities(code, policy) for code in release.units]
    numbers = _vocabulary(intensities, config.vocabulary, config.min_positives)
    extras = {name: columns[name] for name in ("code", "emotion")}
    if np.isfinite(columns["landmarks"]).any():
        extras["landmarks"] = columns["landmarks"]
    return Dataset(
        columns["image"], facs.label_matrix(intensities, numbers), columns["group"], columns["id"], facs.names(numbers),
        source=SYNTHETIC if invented else f"{NAME}@{mark[:12]}", extras=extras, kind="flow",
    )  # fmt: skip


def survey(folder: Path, config: ConfigDict) -> Release:
    """Reads the workbook and finds every clip's files; nothing is decoded, so that mistakes come to light within a second.

    Raises:
      UserError: see `load`.
    """
    layout, frames = _layout(folder, config.layout)
    book = workbook.find_workbook(folder)
    table = workbook.read_samm_workbook(book)
    for note in table.attrs["errata"] + (table.attrs["notes"] if layout == "frames" else []):
        say(note)
    unknown = sorted(set(config.skip_clips) - set(table["clip"]))
    if unknown:
        raise UserError(f"config.data.skip_clips names clips that {book} does not have", unknown, "correct the names")
    names = {f"{subject}_{clip}" for subject, clip in zip(table["subject"], table["clip"], strict=True)}
    table = table[~table["clip"].isin(list(config.skip_clips))].sort_values("clip", ignore_index=True)
    csv = folder / "landmarks.csv"
    key, landmarks = faces.read_landmarks(csv) if csv.exists() else ("", {})
    if key and (key == "flow") != (layout == "flow"):
        say(f"{csv} gives landmarks by {key}: they are of no use for the layout {layout!r} and are left aside")
    if layout == "flow":
        align, files = "flow", _find_maps(folder / MAPS, table, names)
        table = table[table["clip"].isin(files)].reset_index(drop=True)
        landmarks = {clip: landmarks[path.name] for clip, (path,) in files.items() if key == "flow" and path.name in landmarks}
    else:
        align = faces.choose(config.align, key == "clip", frames.name == NORMALISED, folder)
        problems = workbook.frame_problems(table)
        if problems:
            raise UserError(f"{book} has clips whose motion cannot be cut out", problems, f"correct the workbook, or {SKIP}")
        files = _find_frames(frames, table)
        landmarks = _landmarks_of(table, landmarks, csv) if align == "landmarks" else {}
    if not files:
        raise UserError(f"no clip of {book} is left", fix="shorten config.data.skip_clips, or add the maps of other clips")
    units = facs.parse_all(table["code"].tolist(), workbook.places(table, book))
    inputs = [book, *([csv] if landmarks else []), *(path for paths in files.values() for path in paths)]
    return Release(folder, table, units, files, align, landmarks, inputs)


def _layout(folder: Path, wanted: str) -> tuple[str, Path]:
    """'frames' and the folder of the subjects, or 'flow' and the folder of the maps. Frames come first: they hold more."""
    if wanted not in LAYOUTS:
        raise UserError(f"config.data.layout is {wanted!r}", fix=f"set it to one of {', '.join(LAYOUTS)}")
    places = {"frames": [folder / FRAMES, folder / NORMALISED], "flow": [folder / MAPS]}
    for layout, candidates in places.items():
        for candidate in candidates:
            if wanted in ("auto", layout) and candidate.is_dir():
                return layout, candidate
    looked_for = [f"{path} ({layout})" for layout, paths in places.items() if wanted in ("auto", layout) for path in paths]
    title = f"{folder} holds neither of the folders that a SAMM release is read from"
    raise UserError(title, [*looked_for, f"it {prepare.contents(folder)}"], "lay the release out as docs/data.md shows")


def _find_maps(folder: Path, table: pd.DataFrame, known: set[str]) -> dict[str, tuple[Path, ...]]:
    """clip -> its published map, in the table's order. A clip without one is normal; a map that is not `known` is not."""
    maps = {p.stem.removeprefix("sub"): p for p in sorted(folder.iterdir()) if p.suffix.lower() == ".png"}
    named = "a map is called <subject>_<clip>.png, as 006_006_1_2.png"
    if not maps:
        raise UserError(f"{folder} holds no maps", fix=named)
    strange = [path.name for stem, path in maps.items() if stem not in known]
    if strange:
        raise UserError(f"{folder} holds maps of clips that the workbook lacks", strange, f"rename or remove them; {named}")
    stems = table["subject"] + "_" + table["clip"]
    files = {clip: (maps[stem],) for clip, stem in zip(table["clip"], stems, strict=True) if stem in maps}
    if len(files) < len(table):
        say(f"{len(table) - len(files)} of {len(table)} clips of the workbook have no flow map and are left out")
    return files


def _find_frames(root: Path, table: pd.DataFrame) -> dict[str, tuple[Path, ...]]:
    """clip -> (onset, apex) frame; every clip must have both."""
    subjects = {p.name.lower().removeprefix("sub").zfill(3): p for p in root.iterdir() if p.is_dir()}
    files, problems = {}, []
    for place, row in zip(workbook.places(table), table.itertuples(), strict=True):
        folder = subjects.get(row.subject, root / row.subject) / row.clip
        frames, twice = _frames(folder)
        numbers = {"onset": int(row.onset), "apex": int(row.apex)}
        if not frames:
            problems.append(f"{place}: {folder} " + ("holds no frames" if folder.is_dir() else "does not exist"))
            continue
        held = f"{folder} holds frames {min(frames)}..{max(frames)}"
        problems += [f"{place}: no {name} frame {n}; {held}" for name, n in numbers.items() if n not in frames]
        problems += [f"{place}: two files are {name} frame {n} in {folder}" for name, n in numbers.items() if n in twice]
        files[row.clip] = tuple(frames.get(n, folder) for n in numbers.values())
    if problems:
        raise UserError(f"clips of the workbook lack frames in {root}", problems, f"copy the missing frames, or {SKIP}")
    return files


def _frames(folder: Path) -> tuple[dict[int, Path], set[int]]:
    """Frame number (the last digits of the name) -> file, and the numbers that two files claim."""
    images = sorted(p for p in folder.iterdir() if p.suffix.lower() in IMAGES) if folder.is_dir() else []
    numbered = [(int(digits[-1]), path) for path in images if (digits := re.findall(r"\d+", path.stem))]
    return dict(numbered), {number for number, count in Counter(number for number, _ in numbered).items() if count > 1}


def _landmarks_of(table: pd.DataFrame, landmarks: dict[str, np.ndarray], csv: Path) -> dict[str, np.ndarray]:
    places = zip(workbook.places(table), table["clip"], strict=True)
    missing = [f"{place}: no row" for place, clip in places if clip not in landmarks]
    if missing:
        raise UserError(f"{csv} lacks clips of the workbook", missing, f"add them, or {SKIP}")
    return {clip: landmarks[clip] for clip in table["clip"]}


def _rows(release: Release, folder: Path, size: int) -> Iterator[dict[str, object]]:
    """The rows of the prepared set; whatever can be wrong with pixels is found here, for all clips at once."""
    if release.align == "flow":
        jobs = {clip: partial(_read_map, path, size) for clip, (path,) in release.files.items()}
        doing, title = "reading flow maps", "some flow maps cannot be used"
        fix = "replace these maps; if all are of another size, set config.data.image_size"
    else:
        jobs = {}
        for clip, paths in release.files.items():
            make = partial(_make_map, paths, release.align, release.landmarks.get(clip), size)
            jobs[clip] = partial(prepare.stored, folder / MAPS / f"{clip}.png", make)
        doing, title, fix = "optical flow", "some frames cannot be used", f"replace these files, or {SKIP}"
    images = prepare.gather(jobs, doing, f"{release.folder}: {title}", fix)
    for row in release.table.itertuples():
        code = "" if pd.isna(row.code) else row.code if isinstance(row.code, str) else f"{row.code:g}"
        yield {
            "id": row.clip, "group": row.subject, "image": images[row.clip], "landmarks": _points_in_face(release, row.clip),
            "code": code, "emotion": row.emotion,
        }  # fmt: skip


def _read_map(path: Path, size: int) -> np.ndarray:
    image = read_image(path, cv2.IMREAD_UNCHANGED)
    if image.shape != (size, size, 3) or image.dtype != np.uint8:
        mode = "grey" if image.ndim == 2 else {3: "RGB", 4: "RGBA"}[image.shape[2]]
        raise BadInput(f"{path} is {image.shape[1]}x{image.shape[0]} {mode} {image.dtype}, expected {size}x{size} RGB uint8")
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)


def _make_map(paths: tuple[Path, Path], align: str, points: np.ndarray | None, size: int) -> np.ndarray:
    """Reads onset and apex, moves both by the one transform found on the onset, and maps the motion between them."""
    onset, apex = (read_image(path, cv2.IMREAD_GRAYSCALE) for path in paths)
    if onset.shape != apex.shape:
        raise BadInput(f"{paths[1]} has {apex.shape[::-1]} pixels, the onset frame {paths[0].name} has {onset.shape[::-1]}")
    if min(onset.shape) < size:
        raise BadInput(f"{paths[0]} has {onset.shape[::-1]} pixels, too few for a map of {size}x{size}")
    if align == "detect" and (box := faces.detect(onset)) is None:
        raise BadInput(f"{paths[0]}: no face found")
    if align != "none":
        transform = faces.similarity(points) if align == "landmarks" else faces.square(box)
        onset, apex = (faces.align(frame, transform) for frame in (onset, apex))
    return flow.flow_map(onset, apex, size)


def _points_in_face(release: Release, clip: str) -> np.ndarray:
    """Landmarks in pixels of the 224x224 aligned face, float32 [5, 2]; NaN where they are unknown."""
    points = release.landmarks.get(clip, np.full((5, 2), np.nan, np.float32))
    if release.align == "landmarks":
        points = points @ (transform := faces.similarity(points))[:, :2].T + transform[:, 2]
    return np.float32(points)


def _vocabulary(intensities: Sequence[dict[int, float]], wanted: object, least: int) -> tuple[int, ...]:
    """The action units to be told apart: those with at least `least` positive clips, the notebook's 25, or a given list."""
    counts = Counter(number for row in intensities for number in row)
    if wanted == "data":
        numbers = facs.vocabulary(intensities, least)
        rare = ", ".join(f"{facs.names([number])[0]} ({counts[number]})" for number in sorted(counts) if number not in numbers)
        if not numbers:
            title = f"no action unit is present in {least} clips or more"
            raise UserError(title, [f"clips: {rare or 'none'}"], "lower config.data.min_positives")
        if rare:
            say(f"left out, present in fewer than {least} clips: {rare}")
        return numbers
    if wanted == "notebook25":
        return facs.NOTEBOOK_25
    if isinstance(wanted, str) or not wanted or len(set(wanted)) < len(wanted) or not set(wanted) <= set(facs.FACS) - {0}:
        raise UserError(f"config.data.vocabulary is {wanted!r}", fix="set it to data, notebook25, or FACS numbers as (4, 7, 12)")
    return tuple(wanted)


def _synthetic(config: ConfigDict) -> Path:
    """The synthetic release for these settings, drawn on first use, and anew when the code that draws it has changed."""
    code = b"".join(Path(module.__file__).read_bytes() for module in (synthetic, synthetic_face, workbook))
    counts = (config.synthetic_subjects, config.synthetic_clips, config.synthetic_seed)
    name = "-".join(map(str, (NAME, *counts, hashlib.sha256(code).hexdigest()[:8])))
    folder = cache_dir() / "synthetic" / name / NAME
    with prepare.alone(folder.parent):
        if not folder.exists():
            prepare.remove(folder.parent.glob(f".{NAME}.*"))  # what a killed process left
            synthetic.write_samm(folder, *counts)
    return folder
