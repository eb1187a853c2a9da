"""Which of a CPU's devices share the batch of a single trial. The tests' process has four."""

import os
import subprocess
import sys

import jax
import pytest

from fexpr.train import devices

LARGE = devices.SHARED  # multiply-adds of a row


@pytest.fixture
def by_default(monkeypatch):
    """As if nobody had asked for these devices in XLA_FLAGS."""
    jax.devices()  # read it
    monkeypatch.setenv("XLA_FLAGS", "")


@pytest.mark.usefixtures("by_default")
@pytest.mark.parametrize(
    ("batch", "work", "count"),
    [(16, LARGE, 4), (18, LARGE, 3), (14, LARGE, 2), (7, LARGE, 1), (0, LARGE, 1), (16, 0, 1)],
)
def test_cores_share_a_batch_of_many_multiply_adds(batch, work, count):
    assert devices.share_batch(batch, work) == jax.devices()[:count]


@pytest.mark.usefixtures("by_default")
def test_a_small_step_stays_on_one_device():
    assert len(devices.share_batch(16, LARGE // 16)) == 4
    assert len(devices.share_batch(16, LARGE // 16 - 1)) == 1


def test_devices_that_were_asked_for_share_any_batch():
    """This process's own XLA_FLAGS ask for four."""
    assert devices.share_batch(16, 0) == jax.devices()
    assert devices.share_batch(0, 0) == jax.devices()
    assert devices.share_batch(6, 0) == jax.devices()[:3]


def test_accelerators_and_several_processes_share_every_batch(monkeypatch):
    monkeypatch.setenv("XLA_FLAGS", "")
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    assert devices.share_batch(10, 0) == jax.devices()


@pytest.mark.parametrize("cores", [2, pytest.param(4, marks=pytest.mark.long)])
def test_cores_become_devices_before_jax_starts(cores):
    code = f"""
import jax
from fexpr.train import devices
devices.cpu_cores = lambda: {cores}
devices.use_every_core()
print(len(devices.share_batch(12, devices.SHARED)), len(devices.share_batch(12, 0)))
"""
    env = {k: v for k, v in os.environ.items() if k != "XLA_FLAGS"}
    done = subprocess.run(
        [sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == [str(cores), "1"]


@pytest.mark.parametrize("chosen", [True, False])
def test_programs_are_kept_where_the_user_says(chosen, tmp_path):
    code = """
import jax
from fexpr.train import devices
devices.keep_compiled()
print(jax.config.jax_compilation_cache_dir)
"""
    given = str(tmp_path / "own") if chosen else ""
    env = dict(os.environ, JAX_COMPILATION_CACHE_DIR=given, FEXPR_CACHE_DIR=str(tmp_path))
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True)
    assert done.stdout.strip() == (given or str(tmp_path / "compiled")), done.stderr
