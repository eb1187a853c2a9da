import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.model_selection import GroupShuffleSplit

from fexpr.data.splits import Fold, group_holdout
from fexpr.errors import UserError

GROUPS = np.array([f"{s:03d}" for s in np.random.default_rng(0).integers(0, 28, 133)])


def test_test_rows_are_scikit_learns():
    rest, test = next(GroupShuffleSplit(n_splits=1, test_size=0.2, random_state=42).split(GROUPS, groups=GROUPS))
    fold = group_holdout(GROUPS, 0.2, 0.2, 42)
    np.testing.assert_array_equal(fold.test, test)
    np.testing.assert_array_equal(np.sort(np.concatenate([fold.train, fold.val])), rest)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.sampled_from("abcdefghij"), min_size=12, max_size=60), st.integers(0, 99))
def test_groups_never_cross(letters, seed):
    groups = np.array(letters)
    if len(set(letters)) < 5:
        return
    fold = group_holdout(groups, 0.2, 0.25, seed)
    sides = [set(groups[rows]) for rows in (fold.train, fold.val, fold.test)]
    assert sum(map(len, sides)) == len(set(letters))
    assert sorted(np.concatenate([fold.train, fold.val, fold.test])) == list(range(len(groups)))


@pytest.mark.parametrize(("train", "val", "test", "message"), [
    ([0, 1], [2], [3, 4], "c in both train and test"), ([0, 1], [2, 3], [4], "c in both train and val"),
    ([0, 0], [2], [5], "twice in train"), ([0], [2], [], "no test rows"),
])
def test_a_planted_leak_is_caught(train, val, test, message):
    groups = np.array(["a", "c", "b", "c", "d", "e"])
    with pytest.raises(ValueError, match=message):
        Fold("planted", np.array(train, int), np.array(val, int), np.array(test, int), groups)


def test_too_few_subjects():
    with pytest.raises(UserError, match="2 subjects cannot be split"):
        group_holdout(np.array(["a", "a", "b"]), 0.2, 0.2, 0)
    with pytest.raises(UserError, match=r"val_fraction=0\.99"):
        group_holdout(np.array(["a", "b", "c", "d"]), 0.2, 0.99, 0)
