import dataclasses
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.model_selection import GroupShuffleSplit, StratifiedGroupKFold, StratifiedKFold

from fexpr.data.splits.fold import Fold
from fexpr.data.splits.protocols import PROTOCOLS, group_holdout, make_folds, rarest_label
from fexpr.data.splits.validation_groups import draw_validation, validation_turn
from fexpr.errors import UserError
from tests.data.small_sets import dataset, faces, imbalanced, split

GROUPS = np.array([f"{s:03d}" for s in np.random.default_rng(0).integers(0, 28, 133)])


def test_test_rows_are_scikit_learns():
    rest, test = next(
        GroupShuffleSplit(n_splits=1, test_size=0.2, random_state=42).split(GROUPS, groups=GROUPS)
    )
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


@pytest.mark.parametrize(
    ("train", "val", "test", "message"),
    [
        ([0, 1], [2], [3, 4], "leak: c in .*train and test"),
        ([0, 1], [2, 3], [4], "leak: c in .*train and val"),
        ([0, 0], [2], [5], "fold planted: .*twice in train"),
        ([0], [2], [], "fold planted: no test rows"),
    ],
)
def test_a_planted_leak_is_caught(train, val, test, message):
    groups = np.array(["a", "c", "b", "c", "d", "e"])
    with pytest.raises(ValueError, match=message):
        Fold("planted", np.array(train, int), np.array(val, int), np.array(test, int), groups)


def test_too_few_subjects():
    with pytest.raises(UserError, match=r"2 subjects .*split"):
        group_holdout(np.array(["a", "a", "b"]), 0.2, 0.2, 0)
    with pytest.raises(UserError, match=r"val_fraction=0\.99"):
        group_holdout(np.array(["a", "b", "c", "d"]), 0.2, 0.99, 0)


# --- protocols -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("protocol", [p for p in PROTOCOLS if p not in ("file", "official")])
def test_every_protocol_tests_other_people_than_it_trains_on(protocol):
    data = imbalanced()
    if protocol == "ravdess":
        data = dataclasses.replace(
            data,
            groups=np.array(
                [f"actor{i + 1:02d}" for i in np.unique(data.groups, return_inverse=True)[1]]
            ),
        )
    folds = make_folds(split(protocol), data)
    number = {"holdout": 1, "loso": 24, "repeated_holdout": 4, "leave_one_dataset_out": 2}
    assert len(folds) == number.get(protocol, 5)
    assert len({fold.name for fold in folds}) == len(folds)
    for fold in folds:
        assert sorted(np.concatenate([fold.train, fold.val, fold.test])) == list(range(len(data)))
        sides = [set(data.groups[rows]) for rows in (fold.train, fold.val, fold.test)]
        assert sum(map(len, sides)) == 24
        if protocol != "holdout":
            assert len(sides[1]) == max(round(0.2 * (24 - len(sides[2]))), 1)
    if protocol not in ("holdout", "repeated_holdout"):  # every row is tested exactly once
        assert sorted(np.concatenate([fold.test for fold in folds])) == list(range(len(data)))
    again = make_folds(split(protocol), data)
    for a, b in zip(folds, again, strict=True):
        np.testing.assert_array_equal(
            np.concatenate([a.train, a.val, a.test]), np.concatenate([b.train, b.val, b.test])
        )
    if protocol != "holdout":
        other = make_folds(split(protocol, seed=43), data)
        assert any(not np.array_equal(a.val, b.val) for a, b in zip(folds, other, strict=True))


def test_the_holdout_is_what_it_was():
    data = imbalanced()
    (fold,) = make_folds(split("holdout"), data)
    expected = group_holdout(data.groups, 0.2, 0.2, 42)
    for side in ("train", "val", "test"):
        np.testing.assert_array_equal(getattr(fold, side), getattr(expected, side))
    np.testing.assert_array_equal(
        np.sort(make_folds(split("repeated_holdout"), data)[0].test), np.sort(expected.test)
    )


def test_loso_folds_bear_the_subjects_names():
    data = imbalanced()
    for fold in make_folds(split("loso"), data):
        assert set(data.groups[fold.test]) == {fold.name}


