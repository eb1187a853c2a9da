"""From the files of clips to prepared rows: flow maps that are read, or made from frames."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np
import pandas as pd

from fexpr.data.preparation import alignment, pairs, prepare
from fexpr.data.preparation.prepare import BadInput, read_image
from fexpr.data.releases.clip_release import Release
from fexpr.data.releases.map_names import MAPS
from fexpr.data.releases.skipped_clips import SKIP
from fexpr.errors import UserError
from fexpr.storage import pictures

if TYPE_CHECKING:  # checked in the tests (tests/conftest.py)
    from jaxtyping import Shaped

# version of the code that turns a release into flow maps: raise it when their pixels change
VERSION = 2


def flow_maps(
    name: str, release: Release, size: int
) -> tuple[dict[str, Shaped[np.ndarray, "N ..."]], str]:
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
                "published ones, scaled min to max, whose level of no motion is unknown",
                fix="set config.data.map_scale=minmax and config.train.normalize=median, which "
                "takes each channel's median for it",
            )
    fingerprint = prepare.fingerprint(release.folder, release.inputs, settings)
    return prepare.prepared(
        name, fingerprint, lambda folder: _rows(release, folder, size)
    ), fingerprint


def _rows(release: Release, folder: Path, size: int) -> Iterator[dict[str, np.ndarray | str]]:
    """Yields the rows of the prepared set; problems of pixels are found here, for all clips at
    once.
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
        raise BadInput(
            f"{path} is a JPEG with the name of a PNG: compression has changed its motion"
        )
    if image.shape != (size, size, 3) or image.dtype != np.uint8:
        mode = "grey" if image.ndim == 2 else {3: "RGB", 4: "RGBA"}[image.shape[2]]
        raise BadInput(
            f"{path} is {image.shape[1]}x{image.shape[0]} {mode} {image.dtype}, expected "
            f"{size}x{size} RGB uint8"
        )
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)


def _make_maps(release: Release, clip: str, folder: Path, size: int) -> np.ndarray:
    """The maps of a clip, each kept below `folder` until the set is complete."""
    onset, *others = release.files[clip]
    points, made = release.landmarks.get(clip), []
    for name, other in zip(release.maps, others, strict=True):
        make = partial(_make_map, (onset, other), release.align, points, size, release.scale)
        made.append(prepare.cached_png(folder / name / f"{clip}.png", make))
    return np.concatenate(made, -1)


def _make_map(
    paths: tuple[Path, Path], align: str, points: np.ndarray | None, size: int, scale: str
) -> np.ndarray:
    """Reads onset and apex, aligns both by the transform found on the onset, and computes the map
    of the motion between them.
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
    return np.asarray(points, np.float32)
