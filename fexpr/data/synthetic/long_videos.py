"""Long videos of a drawn face whose movements are known: test data for spotting.

Short movements of the face between stretches of rest, and, on request, motions that must not be
mistaken for them: the head sways and turns, the lids blink, the light changes.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import TYPE_CHECKING

import cv2
import numpy as np

from fexpr.data.synthetic.drawn_face import HEIGHT, WIDTH, Unit, folds, motion, random_face
from fexpr.data.synthetic.drawn_portrait import Portrait

if TYPE_CHECKING:  # checked in the tests (tests/conftest.py)
    from jaxtyping import UInt8

FPS = 30
# combinations that occur in SAMM
COMBINATIONS = ((1, 2), (4,), (9,), (12,), (14,), (15,), (6, 12), (4, 7), (17,), (10,))
PAUSE = (1.2, 3.5)  # seconds of rest between two movements
LENGTH = (0.25, 0.5)  # seconds from onset to offset: a micro-expression


@dataclasses.dataclass(frozen=True)
class Movement:
    """Numbers of frames from 0, and the action units shown."""

    onset: int
    apex: int
    offset: int
    units: tuple[Unit, ...]


@dataclasses.dataclass(frozen=True)
class LongVideo:
    """A video to be drawn; `movements` are those that spotting should find.

    Attributes:
      seconds: its length. seed: of everything drawn.
      head, blinks, light: whether the head moves, the lids blink, the light changes.
    """

    seed: int
    seconds: float
    movements: tuple[Movement, ...]
    head: bool = False
    blinks: bool = False
    light: bool = False

    @property
    def count(self) -> int:
        """Frames."""
        return round(FPS * self.seconds)

    def frames(self) -> Iterator[UInt8[np.ndarray, "288 320"]]:
        """Yields grey frames uint8 [288, 320]."""
        rng = np.random.default_rng([9, self.seed])
        face = random_face(rng)
        portrait = Portrait(face)
        moves = [(motion(face, m.units), folds(face, m.units)) for m in self.movements]
        blinks = _blink_times(rng, self.seconds) if self.blinks else np.zeros(0)
        phases, rates = rng.uniform(0, 2 * np.pi, 4), rng.uniform(0.15, 0.5, 4)
        for number in range(self.count):
            t = number / FPS
            sway = np.sin(2 * np.pi * rates * t + phases)
            field = np.zeros((HEIGHT, WIDTH, 2), np.float32)
            loss = np.zeros((HEIGHT, WIDTH), np.float32)
            for movement, (moved, folded) in zip(self.movements, moves, strict=True):
                if share := course(movement, number):
                    field, loss = field + share * moved, loss + share * folded
            closed = np.exp(-(((t - blinks) / 0.06) ** 2)).max(initial=0.0)
            image = portrait.frame(field, loss, np.full(2, closed), 0.0)
            if self.head:
                image = _moved(image, portrait, 4 * sway[:2], 2 * sway[2])
            image *= 1 + (0.25 * sway[3] if self.light else 0) + rng.normal(0, 0.004)
            image += face.noise * rng.standard_normal(image.shape, np.float32)
            yield np.clip(image + 0.5, 0, 255).astype(np.uint8)


def plan(seed: int, seconds: float, **disturbances: bool) -> LongVideo:
    """A video with a movement every few seconds."""
    rng = np.random.default_rng([8, seed])
    movements, t = [], rng.uniform(*PAUSE)
    while t + LENGTH[1] + 0.5 < seconds:
        length = rng.uniform(*LENGTH)
        onset, offset = round(FPS * t), round(FPS * (t + length))
        apex = onset + max(2, round((offset - onset) * rng.uniform(0.35, 0.65)))
        units = COMBINATIONS[rng.integers(len(COMBINATIONS))]
        strength = rng.uniform(0.4, 0.9)
        drawn = tuple(Unit(au, strength, 1.0, 1.0) for au in units)
        movements.append(Movement(onset, apex, offset, drawn))
        t += length + rng.uniform(*PAUSE)
    return LongVideo(seed, seconds, tuple(movements), **disturbances)


def course(movement: Movement, number: int) -> float:
    """Share of the apex's motion in a frame: 0 at onset and offset, 1 at the apex."""
    if not movement.onset < number < movement.offset:
        return 0.0
    if number <= movement.apex:
        done = (number - movement.onset) / (movement.apex - movement.onset)
    else:
        done = (movement.offset - number) / (movement.offset - movement.apex)
    return float(0.5 - 0.5 * np.cos(np.pi * done))


def _moved(image: np.ndarray, portrait: Portrait, shift: np.ndarray, degrees: float) -> np.ndarray:
    """The head moved as a whole before a background that stays."""
    transform = cv2.getRotationMatrix2D(portrait.face.center, degrees, 1.0)
    transform[:, 2] += shift
    warped, mask = (
        cv2.warpAffine(
            layer,
            transform,
            (WIDTH, HEIGHT),
            flags=cv2.INTER_CUBIC,
            borderMode=cv2.BORDER_REPLICATE,
        )
        for layer in (image, cv2.GaussianBlur(portrait.head, (0, 0), 2))
    )
    return image + mask.clip(0, 1) * (warped - image)


def _blink_times(rng: np.random.Generator, seconds: float) -> np.ndarray:
    return np.cumsum(rng.uniform(1.5, 4, 1 + int(seconds)))
