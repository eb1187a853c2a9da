"""Who has been seen is remembered along a chain of runs, and compared as people, whatever the data
sets are called.
"""

import dataclasses

import numpy as np
import pytest

from fexpr.data.dataset import Dataset
from fexpr.data.splits.fold import Fold
from fexpr.errors import UserError
from fexpr.runs import people
from fexpr.storage import run
from fexpr.storage import seen_people as record


def dataset(groups, source="x@1", parts=None):
    n = len(groups)
    return Dataset(
        np.zeros((n, 4, 4, 3), np.uint8),
        np.zeros(n, np.int32),
        np.array(groups),
        np.array([f"clip{i}" for i in range(n)]),
        ("a", "b"),
        source,
        extras={} if parts is None else {"dataset": np.array(parts)},
    )


def fold(train, val, test, groups):
    return Fold("f", np.array(train), np.array(val), np.array(test), groups=np.array(groups))


COMPOSITE = ["samm/006", "samm/007", "casme2/sub01", "smic/s6"]


@pytest.fixture
def first(tmp_path):
    """A run of two folds on the composite: the first tests samm/007, the second samm/006."""
    data = dataset(COMPOSITE, parts=["samm", "samm", "casme2", "smic"])
    folds = [fold([0, 3], [2], [1], COMPOSITE), fold([1, 3], [2], [0], COMPOSITE)]
    people.write(tmp_path, "megc2019", data, folds, [0, 1, 0, 1])
    return tmp_path


def check(seen, name, groups, others=False, **more):
    groups = [*groups, "901", "902"]
    folds = [fold([1], [2], [0], groups)]
    people.refuse_tested("runs/first", seen, others, name, dataset(groups, **more), folds)


def test_a_composite_has_seen_the_people_of_its_parts(first):
    seen = record.read(first, [0])
    assert seen.people.tolist() == ["casme2/1", "samm/6", "smic/6"]
    with pytest.raises(UserError, match="1 of 1 test subjects") as error:
        check(seen, "samm", ["006"])
    assert "samm/6" in error.value.text()
    check(seen, "samm", ["007"])  # tested by that fold, never seen
    check(seen, "casme2", ["sub06"])
    with pytest.raises(UserError, match="1 of 1"):
        check(record.read(first, [1]), "samm", ["007"])


@pytest.mark.parametrize("name", ["006", "6", "s6", "S006", "sub06", "Sub6", "subject_6", "s 6"])
def test_one_person_under_several_spellings(first, name):
    with pytest.raises(UserError, match="1 of 1"):
        check(record.read(first, [0]), "samm", [name])


def test_nobody_is_allowed_whom_the_run_before_the_run_has_seen(first, tmp_path):
    """The chain: SAMM's subject 6, then CASME II, then SAMM again."""
    groups = ["sub01", "sub02", "sub03"]
    second = tmp_path / "second"
    folds = [fold([0], [2], [1], groups)]
    people.write(second, "casme2", dataset(groups), folds, [0], record.read(first, [0]))
    with pytest.raises(UserError, match="1 of 1 test subjects"):
        check(record.read(second, [0]), "samm", ["006"])
    check(record.read(second, [0]), "samm", ["008"])


def test_what_cannot_be_told_is_refused_unless_the_user_says_so(first):
    seen = record.read(first, [0])
    with pytest.raises(UserError, match=r"init.people=others") as error:
        check(seen, "folder", ["anna"])
    assert "samm: its people may be those of folder" in error.value.text()
    assert "--config.init.people=others" in error.value.text()
    check(seen, "folder", ["anna"], others=True)
    with pytest.raises(UserError, match=r"init.people=others"):
        check(None, "samm", ["006"])  # of a run that recorded nothing
    check(None, "samm", ["006"], others=True)
    with pytest.raises(UserError, match="1 of 1"):  # what is known is not overruled
        check(seen, "samm", ["006"], others=True)


def test_drawn_people_are_nobody_elses(first):
    seen = record.read(first, [0])
    check(seen, "samm", ["006"], source="synthetic")
    check(seen, "folder", ["anna"], source="synthetic")


def test_where_nobody_knows_whose_face_it_is_images_are_compared(tmp_path):
    data = dataset(["a", "b", "c"])
    data = dataclasses.replace(data, ids=data.groups)
    folds = [fold([0], [1], [2], data.groups)]
    people.write(tmp_path, "fer2013", data, folds, [0])
    assert record.read(tmp_path, [0]).people.tolist() == ["fer2013/a", "fer2013/b"]


def test_a_file_of_another_shape(first):
    np.savez(first / run.PEOPLE, people=np.array([1, 2]))
    with pytest.raises(UserError, match=r"people\.npz is damaged"):
        record.read(first, [0])
    assert record.read(first / "nothing", [0]) is None


def test_an_ensemble_has_seen_whom_any_member_has(first):
    assert record.read(first, [0, 1]).people.tolist() == [
        "casme2/1",
        "samm/6",
        "samm/7",
        "smic/6",
    ]
    assert record.read(first, [2]).people.tolist() == record.read(first, [0]).people.tolist()


def test_a_file_that_is_handed_on_names_nobody_and_is_compared_all_the_same(first):
    text = record.to_metadata(record.read(first, [0]))
    assert "samm/6" not in text
    seen = record.from_metadata(text)
    assert record.to_metadata(seen) == text
    with pytest.raises(UserError, match="1 of 1") as error:
        check(seen, "samm", ["006"])
    assert "samm/6" in error.value.text()
    check(seen, "samm", ["007"])
    for other in ("", "{", "[]", "{}", '{"people": 3, "unknown": []}', '{"people": [1]}'):
        assert record.from_metadata(other) is None
