"""The four regions: x counts columns, y counts rows, each landmark's region at its own place, never
over the border.
"""

import numpy as np
import pytest

from fexpr.data.preparation import alignment
from fexpr.data.preparation.regions import fill_landmarks, join_regions

# Asymmetric in every way: swapping x with y, or left with right, changes all regions.
POINTS = {
    "left_eye": (72, 88),
    "right_eye": (136, 64),
    "nose": (112, 112),
    "mouth_left": (80, 152),
    "mouth_right": (160, 144),
}


def landmarks(**changes) -> np.ndarray:
    return np.float32([[{**POINTS, **changes}[name] for name in alignment.POINTS]])


def coordinates(size: int = 28) -> np.ndarray:
    """An image that says of each pixel where it is from: channels column, row."""
    y, x = np.mgrid[:size, :size]
    return np.stack([x, y], -1)[None].astype(np.uint8)


@pytest.mark.parametrize(
    ("name", "place"),
    [
        ("left_eye", np.s_[:14, :14]),
        ("right_eye", np.s_[:14, 14:]),
        ("mouth_left", np.s_[14:, :14]),
        ("mouth_right", np.s_[14:, 14:]),
    ],
)
def test_each_region_is_centred_on_its_landmark(name, place):
    joined = join_regions(coordinates(), landmarks())
    assert joined.shape == (1, 28, 28, 2)
    region = joined[0][place]
    # (x, y) of the 224x224 face, eighths
    assert region[7, 7].tolist() == [POINTS[name][0] / 8, POINTS[name][1] / 8]
    np.testing.assert_array_equal(
        region,
        coordinates()[0][
            region[0, 0, 1] : region[0, 0, 1] + 14, region[0, 0, 0] : region[0, 0, 0] + 14
        ],
    )


def test_regions_stay_inside():
    corners = landmarks(
        left_eye=(0, 0), right_eye=(223, -9), mouth_left=(8, 223), mouth_right=(250, 300)
    )
    np.testing.assert_array_equal(join_regions(coordinates(), corners), coordinates())


def test_any_size_and_every_row_its_own():
    images = np.concatenate([coordinates(56), coordinates(56)])
    points = np.concatenate([landmarks(), landmarks(left_eye=(100, 60))])
    joined = join_regions(images, points)
    assert joined[0, 14, 14].tolist() == [18, 22]
    assert joined[1, 14, 14].tolist() == [25, 15]


@pytest.mark.parametrize(
    ("images", "points"),
    [
        (coordinates(30), landmarks()),
        (coordinates()[:, :20], landmarks()),
        (coordinates(), landmarks()[:, :4]),
        (coordinates(), landmarks(left_eye=(np.nan, 3))),
    ],
)
def test_what_cannot_be_cut(images, points):
    with pytest.raises(ValueError, match=r"divisible by 4|landmarks \(x, y\)"):
        join_regions(images, points)


def test_missing_landmarks_are_the_mean_of_the_others():
    points = np.concatenate(
        [landmarks(), np.full((1, 5, 2), np.nan), landmarks(nose=(120, 100))]
    ).astype(np.float32)
    filled = fill_landmarks(points)
    assert filled[1, 2].tolist() == [116, 106]
    np.testing.assert_array_equal(filled[[0, 2]], points[[0, 2]])
    assert filled.dtype == np.float32
    with pytest.raises(ValueError, match="no landmarks"):
        fill_landmarks(points[1:2])
