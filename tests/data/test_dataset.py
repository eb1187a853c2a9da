"""What a Dataset refuses: images, labels and rows that do not fit together."""

import numpy as np
import pytest

from fexpr.data.dataset import Dataset

PICTURES = np.zeros((2, 4, 5, 1), np.uint8)
VECTORS = np.zeros((2, 1, 1, 3), np.float32)
FRAMES = {"frame": np.zeros((2, 2), np.int32)}
CLASSES = np.array([0, 1], np.int32)
NAMES = np.array(["a", "b"])


def made(images=PICTURES, labels=CLASSES, groups=NAMES, ids=NAMES, **fields):
    return Dataset(images, labels, groups, ids, ("no", "yes"), "toy@1", **fields)


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"images": VECTORS, "kind": "features"},
        {"images": PICTURES.repeat(4, -1), "kind": "clip", "extras": FRAMES},
        {"labels": np.ones((2, 2), np.float32)},
        {"split": NAMES},
        {
            "images": PICTURES[:0],
            "labels": CLASSES[:0],
            "groups": NAMES[:0],
            "ids": NAMES[:0],
        },
    ],
)
def test_what_fits(fields):
    assert len(made(**fields)) == len(fields.get("images", PICTURES))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"images": PICTURES.astype(np.float32)}, "uint8"),
        ({"images": PICTURES[..., 0]}, "uint8"),
        ({"images": VECTORS * np.nan, "kind": "features"}, "finite float32"),
        ({"images": VECTORS + np.inf, "kind": "features"}, "finite float32"),
        ({"images": VECTORS.astype(np.float64), "kind": "features"}, "float64"),
        ({"images": VECTORS[:, 0], "kind": "features"}, "finite float32"),
        ({"images": VECTORS.repeat(2, 2), "kind": "features"}, "finite float32"),
        ({"images": PICTURES.repeat(3, -1), "kind": "clip", "extras": FRAMES}, "3 channels"),
        ({"labels": CLASSES[:1]}, "labels .*1 rows.* 2"),
        ({"groups": NAMES[:1]}, "groups .*1 rows"),
        ({"split": NAMES[:1]}, "split .*1 rows"),
        ({"extras": {"video": NAMES[:1]}}, "video .*1 rows"),
        ({"labels": CLASSES + np.int32(1)}, "class ids"),
        ({"labels": CLASSES - np.int32(1)}, "class ids"),
        ({"labels": CLASSES.astype(np.int64)}, "class ids"),
        ({"labels": np.ones((2, 3), np.float32)}, "K = 2"),
        ({"labels": np.ones((2, 2), np.float64)}, "float64"),
        ({"ids": np.array(["a", "a"])}, "unique"),
    ],
)
def test_what_does_not_fit(fields, message):
    with pytest.raises(ValueError, match=message):
        made(**fields)
