import numpy as np
import pytest

from fexpr.evaluate import calibration
from fexpr.evaluate.perfect import perfect_errors
from fexpr.evaluate.smooth_error import smooth_error


def test_equals_what_perfect_models_show():
    rng = np.random.default_rng(3)
    p = rng.dirichlet(np.ones(5), 2000)
    expected = perfect_errors(p)
    seen = {name: [] for name in expected}
    for _ in range(100):
        labels = (p.cumsum(axis=1)[:, :-1] < rng.random((2000, 1))).sum(axis=1)
        presence = labels[:, None] == np.arange(5)
        errors = calibration.measures(presence, np.log(p), False)(np.ones((1, 2000)))
        judged = calibration.confidence_and_outcome(presence, np.log(p), False)
        errors["smooth_ece"] = [smooth_error(*judged)[0]]
        for name in seen:
            seen[name].append(errors[name][0])
    for name, values in seen.items():
        assert expected[name]["value"] == pytest.approx(np.mean(values), rel=0.1), name
        assert np.mean(np.array(values) <= expected[name]["high"]) == pytest.approx(0.95, abs=0.06)
    assert expected["ece"]["value"] > 0.01
