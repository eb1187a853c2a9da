"""A drawn face and how action units move it: the drawing behind the synthetic SAMM release (synthetic.py).

Everything is said in face units: the origin lies between the eyes, x runs to the image's right, y runs down, and 92 units
separate the eyes, as pixels do on an aligned 224x224 face. A `Face` places them in the frame. Subject's left is image right.

The face is a height field under one lamp, with painted lips, brows, hair and skin texture; it is rendered once per subject.
An action unit is a sum of Gaussian bumps of displacement, and of darkening where skin folds, at anchors on each half of
the face; a frame is the neutral face warped by the bumps, with the lids drawn over the eyeballs.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping

import cv2
import numpy as np

HEIGHT, WIDTH = 288, 320
AMPLITUDE = 3.5  # peak displacement of an action unit at intensity 1, in face units (= pixels of the 224x224 face)

# Per action unit and half face: (anchor, offset outward, offset down, sigma x, sigma y, displacement outward, displacement down).
MOTION: dict[int, tuple[tuple[str, float, float, float, float, float, float], ...]] = {
    1: (("brow_inner", 0, 0, 14, 13, 0.1, -1.0), ("brow_inner", 0, -22, 14, 14, 0, -0.6)),
    2: (("brow_outer", 0, 0, 17, 13, 0.1, -1.0), ("brow_outer", -2, -22, 16, 14, 0, -0.6), ("eye", 12, -10, 12, 7, 0, -0.3)),
    4: (("brow_inner", 0, 0, 14, 12, -0.6, 0.8), ("brow_outer", -18, 0, 15, 11, -0.2, 0.5)),
    5: (("eye", 0, -8, 15, 6, 0, -0.9),),
    6: (("cheek", 4, 0, 20, 14, 0, -1.0), ("eye", 4, 12, 16, 7, 0, -0.5), ("eye", 26, 4, 10, 10, -0.5, 0)),
    7: (("eye", 0, 8, 16, 6, -0.1, -0.9), ("eye", 0, -8, 15, 6, 0, 0.6)),
    9: (("nostril", 0, -2, 12, 13, 0, -1.0), ("nose_root", 0, 4, 9, 12, 0, -0.5), ("brow_inner", 0, 2, 12, 9, -0.3, 0.6)),
    10: (("upper_lip", 4, -2, 14, 9, 0, -1.0), ("nostril", 10, 8, 12, 12, 0, -0.7)),
    12: (("corner", 0, 0, 17, 14, 0.8, -0.7), ("cheek", 0, 18, 18, 15, 0.2, -0.6)),
    14: (("corner", 1, 0, 11, 10, 0.9, 0.1), ("corner", 20, 0, 10, 12, -0.7, 0)),
    15: (("corner", 0, 1, 15, 12, -0.1, 1.0), ("corner", -2, 18, 13, 12, 0, 0.5)),
    17: (("chin", 0, 0, 17, 12, 0, -1.0), ("lower_lip", 0, 2, 18, 8, 0, -0.8)),
    18: (("corner", -2, 0, 17, 12, -1.0, 0), ("upper_lip", 0, 0, 12, 8, -0.3, -0.3)),
    20: (("corner", 0, 2, 20, 14, 0.9, 0.2), ("corner", 12, 22, 16, 15, 0.5, 0.2)),
    24: (("upper_lip", 0, 0, 20, 7, 0, 0.8), ("lower_lip", 0, 0, 20, 7, 0, -0.9), ("corner", 0, 0, 10, 10, -0.3, 0)),
    25: (("lower_lip", 0, 0, 20, 9, 0, 1.0), ("upper_lip", 0, 0, 20, 7, 0, -0.4)),
    26: (("chin", 0, 0, 36, 22, 0, 1.0), ("lower_lip", 0, 6, 22, 9, 0, 0.3)),
    39: (("nostril", 2, 0, 8, 9, -1.0, 0.1),),
    43: (("eye", 0, -9, 16, 7, 0, 1.0),),
}

# Where skin folds or the lips part: (anchor, offset outward, offset down, sigma x, sigma y, share of light lost).
FOLDS: dict[int, tuple[tuple[str, float, float, float, float, float], ...]] = {
    1: (("brow_inner", 0, -24, 14, 1.6, 0.2), ("brow_inner", 0, -32, 14, 1.6, 0.16)),
    2: (("brow_outer", -6, -24, 16, 1.6, 0.2),),
    4: (("brow_inner", -12, 4, 1.6, 8, 0.35),),
    6: (("eye", 27, 2, 7, 1.2, 0.2), ("eye", 26, 8, 7, 1.2, 0.2)),
    9: (("nose_root", 0, 2, 6, 1.3, 0.35), ("nose_root", 0, 9, 7, 1.3, 0.3), ("nostril", 4, -10, 3, 7, 0.15)),
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
    """An action unit as it is drawn: `intensity` in [0, 1], and the share of it on the subject's left and right half."""

    au: int
    intensity: float
    left: float = 1.0
    right: float = 1.0

    def halves(self) -> tuple[tuple[int, float], ...]:
        """(sign of x in the image, intensity) of each moving half: the subject's left is the image's right."""
        return tuple((sign, self.intensity * share) for sign, share in ((1, self.left), (-1, self.right)) if share > 0)


