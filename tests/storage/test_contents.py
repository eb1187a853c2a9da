"""What a run directory holds is checked before it is used: other shapes are one message that names
each place.
"""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fexpr.errors import UserError
from fexpr.evaluate.predictions import checked
from fexpr.evaluate.report import run_report
from fexpr.storage import contents, run, zoo
from fexpr.storage.shape import Maybe, find_mismatches
from tests.recognizer.runs import stored
from tests.runs import hostile


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return stored(tmp_path_factory.mktemp("stored"))


def read_all(folder):
    contents.read_config(folder / run.CONFIG, contents.TRAINED)
    contents.read_metrics(folder / run.METRICS)
    contents.read_predictions(folder / run.PREDICTIONS)
    run.read_history(folder)


def test_a_whole_run_is_read(folder):
    read_all(folder)


@pytest.mark.parametrize("name", zoo.names())
def test_every_installed_model_is_read(name):
    contents.read_config(zoo.folder(name) / run.CONFIG, contents.TRAINED)
    contents.read_metrics(zoo.folder(name) / run.METRICS)


def test_every_damage_is_a_message(folder, tmp_path):
    light = tmp_path / "light"  # without what takes long to copy
    light.mkdir()
    for name in (run.CONFIG, run.METRICS, run.PREDICTIONS):
        (light / name).write_bytes((folder / name).read_bytes())
    (light / run.HISTORY).write_text('{"epoch": 1, "seconds": 0.1}\n' * 2)
    messages = {}
    for name, damage in hostile.cases(120):
        if not name.startswith("checkpoint"):
            try:
                read_all(hostile.damaged(light, tmp_path / "damaged", damage))
            except UserError as e:
                messages[name] = e.text()
    assert all(len(text) < 20_000 for text in messages.values())
    assert len(messages) > 50  # of a hundred; the others changed what nothing relies on


def test_each_place_is_named():
    shape = {"a": int, "b?": [str], "c": Maybe({"d": (int, float)})}
    value = {"a": True, "b": ["x", 3], "c": {"d": "much"}}
    assert list(find_mismatches(value, shape)) == [
        "a: expected a whole number, found True",
        "b[1]: expected a text, found 3",
        "c.d: expected a number, found 'much'",
    ]
    assert list(find_mismatches({"a": 1, "c": None}, shape)) == []
    assert list(find_mismatches({}, shape)) == ["a: missing", "c: missing"]
    assert list(find_mismatches({"any": True, "flag": False}, {"flag": bool, "*": object})) == []
    assert list(find_mismatches([], shape)) == ["the whole: expected an object, found []"]


trees = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=15,
)


@settings(max_examples=60)
@given(trees)
def test_any_json_is_of_the_shape_or_not(value):
    for shape in (contents.CONFIG, contents.TRAINED, contents.METRICS):
        assert all(isinstance(line, str) for line in find_mismatches(value, shape))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"logits": np.zeros((3, 2), np.float32)}, "labels: 108 entries, expected 3"),
        ({"trial": np.full(108, 7, np.int32)}, "trial: numbers from 0 to 2 are expected"),
        ({"labels": np.full(108, 2, np.int32)}, "labels: classes from 0 to 1 are expected"),
        ({"split": np.zeros(108, np.int32)}, "split: int32 (108,) cannot be used"),
        ({"ids": None}, "ids: missing"),
    ],
)
def test_arrays_that_do_not_fit(folder, tmp_path, change, words):
    arrays = run.read_arrays(folder / run.PREDICTIONS) | change
    np.savez(tmp_path / "p.npz", **{k: v for k, v in arrays.items() if v is not None})
    with pytest.raises(UserError) as error:
        contents.read_predictions(tmp_path / "p.npz")
    assert words in error.value.text()


# what only some runs have
OPTIONAL = {
    "init": {"from_run": "a", "trial": 0, "selection": "last", "people": {"seen": 3}},
    "wall_seconds": 1.5,
    "resources": dict.fromkeys(
        ("trials", "size", "chunks", "bytes_needed", "compile_seconds", "host_bytes"), 1
    ),
    "notes": ["a note"],
}
MISSING = object()


def places(content, above=()):
    """The keys of every entry of nested objects."""
    for key, value in content.items():
        yield (*above, key)
        if isinstance(value, dict):
            yield from places(value, (*above, key))


def replaced(content, at, value):
    """The content with another value at a place, or without it."""
    key, *below = at
    if below:
        return content | {key: replaced(content[key], below, value)}
    left = {k: v for k, v in content.items() if k != key}
    return left if value is MISSING else left | {key: value}


def test_the_report_of_a_run_that_is_opened_again_can_be_written_or_its_config_is_refused(
    folder, tmp_path
):
    run.write_json(tmp_path / run.CONFIG, run.read_json(folder / run.CONFIG) | OPTIONAL)
    content = contents.read_config(tmp_path / run.CONFIG, contents.OPENED)
    metrics = contents.read_metrics(folder / run.METRICS)
    found = checked(contents.read_predictions(folder / run.PREDICTIONS), metrics["selection"])
    changed = refused = 0
    every = itertools.product(places(content), (*hostile.VALUES, MISSING))
    # each place has every third value, each value every third place; all take ten seconds
    assert (len(hostile.VALUES) + 1) % 3
    for at, value in itertools.islice(every, 0, None, 3):
        if at == ("config",) or at[:2] == ("config", "model"):
            continue
        damaged = replaced(content, at, value)
        run.write_json(tmp_path / run.CONFIG, damaged)
        changed += 1
        try:
            reread = contents.read_config(tmp_path / run.CONFIG, contents.OPENED)
        except UserError:
            refused += 1
            continue
        run_report.title_of(reread, metrics)
        run_report.facts_of(reread, metrics, found)
    assert 0.1 < refused / changed < 0.9
