"""What is written comes back as it was, and what is damaged on the way is one message."""

import numpy as np
import pytest

from fexpr.errors import UserError
from fexpr.storage import run


def test_arrays_come_back_byte_for_byte(tmp_path):
    arrays = {
        "ids": np.array(["a", "bc"]),
        "logits": np.float32([[1, -2], [0.5, np.nan]]),
        "failed": np.array([True]),
    }
    for name in ("once.npz", "twice.npz"):
        run.write_arrays(tmp_path / name, arrays)
    assert (tmp_path / "once.npz").read_bytes() == (tmp_path / "twice.npz").read_bytes()
    found = run.read_arrays(tmp_path / "once.npz")
    assert list(found) == list(arrays)
    for name, array in arrays.items():
        assert found[name].dtype == array.dtype
        np.testing.assert_array_equal(found[name], array)


@pytest.mark.parametrize("share", [0, 0.1, 0.5, 0.99])
def test_arrays_that_are_cut_off(tmp_path, share):
    path = tmp_path / run.PREDICTIONS
    run.write_arrays(path, {"logits": np.arange(300.0), "ids": np.array(["a"])})
    whole = path.read_bytes()
    path.write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(UserError, match=r"predictions.npz is damaged"):
        run.read_arrays(path)


def test_an_array_that_was_changed(tmp_path):
    path = tmp_path / run.PREDICTIONS
    run.write_arrays(path, {"logits": np.zeros(300, np.uint8)})
    content = bytearray(path.read_bytes())
    content[-200] ^= 1  # among the values; the archive's own directory is behind them
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"predictions.npz is damaged: .*Bad CRC-32"):
        run.read_arrays(path)


def test_a_text_with_a_path_that_is_not_utf8(tmp_path):
    run.write_text(tmp_path / "page.html", "\udcff")
    assert (tmp_path / "page.html").read_text() == "\\udcff"
    run.write_json(tmp_path / "a.json", {"file": "\udcff"})
    assert run.read_json(tmp_path / "a.json") == {"file": "\udcff"}


@pytest.mark.parametrize("content", [b"", b'{"format": 1, "con', b"\xff\xfe"])
def test_json_that_is_cut_off(tmp_path, content):
    (tmp_path / run.CONFIG).write_bytes(content)
    with pytest.raises(UserError, match=r"config.json is damaged: "):
        run.read_json(tmp_path / run.CONFIG)
