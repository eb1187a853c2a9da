"""A map is applied where it helps rows that it was not fitted on, and never sees who is tested."""

import numpy as np
import pytest

from fexpr.evaluate import calibration, evaluate
from fexpr.evaluate.map_choice import FOLDS, LARGEST_PARTS, choose, parts_of
from fexpr.evaluate.predictions import checked
from fexpr.evaluate.recalibration import FITS
from tests.evaluate.random_predictions import multiclass, multilabel, pictures


def drawn(rows, sharp, seed=0, classes=4, subjects=20):
    """Labels drawn from softmax(z); the model says softmax(sharp z)."""
    rng = np.random.default_rng(seed)
    z = 1.5 * rng.normal(size=(rows, classes))
    p = calibration.probabilities(z, False)
    labels = (p.cumsum(axis=1) < rng.random((rows, 1))).sum(axis=1)
    return sharp * z, labels, np.array([f"s{i % subjects}" for i in range(rows)])


def nll(logits, labels):
    return calibration.nll_per_row(
        labels[:, None] == np.arange(logits.shape[1]), logits, False
    ).mean()


def test_a_model_that_is_too_sure_gets_a_temperature():
    found = choose(*drawn(400, sharp=3))
    assert found.name == "temperature"
    assert found.fitted.temperature == pytest.approx(3, rel=0.2)
    assert found.held_out["temperature"] < found.held_out["none"] - 0.1
    z, labels, _ = drawn(2000, sharp=3, seed=1)
    assert nll(found.fitted(z), labels) < nll(z, labels) - 0.1


def test_never_worse():
    """Of perfectly calibrated models on few rows, most keep their own probabilities; what is
    applied to the others costs next to nothing on new rows, unlike temperatures always applied."""
    chosen, cost, always = [], [], []
    new, truth, _ = drawn(4000, sharp=1, seed=99)
    for seed in range(60):
        z, labels, groups = drawn(54, sharp=1, seed=seed)
        found = choose(z, labels, groups)
        chosen.append(found.name)
        cost.append(nll(found.fitted(new), truth) - nll(new, truth))
        own = FITS["temperature"](z, labels, np.full(len(z), "val"))
        always.append(nll(own(new), truth) - nll(new, truth))
    assert chosen.count("none") > 40
    assert np.mean(cost) < 0.5 * np.mean(always)


def test_a_richer_map_replaces_a_temperature_where_classes_need_it():
    z, labels, groups = drawn(3000, sharp=1)
    found = choose(2 * z + [0, 2.0, 0, -1.0], labels, groups)
    assert found.name in ("svs", "sms")
    mixed = z @ np.linalg.inv(np.eye(4) + 0.4 * np.roll(np.eye(4), 1, axis=0)).T
    assert choose(mixed, labels, groups).name == "sms"


def test_cross_fitting_takes_subjects_whole():
    """A subject whose rows are alike makes a map look good where rows of it are on both sides."""
    z, labels, _ = drawn(400, sharp=3)
    groups = np.array([f"s{i // 40}" for i in range(400)])
    found = choose(z, labels, groups)
    for held in np.unique(groups):
        rows = groups == held
        # the block of this subject: the fit without it gave the cross-fitted logits
        fits = [
            FITS["temperature"](z[~out], labels[~out], np.full((~out).sum(), "val"))(z[rows])
            for other in np.unique(groups)
            for out in [np.isin(groups, [held, other])]
        ]
        assert min(np.abs(f - found.cross_fitted[rows]).max() for f in fits) < 1e-9
    assert FOLDS == 5
    one = choose(z, labels, np.full(400, "s0"))
    assert one.name == "none"
    assert one.held_out == {}