@dataclasses.dataclass(frozen=True)
class Face:
    """One subject: geometry in face units, place in the frame (pixels, radians), look, and way of moving."""

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
    habits: Mapping[int, tuple[float, float]] = dataclasses.field(default_factory=dict)  # shift of an AU's bumps, face units
    texture_seed: int = 0

    def grid(self) -> tuple[np.ndarray, np.ndarray]:
        """Face coordinates (x, y) of every pixel of the frame, float32 [H, W] each."""
        v, u = np.mgrid[:HEIGHT, :WIDTH].astype(np.float32)
        u, v = (u - self.center[0]) / self.scale, (v - self.center[1]) / self.scale
        cos, sin = np.float32(np.cos(self.tilt)), np.float32(np.sin(self.tilt))
        return cos * u + sin * v, -sin * u + cos * v

    def to_frame(self, vectors: np.ndarray) -> np.ndarray:
        """Rotates and scales vectors [..., 2] of the face into pixels of the frame (for points, add `center`)."""
        cos, sin = np.cos(self.tilt), np.sin(self.tilt)
        return self.scale * vectors @ np.array([[cos, sin], [-sin, cos]], vectors.dtype)

    def landmarks(self) -> np.ndarray:
        """Image-left and image-right eye, nose, image-left and image-right mouth corner at rest, pixels, float64 [5, 2]."""
        eye, mouth = self.eye_x, self.mouth_x
        points = [(-eye, 0), (eye, 0), (0, self.nose_y), (-mouth, self.mouth_y), (mouth, self.mouth_y)]
        return self.to_frame(np.array(points, np.float64)) + self.center

    def anchor(self, name: str) -> tuple[float, float]:
        """A place on the half face with x outward, face units."""
        return {
            "brow_inner": (0.42 * self.eye_x, self.brow_y), "brow_outer": (1.3 * self.eye_x, self.brow_y - 2),
            "eye": (self.eye_x, 0), "cheek": (self.eye_x, 0.75 * self.nose_y),
            "nose_root": (5, 4), "nostril": (13, self.nose_y + 1), "upper_lip": (10, self.mouth_y - 6),
            "lower_lip": (10, self.mouth_y + 8), "lip_line": (0, self.mouth_y),
            "corner": (self.mouth_x, self.mouth_y), "chin": (9, self.chin_y - 14),
        }[name]


def random_face(rng: np.random.Generator) -> Face:
    """A subject: every visible trait and the way of moving drawn from `rng`."""
    def near(mean: float, spread: float) -> float:
        return float(mean + spread * np.clip(rng.standard_normal(), -2, 2))

    long_hair = bool(rng.random() < 0.45)
    return Face(
        eye_x=near(45, 2), brow_y=near(-22, 1.8), nose_y=near(49, 2.5), mouth_x=near(37, 2.5), mouth_y=near(90, 2.5),
        chin_y=near(134, 4), width=near(78, 3.5), hairline=near(-62, 6), eye_height=near(7, 0.8), lips=near(1, 0.18),
        brows=near(1, 0.2), nose=near(1, 0.15), center=(near((WIDTH - 1) / 2, 7), near(120, 4)), scale=near(0.9, 0.045),
        tilt=near(0, 0.045), skin=float(rng.uniform(0.36, 0.74)), hair=float(rng.uniform(0.08, 0.42)), long_hair=long_hair,
        beard=0.0 if long_hair else float(rng.choice([0, 0.12, 0.3])), grain=float(rng.uniform(0.7, 1.3)),
        lamp=(near(0, 0.3), near(-0.4, 0.15)), backdrop=float(rng.uniform(0.3, 0.7)), noise=float(rng.uniform(1.0, 2.2)),
        strength=float(np.exp(near(0, 0.25))), habits={au: (near(0, 2.5), near(0, 2)) for au in MOTION},
        texture_seed=int(rng.integers(2**31)),
    )


