"""Folds that somebody has written down: read as they stand, or every line that cannot be used is
listed.
"""

import numpy as np
import pytest

from fexpr.data.dataset import Dataset
from fexpr.data.splits.protocols import make_folds
from fexpr.errors import UserError
from tests.data.small_sets import dataset, split


@pytest.fixture
def eight() -> Dataset:
    return dataset(np.array([0, 1] * 4, np.int32), list("aabbccdd"))


def write(tmp_path, *lines) -> str:
    path = tmp_path / "folds.csv"
    path.write_text("\n".join(lines) + "\n")
    return str(path)


def test_a_file_that_says_where_each_clip_is_tested(tmp_path, eight):
    file = write(
        tmp_path,
        "id, fold",
        *(f"c{i}, {'first' if i < 4 else 'second'}" for i in reversed(range(8))),
    )
    second, first = make_folds(split("file", file=file), eight)
    assert (first.name, second.name) == ("first", "second")
    assert first.test.tolist() == [0, 1, 2, 3]
    assert sorted([*first.train, *first.val]) == [4, 5, 6, 7]
    assert len(first.val) == 2


def test_a_file_that_says_all(tmp_path, eight):
    file = write(
        tmp_path,
        "id,fold,part",
        "c0,1,train",
        "c1,1,train",
        "c2,1,val",
        "c4,1,test",
        "c6,2,test",
        "c0,2,train",
        "c3,2,train",
        *(f"c{i},3,{part}" for i, part in [(1, "train"), (3, "val"), (5, "test"), (7, "test")]),
    )
    folds = make_folds(split("file", file=file), eight)
    assert [fold.name for fold in folds] == ["1", "2", "3"]
    assert [folds[0].train.tolist(), folds[0].val.tolist(), folds[0].test.tolist()] == [
        [0, 1],
        [2],
        [4],
    ]
    # no validation rows are given: drawn from the training groups
    assert sorted([*folds[1].train, *folds[1].val]) == [0, 3]
    assert folds[2].test.tolist() == [5, 7]


def test_every_bad_line_is_listed(tmp_path, eight):
    file = write(
        tmp_path,
        "id,fold,part",
        "c0,1,train",
        "c9,1,train",
        "c1,1,tset",
        "c2,1,test",
        "c2,1,train",
        ",1,test",
        "c3,,val",
        "c4,1,val",
        "c5,1,val",
        "c6,1,val",
    )
    with pytest.raises(UserError) as e:
        make_folds(split("file", file=file), eight)
    text = e.value.text()
    for found in (
        "line 3, c9: there is no such id",
        "line 4, c1: part is 'tset'",
        "line 6, c2: this id is already in line 5",
        "line 7, unnamed: no id",
        "line 8, c3: no fold",
        "c7: this id of the data set is not in the file",
    ):
        assert found in text
    assert len(e.value.problems) == 6


def test_a_group_on_two_sides_and_an_empty_side_are_listed(tmp_path, eight):
    file = write(tmp_path, "id,fold", *(f"c{i},{i % 2}" for i in range(8)))
    with pytest.raises(UserError) as e:
        make_folds(split("file", file=file), eight)
    assert len(e.value.problems) == 8
    assert "fold 0: a is in train and test" in e.value.problems
    file = write(
        tmp_path,
        "id,fold,part",
        *(f"c{i},1,train" for i in range(8)),
        "c0,2,test",
        "c1,2,val",
        "c2,2,train",
    )
    with pytest.raises(UserError) as e:
        make_folds(split("file", file=file), eight)
    assert e.value.problems == ("fold 1: no test rows", "fold 2: a is in val and test")


def test_files_that_are_no_folds(tmp_path, eight):
    for lines, message in (
        (["clip,fold", "c0,1"], "no column id"),
        (["id,fold"], "c0: "),
        ([""], "found: nothing"),
    ):
        with pytest.raises(UserError, match=message):
            make_folds(split("file", file=write(tmp_path, *lines)), eight)
    with pytest.raises(UserError, match=r"nowhere.csv(.|\n)*No such file"):
        make_folds(split("file", file=str(tmp_path / "nowhere.csv")), eight)
