"""Faces followed through a video: one number for each person."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import numpy as np

from fexpr.faces import finder
from fexpr.faces.face import Face, sharpness

if TYPE_CHECKING:  # checked in the tests (tests/conftest.py)
    from jaxtyping import Float, UInt8

DETECT_EVERY = 0.2  # seconds of video between two searches of the whole frame for faces
FORGET = 2.0  # seconds after which a lost face that is found again gets a new number
AGAIN = 0.2  # intersection over union with where a lost face was, the least to be the same one
# frames without a stamp are taken to be so far apart
_UNKNOWN_STEP = 1 / 25


@dataclasses.dataclass
class _Track:
    number: int
    mesh: Float[np.ndarray, "468 3"]
    score: float
    seen: float  # seconds


@dataclasses.dataclass(frozen=True, eq=False)
class TrackedFace(Face):
    """A face of a video, whose person has a number."""

    track: int = 0


class Tracker:
    """Finds the faces of one frame after another.

    Faces are detected every `DETECT_EVERY` seconds, and immediately when one was lost; in between,
    the mesh network follows each of them. A face that is found where one was lost less than
    `FORGET` seconds ago keeps its number.
    """

    def __init__(self) -> None:
        self._tracks: list[_Track] = []
        self._visible: list[int] = []
        self._next = 0
        self._searched = -np.inf
        self._now = 0.0

    def update(
        self, pixels: UInt8[np.ndarray, "H W *C"], seconds: float | None = None
    ) -> list[TrackedFace]:
        """The faces of the next frame, from left to right.

        Args:
          pixels: RGB uint8 [H, W, 3] or grey uint8 [H, W].
          seconds: when the frame is shown.
        """
        pixels = finder.as_rgb(pixels)
        if seconds is not None and np.isfinite(seconds):
            self._now = float(seconds)
        else:
            self._now += _UNKNOWN_STEP
        self._tracks = [t for t in self._tracks if self._now - t.seen <= FORGET]
        before = [track for track in self._tracks if track.number in self._visible]
        faces = self._follow(pixels, before)
        lost = len(faces) < len(before)
        if lost or not faces or self._now - self._searched >= DETECT_EVERY:
            # turned frames and small faces are looked for in the first frame alone
            thorough = not self._tracks and self._searched == -np.inf
            self._searched = self._now
            faces += self._detect(pixels, faces, thorough)
        self._visible = [face.track for face in faces]
        return sorted(faces, key=lambda face: face.box[0])

    def _follow(self, pixels: np.ndarray, tracks: list[_Track]) -> list[TrackedFace]:
        faces: list[TrackedFace] = []
        for track in tracks:
            mesh, presence = finder.follow(pixels, track.mesh)
            double = any(finder.same_face(mesh, face.mesh) for face in faces)
            if presence >= finder.PRESENCE and not double:
                track.mesh, track.seen = mesh, self._now
                faces.append(_face(pixels, track, presence))
        return faces

    def _detect(
        self, pixels: np.ndarray, followed: list[TrackedFace], thorough: bool
    ) -> list[TrackedFace]:
        """Adds faces that are not followed yet."""
        if thorough:
            found = [(f.mesh, f.score, f.presence) for f in finder.find(pixels)]
        else:
            found = finder.meshes(pixels, parts=False)
        faces: list[TrackedFace] = []
        for mesh, score, presence in found:
            same = [f.track for f in followed if finder.same_face(mesh, f.mesh)]
            taken = {face.track for face in followed + faces}
            if same:
                for track in self._tracks:
                    if track.number in same:
                        track.score = score
                continue
            track = self._lost_at(mesh, taken)
            if track is None:
                track = _Track(self._next, mesh, score, self._now)
                self._next += 1
                self._tracks.append(track)
            track.mesh, track.score, track.seen = mesh, score, self._now
            faces.append(_face(pixels, track, presence))
        return faces

    def _lost_at(self, mesh: Float[np.ndarray, "468 3"], taken: set[int]) -> _Track | None:
        """The lost track whose last box overlaps most with a mesh's."""
        overlaps = [
            (finder.overlap(_corners(mesh), _corners(track.mesh))[0], track)
            for track in self._tracks
            if track.number not in taken
        ]
        share, track = max(overlaps, key=lambda pair: pair[0], default=(0.0, None))
        return track if share >= AGAIN else None


def _face(pixels: UInt8[np.ndarray, "H W 3"], track: _Track, presence: float) -> TrackedFace:
    return TrackedFace(
        track.mesh, track.score, presence, sharpness(pixels, track.mesh), track.number
    )


def _corners(mesh: Float[np.ndarray, "468 3"]) -> Float[np.ndarray, " 4"]:
    return np.concatenate([mesh[:, :2].min(axis=0), mesh[:, :2].max(axis=0)])
