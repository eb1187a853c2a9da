"""The smooth calibration error against relplot (fixtures: benchmarks/calibration_references.py) and
against properties that anybody can check."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fexpr.evaluate import calibration, smooth_error

REFERENCES = Path(__file__).parents[1] / "fixtures" / "calibration_references.npz"


def judged(i):
    """Confidence and outcome [R] of a case of the fixtures, and the fixtures."""
    with np.load(REFERENCES) as f:
        of = {name.removesuffix(f"_{i}"): f[name] for name in f.files if name.endswith(f"_{i}")}
    presence = of["labels"][:, None] == np.arange(of["logits"].shape[1])
    c, y = calibration.confidence_and_outcome(presence, of["logits"], False)
    return c[:, 0], y[:, 0].astype(float), of


@pytest.mark.parametrize("i", [0, 1])
def test_equals_relplot(i):
    c, y, of = judged(i)
    value, bandwidth = smooth_error.smooth_error(c, y)
    assert value == pytest.approx(of["smooth_ece"].item(), rel=0.003)
    assert bandwidth == of["bandwidth"].item()
    d = smooth_error.diagram(c[:, None], y[:, None], np.arange(len(c)), resamples=20)
    curve = np.array([np.nan if v is None else v for v in d["curve"]])[::5]
    shown = ~np.isnan(curve)
    assert shown.sum() > 10
    expected = np.linspace(0, 1, 21) + of["kernel_gap"]
    np.testing.assert_allclose(curve[shown], np.clip(expected, 0, 1)[shown], atol=0.01)


def test_the_area_between_curve_and_diagonal_is_the_error():
    c, y, _ = judged(1)
    d = smooth_error.diagram(c[:, None], y[:, None], np.arange(len(c)), resamples=20)
    assert np.mean(d["density"]) == pytest.approx(1, abs=0.02)
    gap = [
        abs(v - t) * near
        for v, t, near in zip(d["curve"], d["mesh"], d["density"], strict=True)
        if v is not None
    ]
    assert np.sum(gap) / 100 == pytest.approx(smooth_error.smooth_error(c, y)[0], rel=0.05)
    low, curve, high = (
        np.array([v for v in d[key] if v is not None]) for key in ("low", "curve", "high")
    )
    assert ((low <= curve) & (curve <= high)).all()


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000), st.integers(2, 60))
def test_properties(seed, rows):
    rng = np.random.default_rng(seed)
    c, y = rng.random(rows), (rng.random(rows) < 0.5).astype(float)
    value, bandwidth = smooth_error.smooth_error(c, y)
    assert 0 <= value <= 1
    assert value <= np.abs(c - y).mean() + 1e-6  # what no smoothing would show
    assert value >= abs((c - y).mean()) - 1e-6  # and what smoothing everything away would
    assert abs(value - bandwidth) < 0.05 or bandwidth <= 2 * smooth_error.SMALLEST
    weights = np.stack([np.ones(rows), rng.integers(0, 3, rows) + 0.0])
    weights[1, 0] += 1
    of = smooth_error.measures(c[:, None], y[:, None])(weights)
    repeated = np.repeat(np.arange(rows), weights[1].astype(int))
    assert of["smooth_ece"][0] == pytest.approx(value, abs=1e-6)
    assert of["_noise_smooth_ece"][0] == pytest.approx(0, abs=1e-6)
    again = smooth_error.smooth_error(c[repeated], y[repeated])[0]
    assert of["smooth_ece"][1] == pytest.approx(again, abs=1e-6)
    # the noise bounds what a resample changes: the root of its interval
    assert abs(of["smooth_ece"][1] - value) <= of["_noise_smooth_ece"][1] + 0.002
    same = smooth_error.smooth_errors(c, np.stack([y, 1 - y]))
    assert same[0] == pytest.approx(value, abs=1e-6)


def test_equals_a_kernel_with_its_mirror_images():
    """Also for confidences of exactly 1, a mass that the end reflects onto itself."""
    rng = np.random.default_rng(0)
    c = np.minimum(rng.beta(3, 1, 400) * 1.2, 1)
    assert (c == 1).mean() > 0.2
    y = (rng.random(400) < c**1.5).astype(float)
    value, sigma = smooth_error.smooth_error(c, y)
    t = np.linspace(0, 1, 2001)
    images = [image for k in (-1, 0, 1) for image in (2 * k + c, 2 * k - c)]
    kernel = sum(np.exp(-(((t[:, None] - image) / sigma) ** 2) / 2) for image in images)
    smoothed = np.abs(kernel @ (c - y)) / np.sqrt(2 * np.pi) / sigma / 400
    expected = (smoothed.sum() - (smoothed[0] + smoothed[-1]) / 2) / 2000
    assert value == pytest.approx(expected, rel=1e-3)
    assert smooth_error.smooth_error(np.ones(1000), np.arange(1000) % 10 > 0)[0] == pytest.approx(
        0.1
    )
