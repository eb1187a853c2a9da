"""Finds every face of a picture, of any size and orientation."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import TYPE_CHECKING

import cv2
import numpy as np

from fexpr.faces import framing, networks
from fexpr.faces.face import Face, sharpness

if TYPE_CHECKING:  # checked in the tests (tests/conftest.py)
    from jaxtyping import Float, UInt8

SCORE = 0.5  # of the detector, the least
PRESENCE = 0.5  # of the mesh network, the least
# detector's score times presence below which a picture is also searched turned
CERTAIN = 0.82
SAME = 0.3  # intersection over union above which two boxes show one face
INSIDE = 0.6  # share of the smaller box that lies in the larger, above which they show one face
# a picture whose longer side has as many pixels is also searched in overlapping parts
PARTS_FROM = 512
# the detector finds faces from about this share of a picture's longer side; parts are divided
# again where faces are so small
SMALLEST = 0.08
# width of a black border, in sides of the picture, without which faces that fill it are not found
MARGIN = 0.25
LARGEST = 4096  # pixels of the longer side; larger pictures are reduced before they get the border
CLEARLY = 1.05  # times as certain, the least for which a turned picture is believed
ROI = 1.5  # side of what the mesh network sees, in sides of the detector's box or the mesh's


@dataclasses.dataclass(frozen=True, eq=False)
class Candidate:
    """A detection: score, box [4] (left, top, right, bottom), keypoints [6, 2]."""

    score: float
    box: Float[np.ndarray, " 4"]
    keypoints: Float[np.ndarray, "6 2"]


def find(pixels: UInt8[np.ndarray, "H W *C"], parts: bool = True) -> list[Face]:
    """All faces of a picture, from left to right.

    Where no face is certain, the picture is also turned by 90, 180 and 270 degrees; coordinates are
    those of the picture as it is given.

    Args:
      pixels: uint8 [H, W], [H, W, 1] or RGB [H, W, 3].
      parts: whether large pictures are also searched in overlapping parts, for small faces.
    """
    pixels = as_rgb(pixels)
    best = meshes(pixels, parts)
    if _certainty(best) < CERTAIN:
        best += [
            one
            for one in meshes(pixels, False, MARGIN)
            if not any(same_face(one[0], other) for other, *_ in best)
        ]
    if _certainty(best) < CERTAIN:
        # a face is also found upside down, with less certainty; small faces are found turned by
        # 90 degrees, so that parts need no turning
        for turns in (1, 3, 2):
            turned = np.ascontiguousarray(np.rot90(pixels, turns))
            found = meshes(turned, False)
            if _certainty(found) > CLEARLY * _certainty(best):
                best = [
                    (_turned_back(mesh, turns, turned.shape), score, presence)
                    for mesh, score, presence in found
                ]
    faces = [Face(mesh, score, presence, sharpness(pixels, mesh)) for mesh, score, presence in best]
    return sorted(faces, key=lambda face: face.box[0])


def _certainty(found: list[tuple[np.ndarray, float, float]]) -> float:
    """The highest product of detector score and presence over the faces."""
    return max((score * presence for _, score, presence in found), default=0.0)


def meshes(
    pixels: UInt8[np.ndarray, "H W 3"], parts: bool, margin: float = 0.0
) -> list[tuple[Float[np.ndarray, "468 3"], float, float]]:
    """(mesh, score, presence) of the faces in an RGB picture, without turning it."""
    found: list[tuple[np.ndarray, float, float]] = []
    for candidate in candidates(pixels, parts, margin):
        mesh, presence = refine(pixels, candidate)
        if presence >= PRESENCE and not any(same_face(mesh, other) for other, *_ in found):
            found.append((mesh, candidate.score, presence))
    return found


def as_rgb(pixels: UInt8[np.ndarray, "H W *C"]) -> UInt8[np.ndarray, "H W 3"]:
    """RGB uint8 [H, W, 3] of RGB or grey pixels."""
    if pixels.ndim == 3 and pixels.shape[2] == 3:
        return pixels
    return np.repeat(pixels.reshape(*pixels.shape[:2], 1), 3, axis=2)


def candidates(
    pixels: UInt8[np.ndarray, "H W 3"], parts: bool, margin: float = 0.0
) -> list[Candidate]:
    """Detections in an RGB picture, without turning it, best first, each face once.

    `margin`: width of a black border in sides of the picture, for faces that fill it.
    """
    side = max(pixels.shape[:2])
    found = _detect_in_border(pixels, margin) if margin else _detect(pixels, 0, 0)
    if parts:
        for size in (side // 2, side // 4):
            smallest = min((max(c.box[2:] - c.box[:2]) for c in found), default=0)
            # faces of a crowd are of similar sizes: the second division is for crowds
            if 2 * size < PARTS_FROM or (size == side // 4 and smallest > 2 * SMALLEST * side):
                break
            for x, y in _corners(pixels.shape, size):
                found += _detect(pixels[y : y + size, x : x + size], x, y)
    return suppress(found)


def _detect_in_border(pixels: np.ndarray, margin: float) -> list[Candidate]:
    """Candidates in a picture with a black border, `margin` sides of the picture wide. Large
    pictures are reduced first: with their borders they would need many times their memory.
    """
    height, width = pixels.shape[:2]
    scale = min(1.0, LARGEST / max(height, width))
    if scale < 1:
        size = max(1, round(width * scale)), max(1, round(height * scale))
        pixels = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA)
    border = round(margin * max(pixels.shape[:2]))
    framed = cv2.copyMakeBorder(pixels, border, border, border, border, cv2.BORDER_CONSTANT)
    return [
        Candidate(one.score, one.box / scale, one.keypoints / scale)
        for one in _detect(framed, -border, -border)
    ]


def _detect(pixels: np.ndarray, left: int, top: int) -> list[Candidate]:
    """Candidates in a part of a picture whose upper left corner lies at (left, top)."""
    height, width = pixels.shape[:2]
    scale = networks.DETECTOR_SIDE / max(height, width)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    canvas = np.zeros((networks.DETECTOR_SIDE, networks.DETECTOR_SIDE, 3), np.uint8)
    canvas[: size[1], : size[0]] = cv2.resize(
        pixels, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    )
    scores, boxes, keypoints = networks.detect(canvas)
    shift = np.array([left, top], np.float64)
    found = [
        Candidate(
            float(scores[i]),
            boxes[i] / scale + np.tile(shift, 2),
            keypoints[i] / scale + shift,
        )
        for i in np.flatnonzero(scores >= SCORE)
    ]
    return _blend(found)


def _blend(found: list[Candidate]) -> list[Candidate]:
    """Replaces the boxes of one face by their mean, weighted by score (BlazeFace, Bazarevsky et al.
    2019, section 3.3).
    """
    remaining, blended = sorted(found, key=lambda c: -c.score), []
    while remaining:
        best = remaining[0]
        overlapping = [c for c in remaining if overlap(best.box, c.box)[0] > SAME] or [best]
        weights = np.array([c.score for c in overlapping]) / sum(c.score for c in overlapping)
        blended.append(
            Candidate(
                best.score,
                np.einsum("n,nc->c", weights, [c.box for c in overlapping]),
                np.einsum("n,nkc->kc", weights, [c.keypoints for c in overlapping]),
            )
        )
        remaining = [c for c in remaining[1:] if overlap(best.box, c.box)[0] <= SAME]
    return blended


def suppress(found: list[Candidate]) -> list[Candidate]:
    """Keeps each face once, best first, also if several parts of a picture show it, whole or
    cut.
    """
    kept: list[Candidate] = []
    for candidate in sorted(found, key=lambda c: -c.score):
        shares = [overlap(candidate.box, other.box) for other in kept]
        if all(union <= SAME and inside <= INSIDE for union, inside in shares):
            kept.append(candidate)
    return kept


def overlap(a: Float[np.ndarray, " 4"], b: Float[np.ndarray, " 4"]) -> tuple[float, float]:
    """Intersection of two boxes (left, top, right, bottom) over their union, and over the smaller
    box.
    """
    common = np.maximum(0, np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2])).prod()
    areas = (a[2:] - a[:2]).prod(), (b[2:] - b[:2]).prod()
    return float(common / max(1e-9, sum(areas) - common)), float(common / max(1e-9, min(areas)))


def _corners(shape: tuple[int, ...], size: int) -> Iterator[tuple[int, int]]:
    """Upper left corners (x, y) of squares that cover a picture and overlap by half at least."""
    height, width = shape[:2]
    for y in _starts(height, size):
        for x in _starts(width, size):
            yield x, y


def _starts(length: int, size: int) -> list[int]:
    count = max(1, 1 + int(np.ceil((length - size) / (size / 2))))
    return sorted({round(v) for v in np.linspace(0, max(0, length - size), count)})


def refine(
    pixels: UInt8[np.ndarray, "H W 3"], candidate: Candidate
) -> tuple[Float[np.ndarray, "468 3"], float]:
    """The mesh [468, 3] of a candidate in an RGB picture, and the probability of a face."""
    centre = (candidate.box[:2] + candidate.box[2:]) / 2
    side = max(candidate.box[2:] - candidate.box[:2])
    mesh, _ = _mesh(pixels, centre, side, candidate.keypoints[1] - candidate.keypoints[0])
    return follow(pixels, mesh)  # the second pass is centred and upright


def follow(
    pixels: UInt8[np.ndarray, "H W 3"], mesh: Float[np.ndarray, "468 3"]
) -> tuple[Float[np.ndarray, "468 3"], float]:
    """The mesh of a face that was at `mesh` a frame ago, and the probability that it is there."""
    low, high = mesh[:, :2].min(axis=0), mesh[:, :2].max(axis=0)
    return _mesh(pixels, (low + high) / 2, max(high - low), (mesh[263] - mesh[33])[:2])


def _mesh(
    pixels: UInt8[np.ndarray, "H W 3"],
    centre: Float[np.ndarray, " 2"],
    side: float,
    eyes: Float[np.ndarray, " 2"],
) -> tuple[Float[np.ndarray, "468 3"], float]:
    """The mesh in a square around `centre`, `ROI` times `side`, turned so that `eyes`, the vector
    from the left to the right one, is level.
    """
    angle, scale = np.arctan2(eyes[1], eyes[0]), networks.MESH_SIDE / max(1.0, ROI * side)
    rotation = scale * np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    shift = networks.MESH_SIDE / 2 - rotation @ centre
    transform = np.hstack([rotation, shift[:, None]])
    points, presence = networks.mesh(framing.align(pixels, transform, networks.MESH_SIDE))
    inverse = np.linalg.inv(rotation)
    return np.hstack([(points[:, :2] - shift) @ inverse.T, points[:, 2:] / scale]), presence


def same_face(a: Float[np.ndarray, "468 3"], b: Float[np.ndarray, "468 3"]) -> bool:
    """Whether two meshes show one face: their centres are closer than a third of its size."""
    size = min(np.ptp(a[:, 0]), np.ptp(b[:, 0]))
    return bool(np.linalg.norm(a[:, :2].mean(axis=0) - b[:, :2].mean(axis=0)) < size / 3)


def _turned_back(
    mesh: Float[np.ndarray, "468 3"], turns: int, shape: tuple[int, ...]
) -> Float[np.ndarray, "468 3"]:
    """A mesh in np.rot90(picture, turns), of shape `shape`, in coordinates of the picture."""
    x, y, depth = mesh.T
    for _ in range(turns):
        # undo one anticlockwise turn; the width before it is the height after it
        x, y, shape = shape[0] - 1 - y, x, (shape[1], shape[0])
    return np.stack([x, y, depth], axis=1)
