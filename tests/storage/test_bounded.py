"""Files under any name: what is no ordinary file is refused at once, and names lead nowhere else."""

import io
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fexpr.errors import UserError
from fexpr.storage import bounded
from fexpr.storage.bounded import Unreadable


def test_what_is_no_ordinary_file_is_refused_at_once(tmp_path):
    os.mkfifo(tmp_path / "pipe.png")  # opening it would wait for somebody to write
    (tmp_path / "loop.png").symlink_to("loop.png")
    (tmp_path / "folder.png").mkdir()
    (tmp_path / "zero.png").symlink_to("/dev/zero")
    with open(tmp_path / "sparse.png", "wb") as f:
        f.truncate(10**12)
    for name, why in {
        "pipe.png": "pipe.*device",
        "zero.png": "pipe.*device",
        "folder.png": "folder",
        "sparse.png": "1,000,000,000,000 bytes",
        "loop.png": "symbolic links",
        "nowhere.png": "No such file",
        "a\0b": "null (byte|character)",
        "x" * 300: "name too long",
    }.items():
        with pytest.raises(Unreadable, match=f"(?i){why}"):
            bounded.read_bytes(tmp_path / name, bounded.IMAGE_BYTES)
    (tmp_path / "whole").write_bytes(b"abc")
    (tmp_path / "link").symlink_to("whole")
    assert bounded.read_bytes(tmp_path / "link", 3) == b"abc"
    with pytest.raises(Unreadable, match=r"3 bytes.* 2"):
        bounded.read_bytes(tmp_path / "whole", 2)


def lines(data):
    return list(bounded.text_lines(io.BytesIO(data)))


def test_lines_of_a_text():
    assert lines(b"\xef\xbb\xbfa\xc3\xa9\r\nb\n\nc") == ["aé\r\n", "b\n", "\n", "c"]
    assert lines(b"") == []
    for data, why in {
        b"a\nb\xe9\n": "line 2.*0xe9.*UTF-8",
        "a,b\n".encode("utf-16"): "UTF-16",
        b"a\nb\0c\n": "line 2.*NUL",
        b"a\n" + b"0" * (bounded.LONGEST_LINE + 1): "line 2.*more than",
    }.items():
        with pytest.raises(Unreadable, match=why):
            lines(data)


def test_a_line_without_end_is_not_read_to_its_end():
    class Endless(io.RawIOBase):
        served = 0

        def readline(self, size=-1):
            assert 0 < size < 10**7
            Endless.served += size
            return b"0" * size

    with pytest.raises(Unreadable, match=r"line 1.*more than"):
        next(bounded.text_lines(Endless()))


@pytest.mark.parametrize(
    "name",
    [
        "../x",
        "..",
        ".",
        "a/b",
        "a\\b",
        "a\tb",
        "<img src=x>",
        "a\nb",
        "\x1b[31mred",
        "\u202etxt",
        "x" * 201,
        "\udcff",
    ],
)
def test_names_that_lead_elsewhere_or_hide_what_they_are(name):
    assert bounded.name_problem(name)
    assert name == "a/b" or bounded.path_problem(f"folder/{name}")


def test_names_of_any_language_are_names():
    for name in ("006_1_2", "EP02_01f", "café", "笑顔", "a b", "=1+1", "x" * 200):
        assert bounded.name_problem(name) == ""
    assert bounded.path_problem("103/29a31eb.jpg") == ""
    assert bounded.path_problem("/etc/passwd")


@given(st.text())
def test_what_is_a_name_stays_in_its_folder(name):
    if bounded.name_problem(name) == "" and name:
        assert os.path.normpath(f"/folder/{name}") == f"/folder/{name}"


def test_hidden_files():
    for name in ("._a.png", ".DS_Store", "Thumbs.db", "__MACOSX/a.png"):
        assert bounded.is_hidden(f"x/{name}")
    assert not bounded.is_hidden("x/a.png")


