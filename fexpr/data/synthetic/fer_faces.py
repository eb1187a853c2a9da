"""Drawn 48x48 faces with seven expressions, in every layout in which FER2013 is distributed, and
the votes of simulated annotators.

Coordinates of a face are in units of half its height: x to the right, y down, the origin between
eyes and mouth. An expression is a point in the space of the seven quantities below; a face shows it
at some strength, from a hint to full, so that weak ones cannot be distinguished from neutral.
"""

from __future__ import annotations

import csv
import gzip
import io
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import cv2
import numpy as np
from einops import rearrange

from fexpr.data.releases.fer2013_rows import CLASSES, OFFICIAL, SIDE, SPLITS
from fexpr.data.synthetic.samm_clips import apportion
from fexpr.storage.run import atomic_path

if TYPE_CHECKING:  # checked in the tests (tests/conftest.py)
    from jaxtyping import Int, Int32, Shaped, UInt8

MODES: dict[str, Literal["w:", "w:gz", "w:bz2", "w:xz"]] = {
    ".tar": "w:",
    ".gz": "w:gz",
    ".bz2": "w:bz2",
    ".xz": "w:xz",
}
LAYOUTS = (
    "csv",
    "csv.gz",
    "icml",
    "icml.gz",
    "kaggle",
    "folders",
    "zip",
    "tar",
    "tar.gz",
    "tar.xz",
)
SHARES = (8, 1, 1)  # shares of Training, PublicTest, PrivateTest
CHUNK = 512  # images drawn at a time

# Neutral, and how each class differs from it at full strength: brows up, brows' inner ends down,
# eyes' opening, corners of the mouth up, mouth's opening, mouth's width, folds beside the nose.
NEUTRAL = np.array([0, 0, 0.075, 0, 0.015, 0.28, 0])
EXPRESSIONS = np.array(
    [
        [-0.07, 0.45, 0.01, -0.12, 0.01, 0.02, 0.2],
        [-0.02, 0.2, -0.03, -0.10, 0.05, -0.02, 0.8],
        [0.07, -0.2, 0.05, -0.06, 0.08, 0.04, 0],
        [0, 0, -0.01, 0.18, 0.05, 0.1, 0.3],
        [0.01, -0.4, -0.025, -0.14, 0, -0.03, 0],
        [0.11, 0, 0.055, 0, 0.17, -0.08, 0],
        [0, 0, 0, 0, 0, 0, 0],
    ]
)
SPREAD = np.array([0.02, 0.08, 0.012, 0.025, 0.012, 0.03, 0.1])  # between people, at rest
README = (
    "Drawn by fexpr: {count} synthetic faces, seed {seed}. No person is shown, and nothing here "
    "says anything about people.\n"
)


def write_synthetic(folder: Path, layout: str, count: int, seed: int = 0) -> None:
    """Draws `count` faces into `folder`, in one of LAYOUTS; with fer2013new.csv beside the table
    layouts.

    'kaggle' is fer2013.tar.gz with fer2013/fer2013.csv in it; 'zip' and 'tar…' hold the image
    folders. The shares of parts, and of classes within each part, are the official ones. Image
    files are named by their row in the table, so that every layout has the same ids. The folder
    appears as a whole or not at all; the same arguments give the same images.

    Raises:
      ValueError: unknown layout.
    """
    if layout not in LAYOUTS:
        raise ValueError(f"layout {layout!r}, expected one of {', '.join(LAYOUTS)}")
    labels, parts = plan(count, seed)
    images = draw(labels, seed)
    with atomic_path(Path(folder)) as partial:
        partial.mkdir()
        (partial / "README.txt").write_text(README.format(count=count, seed=seed), encoding="utf-8")
        if layout in ("folders", "zip") or layout.startswith("tar"):
            _write_images(partial, layout, list(_image_files(images, labels, parts)))
            return
        table = _table(images, labels, parts, icml=layout.startswith("icml"))
        (partial / "fer2013new.csv").write_bytes(_votes(labels, parts, seed))
        name = "icml_face_data.csv" if layout.startswith("icml") else "fer2013.csv"
        if layout == "kaggle":
            _pack_tar(partial / "fer2013.tar.gz", [(f"fer2013/{name}", table)])
        elif layout.endswith(".gz"):
            (partial / f"{name}.gz").write_bytes(gzip.compress(table, 1))
        else:
            (partial / name).write_bytes(table)


