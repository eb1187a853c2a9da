"""One process at a time, and who it is."""

import os
import subprocess
import sys

import pytest

from fexpr.errors import UserError
from fexpr.storage import lock

HOLD = """
import sys, time
from pathlib import Path
from fexpr.storage import lock
with lock.held(Path(sys.argv[1]), print, shared=len(sys.argv) > 2):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def other(tmp_path):
    """Starts a process that holds the lock until its input ends."""
    started = []

    def start(path, *more):
        process = subprocess.Popen(
            [sys.executable, "-c", HOLD, str(path), *more],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        assert process.stdout.readline() == "held\n"
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


def test_a_second_process_is_told_who_holds_it(tmp_path, other):
    path = tmp_path / ".lock"
    process = other(path)
    with (
        pytest.raises(UserError, match=f"in use by process {process.pid} on ") as error,
        lock.held(path, lock.refuse("the run", "wait")),
    ):
        pytest.fail("held twice")
    assert "since 20" in error.value.text()
    process.kill()  # a lock ends with its process, however that ends
    process.wait()
    with lock.held(path, lock.refuse("the run", "wait"), keep=False):
        assert path.read_text().startswith(f"process {os.getpid()} on ")
    assert not path.exists()


def test_one_that_waits_says_for_whom(tmp_path, other):
    path, said = tmp_path / "set.lock", []
    process = other(path)

    def busy(holder):
        said.append(holder)
        process.communicate("")  # ends it

    with lock.held(path, busy):
        pass
    assert len(said) == 1
    assert f"process {process.pid}" in said[0]


def test_shares_hold_it_together_and_the_whole_does_not(tmp_path, other):
    path = tmp_path / ".lock"
    other(path, "shared")
    with lock.held(path, lock.refuse("the run", ""), shared=True):
        pass
    with (
        pytest.raises(UserError, match=r"in use by several.* process"),
        lock.held(path, lock.refuse("the run", "")),
    ):
        pytest.fail("held")


def test_it_is_removed_when_the_block_raises(tmp_path):
    path = tmp_path / ".lock"
    with pytest.raises(KeyError), lock.held(path, print, keep=False):
        raise KeyError
    assert not path.exists()


def test_a_link_in_its_place_is_not_followed(tmp_path):
    (tmp_path / "thesis.tex").write_text("all of it")
    (tmp_path / ".lock").symlink_to("thesis.tex")
    with pytest.raises(OSError, match="symbolic"), lock.held(tmp_path / ".lock", print):
        pytest.fail("followed")
    assert (tmp_path / "thesis.tex").read_text() == "all of it"
