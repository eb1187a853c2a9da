"""How full the devices are."""

import jax
import numpy as np
import pytest

from fexpr.runs import utilization
from tests.train import toy

FORWARD = 2 * (6 * 6 * 3 * 16 + 16 * 3)  # FLOPs of TinyNet for one image


@pytest.fixture
def engine():
    return toy.engine([toy.spec(0, 40), toy.spec(1, 21)], compiled=False)


def test_an_epoch_trains_three_passes_a_row_and_evaluates_one(engine):
    rows = 3 * np.array([40, 21]) + 28
    assert utilization.epoch_flops(engine) == FORWARD * rows.sum()
    assert utilization.epoch_flops(engine, np.array([False, True])) == FORWARD * rows[1]


def test_every_view_is_evaluated():
    flipped = toy.engine([toy.spec(0, 40)], compiled=False, tta="flip")
    assert utilization.epoch_flops(flipped) == FORWARD * (3 * 40 + 2 * 28)


def test_a_part_of_the_peak(engine, monkeypatch):
    monkeypatch.setattr(utilization, "peak_flops", lambda kind, devices: 1000.0 * devices)
    flops = utilization.epoch_flops(engine)
    found = utilization.of_epoch(engine, 0.5)
    assert found == {"model_flops_utilization": pytest.approx(flops / 500, rel=0.01)}
    monkeypatch.setattr(utilization, "peak_flops", lambda kind, devices: None)
    assert utilization.of_epoch(engine, 0.5) == {}


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("NVIDIA H200", 2 * 989e12),
        ("NVIDIA L40S", 2 * 362e12),
        ("NVIDIA L4", 2 * 121e12),
        ("TPU v5 lite", 2 * 197e12),
        ("TPU v5p", 2 * 459e12),
        ("an unknown device", None),
    ],
)
def test_peaks_of_accelerators(kind, expected, monkeypatch):
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert utilization.peak_flops.__wrapped__(kind, 2) == expected


def test_the_peak_of_a_cpu_is_measured_once():
    assert utilization.peak_flops("cpu", 2) > 1e8
    assert utilization.peak_flops("cpu", 2) == utilization.peak_flops("cpu", 2)
