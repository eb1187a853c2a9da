"""The four landmark regions that HTNet reads: around both eyes and both mouth corners, joined into
one map.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from fexpr.data.preparation import alignment

if TYPE_CHECKING:  # checked in the tests (tests/conftest.py)
    from jaxtyping import Float, Shaped

# in the joined map; left and right as the image shows them
PLACES = (("left_eye", "right_eye"), ("mouth_left", "mouth_right"))


def join_regions(
    images: Shaped[np.ndarray, "N S S C"], landmarks: Float[np.ndarray, "N 5 2"]
) -> Shaped[np.ndarray, "N S S C"]:
    """Cuts a square of half the side around each of four landmarks and joins them: eyes above,
    mouth corners below.

    A region that would cross the border is moved inside: with 28 pixels, its centre is
    clamped to [7, 21]. (Wang et al., Neurocomputing 2024, sec. 3.1; x counts columns, y counts
    rows: the released code swaps them.)

    Args:
      images: [N, S, S, C], S divisible by 4.
      landmarks: [N, 5, 2], (x, y) of `faces.POINTS` in pixels of the 224x224 face; finite.

    Returns:
      [N, S, S, C], of the type of `images`.

    Raises:
      ValueError: another shape, or a landmark that is not finite.
    """
    n, size = images.shape[:2]
    if images.ndim != 4 or images.shape[2] != size or size % 4:
        raise ValueError(f"expected images [N,S,S,C] with S divisible by 4, got {images.shape}")
    if landmarks.shape != (n, len(alignment.POINTS), 2) or not np.isfinite(landmarks).all():
        raise ValueError(
            f"expected {n} times {len(alignment.POINTS)} finite landmarks (x, y), got "
            f"{landmarks.shape}"
        )
    half = size // 4
    centres = np.rint(landmarks * (size / alignment.SIZE)).astype(int).clip(half, size - half)
    grid = np.empty_like(images)
    for row, names in enumerate(PLACES):
        for column, name in enumerate(names):
            place = np.s_[
                2 * half * row : 2 * half * (row + 1), 2 * half * column : 2 * half * (column + 1)
            ]
            for image, target, (x, y) in zip(
                images, grid, centres[:, alignment.POINTS.index(name)], strict=True
            ):
                target[place] = image[y - half : y + half, x - half : x + half]
    return grid


def fill_landmarks(landmarks: Float[np.ndarray, "N 5 2"]) -> Float[np.ndarray, "N 5 2"]:
    """Landmarks [N, 5, 2] whose missing rows (any NaN) are the mean of the others; N >= 1, at least
    one row has landmarks.

    Raises:
      ValueError: no row has landmarks.
    """
    known = np.all(np.isfinite(landmarks), axis=(1, 2))
    if not known.any():
        raise ValueError("no landmarks to take a mean of")
    return np.where(known[:, None, None], landmarks, landmarks[known].mean(0))
