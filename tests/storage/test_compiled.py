"""Entries of the cache of compiled programs that were cut off."""

import os
import subprocess
import sys
import time
import zlib

import numpy as np
import pytest

from fexpr.storage import compiled
from tests.launching import ROOT, environment

PROGRAM = """
import warnings
warnings.simplefilter("error")
from fexpr.storage import compiled
compiled.set_environment()
import jax, jax.numpy as jnp
print(jax.jit(lambda x: jnp.sin(x) @ x.T)(jnp.ones((7, 5)))[0, 0])
"""

# b"fexpr " * 40, compressed by a zstd library
FRAME = bytes.fromhex("28b52ffd20f06d0000306665787072200100e750a508")


UNSWEPT = "compiled.remove_cut_off = lambda: None; compiled.set_environment()"


def frame(*, checksum=False, run=False):
    """A zstd frame of two blocks without compression, which need no library."""
    flags = 0b10100000 | checksum << 2
    size = 5 + 5 * run
    head = compiled.ZSTANDARD + bytes([flags]) + size.to_bytes(4, "little")
    first = (5 << 3).to_bytes(3, "little") + b"01234"
    last = (5 << 3 | 1 << 1 | 1).to_bytes(3, "little") + b"x" if run else b"\1\0\0"
    return head + first + last + bytes(4 * checksum)


def entry(name, content, age=100.0):
    path = compiled.folder() / f"{name}-cache"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    os.utime(path, (time.time() - age,) * 2)
    return path


@pytest.fixture(autouse=True)
def _cache(tmp_path, monkeypatch):
    monkeypatch.setenv("FEXPR_CACHE_DIR", str(tmp_path))


def test_what_was_cut_off_is_removed_and_all_else_kept():
    whole = zlib.compress(np.random.default_rng(0).bytes(3 * compiled.CHUNK))
    kept = [entry("whole", whole), entry("zstd", FRAME)]
    kept.append(entry("being_written", whole[:100], age=0))
    kept.append(compiled.folder() / "notes.txt")
    kept[-1].write_bytes(b"")
    for name, content in (("empty", b""), ("cut", whole[:-1]), ("zeros", bytes(100))):
        entry(name, content)
    compiled.remove_cut_off()
    assert {*compiled.folder().iterdir()} == {*kept, compiled.folder() / compiled.CHECKED}


@pytest.mark.parametrize(
    "whole", [FRAME, frame(), frame(checksum=True), frame(run=True), frame(run=True, checksum=True)]
)
def test_zstd_that_was_cut_off(whole):
    assert compiled.is_whole(entry("whole", whole))
    for length in range(len(whole)):
        assert not compiled.is_whole(entry("cut", whole[:length])), length


def test_entries_are_read_once(monkeypatch):
    read = []
    monkeypatch.setattr(compiled, "is_whole", lambda path: not read.append(path.name))
    entry("first", b"x")
    compiled.remove_cut_off()
    entry("second", b"x", age=30)
    compiled.remove_cut_off()
    assert read == ["first-cache", "second-cache"]


def test_without_a_folder_and_in_one_that_cannot_be_read(tmp_path, monkeypatch):
    compiled.remove_cut_off()
    assert not compiled.folder().exists()
    compiled.folder().write_text("a file")
    compiled.remove_cut_off()
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", str(tmp_path / "of_the_user"))
    monkeypatch.setattr(compiled, "remove_cut_off", lambda: pytest.fail("it is not fexpr's"))
    compiled.set_environment()


@pytest.mark.long
def test_jax_replaces_what_was_removed(tmp_path):
    """JAX itself would warn of a cut entry at every start (this fails once it no longer does)."""

    def start(program):
        env = environment(tmp_path, FEXPR_CACHE_DIR=str(tmp_path), PYTHONPATH=str(ROOT))
        for name in ("JAX_COMPILATION_CACHE_DIR", "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"):
            env.pop(name, None)
        typed = [sys.executable, "-c", program]
        return subprocess.run(typed, env=env, capture_output=True, text=True, check=False)

    first = start(PROGRAM)
    assert first.returncode == 0, first.stderr
    path = max(compiled.folder().glob("*-cache"), key=lambda p: p.stat().st_size)
    whole = path.read_bytes()
    entry(path.name.removesuffix("-cache"), whole[:-40])
    unswept = start(PROGRAM.replace("compiled.set_environment()", UNSWEPT))
    assert "Error reading persistent compilation cache entry" in unswept.stderr
    assert len(path.read_bytes()) == len(whole) - 40
    os.utime(path, (time.time() - 100,) * 2)
    again = start(PROGRAM)
    assert again.returncode == 0, again.stderr
    assert again.stdout == first.stdout
    assert compiled.is_whole(path)
