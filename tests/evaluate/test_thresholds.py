import numpy as np
import pytest
from sklearn.metrics import f1_score

from fexpr.evaluate.thresholds import PRIOR, best_f1_threshold, fit_thresholds


@pytest.mark.parametrize("seed", range(5))
def test_no_other_threshold_has_a_higher_f1(seed):
    rng = np.random.default_rng(seed)
    presence = rng.random(40) < 0.3
    p = np.round(rng.random(40) * 0.7 + 0.3 * presence, 2)
    chosen = best_f1_threshold(p, presence)
    every = [f1_score(presence, p >= t, zero_division=0) for t in np.arange(101) / 100]
    assert f1_score(presence, p >= chosen) == pytest.approx(max(every), abs=1e-12)


@pytest.mark.parametrize(
    ("presence", "equally_good", "decided_present"),
    [
        (
            [1, 0, 0, 1],
            (1, 4),
            1,
        ),  # F1 2/3 for the first row and for all four: the more careful one
        ([1, 1, 0, 0, 1, 0, 0, 1], (2, 5, 8), 5),  # F1 2/3 three times: the middle one
    ],
)
def test_equally_good_thresholds_give_the_middle_or_higher_one(
    presence, equally_good, decided_present
):
    presence, p = np.array(presence, bool), np.linspace(0.9, 0.2, len(presence))
    f1 = {n: f1_score(presence, np.arange(len(p)) < n) for n in range(1, len(p) + 1)}
    assert tuple(n for n, f in f1.items() if f == max(f1.values())) == equally_good
    assert (p >= best_f1_threshold(p, presence)).sum() == decided_present


def test_own_thresholds_are_drawn_towards_the_pooled_one_by_how_few_positives_they_rest_on():
    rng = np.random.default_rng(0)
    presence = rng.random((60, 3)) < [0.5, 0.1, 0.0]
    p = np.clip(rng.random((60, 3)) * [1.0, 0.3, 0.5], 0.01, 0.99)
    thresholds, origin = fit_thresholds(p, presence, np.full(60, "val"))
    assert origin.tolist() == ["own", "own", "pooled"]
    pooled = best_f1_threshold(p.ravel(), presence.ravel())
    assert thresholds[2] == pytest.approx(pooled, rel=1e-12)

    def logit(x):
        return np.log(x / (1 - x))

    for k in (0, 1):
        own, n = best_f1_threshold(p[:, k], presence[:, k]), presence[:, k].sum()
        assert logit(thresholds[k]) == pytest.approx(
            (n * logit(own) + PRIOR * logit(pooled)) / (n + PRIOR), rel=1e-9
        )


def test_without_any_positive_the_threshold_is_one_half():
    thresholds, origin = fit_thresholds(
        np.full((30, 3), 0.2), np.zeros((30, 3), bool), np.full(30, "val")
    )
    assert thresholds.tolist() == [0.5] * 3
    assert set(origin) == {"fixed"}


def test_test_rows_are_refused():
    split = np.array(["val"] * 9 + ["test"])
    with pytest.raises(ValueError, match=r"validation rows only.*\['test'\]"):
        fit_thresholds(np.full((10, 2), 0.5), np.ones((10, 2), bool), split)
