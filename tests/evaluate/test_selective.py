import numpy as np
import pytest

from fexpr.evaluate import selective


def naive(confidence, right):
    """Risk after each row by falling confidence; rows of one confidence are answered together."""
    order = sorted(range(len(right)), key=lambda i: -confidence[i])
    risks = []
    for i in order:
        answered = [j for j in order if confidence[j] >= confidence[i]]
        risks.append(
            (len(answered) / len(order), sum(not right[j] for j in answered) / len(answered))
        )
    return risks


@pytest.mark.parametrize("digits", [9, 1])  # 1: with ties
@pytest.mark.parametrize("seed", [0, 1])
def test_equals_loops(seed, digits):
    rng = np.random.default_rng(seed)
    confidence, weights = np.round(rng.random(80), digits), rng.integers(0, 3, 80)
    right = rng.random(80) < confidence
    found = selective.measures(confidence, right)(np.stack([np.ones(80), weights]).astype(float))
    for b, times in enumerate((np.ones(80, int), weights)):
        risks = naive(np.repeat(confidence, times), np.repeat(right, times))
        assert found["aurc"][b] == pytest.approx(np.mean([r for _, r in risks]), abs=1e-12)
        for coverage in selective.COVERAGES:
            at = next(r for c, r in risks if c >= coverage - 1e-12)
            assert found[f"accuracy_at_{coverage}"][b] == pytest.approx(1 - at, abs=1e-12)
            gain = risks[-1][1] - at
            assert found[f"gain_at_{coverage}"][b] == pytest.approx(gain, abs=1e-12)
        for accuracy in selective.ACCURACIES:
            at = max((c for c, r in risks if 1 - r >= accuracy - 1e-12), default=0.0)
            assert found[f"coverage_at_{accuracy}"][b] == pytest.approx(at, abs=1e-12)
    risks = naive(confidence, right)
    expected = [next(r for c, r in risks if c >= at - 1e-12) for at in selective.CURVE]
    np.testing.assert_allclose(selective.curve(confidence, right), expected, atol=1e-12)
    assert selective.curve(confidence, right)[-1] == pytest.approx(1 - right.mean())


def test_the_order_of_equal_rows_means_nothing():
    right = np.array([True, False, True, False, False])
    for order in ([0, 1, 2, 3, 4], [4, 3, 2, 1, 0]):
        m = selective.measures(np.full(5, 0.4), right[order])(np.ones((1, 5)))
        assert [m["aurc"][0], m["accuracy_at_0.7"][0]] == pytest.approx([0.6, 0.4])


def test_without_confidence_it_is_undefined():
    m = selective.measures(np.array([0.5, np.nan]), np.array([True, False]))(np.ones((3, 2)))
    assert all(np.isnan(v).all() and v.shape == (3,) for v in m.values())
