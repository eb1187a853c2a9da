"""FER2013 (Goodfellow et al., ICONIP 2013): 48x48 grey faces, seven expressions, three official
parts (docs/data.md shows the layouts).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from einops import rearrange
from ml_collections import ConfigDict

from fexpr.config import allowed
from fexpr.data.data_config import DataConfig
from fexpr.data.dataset import SYNTHETIC, Dataset
from fexpr.data.preparation import prepare
from fexpr.data.preparation.face_images import computed_map, with_map
from fexpr.data.releases import ferplus
from fexpr.data.releases.fer2013_files import find_layout, read
from fexpr.data.releases.fer2013_rows import CLASSES, OFFICIAL, SIDE, SPLITS, Faces
from fexpr.data.releases.skipped_clips import parse_skipped
from fexpr.data.synthetic import fer_faces
from fexpr.errors import UserError
from fexpr.storage.run import cache_dir
from fexpr.terminal import say

NAME = "fer2013"
VERSION = 1  # version of the code that turns files into rows: raise it when the rows change
# images in one record of the prepared set: 35,887 records of one image take ten times as long to
# read
BLOCK = 512


def load(config: ConfigDict) -> Dataset:
    """Reads FER2013 in whichever layout is on the disk; prepared once and kept in the cache.

    Args:
      config: `config.data` (fexpr/data/data_config.py documents the fields);
        its root, source, labels, map, skip_clips and synthetic_* are read.

    Returns:
      images uint8 [N, 48, 48, 1], or [N, 48, 48, 2] with a saliency map as second channel; labels
      int32 [N], the CSV's ids whatever the layout (FERPlus: and 7 contempt); ids 'Training_7' (the
      number is the CSV's row, from 0, or that of the image's file name); every image a group of its
      own, as identities are unknown; `split` the official part, also in extras as `dataset`;
      FERPlus: extras `soft` float32 [N, 8], the shares of the votes. Rows of a CSV in its order,
          others sorted by part and id.

    Raises:
      UserError: the release or FERPlus is missing, or is faulty: all problems of a file at once.
    """
    known = allowed(DataConfig, "labels")
    if config.labels not in known:
        raise UserError(
            f"config.data.labels is {config.labels!r}", fix=f"set it to one of {', '.join(known)}"
        )
    is_synthetic = prepare.resolve_source(config) == "synthetic"
    if is_synthetic:
        folder = synthetic_release(config.synthetic_clips, config.synthetic_seed)
    else:
        folder = prepare.data_root(config)[0] / NAME
    faces, fingerprint = _prepare(folder, parse_skipped(config.skip_clips))
    parts = np.array([id_.partition("_")[0] for id_ in faces.ids])
    if not is_synthetic:
        _compare_counts(faces.labels, parts)
        _count_copies(faces.images, parts)
    ids, names, soft = np.array(faces.ids), CLASSES, {}
    if config.labels in ferplus.RULES:
        votes = ferplus.read(folder, faces, config.labels)
        faces, parts, ids = (
            Faces(faces.images[votes.kept], votes.labels, [], True),
            parts[votes.kept],
            ids[votes.kept],
        )
        names, soft, fingerprint = (
            ferplus.CLASSES,
            {"soft": votes.soft},
            prepare.fingerprint(folder, [votes.path], {"images": fingerprint}),
        )
    source = (
        SYNTHETIC
        if is_synthetic
        else f"{'+'.join(dict.fromkeys((NAME, config.labels)))}@{fingerprint[:12]}"
    )
    images = faces.images
    if computed_map(config.map) != "none":
        images = np.stack([with_map(face, "spectral", None) for face in images[..., 0]])
    return Dataset(
        images,
        faces.labels,
        ids,
        ids,
        names,
        source,
        split=parts,
        extras={"dataset": parts, **soft},
        kind="face",
    )


def synthetic_release(count: int, seed: int) -> Path:
    """The folder of the synthetic FER2013 of `count` images, drawn on first use, and again when the
    code that draws it has changed.
    """
    code = hashlib.sha256(Path(fer_faces.__file__).read_bytes()).hexdigest()
    folder = cache_dir() / "synthetic" / f"{NAME}-{count}-{seed}-{code[:8]}" / NAME
    with prepare.exclusive_lock(folder.parent):
        if not folder.exists():
            prepare.remove(folder.parent.glob(f".{NAME}.*"))  # left by a killed process
            fer_faces.write_synthetic(folder, "csv", count, seed)
    return folder


def _prepare(folder: Path, skipped: set[str]) -> tuple[Faces, str]:
    layout = find_layout(folder)
    if layout.unused:
        say(f"{NAME}: read {layout.path}; also there, and not read: {', '.join(layout.unused)}")
    fingerprint = prepare.fingerprint(
        folder, layout.files, {"version": VERSION, "skipped": sorted(skipped)}
    )
    columns = prepare.prepared(NAME, fingerprint, lambda _: _blocks(read(layout, skipped)))
    ids: list[str] = "/".join(columns["ids"].tolist()).split("/")
    images, labels = (
        rearrange(columns["images"], "b n h w c -> (b n) h w c"),
        columns["labels"].reshape(-1),
    )
    return Faces(
        images[: len(ids)], labels[: len(ids)], ids, bool(columns["numbered"][0])
    ), fingerprint


def _blocks(faces: Faces) -> Iterator[dict[str, np.ndarray | str | int]]:
    """Yields rows of BLOCK images each; the last one is padded with zeros."""
    for start in range(0, len(faces.ids), BLOCK):
        ids = faces.ids[start : start + BLOCK]
        images, labels = np.zeros((BLOCK, SIDE, SIDE, 1), np.uint8), np.zeros(BLOCK, np.int32)
        images[: len(ids)], labels[: len(ids)] = (
            faces.images[start : start + BLOCK],
            faces.labels[start : start + BLOCK],
        )
        # no file name has a slash
        yield {
            "images": images,
            "labels": labels,
            "ids": "/".join(ids),
            "numbered": int(faces.numbered),
        }


def _compare_counts(labels: np.ndarray, parts: np.ndarray) -> None:
    """Prints where the numbers of images differ from those of the official parts."""
    for part, official in OFFICIAL.items():
        found = tuple(np.bincount(labels[parts == part], minlength=len(CLASSES)).tolist())
        if not any(found):
            say(
                f"{NAME}: {part} is missing"
                + (" (the common public copies lack it)" if part == "PrivateTest" else ""),
                style="yellow",
            )
        elif found != official:
            text = ", ".join(
                f"{n:,} {name} (official: {m:,})"
                for n, name, m in zip(found, CLASSES, official, strict=True)
                if n != m
            )
            swapped = [other for other, counts in OFFICIAL.items() if counts == found]
            hint = (
                f"; these are the counts of {swapped[0]}: are the two swapped?" if swapped else ""
            )
            say(f"{NAME}: {part} differs from the official one: {text}{hint}", style="yellow")


def _count_copies(images: np.ndarray, parts: np.ndarray) -> None:
    """Prints how many test images occur, pixel for pixel, in another part too. data.duplicates
    decides whether they are kept.
    """
    pixels = {part: [image.tobytes() for image in images[parts == part]] for part in SPLITS}
    known, copies = set(pixels["Training"]), []
    repeated = len(pixels["Training"]) - len(known)
    for part in SPLITS[1:]:
        copies += (
            [f"{sum(image in known for image in pixels[part]):,} of {part}"] if pixels[part] else []
        )
        known |= set(pixels[part])
    if copies:
        say(
            f"{NAME}: exact copies of images of an earlier part: {' and '.join(copies)}; "
            f"{repeated:,} within Training"
        )
