"""Sets in metrics.json: coverage over all rows, by class, by subject and by data set."""

import numpy as np
import pytest
from scipy.stats import binomtest

from fexpr.evaluate import calibration, conformal, evaluate, set_report
from tests.evaluate.random_predictions import multiclass, multilabel, pictures


@pytest.fixture(scope="module")
def sets():
    return evaluate(pictures(), "best_val", "fer2013@0", resamples=50)["sets"]


def test_coverage_is_about_what_was_asked_for():
    found = evaluate(pictures(val=2000, test=3000), "best_val", "fer2013@0", resamples=20)["sets"]
    for method in ("lac", "aps", "raps"):
        assert found["methods"][method]["coverage"]["value"] == pytest.approx(0.9, abs=0.025)
    sizes = [found["by_level"][level]["size"]["value"] for level in ("0.8", "0.9", "0.95")]
    assert sizes == sorted(sizes)
    assert found["methods"]["lac"] == found["by_level"]["0.9"]


def test_tables_add_up(sets):
    assert sets["coverage"] == 0.9
    whole = sets["methods"]["lac"]["coverage"]
    assert whole["low"] <= whole["value"] <= whole["high"]
    size = sets["methods"]["lac"]["size"]
    assert 1 < size["low"] < size["value"] < size["high"] < 7
    for lines in (sets["by_class"], sets["by_dataset"]):
        rows = [line["rows"] for line in lines]
        assert sum(rows) == 400
        mean = np.average([line["coverage"] for line in lines], weights=rows)
        assert mean == pytest.approx(whole["value"])
    assert sets["by_group"] == []  # every image is its own
    assert sets["rows"] == sets["groups"] == 300
    assert len(sets["limits"]) == 1
    assert len(sets["limits"][0]) == len(sets["levels"]) == 50


@pytest.mark.long
def test_a_threshold_for_each_class_holds_every_class():
    """Classes of other difficulty: one threshold holds the rare ones too seldom."""
    p = pictures(val=4000, test=6000, sharp=1.0, selections=("last",))
    noisy = p["labels"] == 1
    logits = np.where(noisy[:, None], 0.3 * p["logits"], p["logits"])
    sets = evaluate(p | {"logits": logits}, "last", "fer2013@0", resamples=20)["sets"]
    rows, plain, own = (
        [line[key] for line in sets["by_class"]] for key in ("rows", "coverage", "class_wise")
    )
    assert min(plain) < 0.87
    for count, held in zip(rows, own, strict=True):
        assert held == pytest.approx(0.9, abs=4 * np.sqrt(0.09 / count))
    for line in sets["by_class"]:
        assert line["low"] < line["coverage"] < line["high"]
    methods = sets["methods"]
    assert methods["lac_by_class"]["coverage"]["value"] == pytest.approx(0.9, abs=0.02)
    assert methods["lac_by_class"]["size"]["value"] > methods["lac"]["size"]["value"]


@pytest.mark.parametrize(("held", "rows"), [(0, 1), (1, 1), (3, 7), (50, 56), (56, 56)])
def test_intervals_are_wilsons(held, rows):
    expected = binomtest(held, rows).proportion_ci(method="wilson")
    found = set_report._wilson(held / rows, rows)
    assert found == pytest.approx((expected.low, expected.high), abs=1e-4)
    assert 0 <= found[0] <= held / rows <= found[1] <= 1


def test_limits_are_those_of_the_validation_rows():
    """Without a map the limit is the quantile of 1 - p of the true classes."""
    p = multiclass(subjects=8, per_subject=30, skill=0.0)
    result = evaluate(p, "last", "megc2019@0", resamples=10)
    sets, applied = result["sets"], result["calibration"]["applied"]
    assert len(sets["by_group"]) == 8
    assert [line["name"] for line in sets["by_dataset"]] == ["a", "b"]
    for trial in range(8):
        i = sets["of_trial"][trial]
        if applied["maps"][applied["of_trial"][trial]]["kind"] != "none":
            continue
        tested = p["groups"][(p["trial"] == trial) & (p["split"] == "test")][0]
        rows = (p["split"] == "val") & (p["groups"] != tested)
        q = calibration.probabilities(p["logits"][rows], False)
        scores = 1 - q[np.arange(len(q)), p["labels"][rows]]
        limit = conformal.threshold(scores, p["ids"][rows], 0.9)
        assert sets["limits"][i][sets["levels"].index(0.9)] == pytest.approx(limit)


def test_units():
    result = evaluate(multilabel(rows=600, subjects=60), "last", "samm@0", resamples=20)
    sets = result["sets"]
    assert set(sets["methods"]) == {"lac"}
    assert sets["methods"]["lac"]["coverage"]["value"] > 0.8
    assert sets["by_class"][-1]["coverage"] is None  # never occurs
    assert sets["groups"] < 15


def test_where_there_is_nothing_to_calibrate_on():
    p = pictures()
    test = p["split"] == "test"
    alone = {k: v[test] if len(v) == len(test) else v for k, v in p.items()}
    assert evaluate(alone, "last", "x@0", resamples=10)["sets"] == {}
