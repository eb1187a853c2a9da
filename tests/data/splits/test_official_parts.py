"""The parts that a release itself calls training and test: whole, and never both to select and to
test.
"""

import numpy as np
import pytest

from fexpr.data.splits.protocols import make_folds
from fexpr.errors import UserError
from tests.data.small_sets import faces, imbalanced, split


def test_without_validation_rows_all_training_images_train():
    data = faces(40, 6, 5)
    (fold,) = make_folds(split("official", val="none", test="PrivateTest"), data)
    np.testing.assert_array_equal(fold.train, np.flatnonzero(data.split == "Training"))
    np.testing.assert_array_equal(fold.test, np.flatnonzero(data.split == "PrivateTest"))
    assert not len(fold.val)


@pytest.mark.parametrize(
    ("val", "test", "tested"),
    [
        ("training", "auto", ["PrivateTest", "PublicTest"]),
        ("training", "both", ["PrivateTest", "PublicTest"]),
        ("training", "PublicTest", ["PublicTest"]),
        ("training", "PrivateTest", ["PrivateTest"]),
        ("PublicTest", "auto", ["PrivateTest"]),
        ("PublicTest", "PrivateTest", ["PrivateTest"]),
    ],
)
def test_the_official_parts_stay_what_they_are(val, test, tested):
    data = faces(400, 60, 50)
    (fold,) = make_folds(split("official", val=val, test=test), data)
    assert fold.name == "official"
    assert set(data.split[fold.train]) == {"Training"}
    assert sorted(set(data.split[fold.test])) == tested
    # whole parts
    np.testing.assert_array_equal(fold.test, np.flatnonzero(np.isin(data.split, tested)))
    if val == "training":
        assert set(data.split[fold.val]) == {"Training"}
        np.testing.assert_array_equal(
            np.sort(np.concatenate([fold.train, fold.val])),
            np.flatnonzero(data.split == "Training"),
        )
        share = np.bincount(data.labels[fold.val]) / np.bincount(
            data.labels[data.split == "Training"]
        )
        np.testing.assert_allclose(share, 0.2, atol=0.03)  # of every class
        other = make_folds(split("official", val=val, test=test, seed=1), data)[0]
        assert not np.array_equal(other.val, fold.val)
        np.testing.assert_array_equal(other.test, fold.test)
        np.testing.assert_array_equal(
            make_folds(split("official", val=val, test=test), data)[0].val, fold.val
        )
    else:
        np.testing.assert_array_equal(fold.val, np.flatnonzero(data.split == "PublicTest"))
        assert len(fold.train) == 400


def test_a_release_without_private_test():
    data = faces(400, 60, 0)
    (fold,) = make_folds(split("official", val="training", test="auto"), data)
    assert set(data.split[fold.test]) == {"PublicTest"}
    for val, test, message in (
        ("training", "both", "test=.*PrivateTest .*\\n.*found: Training, PublicTest"),
        ("training", "PrivateTest", "test=.*PrivateTest .*\\n.*found: Training, PublicTest"),
        ("PublicTest", "auto", "split.val=PublicTest, split.test="),
    ):
        with pytest.raises(UserError, match=message) as e:
            make_folds(split("official", val=val, test=test), data)
        assert "found: Training, PublicTest" in e.value.text()
    with pytest.raises(UserError, match=r"split.val=PublicTest.*: .*PublicTest "):
        make_folds(split("official", val="PublicTest", test="PrivateTest"), faces(400, 0, 60))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"val": "PublicTest", "test": "PublicTest"}, "split.val=PublicTest: .*split.test="),
        ({"val": "PublicTest", "test": "both"}, "split.val=PublicTest: .*split.test="),
        ({"val": "PrivateTest"}, "split.val is 'PrivateTest'"),
        ({"test": "Training"}, "split.test is 'Training'"),
        ({"val_fraction": 0.001}, "val_fraction=0.001 of 400 training images"),
    ],
)
def test_official_parts_that_cannot_be_used_so(changes, message):
    with pytest.raises(UserError, match=message):
        make_folds(
            split("official", **{"val": "training", "test": "auto", **changes}), faces(400, 60, 50)
        )


def test_a_release_without_parts():
    for data in (imbalanced(), faces(400, 0, 0), faces(0, 60, 50)):
        with pytest.raises(UserError, match="protocol=official needs"):
            make_folds(split("official", val="training", test="auto"), data)