def bump(x: np.ndarray, y: np.ndarray, cx: float, cy: float, sx: float, sy: float) -> np.ndarray:
    """A Gaussian of height 1 at (cx, cy)."""
    return np.exp(-0.5 * (((x - cx) / sx) ** 2 + ((y - cy) / sy) ** 2))


def motion(face: Face, units: Iterable[Unit]) -> np.ndarray:
    """Where the skin at each pixel of the neutral frame goes: displacement in frame pixels, float32 [H, W, 2] (x, y).

    The peak of one unit is about AMPLITUDE * intensity * face.strength face units. Each half's bumps fade at the
    midline, so that two halves make one whole and a unilateral unit stays on its side.

    Raises:
      KeyError: an action unit without a drawing (see MOTION).
    """
    x, y = face.grid()
    field = np.zeros((*x.shape, 2), np.float32)
    for unit in units:
        for sign, amount in unit.halves():
            for name, ox, oy, sx, sy, dx, dy in MOTION[unit.au]:
                weight = AMPLITUDE * face.strength * amount * _at(face, unit.au, sign, x, y, name, ox, oy, sx, sy)
                field[..., 0] += sign * dx * weight
                field[..., 1] += dy * weight
    return face.to_frame(field)


def folds(face: Face, units: Iterable[Unit]) -> np.ndarray:
    """Share of light lost in the folds that the units make, float32 [H, W]; 0 where the skin stays as it is."""
    x, y = face.grid()
    loss = np.zeros_like(x)
    for unit in units:
        for sign, amount in unit.halves():
            for name, ox, oy, sx, sy, depth in FOLDS.get(unit.au, ()):
                loss += depth * amount * _at(face, unit.au, sign, x, y, name, ox, oy, sx, sy)
    return np.minimum(loss, 0.8)


def _at(face: Face, au: int, sign: int, x, y, anchor: str, ox: float, oy: float, sx: float, sy: float) -> np.ndarray:
    """The bump of one half of the face, shifted by the subject's habit and faded towards the other half."""
    (ax, ay), (hx, hy) = face.anchor(anchor), face.habits.get(au, (0.0, 0.0))
    return bump(sign * x, y, ax + ox + hx, ay + oy + hy, sx, sy) * soft(sign * x / 6)


def soft(x: np.ndarray) -> np.ndarray:
    """The logistic step, as a soft edge one unit wide."""
    return 0.5 + 0.5 * np.tanh(0.5 * x)


