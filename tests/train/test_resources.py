"""What a program used: seconds of a step, waiting, memory."""

import resource
import sys
from collections import namedtuple
from types import SimpleNamespace

import jax
import pytest

from fexpr.train import devices, resources

Plan = namedtuple("Plan", "trials size compile_seconds")


def device(**stats):
    return SimpleNamespace(memory_stats=lambda: stats or None)


@pytest.fixture
def gpus(monkeypatch):
    two = [device(peak_bytes_in_use=5, bytes_limit=1000), device(peak_bytes_in_use=7)]
    monkeypatch.setattr(jax, "local_devices", lambda: [*two, device()])


@pytest.mark.usefixtures("gpus")
def test_of_an_epoch():
    engine = SimpleNamespace(steps=8, input_wait_seconds=None)
    found = resources.of_epoch(engine, 2.0, whole=True)
    assert found["step_seconds"] == 0.25
    assert found["device_bytes"] == 7
    assert found.keys() == {"step_seconds", "device_bytes", "host_bytes"}
    engine.input_wait_seconds = 0.123456
    found = resources.of_epoch(engine, 1 / 3, whole=False)
    assert found["input_wait"] == 0.1235
    assert "step_seconds" not in found
    assert resources.of_epoch(engine, 1 / 3, whole=True)["step_seconds"] == 0.04167


def test_of_a_program():
    engine = SimpleNamespace(plan=Plan(3, 4, 1.23456))
    found = resources.of_program(engine)
    assert found == {"trials": 3, "size": 4, "compile_seconds": 1.23} | resources.peaks()
    assert found.keys() == {"trials", "size", "compile_seconds", "host_bytes"}


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel's figure")
def test_memory_of_this_process(monkeypatch):
    with open("/proc/self/status") as status:
        kilobytes = next(int(line.split()[1]) for line in status if line.startswith("VmHWM"))
    assert kilobytes * 1024 <= resources.host_bytes() <= 2 * kilobytes * 1024
    monkeypatch.setattr(resources.Path, "exists", lambda path: False)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert resources.host_bytes() == pytest.approx(peak * 1024, rel=0.1)
    monkeypatch.setattr(sys, "platform", "darwin")  # whose figure is in bytes
    assert resources.host_bytes() == pytest.approx(peak, rel=0.1)


@pytest.mark.usefixtures("gpus")
def test_the_limit_of_an_accelerator_is_what_it_reports_less_a_tenth():
    assert devices.memory_limit() == 900


def test_the_limit_of_a_cpu_is_shared_by_its_devices(monkeypatch):
    pages = {"SC_PHYS_PAGES": 1000, "SC_PAGE_SIZE": 4096}
    monkeypatch.setattr(devices.os, "sysconf", pages.get)
    monkeypatch.setattr(jax, "local_device_count", lambda: 4)
    assert devices.memory_limit() == int(0.7 * 4_096_000 / 4)


def test_facts_of_devices():
    found = devices.facts()
    assert found == {"kind": "cpu", "count": 4, "platform": "cpu", "processes": 1}
    assert devices.facts(2)["count"] == 2


def test_cores_are_devices_unless_the_user_chose(monkeypatch):
    changed = []
    monkeypatch.setattr(jax.config, "update", lambda *change: changed.append(change))
    devices.use_every_core()  # conftest.py has chosen four
    assert not changed
    monkeypatch.setenv("XLA_FLAGS", "--something_else=1")
    devices.use_every_core()
    assert changed == [("jax_num_cpu_devices", devices.cpu_cores())]
    monkeypatch.setattr(devices.os, "sched_getaffinity", lambda who: {0, 1, 5}, raising=False)
    assert devices.cpu_cores() == 3
    monkeypatch.delattr(devices.os, "sched_getaffinity")
    monkeypatch.setattr(devices.os, "cpu_count", lambda: None)
    assert devices.cpu_cores() == 1
