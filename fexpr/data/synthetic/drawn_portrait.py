"""The picture of a drawn face (drawn_face.py): a height field under one lamp, with painted lips,
brows, hair and skin texture.

It is rendered once per subject, with shut lids; a frame is that image warped by a field of
displacement, darkened where skin folds, with the eyeballs painted where the lids are open.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np

from fexpr.data.synthetic.drawn_face import HEIGHT, WIDTH, Face, bump, soft

if TYPE_CHECKING:  # checked in the tests (tests/conftest.py)
    from jaxtyping import Float, Float32


class Portrait:
    """A face's neutral image, rendered once: skin with shut lids, and what lies behind the lids."""

    def __init__(self, face: Face):
        self.face = face
        self.x, self.y = face.grid()
        self.head = _outline(face, self.x, self.y)
        self.skin, self.light = _paint(face, self.x, self.y, self.head)
        self.pixels = np.stack(np.meshgrid(np.arange(WIDTH), np.arange(HEIGHT)), -1).astype(
            np.float32
        )

    def frame(
        self,
        field: Float32[np.ndarray, "H W 2"],
        loss: Float32[np.ndarray, "H W"],
        closure: Float[np.ndarray, " 2"],
        gaze: float,
    ) -> Float32[np.ndarray, "H W"]:
        """The face after its skin has moved by `field` [H, W, 2] pixels: grey levels float32 [H,
        W], no sensor noise.

        `loss` comes from `folds`; `closure` [2] is 0 at rest and 1 for a shut eye; `gaze` shifts
        the irises (face units).
        """
        image = self.skin * (1 - loss)
        for side in (0, 1):
            self._open_eye(image, side, closure[side], gaze)
        # the field is given where the skin comes from; remap needs it where the skin goes to
        backward = -field
        for _ in range(2):
            # OpenCV's stubs lack the None that it takes for a second map
            backward = -cv2.remap(  # pyright: ignore[reportCallIssue]
                field,
                self.pixels + backward,
                None,  # pyright: ignore[reportArgumentType]
                cv2.INTER_LINEAR,
                borderMode=cv2.BORDER_REPLICATE,
            )
        return cv2.remap(  # pyright: ignore[reportCallIssue]
            image,
            self.pixels + backward,
            None,  # pyright: ignore[reportArgumentType]
            cv2.INTER_CUBIC,
            borderMode=cv2.BORDER_REPLICATE,
        )

    def head_motion(
        self, shift: Float[np.ndarray, " 2"], turn: float | np.floating
    ) -> Float32[np.ndarray, "H W 2"]:
        """Displacement [H, W, 2] of a rigid head motion: `shift` [2] in pixels, `turn` in radians;
        the background stays.
        """
        away = self.pixels - np.array(self.face.center, np.float32)
        moved = np.stack([-turn * away[..., 1], turn * away[..., 0]], -1) + shift
        return (moved * cv2.GaussianBlur(self.head, (0, 0), 8)[..., None]).astype(np.float32)

    def _open_eye(self, image: np.ndarray, side: int, closure: float, gaze: float) -> None:
        """Paints eyeball and lashes where the lids are open, in place. The upper lid does most of
        the movement.
        """
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
        ball = ball + (0.24 + 0.08 * np.sin(9 * np.arctan2(y, x - gaze)) - ball) * soft(
            (7.8 - radius) / 0.4
        )
        ball = ball * (1 - 0.85 * soft((3 - radius) / 0.35)) + 0.6 * bump(
            x, y, gaze - 2.4, -3.4, 1.3, 1.3
        )
        eye = image[box] + open_ * (255 * ball * self.light[box].clip(0.6, 1.1) - image[box])
        lashes = (
            0.75
            * np.sqrt(almond)
            * np.exp(-0.5 * ((y - np.minimum(upper, lower) + 0.4) / 1.1) ** 2)
        )
        rim = 0.25 * np.sqrt(almond) * np.exp(-0.5 * ((y - lower - 0.8) / 0.8) ** 2)
        image[box] = eye * (1 - lashes) * (1 - rim)


