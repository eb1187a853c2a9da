import numpy as np
import pytest

from fexpr.evaluate import bootstrap

GROUPS = np.array(["a", "b", "b", "c", "c", "c", "d"])


def weights(groups=GROUPS, resamples=500, seed=0):
    return np.concatenate(list(bootstrap.resample_weights(groups, resamples, seed)))


def test_rows_of_a_group_share_its_weight_and_as_many_groups_are_drawn_as_there_are():
    w = weights()
    assert w.shape == (500, 7)
    assert (w[:, 1] == w[:, 2]).all()
    assert (w[:, 3:5] == w[:, 5:6]).all()
    assert (w[:, [0, 1, 3, 6]].sum(axis=1) == 4).all()
    assert w[:, 0].mean() == pytest.approx(1, abs=0.15)


def test_seeded_independent_of_row_order_and_chunks(monkeypatch):
    w = weights()
    np.testing.assert_array_equal(w, weights())
    assert (w != weights(seed=1)).any()
    order = np.array([6, 3, 0, 1, 4, 2, 5])
    np.testing.assert_array_equal(w[:, order], weights(GROUPS[order]))
    monkeypatch.setattr(bootstrap, "_CHUNK", 50)
    np.testing.assert_array_equal(w, weights())


def test_interval_of_a_mean_covers_as_often_as_it_says():
    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(40), 5)
    covered = 0
    for trial in range(150):
        values = np.repeat(rng.normal(size=40), 5) + rng.normal(size=200)
        samples = bootstrap.bootstrap(
            lambda w, v=values: {"mean": w @ v / w.sum(axis=1)}, groups, 300, seed=trial
        )["mean"]
        low, high, used = bootstrap.interval(samples)
        covered += low <= 0 <= high
        assert used == 300
    # drawing rows instead of groups would cover about two thirds
    assert 0.88 <= covered / 150 <= 0.99


def test_undefined_resamples_are_left_out_and_counted():
    assert bootstrap.interval(np.array([np.nan, 1.0, 1.0, np.nan, 1.0])) == (1.0, 1.0, 3)
    low, high, used = bootstrap.interval(np.array([np.nan, np.nan]))
    assert np.isnan([low, high]).all()
    assert used == 0
