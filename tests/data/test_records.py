"""Images on the disk: indexed as the array that they were, read when asked, refused when
damaged.
"""

import numpy as np
import pytest

from fexpr.data import records
from fexpr.data.dataset import Dataset, Pictures
from fexpr.errors import UserError


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(0).integers(0, 256, (23, 5, 4, 2), np.uint8)


@pytest.fixture
def kept(images, tmp_path):
    """Written in stacks of ten."""
    names = [f"clip/{i}" for i in range(len(images))]
    records.write(
        tmp_path / "kept",
        ((names[i : i + 10], images[i : i + 10]) for i in range(0, len(images), 10)),
    )
    ids, found = records.read(tmp_path / "kept")
    assert ids == names
    return found


@pytest.mark.parametrize(
    "rows",
    [
        3,
        -1,
        slice(4, 9),
        slice(None),
        slice(20, 3, -4),
        [5, 0, 5],
        np.array([], int),
        np.arange(23) % 3 == 0,
        np.array([7]),
        np.int32(2),
    ],
)
def test_indexed_like_the_array(images, kept, rows):
    found = kept[rows]
    np.testing.assert_array_equal(found, images[rows])
    assert found.dtype == np.uint8
    some = np.array(
        [9, 2, 2, 17, 4, 11, 22, 0, 1, 3, 5, 6, 7, 8, 10, 12, 13, 14, 15, 16, 18, 19, 20]
    )
    np.testing.assert_array_equal(kept.take(some)[rows], images[some][rows])
    np.testing.assert_array_equal(
        records.chosen(kept, some).take(some > 4)[:], records.chosen(images, some)[some > 4]
    )


def test_looks_like_the_array(images, kept):
    assert (kept.shape, kept.dtype, kept.ndim, len(kept)) == (
        images.shape,
        images.dtype,
        images.ndim,
        len(images),
    )
    assert kept.take(np.arange(4)).shape == (4, 5, 4, 2)


def test_a_data_set_of_them(images, kept):
    ids = np.array([str(i) for i in range(len(kept))])
    dataset = Dataset(kept, np.zeros(len(kept), np.int32), ids, ids, ("one",), "toy@1")
    assert dataset.streamed
    shown = Pictures(dataset, ids[::2], range(0, len(kept), 2))
    assert list(shown) == ids[::2].tolist()
    # the map beside the face is not shown
    np.testing.assert_array_equal(shown["4"], images[4, ..., :1])
    with pytest.raises(ValueError, match="labels has 22 rows"):
        Dataset(kept, np.zeros(22, np.int32), ids, ids, ("one",), "toy@1")


def test_damage_is_noticed(images, kept, tmp_path):
    file = tmp_path / "kept" / records.IMAGES
    whole = file.read_bytes()
    for cut in (whole[: len(whole) // 2], b"", whole[:200] + bytes(len(whole) - 200)):
        file.write_bytes(cut)
        with pytest.raises(UserError, match=r"damaged|cannot be read"):
            records.read(tmp_path / "kept")[1][:]
    file.write_bytes(whole)
    (tmp_path / "kept" / records.ABOUT).write_text("{")
    with pytest.raises(UserError, match="damaged"):
        records.read(tmp_path / "kept")


@pytest.mark.parametrize(
    "stacks",
    [
        [],
        [(["a"], np.zeros((2, 3, 3, 1), np.uint8))],
        [(["a"], np.zeros((1, 3, 3, 1), np.float32))],
        [(["a"], np.zeros((1, 3, 3, 1), np.uint8)), (["b"], np.zeros((1, 4, 3, 1), np.uint8))],
    ],
)
def test_what_cannot_be_kept(tmp_path, stacks):
    with pytest.raises(ValueError, match="images"):
        records.write(tmp_path / "kept", stacks)
    assert not list(tmp_path.iterdir())
