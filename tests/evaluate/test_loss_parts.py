"""Refinement and calibration against probmetrics (fixtures: benchmarks/calibration_references.py)."""

import numpy as np
import pytest

from fexpr.evaluate import calibration, loss_parts
from tests.evaluate.test_smooth_error import judged


@pytest.mark.parametrize("i", [0, 1])
def test_equals_probmetrics_on_the_same_blocks(i):
    *_, of = judged(i)
    presence = of["labels"][:, None] == np.arange(4)
    mapped = loss_parts.cross_fitted(presence, of["logits"], of["blocks"])
    found = []
    for loss in (calibration.nll_per_row, calibration.brier_per_row):
        before, after = (loss(presence, z, False).mean() for z in (of["logits"], mapped))
        found += [after, before - after]
    # probmetrics fits its temperature by bisection, and mixes in a share of 1 / (n + 1)
    assert found == pytest.approx(of["losses"].tolist(), abs=2e-3)


@pytest.mark.parametrize("i", [0, 1])
def test_too_high_and_too_low_equal_probmetrics(i):
    c, y, of = judged(i)
    high = c > 0.5
    rate = np.maximum(of["rate"][high], 0.5)
    over, under = loss_parts.over_and_under(c[high], y[high], rate)
    expected = of["proper_l1"].tolist()
    assert [(over + under).mean(), over.mean(), under.mean()] == pytest.approx(expected, abs=1e-6)


def test_parts_add_up_and_know_the_direction():
    rng = np.random.default_rng(1)
    true = 1.5 * rng.normal(size=(1500, 4))
    p = calibration.probabilities(true, False)
    labels = (p.cumsum(axis=1)[:, :-1] < rng.random((1500, 1))).sum(axis=1)
    presence, groups = labels[:, None] == np.arange(4), np.arange(1500) // 3
    weights = np.ones((1, 1500))
    found = {}
    for name, logits in (("sharp", 3 * true), ("perfect", true), ("flat", true / 3)):
        of = {k: v[0] for k, v in loss_parts.measures(presence, logits, groups)(weights).items()}
        plain = calibration.measures(presence, logits, False)(weights)
        for loss in ("nll", "brier"):
            total = of[f"{loss}_refinement"] + of[f"{loss}_calibration"]
            assert total == pytest.approx(plain[loss][0], abs=1e-12)
        found[name] = of
    assert found["sharp"]["over_confidence"] > 0.15 > 0.02 > found["sharp"]["under_confidence"]
    assert found["flat"]["under_confidence"] > 0.15 > 0.02 > found["flat"]["over_confidence"]
    assert abs(found["perfect"]["over_confidence"]) < 0.03
    assert abs(found["perfect"]["nll_calibration"]) < 0.005
    # the same ranking, so the same refinement, whatever the factor of the logits
    for name in ("sharp", "flat"):
        assert found[name]["nll_refinement"] == pytest.approx(
            found["perfect"]["nll_refinement"], abs=0.005
        )


def test_no_row_is_judged_by_a_map_that_saw_its_subject():
    groups = np.repeat(np.array(["a", "b", "c"]), [5, 1, 9])
    blocks = loss_parts.blocks_of(groups)
    assert len(set(blocks)) == 3
    assert all(len(set(blocks[groups == g])) == 1 for g in "abc")
    assert loss_parts.blocks_of(np.full(4, "a")) is None
    nothing = loss_parts.measures(np.eye(2, dtype=bool), np.eye(2), np.full(2, "a"))
    assert np.isnan(nothing(np.ones((1, 2)))["nll_refinement"]).all()