def test_group_k_fold_deals_the_published_folds_of_ravdess():
    actors = np.array([f"{a:02d}" for a in range(1, 25)])
    folds = make_folds(
        split("group_k_fold", seed=2020), dataset(np.zeros(48, np.int32), np.tile(actors, 2))
    )
    found = [sorted({int(a) for a in np.tile(actors, 2)[fold.test]}) for fold in folds]
    assert found == [
        [2, 5, 14, 15, 16],
        [3, 6, 7, 13, 18],
        [10, 11, 12, 19, 20],
        [8, 17, 21, 23, 24],
        [1, 4, 9, 22],
    ]


def test_stratified_folds_are_scikit_learns():
    data = imbalanced()
    expected = StratifiedGroupKFold(5, shuffle=True, random_state=42).split(
        data.labels, data.labels, data.groups
    )
    for fold, (_, test) in zip(
        make_folds(split("stratified_group_k_fold"), data), expected, strict=True
    ):
        np.testing.assert_array_equal(fold.test, test)


def test_several_labels_are_stratified_by_the_rarest():
    labels = np.float32([[1, 0.2, 0], [1, 0, 0], [0, 1, 0.4], [1, 1, 0], [0, 0, 0]])
    # three, three, one positive; ties to the first
    assert rarest_label(labels).tolist() == [0, 0, 2, 0, 3]
    rng = np.random.default_rng(0)
    data = dataset(
        (rng.random((90, 4)) < [0.5, 0.3, 0.2, 0.1]).astype(np.float32),
        [f"{s:02d}" for s in rng.integers(0, 15, 90)],
    )
    folds = make_folds(split("stratified_group_k_fold"), data)
    assert min((data.labels[fold.test] > 0).sum(0)[0] for fold in folds) > 3


def test_leave_one_dataset_out():
    data = imbalanced()
    folds = make_folds(split("leave_one_dataset_out"), data)
    assert [fold.name for fold in folds] == list(dict.fromkeys(data.extras["dataset"]))
    for fold in folds:
        assert set(data.extras["dataset"][fold.test]) == {fold.name}
        assert fold.name not in data.extras["dataset"][np.concatenate([fold.train, fold.val])]
    with pytest.raises(UserError, match=r"leave_one_dataset_out.* composite"):
        make_folds(split("leave_one_dataset_out"), dataset(data.labels, data.groups))
    with pytest.raises(UserError, match="two data sets, found samm"):
        make_folds(
            split("leave_one_dataset_out"), dataset(data.labels, data.groups, ["samm"] * len(data))
        )


def test_a_person_of_two_data_sets_is_caught_by_the_guard():
    data = imbalanced()
    groups = np.where(data.groups == "casme2/002", "samm/001", data.groups)
    with pytest.raises(ValueError, match="leak: samm/001"):
        make_folds(
            split("leave_one_dataset_out"), dataset(data.labels, groups, data.extras["dataset"])
        )


@pytest.mark.parametrize("protocol", ["loso", "group_k_fold", "repeated_holdout"])
def test_a_protocol_that_leaks_is_caught_by_the_guard(protocol, monkeypatch):
    """Whatever a protocol or the drawing of validation rows does wrong, no fold comes of it."""
    data = imbalanced()

    def leaky(name, rows, labels, groups, fraction, seed):
        return rows[::2], rows[1::2]  # clips of one person on both sides

    monkeypatch.setattr("fexpr.data.splits.validation_groups.draw_validation", leaky)
    with pytest.raises(ValueError, match=r"leak: .* in both train and val"):
        make_folds(split(protocol), data)


@pytest.mark.parametrize(
    ("protocol", "changes", "message"),
    [
        ("loco", {}, "'loco'\n.*holdout, loso"),
        ("group_k_fold", {"folds": 9}, "folds=9 .*4 subjects"),
        ("stratified_group_k_fold", {"folds": 1}, "folds=1 .*4 subjects"),
        ("repeated_holdout", {"test_fraction": 0.999}, "test_fraction=0.999"),
        ("group_k_fold", {"folds": 4}, ""),
        ("file", {}, "split.file .*empty"),
    ],
)
def test_what_cannot_be_split(protocol, changes, message):
    data = dataset(np.array([0, 1, 0, 1, 0, 1], np.int32), list("aabbcd"))
    if message:
        with pytest.raises(UserError, match=message):
            make_folds(split(protocol, **changes), data)
    else:
        assert len(make_folds(split(protocol, **changes), data)) == 4