def lid_closure(units: Iterable[Unit]) -> np.ndarray:
    """Change of lid closure of the image-left and image-right eye, [2]."""
    closure = np.zeros(2)
    for unit in units:
        for sign, amount in unit.halves():
            closure[(sign + 1) // 2] += LIDS.get(unit.au, 0.0) * amount
    return closure


class Portrait:
    """A face's neutral image, rendered once: skin with shut lids, and what lies behind the lids."""

    def __init__(self, face: Face):
        self.face = face
        self.x, self.y = face.grid()
        self.head = _outline(face, self.x, self.y)
        self.skin, self.light = _paint(face, self.x, self.y, self.head)
        self.pixels = np.stack(np.meshgrid(np.arange(WIDTH), np.arange(HEIGHT)), -1).astype(np.float32)

    def frame(self, field: np.ndarray, loss: np.ndarray, closure: np.ndarray, gaze: float) -> np.ndarray:
        """The face after its skin has moved by `field` [H, W, 2] pixels: grey levels float32 [H, W], no sensor noise.

        `loss` is of `folds`; `closure` [2] is 0 at rest and 1 for a shut eye; `gaze` shifts the irises (face units).
        """
        image = self.skin * (1 - loss)
        for side in (0, 1):
            self._open_eye(image, side, closure[side], gaze)
        backward = -field  # field is said at the place the skin comes from; remap asks at the place it goes to
        for _ in range(2):
            backward = -cv2.remap(field, self.pixels + backward, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        return cv2.remap(image, self.pixels + backward, None, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)

    def head_motion(self, shift: np.ndarray, turn: float) -> np.ndarray:
        """Displacement [H, W, 2] of a rigid head motion: `shift` [2] in pixels, `turn` in radians; the background stays."""
        away = self.pixels - np.float32(self.face.center)
        moved = np.stack([-turn * away[..., 1], turn * away[..., 0]], -1) + shift
        return (moved * cv2.GaussianBlur(self.head, None, 8)[..., None]).astype(np.float32)

    def _open_eye(self, image: np.ndarray, side: int, closure: float, gaze: float) -> None:
        """Paints eyeball and lashes where the lids are open, in place. The upper lid does most of the way."""
        face, sign = self.face, 2 * side - 1
        cx, cy = face.to_frame(np.array([sign * face.eye_x, 0.0])) + face.center
        reach = int(24 * face.scale)
        box = (slice(int(cy) - reach, int(cy) + reach), slice(int(cx) - reach, int(cx) + reach))
        x, y = self.x[box] - sign * face.eye_x, self.y[box]
        almond = np.clip(1 - (x / 17) ** 2, 0, None) * (1 + 0.012 * sign * x)
        upper = face.eye_height * almond * (-1 + 1.6 * closure) + 0.5
        lower = 0.65 * face.eye_height * almond + 0.5
        open_ = soft((y - upper) / 0.35) * soft((lower - y) / 0.35) * (almond > 0)
        radius = np.hypot(x - gaze, y + 0.6)
        ball = 0.72 - 0.3 * bump(x, y, 0, -face.eye_height, 20, 4) - 0.15 * (x / 17) ** 2
        ball = ball + (0.24 + 0.08 * np.sin(9 * np.arctan2(y, x - gaze)) - ball) * soft((7.8 - radius) / 0.4)
        ball = ball * (1 - 0.85 * soft((3 - radius) / 0.35)) + 0.6 * bump(x, y, gaze - 2.4, -3.4, 1.3, 1.3)
        eye = image[box] + open_ * (255 * ball * self.light[box].clip(0.6, 1.1) - image[box])
        lashes = 0.75 * np.sqrt(almond) * np.exp(-0.5 * ((y - np.minimum(upper, lower) + 0.4) / 1.1) ** 2)
        rim = 0.25 * np.sqrt(almond) * np.exp(-0.5 * ((y - lower - 0.8) / 0.8) ** 2)
        image[box] = eye * (1 - lashes) * (1 - rim)


def _outline(face: Face, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Soft mask of the head: an ellipse from crown to chin that narrows towards the jaw."""
    half_width = face.width * (1 - 0.12 * np.clip((y - 20) / (face.chin_y - 20), 0, 1.2) ** 2)
    middle, half_height = (face.chin_y - 98) / 2, (face.chin_y + 98) / 2
    radius = (np.abs(x / half_width) ** 2.3 + np.abs((y - middle) / half_height) ** 2.3) ** (1 / 2.3)
    return soft(50 * (1 - radius))


def _paint(face: Face, x: np.ndarray, y: np.ndarray, head: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Grey levels of the neutral face with shut lids, and the light that falls on it (1 = full), float32 [H, W] each."""
    rng = np.random.default_rng(face.texture_seed)
    light = _lambert(face, x, y)
    albedo = face.skin * (1 + face.grain * _texture(rng))
    ax = np.abs(x)
    mx, my = face.mouth_x, face.mouth_y

    albedo *= 1 - 0.9 * face.beard * soft((y - face.nose_y - 8 + 0.5 * (ax - 50)) / 4) * (1 + 2 * _texture(rng, fine=0.1))
    bow = my - 1.2 * np.cos(np.clip(x / mx, -1, 1) * 2 * np.pi) + 1.5 * (x / mx) ** 2  # the line between the lips
    taper = np.clip(1 - (x / mx) ** 2, 0, None)
    lips = soft((y - bow + 7 * face.lips * taper**0.8) / 0.7) * soft((bow + 9 * face.lips * taper**0.6 - y) / 0.7) * (taper > 0)
    albedo *= 1 - lips * (0.26 + 0.1 * soft((bow - y) / 0.7))
    albedo *= 1 - 0.6 * np.sqrt(taper) * np.exp(-0.5 * ((y - bow) / 1.1) ** 2) - 0.15 * bump(ax, y, mx, my + 0.5, 3, 2.5)

    strands = cv2.GaussianBlur(rng.standard_normal(x.shape, np.float32), None, sigmaX=0.7, sigmaY=3)
    strands /= strands.std()
    along = (ax - 0.38 * face.eye_x) / (1.1 * face.eye_x)  # 0 at the inner end of the brow, 1 at the outer
    arch = face.brow_y - 5 * np.sin(np.pi * np.clip(along, 0, 1)) + 4 * np.clip(along, 0, 1) ** 3
    thick = 3.6 * face.brows * (1 - 0.55 * np.clip(along, 0, 1))
    brow = np.exp(-0.5 * ((y - arch) / thick) ** 4) * soft(along / 0.035) * soft((1 - along) / 0.05)
    albedo += brow * (0.75 + 0.12 * strands) * (min(face.hair, 0.6 * face.skin) - albedo)
    crease = y + face.eye_height - 0.5 - 0.012 * (ax - face.eye_x) ** 2 + 4
    albedo *= 1 - 0.28 * np.exp(-0.5 * (crease / 1.1) ** 2) * bump(ax, 0, face.eye_x, 0, 12, 1)  # the fold of the upper lid
    nose_x, nose_y = 8.5 * face.nose, face.nose_y
    albedo *= 1 - 0.6 * bump(ax, y, nose_x, nose_y + 7.5, 3.4, 2) - 0.25 * bump(ax, y, 2 * nose_x, nose_y + 3, 2, 6)
    albedo *= 1 - 0.13 * np.exp(-0.5 * ((ax - 17 - 0.55 * (y - nose_y)) / 2) ** 2) * bump(0, y, 0, nose_y + 20, 1, 14)
    for cx, cy in zip(rng.uniform(-60, 60, 7), rng.uniform(-50, 125, 7), strict=True):  # moles
        albedo *= 1 - rng.uniform(0.1, 0.5) * bump(x, y, cx, cy, 1.3, 1.3)

    neck = soft((46 - ax) / 1.5) * soft((y - 70) / 3) + soft((y - face.chin_y - 34 + 16 * np.exp(-((ax / 60) ** 2))) / 2)
    shadow = 0.45 + 0.4 * np.clip((y - face.chin_y) / 60, 0, 1)
    image = face.backdrop * (1 + 0.1 * x / 160 + 0.01 * strands)
    middle, half_height = (40, 165) if face.long_hair else (-4, 108)
    locks = soft(25 * (1 - np.hypot(x / (face.width + 13), (y - middle) / half_height)))
    hair = face.hair * (0.8 + 0.12 * strands + 0.5 * light * bump(x, y, -30, -80, 60, 20))
    image += locks * (hair * 0.8 - image)
    image += np.clip(neck, 0, 1) * (face.skin * shadow - image)
    image += soft((y - face.chin_y - 30) / 2) * (0.25 * face.backdrop + 0.1 - image)  # clothes
    ears = soft(6 * (1 - np.hypot((ax - face.width - 2) / 8, (y - 14) / 20))) * (not face.long_hair)
    image += ears * (face.skin * 0.7 - image)
    image += head * (albedo * light - image)
    top = soft((face.hairline + 0.006 * x**2 + 1.5 * np.sin(x / 9) - y) / 1.5) * soft((locks - 0.5) * 20)
    image += top * (hair - image)
    return np.clip(255 * image, 4, 250).astype(np.float32), light.astype(np.float32)


def _lambert(face: Face, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Light on the face's relief: a lamp and a share of ambient light."""
    ax, ny, my, n = np.abs(x), face.nose_y, face.mouth_y, face.nose
    z = 95 * np.sqrt(np.clip(1 - (x / 96) ** 2 - ((y - 22) / 150) ** 2, 0.02, None))
    for cx, cy, sx, sy, height in (
        (0, 0.5 * ny, 7 * n, 0.38 * ny, 10), (0, ny - 1, 10 * n, 9, 13 * n), (13 * n, ny + 2, 5, 5, 5),
        (face.eye_x - 4, 2, 20, 13, -9), (face.eye_x, 1, 14, 7, 6), (40, face.brow_y, 28, 8, 3), (0, face.brow_y - 20, 40, 18, 3),
        (52, 0.75 * ny, 18, 15, 5), (11, my - 5, 14, 4, 3 * face.lips), (0, my + 6, 16, 4.5, 4 * face.lips),
        (0, my + 16, 15, 4, -3), (0, face.chin_y - 12, 17, 10, 6), (0, my - 17, 2.5, 8, -1), (30, my - 6, 9, 18, -1.5),
    ):
        z = z + height * bump(ax, y, cx, cy, sx, sy)
    slope_y, slope_x = np.gradient(z, 1 / face.scale)
    lamp_x, lamp_y = face.lamp
    facing = (1 - lamp_x * slope_x - lamp_y * slope_y) / np.sqrt((1 + slope_x**2 + slope_y**2) * (1 + lamp_x**2 + lamp_y**2))
    return 0.35 + 0.75 * np.clip(facing, 0, None)


def _texture(rng: np.random.Generator, fine: float = 0.035) -> np.ndarray:
    """Skin: pores, blotches and broad unevenness, zero mean, float32 [H, W]. Without it optical flow has nothing to follow."""
    total = np.zeros((HEIGHT, WIDTH), np.float32)
    for sigma, contrast in ((0.8, fine), (2.5, 0.035), (9, 0.03)):
        noise = cv2.GaussianBlur(rng.standard_normal((HEIGHT, WIDTH), np.float32), None, sigma)
        total += contrast * noise / noise.std()
    return total
