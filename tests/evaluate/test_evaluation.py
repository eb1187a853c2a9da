import json

import numpy as np
import pytest
import sklearn.metrics as sk

from fexpr.errors import UserError
from fexpr.evaluate import evaluate
from fexpr.evaluate.calibration import probabilities
from fexpr.evaluate.thresholds import fit_thresholds
from fexpr.storage import run
from tests.evaluate.random_predictions import multiclass, multilabel

M_KEYS = {
    "macro_f1",
    "macro_f1_all",
    "micro_f1",
    "macro_precision",
    "macro_recall",
    "micro_precision",
    "micro_recall",
    "uar",
    "roc_auc",
    "average_precision",
    "exact_match",
    "hamming",
    "nll",
    "brier",
    "ece",
    "macro_f1_at_0.5",
    "macro_f1_at_0.12",
}


@pytest.fixture(scope="module")
def predictions():
    return multilabel()


@pytest.fixture(scope="module")
def result(predictions):
    return evaluate(predictions, "best_val", "samm@0123", resamples=200)


def part(predictions, selection, split):
    rows = (predictions["selection"] == selection) & (predictions["split"] == split)
    return predictions["labels"][rows] > 0, probabilities(predictions["logits"][rows], True)


def test_metrics_json_follows_the_contract(result, tmp_path):
    assert set(result["test"]) == set(result["val"]) == M_KEYS
    assert set(result["selections"]) == {"last", "best_val", "oracle"}
    assert set(result["baselines"]) == {"always_positive", "prevalence"}
    assert all(
        set(m) == M_KEYS for m in (*result["selections"].values(), *result["baselines"].values())
    )
    assert result["test"] == result["selections"]["best_val"] != result["selections"]["oracle"]
    for estimate in result["test"].values():
        assert estimate["low"] <= estimate["value"] <= estimate["high"]
    run.write_json(tmp_path / "metrics.json", result)
    assert (
        run.read_json(tmp_path / "metrics.json")
        == result
        == json.loads(json.dumps(result, allow_nan=False))
    )


def test_headline_is_the_macro_f1_of_scikit_learn_at_the_validation_thresholds(predictions, result):
    (val, p_val), (test, p_test) = (
        part(predictions, "best_val", "val"),
        part(predictions, "best_val", "test"),
    )
    own, _ = fit_thresholds(p_val, val, np.full(len(val), "val"))
    np.testing.assert_array_equal(result["thresholds"]["per_trial"], [own])
    assert result["thresholds"]["from"] == [
        ["own" if there else "pooled" for there in val.any(axis=0)]
    ]
    assert [r["threshold_from"] for r in result["per_class"]] == result["thresholds"]["from"][0]
    f1 = sk.f1_score(test, p_test >= own, average=None, zero_division=0)
    enough = predictions["train_positives"][0] >= 5
    headline = enough & test.any(axis=0)
    assert 0 < headline.sum() < test.any(axis=0).sum() < 12  # each condition leaves somebody out
    assert result["test"]["macro_f1"]["value"] == pytest.approx(f1[headline].mean(), abs=1e-12)
    assert (
        result["test"]["macro_f1"]["classes"]
        == headline.sum()
        == len(result["headline"]["classes"])
    )
    assert result["test"]["macro_f1_all"]["value"] == pytest.approx(
        f1[test.any(axis=0)].mean(), abs=1e-12
    )
    assert result["test"]["macro_f1_all"]["classes"] == test.any(axis=0).sum()
    for t in (0.5, 0.12):
        at_t = sk.f1_score(test, p_test >= t, average=None, zero_division=0)[headline].mean()
        assert result["test"][f"macro_f1_at_{t}"]["value"] == pytest.approx(at_t, abs=1e-12)


def test_undefined_action_unit_is_named_and_averaged_nowhere(predictions, result):
    row, last = result["per_class"][-1], predictions["class_names"][-1]
    assert row["name"] == last
    assert row["positives"] == 0
    assert not row["defined"]
    assert not row["headline"]
    undefined = {"value": None, "low": None, "high": None, "resamples": 0}
    assert all(
        row[m] == undefined
        for m in ("precision", "recall", "f1", "uar", "roc_auc", "average_precision")
    )
    assert last in [u["name"] for u in result["undefined"]]
    assert last not in result["headline"]["classes"]
    rare = result["per_class"][-2]
    assert rare["train_positives"] == 3
    assert not rare["headline"]
    assert rare["defined"]
    assert evaluate(predictions, "best_val", "samm@0123", min_train_positives=3, resamples=2)[
        "per_class"
    ][-2]["headline"]


def test_baselines_see_training_labels_only(predictions, result):
    always, prevalence = result["baselines"]["always_positive"], result["baselines"]["prevalence"]
    test, _ = part(predictions, "best_val", "test")
    headline = [r["headline"] for r in result["per_class"]]
    share = test.mean(axis=0)[headline]
    assert always["macro_f1"]["value"] == pytest.approx(np.mean(2 * share / (1 + share)), abs=1e-12)
    assert always["macro_recall"]["value"] == 1
    assert (
        always["roc_auc"]["value"]
        == always["uar"]["value"]
        == prevalence["roc_auc"]["value"]
        == 0.5
    )
    assert always["nll"]["value"] is None
    rate = (predictions["train_positives"] + 0.5) / (predictions["train_rows"][:, None] + 1)
    assert prevalence["brier"]["value"] == pytest.approx(((rate - test) ** 2).mean(), abs=1e-12)


