"""Images that occur twice in a release: exact copies, near copies and mirrored ones.

Near copies are found in two steps. A perceptual hash of 64 bits (OpenCV's DCT hash) proposes pairs
cheaply; the correlation of their pixels decides, because many different faces share a hash.
docs/decisions.md says how the two thresholds were chosen.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import cv2
import numpy as np

from fexpr.data.data_config import DUPLICATES
from fexpr.data.dataset import Dataset
from fexpr.data.splits.fold import Fold
from fexpr.errors import UserError
from fexpr.storage import run
from fexpr.storage.cache import cache_dir
from fexpr.terminal import progress

if TYPE_CHECKING:  # checked in the tests (tests/conftest.py)
    from jaxtyping import Int, Shaped, UInt8

RULES = DUPLICATES
KINDS = DUPLICATES["drop_near"]  # the closest first
VERSION = 1  # of the search: raise it when it finds other copies
MAX_BITS = 12  # of the 64 of two hashes, that may differ
MIN_CORRELATION = 0.9  # of two images' grey levels, at the best shift
SHIFT = 2 / 48  # largest shift each way that is tried, as a share of the side
FLAT = 1.0  # grey levels: an image of a smaller standard deviation shows nothing to compare
BLOCK = 64  # images whose hashes are compared with all others at a time; bounds the memory
CHEAP = 50_000  # images; the search compares all pairs, so four times as many take 16 times as long


@dataclasses.dataclass(frozen=True)
class Copies:
    """The copies among N images.

    Attributes:
      image: int64 [N], the number of each row's image among the U different ones.
      near: int64 [P, 2], pairs of different images that show the same photograph.
      mirrored: int64 [Q, 2], pairs of which one shows the other's mirror image, and not itself.
    """

    image: Shaped[np.ndarray, " N"]
    near: Int[np.ndarray, "pairs 2"]
    mirrored: Int[np.ndarray, "mirrored_pairs 2"]

    def kinds(
        self, rows: Int[np.ndarray, " R"], among: Int[np.ndarray, " A"]
    ) -> Shaped[np.ndarray, " R"]:
        """The closest kind of copy that each row has among other rows.

        Args:
          rows: int [R], row numbers. among: row numbers, none of which is in `rows`.

        Returns:
          str [R]: one of KINDS, or '' where there is no copy.
        """
        found, image = np.full(len(rows), "", "U8"), self.image[rows]
        present = np.zeros(self.image.max(initial=-1) + 1, bool)
        present[self.image[among]] = True
        hits = [present]
        for pairs in (self.near, self.mirrored):
            hit = np.zeros_like(present)
            hit[pairs[present[pairs[:, 1]], 0]] = True
            hit[pairs[present[pairs[:, 0]], 1]] = True
            hits.append(hit)
        for kind, hit in reversed(list(zip(KINDS, hits, strict=True))):
            found[hit[image]] = kind
        return found

    def count_within(
        self, rows: Int[np.ndarray, " R"], labels: Int[np.ndarray, " N"]
    ) -> dict[str, dict[str, int]]:
        """Counts the rows that have a copy among the other given rows, by kind.

        Args:
          rows: int [R], row numbers. labels: int [N], class ids of all rows.

        Returns:
          Kind -> `rows` that have such a copy, and how many of them one with another label
          (`other_label`). A row counts under every kind of which it has a copy.
        """
        image, label = self.image[rows], labels[rows].astype(np.int64)
        size = self.image.max(initial=-1) + 1
        lowest, highest = np.full(size, np.iinfo(np.int64).max), np.full(size, -1)
        np.minimum.at(lowest, image, label)
        np.maximum.at(highest, image, label)
        repeated = np.bincount(image, minlength=size)[image] > 1
        counts = {"exact": _count(repeated, label, lowest[image], highest[image])}
        for kind, pairs in (("near", self.near), ("mirrored", self.mirrored)):
            low, high = np.full_like(lowest, np.iinfo(np.int64).max), np.full_like(highest, -1)
            for one, other in (pairs.T, pairs.T[::-1]):
                np.minimum.at(low, one, lowest[other])
                np.maximum.at(high, one, highest[other])
            counts[kind] = _count(high[image] >= 0, label, low[image], high[image])
        return counts


def _count(found: np.ndarray, label: np.ndarray, low: np.ndarray, high: np.ndarray) -> dict:
    other = found & ((low != label) | (high != label))
    return {"rows": int(found.sum()), "other_label": int(other.sum())}


def are_sought(dataset: Dataset) -> bool:
    """Whether copies are counted without a request: for single faces with an official split, in
    memory, and few enough that all pairs are compared within half a minute on two cores. Frames of
    a video and drawn faces resemble one another anyway.
    """
    single = dataset.kind == "face" and "video" not in dataset.extras and not dataset.synthetic
    affordable = not dataset.streamed and len(dataset) <= CHEAP
    return single and dataset.split is not None and affordable


def leave_out(fold: Fold, copies: Copies, rule: str, groups: Shaped[np.ndarray, " N"]) -> Fold:
    """Removes from a fold the validation rows that have a copy among its test rows, and the
    training rows that have one among its test or validation rows. Its test rows are unchanged.

    Args:
      rule: a name of RULES, which defines what counts as a copy.
      groups: str [N], of all rows.

    Returns:
      A fold whose `left_out` counts the rows by side and kind.

    Raises:
      UserError: no training row, or no validation row, is left.
    """
    held_out = np.concatenate([fold.val, fold.test])
    sides, left_out = {}, {}
    for side, rows, among in (("train", fold.train, held_out), ("val", fold.val, fold.test)):
        kinds = copies.kinds(rows, among)
        dropped = np.isin(kinds, RULES[rule])
        sides[side], left_out[side] = rows[~dropped], count_kinds(kinds[dropped])
        if not len(sides[side]):
            raise UserError(
                f"data.duplicates={rule} leaves no {side} rows of fold {fold.name}",
                fix="set data.duplicates=keep, or split the release otherwise",
            )
    return dataclasses.replace(fold, **sides, left_out=left_out, groups=groups)


def describe(copies: Copies, fold: Fold, rule: str, labels: Int[np.ndarray, " N"]) -> dict:
    """A fold's entry on copies in config.json.

    Args:
      rule: the name in RULES by which the fold was made.
      labels: int [N], class ids of all rows.

    Returns:
      `rule`; `test` and `val`: how many test rows have a copy among training or validation rows,
      and validation rows among training rows, by their closest kind; `within_training`, as
      `Copies.count_within` of the training rows; `left_out`, as in the fold.
    """
    seen = np.concatenate([fold.train, fold.val])
    return {
        "rule": rule,
        "test": count_kinds(copies.kinds(fold.test, seen)),
        "val": count_kinds(copies.kinds(fold.val, fold.train)),
        "within_training": copies.count_within(fold.train, labels),
        "left_out": fold.left_out,
    }


def count_kinds(kinds: Shaped[np.ndarray, " R"]) -> dict[str, int]:
    """Counts each of KINDS in str [R]."""
    return {kind: int((kinds == kind).sum()) for kind in KINDS}


def copies_of(dataset: Dataset) -> Copies:
    """The copies among a data set's faces; found once for the same pixels, then read from the
    cache."""
    faces = _grey(dataset.images[:])
    about = repr((VERSION, MAX_BITS, MIN_CORRELATION, SHIFT, faces.shape)).encode()
    name = hashlib.blake2b(about + _bytes(faces), digest_size=16).hexdigest()
    path = cache_dir() / "copies" / f"{name}.npz"
    if not path.exists():
        run.write_arrays(path, dataclasses.asdict(find_copies(faces)))
    return Copies(**run.read_arrays(path))


def find_copies(faces: UInt8[np.ndarray, "N H W"]) -> Copies:
    """Finds the copies among grey images. Memory grows with N, not with the number of pairs.

    Args:
      faces: uint8 [N, H, W].
    """
    first: dict[bytes, int] = {}
    image = np.array([first.setdefault(_bytes(face), len(first)) for face in faces], np.int64)
    different = np.unique(image, return_index=True)[1]
    faces = np.ascontiguousarray(faces[different])
    numbers = np.flatnonzero([face.std() >= FLAT for face in faces])
    faces = faces[numbers]
    flipped = np.ascontiguousarray(faces[:, :, ::-1])
    hashes, near, pairs = compute_hashes(faces), set(), []
    for what, others in (("copies", faces), ("mirrored copies", flipped)):
        found = _find_pairs(what, faces, others, hashes, compute_hashes(others))
        kept = [pair for pair in map(tuple, found.tolist()) if pair not in near]
        near.update(kept)
        pairs.append(numbers[np.array(kept, np.int64).reshape(-1, 2)])
    return Copies(image, *pairs)


def compute_hashes(faces: UInt8[np.ndarray, "N H W"]) -> Shaped[np.ndarray, " N"]:
    """OpenCV's perceptual hash (the lowest 8x8 frequencies of the DCT against their mean).

    Args:
      faces: uint8 [N, H, W].

    Returns:
      uint64 [N].
    """
    hasher = cv2.img_hash.PHash.create()
    rows = [hasher.compute(face)[0] for face in faces]
    return np.array(rows, np.uint8).reshape(-1, 8).view(np.uint64)[:, 0]


def correlate(a: UInt8[np.ndarray, "H W"], b: UInt8[np.ndarray, "H W"]) -> float:
    """The correlation of two images' grey levels at the best shift, -1 to 1.

    The inner part of `a` is laid over every place of `b`, SHIFT of the side each way. Brightness
    and contrast do not matter.

    Args:
      a, b: uint8 [H, W].
    """
    y, x = (max(1, round(SHIFT * side)) for side in a.shape)
    return float(cv2.matchTemplate(b, a[y:-y, x:-x], cv2.TM_CCOEFF_NORMED).max())


def _find_pairs(
    what: str,
    faces: UInt8[np.ndarray, "N H W"],
    others: UInt8[np.ndarray, "M H W"],
    hashes: Shaped[np.ndarray, " N"],
    other_hashes: Shaped[np.ndarray, " M"],
) -> Int[np.ndarray, "P 2"]:
    """Pairs i < j of which `faces[i]` and `others[j]` are near copies: int [P, 2]. `what` labels
    the progress bar.
    """

    def find_in_block(start: int) -> list[tuple[int, int]]:
        mine, theirs = hashes[start : start + BLOCK, None], other_hashes[None, start + 1 :]
        bits = np.bitwise_count(mine ^ theirs)
        i, j = np.nonzero(bits <= MAX_BITS)
        later = j >= i  # the columns begin one after the first row
        candidates = zip((i[later] + start).tolist(), (j[later] + start + 1).tolist(), strict=True)
        return [(a, b) for a, b in candidates if _are_alike(faces[a], others[b])]

    blocks = _map_blocks(find_in_block, len(faces), f"looking for {what}")
    return np.array([pair for pairs in blocks for pair in pairs], np.int64).reshape(-1, 2)


def _are_alike(a: np.ndarray, b: np.ndarray) -> bool:
    return correlate(a, b) >= MIN_CORRELATION


def _map_blocks(function: Callable[[int], list], size: int, what: str) -> Iterator[list]:
    starts = range(0, size, BLOCK)
    with ThreadPoolExecutor() as threads, progress(what, max(len(starts), 1)) as advance:
        for found in threads.map(function, starts):  # NumPy and OpenCV release the lock
            advance()
            yield found


def _grey(images: np.ndarray) -> np.ndarray:
    """Grey images uint8 [N, H, W] of images [N, H, W, C]; the face only, if there is a map beside
    it.
    """
    if images.shape[-1] < 3:
        return images[..., 0]
    return images.mean(axis=-1).astype(np.uint8)


def _bytes(array: np.ndarray) -> bytes:
    return np.ascontiguousarray(array).tobytes()