def test_maps_never_see_a_subject_that_their_trials_test():
    p = checked(multiclass(subjects=23, seeds=(0, 1)), "last")
    parts = parts_of(p, "last")
    assert len(parts) == LARGEST_PARTS
    assert np.sort(np.concatenate([part.trials for part in parts])).tolist() == list(range(46))
    for part in parts:
        assert set(p["split"][part.rows]) == {"val"}
        tested = p["groups"][np.isin(p["trial"], part.trials) & (p["split"] == "test")]
        assert not set(p["groups"][part.rows]) & set(tested)
        assert len(np.unique(p["trial"][part.rows])) > 30  # rows of the other trials too


def test_no_label_of_a_tested_subject_reaches_its_map_or_set():
    """Leave one subject out: each subject validates other trials. Its labels are turned there, and
    nothing about its own rows may move."""
    p = multiclass(subjects=8, per_subject=30)
    turned = p["groups"] == "s3"
    other = p | {"labels": np.where(turned, (p["labels"] + 1) % 3, p["labels"])}
    before, after = (evaluate(x, "last", "megc2019@0", resamples=10) for x in (p, other))
    trial = int(p["trial"][turned & (p["split"] == "test")][0])
    for result in (before, after):
        assert result["calibration"]["applied"]["of_trial"][trial] is not None
    maps = [r["calibration"]["applied"] for r in (before, after)]
    assert (
        maps[0]["maps"][maps[0]["of_trial"][trial]] == maps[1]["maps"][maps[1]["of_trial"][trial]]
    )
    limits = [r["sets"]["limits"][r["sets"]["of_trial"][trial]] for r in (before, after)]
    assert limits[0] == limits[1]
    elsewhere = [r["sets"]["limits"][r["sets"]["of_trial"][0]] for r in (before, after)]
    assert elsewhere[0] != elsewhere[1]


@pytest.mark.long
def test_copies_of_training_rows_fit_no_map_and_no_set():
    """The network has learned the label of a third of the validation rows; new rows are like the
    others."""
    p = pictures(val=1500, test=2000)
    copied = (p["split"] == "val") & (np.arange(len(p["ids"])) % 3 == 0)
    learned = p["logits"] + 6 * np.eye(7, dtype=np.float32)[p["labels"]]
    p |= {
        "logits": np.where(copied[:, None], learned, p["logits"]),
        "copy": np.where(copied, "near", ""),
    }
    found = evaluate(p, "last", "fer2013@0", resamples=20)
    kept = {k: v[~copied] if len(v) == len(copied) else v for k, v in p.items()}
    without = evaluate(kept, "last", "fer2013@0", resamples=20)
    for result in (found, without):
        result["calibration"]["applied"].pop("left_out")
    assert found["calibration"]["applied"] == without["calibration"]["applied"]
    assert found["sets"] == without["sets"]
    flattered = evaluate(p | {"copy": np.full(len(copied), "")}, "last", "fer2013@0", resamples=20)
    good, bad = (r["calibration"]["applied"]["nll"]["value"] for r in (found, flattered))
    assert good < bad
    held = [r["sets"]["methods"]["lac"]["coverage"]["value"] for r in (found, flattered)]
    assert held[0] == pytest.approx(0.9, abs=0.02)
    assert held[1] < held[0] - 0.02


def test_only_copies_to_validate_on():
    p = pictures()
    p["copy"] = np.where(p["split"] == "val", "exact", "")
    found = evaluate(p, "last", "fer2013@0", resamples=10)
    assert "not copies of training rows" in found["calibration"]["unavailable"]
    assert found["sets"] == {}


def test_a_single_trial_uses_its_own_rows_whatever_groups_are_called():
    p = checked(pictures() | {"groups": np.full(2100, "everyone")}, "best_val")
    (part,) = parts_of(p, "best_val")
    assert len(part.rows) == 300


def test_units_choose_among_their_own_maps():
    p = checked(multilabel(rows=400, subjects=60), "last")
    val = (p["selection"] == "last") & (p["split"] == "val")
    found = choose(p["logits"][val] * 4, p["labels"][val], p["groups"][val])
    assert set(found.held_out) == {"none", "temperature", "svs"}
    assert found.name != "none"