def test_folders_are_walked_once_and_in_order_and_those_that_cannot_be_listed_are_named(
    tmp_path, monkeypatch
):
    for name in ("b/c", "a", "locked"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "b" / "up").symlink_to("..")
    (tmp_path / "linked").symlink_to("b")
    (tmp_path / "a" / "lost").symlink_to("/unmounted/disk")
    (tmp_path / "a" / ".#lock").symlink_to("somebody@host")
    os.mkfifo(tmp_path / "b" / "pipe")
    for name in ("b/2", "b/1", "b/c/3"):
        (tmp_path / name).touch()
    scandir = os.scandir

    def refusing(place):
        if str(place).endswith("locked"):
            raise PermissionError(13, "Permission denied", str(place))
        return scandir(place)

    monkeypatch.setattr(os, "scandir", refusing)
    refused = {}
    found = [(p, files) for p, _, files in bounded.walk(tmp_path, refused.__setitem__)]
    below = [("", []), ("a", [".#lock"]), ("b", ["1", "2"]), ("b/c", ["3"])]
    assert found == [(tmp_path / name, files) for name, files in below]
    assert refused == {
        tmp_path / "a" / "lost": "is a broken link",
        tmp_path / "b" / "pipe": "is a pipe or a device",
        tmp_path / "b" / "up": f"is the same folder as {tmp_path}: remove the link",
        tmp_path / "linked": f"is the same folder as {tmp_path / 'b'}: remove the link",
        tmp_path / "locked": "cannot be listed: Permission denied",
    }


def test_what_may_not_be_looked_at_is_not_called_missing(tmp_path, monkeypatch):
    (tmp_path / "a" / "micro").mkdir(parents=True)
    (tmp_path / "a" / "micro" / ".b").touch()
    tests = (bounded.is_folder, bounded.is_file, bounded.exists, bounded.is_there)
    assert [test(tmp_path / "a") for test in tests] == [True, False, True, True]
    assert not bounded.is_file(tmp_path / "a" / "micro" / ".b" / "below")
    for name in ("none", "x" * 300, "a\0b"):
        assert not any(test(tmp_path / name) for test in tests)
    for pattern in ("*/micro/*", "[a]/mi*", "a/micro/.b", "*/none", "none/*"):
        assert bounded.find(tmp_path, pattern) == sorted(tmp_path.glob(pattern)), pattern

    def denied(*_, **__):
        raise PermissionError(13, "Permission denied", "a")

    monkeypatch.setattr(os, "stat", denied)
    for test in tests:
        with pytest.raises(PermissionError):
            test(tmp_path / "a" / "b")


def test_a_broken_link_is_no_missing_folder(tmp_path):
    (tmp_path / "disk").symlink_to("/unmounted/disk")
    (tmp_path / "loop").symlink_to("loop")
    for path in (tmp_path / "disk", tmp_path / "loop"):
        with pytest.raises(UserError, match="is a broken link"):
            bounded.is_folder(path)
        assert not bounded.is_file(path)
    for test in (bounded.is_folder, bounded.is_file, bounded.exists, bounded.is_there):
        with pytest.raises(UserError, match="disk is a broken link"):
            test(tmp_path / "disk" / "samm")


def test_something_else_in_the_place_of_a_folder(tmp_path):
    (tmp_path / "file").touch()
    (tmp_path / "to_file").symlink_to("file")
    os.mkfifo(tmp_path / "pipe")
    for name, kind in {"file": "a file", "to_file": "a file", "pipe": "a pipe or a device"}.items():
        for path in (tmp_path / name, tmp_path / name / "below" / "it"):
            with pytest.raises(UserError, match=f"{name} is {kind}, expected a folder"):
                bounded.is_folder(path)
    with pytest.raises(UserError, match="file is a file"):
        bounded.find(tmp_path, "file/*")
    assert not bounded.is_folder(tmp_path / "none" / "below")


def test_something_else_among_folders(tmp_path):
    for name in ("a/micro/1", ".trash/micro/2"):
        (tmp_path / name).mkdir(parents=True)
    for name in ("notes.txt", "README", ".hidden", "Thumbs.db"):
        (tmp_path / name).touch()
    (tmp_path / ".#lock").symlink_to("somebody@host")
    assert bounded.folders_among(sorted(tmp_path.iterdir())) == [tmp_path / "a"]
    assert bounded.find(tmp_path, "*/micro/*") == [tmp_path / "a" / "micro" / "1"]
    (tmp_path / "s2").touch()
    (tmp_path / "s3").symlink_to("/unmounted")
    os.mkfifo(tmp_path / "s4.x")
    for ask in (
        lambda: bounded.folders_among(tmp_path.iterdir()),
        lambda: bounded.find(tmp_path, "*/micro/*"),
    ):
        with pytest.raises(UserError, match="a folder was expected") as e:
            ask()
        assert {p.removeprefix(f"{tmp_path}/") for p in e.value.problems} == {
            "s2 is a file",
            "s3 is a broken link",
            "s4.x is a pipe or a device",
        }