def plan(
    count: int, seed: int
) -> tuple[Int32[np.ndarray, " {count}"], Shaped[np.ndarray, " {count}"]]:
    """Plans class ids int32 [count] and parts str [count]: parts one after another as in the
    release, classes in random order.
    """
    rng = np.random.default_rng(seed)
    sizes = apportion(count, SHARES)
    counts = [apportion(size, OFFICIAL[part]) for size, part in zip(sizes, SPLITS, strict=True)]
    labels = [
        rng.permutation(np.repeat(np.arange(len(CLASSES), dtype=np.int32), n)) for n in counts
    ]
    return np.concatenate(labels), np.repeat(SPLITS, sizes)


def draw(labels: Int[np.ndarray, " N"], seed: int) -> UInt8[np.ndarray, "N 48 48"]:
    """A face for each label, each of another person: uint8 [N, 48, 48]."""
    starts = range(0, len(labels), CHUNK)
    chunks = [_draw(labels[i : i + CHUNK], np.random.default_rng([seed, i])) for i in starts]
    return np.concatenate(chunks) if chunks else np.zeros((0, SIDE, SIDE), np.uint8)


def _draw(labels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    def near(mean: float, spread: float) -> np.ndarray:
        return (mean + spread * rng.standard_normal((len(labels), 1, 1)).clip(-2, 2)).astype(
            np.float32
        )

    amounts = (
        NEUTRAL
        + SPREAD * rng.standard_normal((len(labels), 7))
        + rng.uniform(0.2, 1.1, (len(labels), 1)) * EXPRESSIONS[labels]
    )
    raised, frown, lids, smile, gape, wide, folds = rearrange(
        amounts.astype(np.float32), "n k -> k n 1 1"
    )
    x, y = np.meshgrid(*[np.linspace(-1, 1, SIDE, dtype=np.float32)] * 2)
    scale, turn = near(0.95, 0.08), near(0, 0.14)
    x, y = (x[None] - near(0, 0.09)) / scale, (y[None] - near(0, 0.09)) / scale
    x, y = np.cos(turn) * x + np.sin(turn) * y, np.cos(turn) * y - np.sin(turn) * x
    skin, eye_x, eye_y, mouth_y = (
        near(165, 25),
        near(0.34, 0.02),
        near(-0.15, 0.02),
        near(0.5, 0.03),
    )
    side = np.abs(x)

    head = _edge(1 - (side / near(0.72, 0.04)) ** 2 - (y / near(0.95, 0.04)) ** 2, 0.15)
    hair = _edge(near(-0.62, 0.06) - y + 0.25 * side**2, 0.05)
    light, wall = 1 + near(0, 0.25) * x + near(-0.05, 0.15) * y, near(110, 40)
    image = wall + (skin * light - wall) * head
    image += (near(60, 25) - image) * hair * _edge(1.25 - x**2 - y**2, 0.2)

    def shade(mask: np.ndarray, level: np.ndarray | float) -> None:
        nonlocal image
        image += (level - image) * mask.clip(0, 1)

    lids = np.maximum(lids, 0.012)
    ball = _edge(1 - ((side - eye_x) / 0.16) ** 2 - ((y - eye_y) / lids) ** 2, 0.5)
    shade(ball, 0.25 * skin + 170)
    shade(
        ball * _edge(0.07 - np.hypot(side - eye_x - near(0, 0.01) * np.sign(x), y - eye_y), 0.015),
        35,
    )
    lid = np.exp(
        -(((y - eye_y + lids * np.sqrt((1 - ((side - eye_x) / 0.18) ** 2).clip(0))) / 0.03) ** 2)
    )
    shade(0.7 * lid * _edge(0.18 - np.abs(side - eye_x), 0.02), 50)
    brow = y - (eye_y - 0.2 - raised + frown * (0.36 - side - 0.02))
    shade(
        0.85 * np.exp(-((brow / 0.045) ** 2)) * _edge(0.21 - np.abs(side - eye_x), 0.03),
        near(55, 15),
    )
    shade(0.35 * np.exp(-(((side - 0.09) / 0.04) ** 2) - ((y - 0.2) / 0.05) ** 2), 40)
    fold = np.exp(-(((side - 0.17 - 0.5 * (y - 0.15)) / 0.03) ** 2)) * _edge(
        0.17 - np.abs(y - 0.27), 0.05
    )
    shade(0.8 * np.clip(folds, 0, 1) * fold, 70)

    wide, gape = np.maximum(wide, 0.1), np.maximum(gape, 0.008)
    along = (x / wide).clip(-1.3, 1.3)
    line = y - mouth_y + smile * (along**2 - 0.4)
    opening = gape * np.sqrt((1 - along**2).clip(0))
    inside = _edge(1 - np.abs(along), 0.08)
    # lips
    shade(0.55 * inside * np.exp(-((np.maximum(np.abs(line) - opening, 0) / 0.06) ** 2)), 95)
    shade(0.9 * inside * _edge(opening + 0.012 - np.abs(line), 0.015), 40)
    image = image * near(1, 0.08) + rng.standard_normal(image.shape, np.float32) * near(9, 2)
    return image.round().clip(0, 255).astype(np.uint8)


def _edge(inside: np.ndarray, width: float) -> np.ndarray:
    """1 where `inside` is positive, 0 where it is negative, soft between."""
    return 0.5 + 0.5 * np.tanh(inside / width)


def _table(images: np.ndarray, labels: np.ndarray, parts: np.ndarray, icml: bool) -> bytes:
    lines = [
        [label, " ".join(map(str, image.ravel().tolist())), part]
        for image, label, part in zip(images, labels, parts, strict=True)
    ]
    header = ["emotion", " Usage", " pixels"] if icml else ["emotion", "pixels", "Usage"]
    return _csv(
        [
            header,
            *(
                [label, part, pixels] if icml else [label, pixels, part]
                for label, pixels, part in lines
            ),
        ]
    )


def _votes(labels: np.ndarray, parts: np.ndarray, seed: int) -> bytes:
    """Ten annotators per face: most see its class, others neutral or anything; a few faces are
    misread by most.
    """
    rng = np.random.default_rng([seed, 1])
    order = (
        "neutral",
        "happiness",
        "surprise",
        "sadness",
        "anger",
        "disgust",
        "fear",
        "contempt",
        "unknown",
        "NF",
    )
    column = np.array([4, 5, 6, 1, 3, 2, 0])  # of each class id
    shares = np.full((len(labels), len(order)), 0.02)
    shares[:, 0] += 0.2
    shares[np.arange(len(labels)), column[labels]] += 0.7
    strange = rng.random(len(labels)) < 0.06
    shares[strange, rng.integers(7, 10, strange.sum())] += 3  # contempt, unknown or NF
    votes = rng.multinomial(10, shares / shares.sum(1, keepdims=True))
    rows = [
        [part, f"fer{i:07d}.png" if row[-1] < 5 else "", *row]
        for i, (part, row) in enumerate(zip(parts, votes.tolist(), strict=True))
    ]
    return _csv([["Usage", "Image name", *order], *rows])


def _csv(rows: list[list]) -> bytes:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue().encode()


def _image_files(
    images: np.ndarray, labels: np.ndarray, parts: np.ndarray
) -> Iterator[tuple[str, bytes]]:
    for i, (image, label, part) in enumerate(zip(images, labels, parts, strict=True)):
        done, data = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 95])
        if not done:
            raise RuntimeError("OpenCV could not encode a JPEG")
        yield (
            f"{'train' if part == SPLITS[0] else 'test'}/{CLASSES[label]}/{part}_{i}.jpg",
            data.tobytes(),
        )


def _write_images(folder: Path, layout: str, files: list[tuple[str, bytes]]) -> None:
    if layout == "zip":
        with zipfile.ZipFile(folder / "archive.zip", "w") as archive:
            for name, data in files:
                archive.writestr(name, data)
    elif layout == "folders":
        for name, data in files:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(data)
    else:
        _pack_tar(folder / f"fer2013_images.{layout}", files)


def _pack_tar(path: Path, files: list[tuple[str, bytes]]) -> None:
    with tarfile.open(path, MODES[path.suffix]) as archive:
        for name, data in files:
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
