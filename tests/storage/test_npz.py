"""Arrays of files that anybody may have made."""

import contextlib
import io
import zipfile

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fexpr.storage import npz
from fexpr.storage.bounded import Unreadable

ARRAYS = {
    "logits": np.arange(12, dtype=np.float32).reshape(3, 4),
    "ids": np.array(["a", "bc"]),
    "empty": np.zeros((0, 3)),
    "one": np.array(2.5),
    "columns": np.asfortranarray(np.arange(6).reshape(2, 3)),
}


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_arrays_are_what_numpy_reads(tmp_path, save):
    save(tmp_path / "a.npz", **ARRAYS)
    found = npz.read(tmp_path / "a.npz")
    assert found.keys() == ARRAYS.keys()
    for name, array in ARRAYS.items():
        np.testing.assert_array_equal(found[name], array)
        assert found[name].dtype == array.dtype
        assert found[name].flags.writeable


def saved(array):
    stream = io.BytesIO()
    np.save(stream, array, allow_pickle=True)
    return stream.getvalue()


def test_a_header_that_claims_more_than_the_file_has_makes_no_array():
    data = saved(np.zeros(1))
    for shape in ("(5000000000,)", "(-1,)", "(2, 3)", "(1e9,)", "x"):
        lying = data.replace(b"(1,), }".ljust(20), f"{shape}, }}".ljust(20).encode())
        assert lying != data
        with pytest.raises(Unreadable):
            npz.decode(lying)


@pytest.mark.parametrize(
    "header", [b"{'descr': '<f8', 'shape': (3,", b"(" * 3000, b"'" * 9, b"\0" * 20, b"{1: 2}"]
)
def test_a_damaged_header_is_a_reason(header):
    """NumPy's parser raises errors of the modules tokenize and ast for some of them."""
    length = len(header).to_bytes(2, "little")
    with pytest.raises(Unreadable, match="not an array of NumPy"):
        npz.decode(b"\x93NUMPY\x01\x00" + length + header)


def test_tables_of_several_types_are_refused():
    with pytest.raises(Unreadable, match="expected numbers or texts"):
        npz.decode(saved(np.zeros(3, "i4,f8")))


def test_pickles_are_never_opened(tmp_path):
    with pytest.raises(npz.Pickled):
        npz.decode(saved(np.array([{}])))
    np.savez(tmp_path / "a.npz", good=np.zeros(2), bad=np.array([None]))
    with pytest.raises(npz.Pickled, match=": bad"):
        npz.read(tmp_path / "a.npz")


def test_a_bomb_is_refused_before_it_is_unpacked(tmp_path, monkeypatch):
    monkeypatch.setattr(npz, "LEAST_LIMIT", 10**6)
    with zipfile.ZipFile(tmp_path / "a.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.npy", bytes(2 * 10**6))
    with pytest.raises(Unreadable, match="2,000,000 bytes"):
        npz.read(tmp_path / "a.npz")


@settings(deadline=None)
@given(st.data())
def test_damaged_files_are_a_reason_or_whole(tmp_path_factory, data):
    """Also where the damage is in what zlib reads, not in what the archive's own checks cover."""
    path = tmp_path_factory.mktemp("any") / "a.npz"
    np.savez_compressed(path, **ARRAYS)
    damaged = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 20))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    path.write_bytes(damaged[: data.draw(st.integers(0, len(damaged)))])
    with contextlib.suppress(Unreadable):
        assert npz.read(path).keys() <= ARRAYS.keys()