def _outline(face: Face, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Soft mask of the head: an ellipse from crown to chin that narrows towards the jaw."""
    half_width = face.width * (1 - 0.12 * np.clip((y - 20) / (face.chin_y - 20), 0, 1.2) ** 2)
    middle, half_height = (face.chin_y - 98) / 2, (face.chin_y + 98) / 2
    radius = (np.abs(x / half_width) ** 2.3 + np.abs((y - middle) / half_height) ** 2.3) ** (
        1 / 2.3
    )
    return soft(50 * (1 - radius))


def _paint(
    face: Face, x: np.ndarray, y: np.ndarray, head: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Grey levels of the neutral face with shut lids, and the light that falls on it (1 = full),
    float32 [H, W] each.
    """
    rng = np.random.default_rng(face.texture_seed)
    light = _lambert(face, x, y)
    albedo = face.skin * (1 + face.grain * _texture(rng))
    ax = np.abs(x)
    mx, my = face.mouth_x, face.mouth_y

    albedo *= 1 - 0.9 * face.beard * soft((y - face.nose_y - 8 + 0.5 * (ax - 50)) / 4) * (
        1 + 2 * _texture(rng, fine=0.1)
    )
    # the line between the lips
    bow = my - 1.2 * np.cos(np.clip(x / mx, -1, 1) * 2 * np.pi) + 1.5 * (x / mx) ** 2
    taper = np.clip(1 - (x / mx) ** 2, 0, None)
    lips = (
        soft((y - bow + 7 * face.lips * taper**0.8) / 0.7)
        * soft((bow + 9 * face.lips * taper**0.6 - y) / 0.7)
        * (taper > 0)
    )
    albedo *= 1 - lips * (0.26 + 0.1 * soft((bow - y) / 0.7))
    albedo *= (
        1
        - 0.6 * np.sqrt(taper) * np.exp(-0.5 * ((y - bow) / 1.1) ** 2)
        - 0.15 * bump(ax, y, mx, my + 0.5, 3, 2.5)
    )

    noise = rng.standard_normal(x.shape, np.float32)
    strands = cv2.GaussianBlur(noise, (0, 0), sigmaX=0.7, sigmaY=3)
    strands /= strands.std()
    # 0 at the inner end of the brow, 1 at the outer
    along = (ax - 0.38 * face.eye_x) / (1.1 * face.eye_x)
    arch = face.brow_y - 5 * np.sin(np.pi * np.clip(along, 0, 1)) + 4 * np.clip(along, 0, 1) ** 3
    thick = 3.6 * face.brows * (1 - 0.55 * np.clip(along, 0, 1))
    brow = np.exp(-0.5 * ((y - arch) / thick) ** 4) * soft(along / 0.035) * soft((1 - along) / 0.05)
    albedo += brow * (0.75 + 0.12 * strands) * (min(face.hair, 0.6 * face.skin) - albedo)
    crease = y + face.eye_height - 0.5 - 0.012 * (ax - face.eye_x) ** 2 + 4
    # the fold of the upper lid
    albedo *= 1 - 0.28 * np.exp(-0.5 * (crease / 1.1) ** 2) * bump(ax, 0, face.eye_x, 0, 12, 1)
    nose_x, nose_y = 8.5 * face.nose, face.nose_y
    albedo *= (
        1
        - 0.6 * bump(ax, y, nose_x, nose_y + 7.5, 3.4, 2)
        - 0.25 * bump(ax, y, 2 * nose_x, nose_y + 3, 2, 6)
    )
    albedo *= 1 - 0.13 * np.exp(-0.5 * ((ax - 17 - 0.55 * (y - nose_y)) / 2) ** 2) * bump(
        0, y, 0, nose_y + 20, 1, 14
    )
    for cx, cy in zip(rng.uniform(-60, 60, 7), rng.uniform(-50, 125, 7), strict=True):  # moles
        albedo *= 1 - rng.uniform(0.1, 0.5) * bump(x, y, cx, cy, 1.3, 1.3)

    neck = soft((46 - ax) / 1.5) * soft((y - 70) / 3) + soft(
        (y - face.chin_y - 34 + 16 * np.exp(-((ax / 60) ** 2))) / 2
    )
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
    top = soft((face.hairline + 0.006 * x**2 + 1.5 * np.sin(x / 9) - y) / 1.5) * soft(
        (locks - 0.5) * 20
    )
    image += top * (hair - image)
    return np.clip(255 * image, 4, 250).astype(np.float32), light.astype(np.float32)


def _lambert(face: Face, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Light on the face's relief: a lamp and a share of ambient light."""
    ax, ny, my, n = np.abs(x), face.nose_y, face.mouth_y, face.nose
    z = 95 * np.sqrt(np.clip(1 - (x / 96) ** 2 - ((y - 22) / 150) ** 2, 0.02, None))
    for cx, cy, sx, sy, height in (
        (0, 0.5 * ny, 7 * n, 0.38 * ny, 10),
        (0, ny - 1, 10 * n, 9, 13 * n),
        (13 * n, ny + 2, 5, 5, 5),
        (face.eye_x - 4, 2, 20, 13, -9),
        (face.eye_x, 1, 14, 7, 6),
        (40, face.brow_y, 28, 8, 3),
        (0, face.brow_y - 20, 40, 18, 3),
        (52, 0.75 * ny, 18, 15, 5),
        (11, my - 5, 14, 4, 3 * face.lips),
        (0, my + 6, 16, 4.5, 4 * face.lips),
        (0, my + 16, 15, 4, -3),
        (0, face.chin_y - 12, 17, 10, 6),
        (0, my - 17, 2.5, 8, -1),
        (30, my - 6, 9, 18, -1.5),
    ):
        z = z + height * bump(ax, y, cx, cy, sx, sy)
    slope_y, slope_x = np.gradient(z, 1 / face.scale)
    lamp_x, lamp_y = face.lamp
    facing = (1 - lamp_x * slope_x - lamp_y * slope_y) / np.sqrt(
        (1 + slope_x**2 + slope_y**2) * (1 + lamp_x**2 + lamp_y**2)
    )
    return 0.35 + 0.75 * np.clip(facing, 0, None)


def _texture(rng: np.random.Generator, fine: float = 0.035) -> np.ndarray:
    """Skin: pores, blotches and broad unevenness, zero mean, float32 [H, W]. Without it optical
    flow has nothing to follow.
    """
    total = np.zeros((HEIGHT, WIDTH), np.float32)
    for sigma, contrast in ((0.8, fine), (2.5, 0.035), (9, 0.03)):
        noise = cv2.GaussianBlur(rng.standard_normal((HEIGHT, WIDTH), np.float32), (0, 0), sigma)
        total += contrast * noise / noise.std()
    return total
