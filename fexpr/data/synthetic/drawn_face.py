"""The geometry of a drawn face and how action units move it; drawn_portrait.py paints it, the
synthetic releases are made of it.

All coordinates are in face units: the origin lies between the eyes, x runs to the image's right, y
runs down, and 92 units separate the eyes, as pixels do on an aligned 224x224 face. A `Face` places
them in the frame. Subject's left is image right.

An action unit is a sum of Gaussian bumps of displacement, and of darkening where skin folds, at
anchors on each half of the face.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:  # checked in the tests (tests/conftest.py)
    from jaxtyping import Float, Float32

HEIGHT, WIDTH = 288, 320
# peak displacement of an action unit at intensity 1, in face units (= pixels of the 224x224 face)
AMPLITUDE = 3.5

# Per action unit and half face: (anchor, offset outward, offset down, sigma x, sigma y,
# displacement outward, displacement down).
MOTION: dict[int, tuple[tuple[str, float, float, float, float, float, float], ...]] = {
    1: (("brow_inner", 0, 0, 14, 13, 0.1, -1.0), ("brow_inner", 0, -22, 14, 14, 0, -0.6)),
    2: (
        ("brow_outer", 0, 0, 17, 13, 0.1, -1.0),
        ("brow_outer", -2, -22, 16, 14, 0, -0.6),
        ("eye", 12, -10, 12, 7, 0, -0.3),
    ),
    4: (("brow_inner", 0, 0, 14, 12, -0.6, 0.8), ("brow_outer", -18, 0, 15, 11, -0.2, 0.5)),
    5: (("eye", 0, -8, 15, 6, 0, -0.9),),
    6: (
        ("cheek", 4, 0, 20, 14, 0, -1.0),
        ("eye", 4, 12, 16, 7, 0, -0.5),
        ("eye", 26, 4, 10, 10, -0.5, 0),
    ),
    7: (("eye", 0, 8, 16, 6, -0.1, -0.9), ("eye", 0, -8, 15, 6, 0, 0.6)),
    9: (
        ("nostril", 0, -2, 12, 13, 0, -1.0),
        ("nose_root", 0, 4, 9, 12, 0, -0.5),
        ("brow_inner", 0, 2, 12, 9, -0.3, 0.6),
    ),
    10: (("upper_lip", 4, -2, 14, 9, 0, -1.0), ("nostril", 10, 8, 12, 12, 0, -0.7)),
    12: (("corner", 0, 0, 17, 14, 0.8, -0.7), ("cheek", 0, 18, 18, 15, 0.2, -0.6)),
    14: (("corner", 1, 0, 11, 10, 0.9, 0.1), ("corner", 20, 0, 10, 12, -0.7, 0)),
    15: (("corner", 0, 1, 15, 12, -0.1, 1.0), ("corner", -2, 18, 13, 12, 0, 0.5)),
    17: (("chin", 0, 0, 17, 12, 0, -1.0), ("lower_lip", 0, 2, 18, 8, 0, -0.8)),
    18: (("corner", -2, 0, 17, 12, -1.0, 0), ("upper_lip", 0, 0, 12, 8, -0.3, -0.3)),
    20: (("corner", 0, 2, 20, 14, 0.9, 0.2), ("corner", 12, 22, 16, 15, 0.5, 0.2)),
    24: (
        ("upper_lip", 0, 0, 20, 7, 0, 0.8),
        ("lower_lip", 0, 0, 20, 7, 0, -0.9),
        ("corner", 0, 0, 10, 10, -0.3, 0),
    ),
    25: (("lower_lip", 0, 0, 20, 9, 0, 1.0), ("upper_lip", 0, 0, 20, 7, 0, -0.4)),
    26: (("chin", 0, 0, 36, 22, 0, 1.0), ("lower_lip", 0, 6, 22, 9, 0, 0.3)),
    39: (("nostril", 2, 0, 8, 9, -1.0, 0.1),),
    43: (("eye", 0, -9, 16, 7, 0, 1.0),),
}

# Where skin folds or the lips part: (anchor, offset outward, offset down, sigma x, sigma y, share
# of light lost).
FOLDS: dict[int, tuple[tuple[str, float, float, float, float, float], ...]] = {
    1: (("brow_inner", 0, -24, 14, 1.6, 0.2), ("brow_inner", 0, -32, 14, 1.6, 0.16)),
    2: (("brow_outer", -6, -24, 16, 1.6, 0.2),),
    4: (("brow_inner", -12, 4, 1.6, 8, 0.35),),
    6: (("eye", 27, 2, 7, 1.2, 0.2), ("eye", 26, 8, 7, 1.2, 0.2)),
    9: (
        ("nose_root", 0, 2, 6, 1.3, 0.35),
        ("nose_root", 0, 9, 7, 1.3, 0.3),
        ("nostril", 4, -10, 3, 7, 0.15),
    ),
    10: (("nostril", 8, 8, 2, 9, 0.2),),
    12: (("corner", 3, -12, 2, 12, 0.2),),
    14: (("corner", 8, 0, 2.2, 7, 0.35),),
    15: (("corner", 1, 8, 2.2, 6, 0.2),),
    17: (("chin", 0, -14, 14, 2, 0.25),),
    25: (("lip_line", 0, 0, 18, 2.2, 0.5),),
    26: (("lip_line", 0, 1, 20, 2.8, 0.5),),
}
LIDS = {5: -0.4, 7: 0.3, 43: 0.9}  # change of lid closure at intensity 1 (0 = at rest, 1 = shut)


@dataclasses.dataclass(frozen=True)
class Unit:
    """An action unit to draw: `intensity` in [0, 1], and its share on the subject's left and right
    half.
    """

    au: int
    intensity: float
    left: float = 1.0
    right: float = 1.0

    def halves(self) -> tuple[tuple[int, float], ...]:
        """(sign of x in the image, intensity) for each half that moves: the subject's left is the
        image's right.
        """
        return tuple(
            (sign, self.intensity * share)
            for sign, share in ((1, self.left), (-1, self.right))
            if share > 0
        )


@dataclasses.dataclass(frozen=True)
class Face:
    """One subject: geometry in face units, position in the frame (pixels, radians), appearance, and
    manner of moving.
    """

    eye_x: float = 46
    brow_y: float = -22
    nose_y: float = 49
    mouth_x: float = 38
    mouth_y: float = 91
    chin_y: float = 134
    width: float = 80
    hairline: float = -62
    eye_height: float = 7
    lips: float = 1.0  # thickness, relative
    brows: float = 1.0
    nose: float = 1.0
    center: tuple[float, float] = ((WIDTH - 1) / 2, 120)  # of the eyes
    scale: float = 0.9  # pixels of the frame per face unit
    tilt: float = 0.0
    skin: float = 0.62  # albedo
    hair: float = 0.2
    long_hair: bool = False
    beard: float = 0.0
    grain: float = 1.0  # contrast of the skin's texture
    lamp: tuple[float, float] = (-0.25, -0.45)  # direction the light comes from: x, y
    backdrop: float = 0.5
    noise: float = 2.0  # standard deviation of the sensor noise, grey levels
    strength: float = 1.0  # how far this subject moves at a given intensity
    # shift of an AU's bumps, face units
    habits: Mapping[int, tuple[float, float]] = dataclasses.field(default_factory=dict)
    texture_seed: int = 0

    def grid(self) -> tuple[Float32[np.ndarray, "H W"], Float32[np.ndarray, "H W"]]:
        """Face coordinates (x, y) of every pixel of the frame, float32 [H, W] each."""
        v, u = np.mgrid[:HEIGHT, :WIDTH].astype(np.float32)
        u, v = (u - self.center[0]) / self.scale, (v - self.center[1]) / self.scale
        cos, sin = np.float32(np.cos(self.tilt)), np.float32(np.sin(self.tilt))
        return cos * u + sin * v, -sin * u + cos * v

    def to_frame(self, vectors: Float[np.ndarray, "*shape 2"]) -> Float[np.ndarray, "*shape 2"]:
        """Rotates and scales vectors [..., 2] of the face into pixels of the frame (for points, add
        `center`).
        """
        cos, sin = np.cos(self.tilt), np.sin(self.tilt)
        return self.scale * vectors @ np.array([[cos, sin], [-sin, cos]], vectors.dtype)

    def landmarks(self) -> Float[np.ndarray, "5 2"]:
        """Image-left and image-right eye, nose, image-left and image-right mouth corner at rest,
        pixels, float64 [5, 2].
        """
        eye, mouth = self.eye_x, self.mouth_x
        points = [
            (-eye, 0),
            (eye, 0),
            (0, self.nose_y),
            (-mouth, self.mouth_y),
            (mouth, self.mouth_y),
        ]
        return self.to_frame(np.array(points, np.float64)) + self.center

    def anchor(self, name: str) -> tuple[float, float]:
        """The position of a named point on one half of the face, x outward, in face units."""
        return {
            "brow_inner": (0.42 * self.eye_x, self.brow_y),
            "brow_outer": (1.3 * self.eye_x, self.brow_y - 2),
            "eye": (self.eye_x, 0),
            "cheek": (self.eye_x, 0.75 * self.nose_y),
            "nose_root": (5, 4),
            "nostril": (13, self.nose_y + 1),
            "upper_lip": (10, self.mouth_y - 6),
            "lower_lip": (10, self.mouth_y + 8),
            "lip_line": (0, self.mouth_y),
            "corner": (self.mouth_x, self.mouth_y),
            "chin": (9, self.chin_y - 14),
        }[name]


def random_face(rng: np.random.Generator) -> Face:
    """A subject: every visible trait and the manner of moving are drawn from `rng`."""

    def near(mean: float, spread: float) -> float:
        return float(mean + spread * np.clip(rng.standard_normal(), -2, 2))

    long_hair = bool(rng.random() < 0.45)
    return Face(
        eye_x=near(45, 2),
        brow_y=near(-22, 1.8),
        nose_y=near(49, 2.5),
        mouth_x=near(37, 2.5),
        mouth_y=near(90, 2.5),
        chin_y=near(134, 4),
        width=near(78, 3.5),
        hairline=near(-62, 6),
        eye_height=near(7, 0.8),
        lips=near(1, 0.18),
        brows=near(1, 0.2),
        nose=near(1, 0.15),
        center=(near((WIDTH - 1) / 2, 7), near(120, 4)),
        scale=near(0.9, 0.045),
        tilt=near(0, 0.045),
        skin=float(rng.uniform(0.36, 0.74)),
        hair=float(rng.uniform(0.08, 0.42)),
        long_hair=long_hair,
        beard=0.0 if long_hair else float(rng.choice([0, 0.12, 0.3])),
        grain=float(rng.uniform(0.7, 1.3)),
        lamp=(near(0, 0.3), near(-0.4, 0.15)),
        backdrop=float(rng.uniform(0.3, 0.7)),
        noise=float(rng.uniform(1.0, 2.2)),
        strength=float(np.exp(near(0, 0.25))),
        habits={au: (near(0, 2.5), near(0, 2)) for au in MOTION},
        texture_seed=int(rng.integers(2**31)),
    )


def bump(
    x: Float[np.ndarray, "*shape"] | float,
    y: Float[np.ndarray, "*shape"] | float,
    cx: float,
    cy: float,
    sx: float,
    sy: float,
) -> Float[np.ndarray, "*shape"]:
    """A Gaussian of height 1 at (cx, cy)."""
    return np.exp(-0.5 * (((x - cx) / sx) ** 2 + ((y - cy) / sy) ** 2))


def motion(face: Face, units: Iterable[Unit]) -> Float32[np.ndarray, "H W 2"]:
    """The displacement of the skin at each pixel of the neutral frame, in frame pixels, float32
    [H, W, 2] (x, y).

    The peak of one unit is about AMPLITUDE * intensity * face.strength face units. Each half's
    bumps fade at the midline, so that two halves make one whole and a unilateral unit stays on its
    side.

    Raises:
      KeyError: an action unit without a drawing (see MOTION).
    """
    x, y = face.grid()
    field = np.zeros((*x.shape, 2), np.float32)
    for unit in units:
        for sign, amount in unit.halves():
            for name, ox, oy, sx, sy, dx, dy in MOTION[unit.au]:
                weight = (
                    AMPLITUDE
                    * face.strength
                    * amount
                    * _at(face, unit.au, sign, x, y, name, ox, oy, sx, sy)
                )
                field[..., 0] += sign * dx * weight
                field[..., 1] += dy * weight
    return face.to_frame(field)


def folds(face: Face, units: Iterable[Unit]) -> Float32[np.ndarray, "H W"]:
    """Share of light lost in the folds that the units make, float32 [H, W]; 0 where the skin does
    not fold.
    """
    x, y = face.grid()
    loss = np.zeros_like(x)
    for unit in units:
        for sign, amount in unit.halves():
            for name, ox, oy, sx, sy, depth in FOLDS.get(unit.au, ()):
                loss += depth * amount * _at(face, unit.au, sign, x, y, name, ox, oy, sx, sy)
    return np.minimum(loss, 0.8)


def _at(
    face: Face, au: int, sign: int, x, y, anchor: str, ox: float, oy: float, sx: float, sy: float
) -> np.ndarray:
    """The bump of one half of the face, shifted by the subject's habit and faded towards the other
    half.
    """
    (ax, ay), (hx, hy) = face.anchor(anchor), face.habits.get(au, (0.0, 0.0))
    return bump(sign * x, y, ax + ox + hx, ay + oy + hy, sx, sy) * soft(sign * x / 6)


def soft(x: Float[np.ndarray, "*shape"]) -> Float[np.ndarray, "*shape"]:
    """The logistic step, as a soft edge one unit wide."""
    return 0.5 + 0.5 * np.tanh(0.5 * x)


def lid_closure(units: Iterable[Unit]) -> Float[np.ndarray, " 2"]:
    """Change of lid closure of the image-left and image-right eye, [2]."""
    closure = np.zeros(2)
    for unit in units:
        for sign, amount in unit.halves():
            closure[(sign + 1) // 2] += LIDS.get(unit.au, 0.0) * amount
    return closure
