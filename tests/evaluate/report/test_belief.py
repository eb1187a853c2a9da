"""The line that says what to believe: right where the truth is known."""

import numpy as np
import pytest

from fexpr.evaluate import evaluate
from fexpr.evaluate.report import belief
from tests.evaluate.random_predictions import pictures


def measured(factor, rows=900):
    """metrics.json of a model whose logits are the true ones times a factor."""
    p = pictures(selections=("last",), val=rows, test=rows)
    rng = np.random.default_rng(0)
    true = 1.5 * rng.normal(size=p["logits"].shape)
    q = np.exp(true) / np.exp(true).sum(axis=1, keepdims=True)
    p["labels"] = (q.cumsum(axis=1)[:, :-1] < rng.random((len(q), 1))).sum(axis=1).astype(np.int32)
    p["logits"] = factor * true
    return evaluate(p, "last", "fer2013@0", resamples=100)


@pytest.fixture(scope="module")
def sharp():
    return measured(3)


def test_too_confident_before_and_calibrated_after_the_map(sharp):
    before, after = belief.line(sharp).split("; after ")
    assert "on average, too high, where chance alone gives up to 0.0" in before
    assert "no more than by chance" in after
    assert "A confidence of 0.80 means: right in " in after
    right = int(after.split("right in ")[1].split()[0])
    assert 70 <= right <= 90
    assert "harm" not in after
    assert list(belief.drawn(sharp)) == [
        f"the model's own: smooth error {sharp['calibration']['none']['smooth_ece']['value']:.3f}",
        f"as applied: smooth error {sharp['calibration']['applied']['smooth_ece']['value']:.3f}",
    ]


def test_a_perfect_model_needs_no_map():
    metrics = measured(1)
    line = belief.line(metrics)
    assert "no more than by chance" in line.split(";")[0]
    assert metrics["calibration"]["none"]["ece"]["low"] == 0


def test_harm_is_said(sharp):
    maps = dict(sharp["calibration"])
    maps["none"], maps["applied"] = (
        maps["applied"],
        maps["none"] | {"names": maps["applied"]["names"]},
    )
    assert "On these rows the map does harm." in belief.line({"calibration": maps})


def test_an_error_that_may_be_none_is_not_put_down_to_the_number_of_rows(sharp):
    entry = sharp["calibration"]["none"]
    unsure = entry | {"smooth_ece": entry["smooth_ece"] | {"low": 0.0}, "names": ["none"]}
    line = belief.line({"calibration": {"none": unsure}})
    assert "where chance alone gives up to 0.0" in line
    assert "; the interval reaches zero" in line


def test_runs_of_older_versions_and_failed_trials_have_no_line(sharp):
    old = {"none": {"ece": {"value": 0.1}}}
    assert belief.line({"calibration": old}) == ""
    assert belief.line({"calibration": {}}) == ""
    nothing = sharp["calibration"]["none"] | {"smooth_ece": {"value": None}}
    assert belief.line({"calibration": {"none": nothing}}) == ""