def test_too_few_people_for_a_protocol():
    with pytest.raises(UserError, match="subject b:"):
        make_folds(split("loso"), dataset(np.array([0, 1, 0], np.int32), list("aab")))
    with pytest.raises(UserError, match="tests every row"):
        make_folds(split("loso"), dataset(np.array([0, 1, 0], np.int32), list("aaa")))


# --- validation inside the training rows -----------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(5))
def test_validation_holds_every_class_where_it_can(seed):
    data = imbalanced(seed)
    for fold in make_folds(split("loso"), data):
        held = {
            label: len(set(data.groups[np.flatnonzero(data.labels == label)]) - {fold.name})
            for label in range(3)
        }
        for rows in (fold.train, fold.val):
            present = set(data.labels[rows])
            assert all(label in present for label, holders in held.items() if holders >= 4)


def test_validation_differs_from_fold_to_fold_and_is_near_its_share():
    data = imbalanced()
    folds = make_folds(split("loso"), data)
    assert len({tuple(np.unique(data.groups[fold.val])) for fold in folds}) > 12
    share = [len(fold.val) / len(np.concatenate([fold.train, fold.val])) for fold in folds]
    assert 0.12 < min(share) <= max(share) < 0.28


def test_every_fold_draws_with_a_seed_of_its_own(monkeypatch):
    seeds = []
    monkeypatch.setattr(
        "fexpr.data.splits.validation_groups.draw_validation",
        lambda *a: (seeds.append(a[-1]), draw_validation(*a))[1],
    )
    make_folds(split("loso"), imbalanced())
    assert len({tuple(seed) for seed in seeds}) == 24


def test_validation_looks_at_its_own_rows_only():
    data = imbalanced()
    rows = np.flatnonzero(data.groups != "samm/001")
    expected = draw_validation("x", rows, data.labels, data.groups, 0.2, [1, 2])
    changed = np.where(data.groups == "samm/001", 2 - data.labels, data.labels)
    for a, b in zip(
        expected, draw_validation("x", rows, changed, data.groups, 0.2, [1, 2]), strict=True
    ):
        np.testing.assert_array_equal(a, b)


def test_validation_takes_turns_inside_the_training_rows():
    groups = np.repeat([f"s{i}" for i in range(11)], 3)
    fold = Fold("f", np.arange(6, 30), np.arange(30, 33), np.arange(6), groups)
    turns = [validation_turn(fold, groups, 4, turn, [0, 1]) for turn in range(8)]
    assert sorted(np.concatenate([t.val for t in turns[:4]]).tolist()) == list(range(6, 33))
    for t in turns:
        assert np.array_equal(t.test, fold.test)
        assert sorted([*t.train, *t.val]) == list(range(6, 33))
    assert np.array_equal(turns[1].val, turns[5].val)
    assert validation_turn(fold, groups, 0, 3, [0, 1]) is fold
    with pytest.raises(UserError, match="from 2 to 9"):
        validation_turn(fold, groups, 10, 0, [0, 1])


# --- images that are groups of their own ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "protocol", ["official", "holdout", "group_k_fold", "stratified_group_k_fold"]
)
def test_32000_images_of_nobody_knows_whom_are_split_at_once(protocol):
    data = faces(28000, 2000, 2000)
    began = time.process_time()
    folds = make_folds(split(protocol, val="training", test="auto"), data)
    # about 1; scikit-learn's StratifiedGroupKFold takes minutes
    assert time.process_time() - began < 5
    for fold in folds:
        assert len(fold.train) + len(fold.val) + len(fold.test) == len(data)


def test_images_that_are_groups_of_their_own_are_stratified_one_by_one():
    data = faces(300, 0, 0)
    expected = StratifiedKFold(5, shuffle=True, random_state=42).split(data.labels, data.labels)
    for fold, (_, test) in zip(
        make_folds(split("stratified_group_k_fold"), data), expected, strict=True
    ):
        np.testing.assert_array_equal(fold.test, test)


def test_leaving_out_one_of_thousands_is_refused():
    with pytest.raises(UserError, match=r"1,200 folds"):
        make_folds(split("loso"), faces(1200, 0, 0))