def test_no_test_label_reaches_a_threshold(predictions, result):
    labels = predictions["labels"]
    turned = predictions | {
        "labels": np.where(predictions["split"][:, None] == "test", 1 - labels, labels)
    }
    changed = evaluate(turned, "best_val", "samm@0123", resamples=2)
    assert changed["thresholds"] == result["thresholds"]
    assert changed["test"]["macro_f1"] != result["test"]["macro_f1"]


def test_difference_is_paired(result):
    difference = result["difference_to_always_positive"]
    model, constant = result["test"]["macro_f1"], result["baselines"]["always_positive"]["macro_f1"]
    assert difference["value"] == pytest.approx(model["value"] - constant["value"])
    unpaired = np.hypot(model["high"] - model["low"], constant["high"] - constant["low"])
    assert difference["high"] - difference["low"] < unpaired


def test_a_better_model_beats_the_constant_and_a_blind_one_does_not():
    good = evaluate(multilabel(skill=4), "last", "samm@0", resamples=200)
    blind = evaluate(multilabel(skill=0), "last", "samm@0", resamples=200)
    assert good["difference_to_always_positive"]["low"] > 0
    assert blind["difference_to_always_positive"]["low"] < 0
    assert good["test"]["roc_auc"]["low"] > 0.8


def test_oracle_cannot_be_the_selection(predictions):
    with pytest.raises(UserError, match="selection is 'oracle'"):
        evaluate(predictions, "oracle", "samm@0123")
    with pytest.raises(UserError, match=r"expected one of .*'last'"):
        evaluate(predictions, "first", "samm@0123")


def test_arrays_that_do_not_fit_are_all_named(predictions):
    broken = predictions | {
        "ids": predictions["ids"][:-1],
        "class_names": predictions["class_names"][:-1],
        "split": np.where(predictions["split"] == "val", "train", "test"),
    }
    with pytest.raises(
        ValueError, match=r"ids: .* rows.*class_names: 11 names.*unknown split \['train'\]"
    ):
        evaluate(broken, "last", "samm@0123")
    logits = predictions["logits"].copy()
    logits[0, 0] = np.nan
    with pytest.raises(ValueError, match="1 rows with NaN or infinity"):
        evaluate(predictions | {"logits": logits}, "last", "samm@0123")


def test_without_validation_rows_thresholds_are_fixed(predictions):
    kept = predictions["split"] == "test"
    rows = {k: v[kept] if len(v) == len(kept) else v for k, v in predictions.items()}
    result = evaluate(rows, "last", "samm@0123", resamples=20)
    assert result["val"] == {}
    assert result["thresholds"]["per_trial"] == [[0.5] * 12]
    assert result["test"]["macro_f1"]["value"] == result["test"]["macro_f1_at_0.5"]["value"]


def test_one_test_subject_gives_no_interval(predictions):
    result = evaluate(
        predictions | {"groups": np.full(len(predictions["ids"]), "011")},
        "last",
        "samm@0123",
        resamples=20,
    )
    assert result["test"]["macro_f1"]["value"] is not None
    assert result["test"]["macro_f1"]["low"] is result["test"]["macro_f1"]["high"] is None


def test_thresholds_belong_to_the_trial_of_the_row():
    one = multilabel(seed=3, selections=("last",))
    # the same answers, shifted: thresholds shift along
    other = one | {"logits": one["logits"] + 2, "trial": one["trial"] + 1}
    both = {k: np.concatenate([one[k], other[k]]) if k != "class_names" else one[k] for k in one}
    both |= {
        "trial_fold": np.arange(2),
        "trial_seed": np.zeros(2, int),
        "fold_names": np.array(["x", "y"]),
        "failed": np.zeros(2, bool),
    }
    single, double = (evaluate(p, "last", "samm@0", resamples=5) for p in (one, both))
    assert (
        double["thresholds"]["per_trial"][0]
        == single["thresholds"]["per_trial"][0]
        != double["thresholds"]["per_trial"][1]
    )
    assert double["test"]["macro_f1"]["value"] == pytest.approx(
        single["test"]["macro_f1"]["value"], abs=1e-12
    )
    assert double["per_class"][0]["positives"] == 2 * single["per_class"][0]["positives"]


def test_one_of_k_pooled_over_subjects():
    predictions = multiclass()
    result = evaluate(predictions, "last", "megc2019@0", resamples=200)
    test = predictions["split"] == "test"
    labels, decided = predictions["labels"][test], predictions["logits"][test].argmax(axis=1)
    assert result["test"]["uf1"]["value"] == pytest.approx(
        sk.f1_score(labels, decided, average="macro"), abs=1e-12
    )
    assert result["test"]["macro_f1"] == result["test"]["uf1"]
    assert result["test"]["uar"]["value"] == pytest.approx(
        sk.balanced_accuracy_score(labels, decided), abs=1e-12
    )
    assert (
        result["test"]["accuracy"]["low"]
        <= result["test"]["accuracy"]["value"]
        <= result["test"]["accuracy"]["high"]
    )
    assert result["baselines"]["majority"]["accuracy"]["value"] == pytest.approx(
        (labels == 0).mean()
    )
    assert result["baselines"]["majority"]["uar"]["value"] == pytest.approx(1 / 3)
    assert result["thresholds"] is None
    assert result["difference_to_majority"]["low"] > 0
    assert result["rows"] == {"test": 96, "val": 96}
    assert result["groups"] == {"test": 8, "val": 8}
    rate = sk.precision_recall_fscore_support(labels, decided)
    assert [r["precision"]["value"] for r in result["per_class"]] == pytest.approx(rate[0])
    assert [r["positives"] for r in result["per_class"]] == rate[3].tolist()
