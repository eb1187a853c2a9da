"""Prepared sets come back as they were written, in order, without noise, or not at all."""

import errno
import os
import warnings

import numpy as np
import pytest

from fexpr.data.preparation import builder
from fexpr.errors import UserError


def rows(n=5):
    rng = np.random.default_rng(0)
    for i in range(n):
        yield {
            "id": f"clip é {9 - i}",
            "image": rng.integers(0, 256, (6, 5, 3), dtype=np.uint8),
            "points": np.float32([[i, np.nan]]),
            "frame": i * 10,
            "note": "" if i else "first",
        }


def test_rows_come_back_in_order_with_their_types(tmp_path):
    builder.write(tmp_path / "records", "samm", rows())
    columns = builder.read(tmp_path / "records")
    expected = list(rows())
    assert columns.keys() == expected[0].keys()
    assert columns["id"].tolist() == [row["id"] for row in expected]
    assert columns["note"].tolist() == ["first", "", "", "", ""]
    for name, dtype in (("image", np.uint8), ("points", np.float32), ("frame", np.int64)):
        assert columns[name].dtype == dtype
        np.testing.assert_array_equal(columns[name], np.stack([row[name] for row in expected]))
    assert list(tmp_path.glob("records/samm/*/*.array_record*"))


def test_nothing_is_printed_and_nothing_is_left_beside_it(tmp_path, capfd):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        builder.write(tmp_path / "records", "samm", rows())
        builder.read(tmp_path / "records")
    captured = capfd.readouterr()
    assert captured.out + captured.err == ""
    assert os.listdir(tmp_path) == ["records"]
    assert os.listdir(tmp_path / "records") == ["samm"]


def interrupted(error):
    for i, row in enumerate(rows()):
        if i == 3:
            raise error
        yield row


def test_an_interrupted_preparation_leaves_nothing(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        builder.write(tmp_path / "records", "samm", interrupted(KeyboardInterrupt()))
    assert os.listdir(tmp_path) == []
    assert not builder.exists(tmp_path / "records")


def test_a_full_disk_is_one_clear_message(tmp_path):
    with pytest.raises(UserError, match="No space left on device"):
        builder.write(
            tmp_path / "records",
            "samm",
            interrupted(OSError(errno.ENOSPC, "No space left on device")),
        )
    text = (
        'Failed to finalize writing of split "rows": write() failed: No space left on device; '
        "writing x; at byte 4096"
    )
    # as ArrayRecord's C++ writer reports it
    with pytest.raises(UserError, match=r"records: No space left on device\n"):
        builder.write(tmp_path / "records", "samm", interrupted(RuntimeError(text)))
    assert os.listdir(tmp_path) == []


def test_a_programmer_error_keeps_its_own_type(tmp_path):
    with pytest.raises(RuntimeError, match="ours"):
        builder.write(tmp_path / "records", "samm", interrupted(RuntimeError("ours")))


@pytest.mark.parametrize(
    "change",
    [
        {"image": np.zeros((6, 5, 1), np.uint8)},
        {"image": np.zeros((6, 5, 3))},
        {"id": 3},
        {"frame": "x"},
        {"more": 1},
    ],
)
def test_rows_must_be_of_one_kind(change, tmp_path):
    first, second, *_ = rows()
    with pytest.raises(ValueError, match=next(iter(change))):
        builder.write(tmp_path / "records", "samm", [first, {**second, **change}])
    with pytest.raises(ValueError, match="no rows"):
        builder.write(tmp_path / "records", "samm", [])
    assert os.listdir(tmp_path) == []


def test_a_damaged_set_is_named(tmp_path):
    builder.write(tmp_path / "records", "samm", rows())
    (record,) = tmp_path.glob("records/samm/*/*.array_record*")
    record.write_bytes(record.read_bytes()[:100])
    with pytest.raises(UserError, match=r"records .*damaged"):
        builder.read(tmp_path / "records")
