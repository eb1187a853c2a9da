"""The entries `calibration`, `selective` and the rest that metrics.json holds of one-of-K tasks."""

import numpy as np
import pytest
import sklearn.metrics as sk

from fexpr.evaluate import calibration, evaluate, recalibration, selective
from fexpr.storage import run
from tests.evaluate.random_predictions import multiclass, multilabel, pictures

FITTED = ("temperature", "vector", "svs", "sms", "isotonic")
MAPS = ("none", *FITTED, "applied")
MEASURES = ("accuracy", "nll", "brier", "ece", "mce", "adaptive_ece", "classwise_ece")
M_KEYS = {
    *MEASURES,
    "uf1",
    "uar",
    "balanced_accuracy",
    "top2_accuracy",
    "macro_f1",
    "macro_precision",
    "macro_recall",
    "weighted_f1",
    "weighted_precision",
    "weighted_recall",
    "roc_auc",
    "average_precision",
}


@pytest.fixture(scope="module")
def predictions():
    return pictures()


@pytest.fixture(scope="module")
def result(predictions):
    return evaluate(predictions, "best_val", "fer2013@0123", resamples=200)


def rows(p, split, selection="best_val"):
    chosen = (p["selection"] == selection) & (p["split"] == split)
    return p["logits"][chosen].astype(float), p["labels"][chosen], p["split"][chosen]


def test_one_of_k_metrics_are_those_of_scikit_learn(predictions, result, tmp_path):
    z, labels, _ = rows(predictions, "test")
    p, said = calibration.probabilities(z, False), z.argmax(axis=1)
    expected = {
        "accuracy": sk.accuracy_score(labels, said),
        "balanced_accuracy": sk.balanced_accuracy_score(labels, said),
        "top2_accuracy": sk.top_k_accuracy_score(labels, p, k=2),
        "roc_auc": sk.roc_auc_score(labels, p, multi_class="ovr"),
        "nll": sk.log_loss(labels, p),
    }
    for average in ("macro", "weighted"):
        for name, f in (
            ("precision", sk.precision_score),
            ("recall", sk.recall_score),
            ("f1", sk.f1_score),
        ):
            expected[f"{average}_{name}"] = f(labels, said, average=average)
    assert {name: result["test"][name]["value"] for name in expected} == pytest.approx(
        expected, abs=1e-12
    )
    assert all(
        set(m) == M_KEYS
        for m in (result["val"], *result["selections"].values(), *result["baselines"].values())
    )
    assert result["test"]["uar"] == result["test"]["balanced_accuracy"]
    assert result["baselines"]["majority"]["top2_accuracy"]["value"] is None  # it names one class
    for m in (result["test"], *(result["calibration"][name] for name in MAPS)):
        bounded = [name for name in MEASURES if name != "mce"]  # the largest gap has no interval
        assert all(m[name]["low"] <= m[name]["value"] <= m[name]["high"] for name in bounded)
    run.write_json(tmp_path / "m.json", result)
    assert run.read_json(tmp_path / "m.json") == result


def test_before_and_after_stand_side_by_side(predictions, result):
    val, (z, labels, _) = rows(predictions, "val"), rows(predictions, "test")
    table = result["calibration"]
    assert tuple(table) == MAPS
    assert {name: table["none"][name] for name in MEASURES} == {
        name: result["test"][name] for name in MEASURES
    }
    for name in FITTED:
        logits = recalibration.FITS[name](*val)(z)
        expected = calibration.measures(labels[:, None] == np.arange(7), logits, False)(
            np.ones((1, len(z)))
        )
        expected = {k: v for k, v in expected.items() if not k.startswith("_")}
        assert {key: table[name][key]["value"] for key in expected} == pytest.approx(
            {k: v[0] for k, v in expected.items()}, abs=1e-12
        )
        assert table[name]["accuracy"]["value"] == pytest.approx(
            (logits.argmax(axis=1) == labels).mean()
        )
    temperature = recalibration.fit_temperature(*val)
    assert table["temperature"]["parameters"] == {
        "temperature": [temperature.temperature],
        "smoothing": [1 / 301],
    }
    applied = table["applied"]
    assert applied["names"] != ["none"]  # the model is far too sure
    assert applied["of_trial"] == [0]
    assert applied["held_out"][applied["names"][0]] < applied["held_out"]["none"]
    assert {k: applied[k] for k in MEASURES} == {k: table[applied["names"][0]][k] for k in MEASURES}
    assert table["temperature"]["accuracy"] == table["none"]["accuracy"]
    assert table["temperature"]["ece"]["value"] < 0.5 * table["none"]["ece"]["value"]
    assert set(table["vector"]["parameters"]) == {"scale", "bias"}
    bins = table["none"]["reliability"]
    gaps = [
        n * abs(c - a)
        for n, c, a in zip(bins["count"], bins["confidence"], bins["accuracy"], strict=True)
        if n
    ]
    assert sum(bins["count"]) == 400
    assert sum(gaps) / 400 == pytest.approx(table["none"]["ece"]["value"], abs=1e-12)


def test_no_test_label_reaches_a_map(predictions, result):
    turned = predictions | {
        "labels": np.where(
            predictions["split"] == "test", 6 - predictions["labels"], predictions["labels"]
        )
    }
    changed = evaluate(turned, "best_val", "fer2013@0123", resamples=2)
    for name in MAPS:
        assert (
            changed["calibration"][name]["parameters"] == result["calibration"][name]["parameters"]
        )
        assert changed["calibration"][name]["nll"] != result["calibration"][name]["nll"]


def test_risk_and_coverage(predictions, result):
    z, labels, _ = rows(predictions, "test")
    confidence, right = calibration.probabilities(z, False).max(axis=1), z.argmax(axis=1) == labels
    entry = result["selective"]["none"]
    assert set(result["selective"]) == {"none", "temperature"}
    assert set(entry) == {*selective.NAMES, "curve"}
    assert entry["curve"]["risk"] == pytest.approx(selective.curve(confidence, right), abs=1e-12)
    assert entry["curve"]["coverage"][-1] == 1
    assert entry["accuracy_at_0.8"]["value"] == pytest.approx(
        right[np.argsort(-confidence)][:320].mean()
    )
    assert (
        entry["accuracy_at_0.7"]["low"]
        < entry["accuracy_at_0.7"]["value"]
        < entry["accuracy_at_0.7"]["high"]
    )


def test_the_seeds_of_a_fold_share_a_map_and_failed_trials_have_none():
    p = multiclass(seeds=(0, 1), failed=(3,))
    result = evaluate(p, "last", "megc2019@0", resamples=20)
    temperatures = result["calibration"]["temperature"]["parameters"]["temperature"]
    assert len(temperatures) == 16
    assert [i for i, t in enumerate(temperatures) if t is None] == [3]
    assert temperatures[:3] + temperatures[4:8] == temperatures[8:11] + temperatures[12:]
    assert len(set(temperatures[8:])) == 8
    assert result["calibration"]["applied"]["of_trial"][3] is None
    assert result["sets"] == {}
    for name in MAPS:
        entry = result["calibration"][name]
        assert entry["ece"]["value"] is entry["reliability"] is entry["ece_if_perfect"] is None
        assert entry["ece"]["seeds"][0] is None
        assert entry["ece"]["seeds"][1] is not None
    assert result["calibration"]["temperature"]["accuracy"] == result["test"]["accuracy"]
    assert result["selective"]["none"]["curve"] is None


def test_where_nothing_can_be_fitted_it_says_why(predictions):
    test = predictions["split"] == "test"
    without = {k: v[test] if len(v) == len(test) else v for k, v in predictions.items()}
    table = evaluate(without, "last", "x@0", resamples=20)["calibration"]
    assert set(table) == {"none", "unavailable"}
    assert "no validation rows" in table["unavailable"]
    p = multiclass()
    some = (p["split"] == "test") | (p["trial"] > 1)
    table = evaluate(
        {k: v[some] if len(v) == len(some) else v for k, v in p.items()},
        "last",
        "x@0",
        resamples=20,
    )["calibration"]
    assert table["unavailable"] == "2 of 8 trials have no validation rows to fit a map on"
    zero = np.zeros(1, int)
    lost = predictions | {
        "failed": zero == 0,
        "trial_fold": zero,
        "trial_seed": zero,
        "fold_names": np.array(["all"]),
    }
    assert (
        evaluate(lost, "last", "x@0", resamples=20)["calibration"]["unavailable"]
        == "every trial failed"
    )
    actions = evaluate(multilabel(), "last", "samm@0", resamples=20)
    assert set(actions["calibration"]) == {"none", "temperature", "svs", "applied"}
    for name, entry in actions["calibration"].items():
        expected = {"nll", "brier", "ece", "smooth_ece", "debiased_rms", "parameters"}
        assert expected <= set(entry), name
        assert entry["smooth_ece"]["low"] <= entry["smooth_ece"]["value"], name
        assert "accuracy" not in entry
    assert actions["selective"] == actions["kaggle"] == {}


def test_pictures_without_subjects(result):
    assert result["group_name"] == "image"
    assert result["per_group"] == []
    assert result["headline"]["metrics"] == ["accuracy", "uf1", "uar"]
    assert result["datasets"] == {"test": ["PrivateTest", "PublicTest"], "val": ["Training"]}
    assert list(result["per_dataset"]) == ["full", "PrivateTest", "PublicTest"]
    assert set(result["kaggle"]) == {"PrivateTest", "PublicTest"}
    private = result["per_dataset"]["PrivateTest"]["best_val"]["accuracy"]["value"]
    assert (
        result["kaggle"]["PrivateTest"]["accuracy"]
        == private
        != result["test"]["accuracy"]["value"]
    )
    people = evaluate(multiclass(), "last", "megc2019@0", resamples=2)
    assert people["group_name"] == "subject"
    assert people["headline"]["metrics"] == ["uf1", "uar", "accuracy"]
    assert len(people["per_group"]) == 8


@pytest.mark.long
def test_both_tests_of_fer2013_are_measured_whole():
    metrics = evaluate(pictures(val=2871, test=7178), "best_val", "fer2013@0", resamples=100)
    assert metrics["rows"] == {"val": 2871, "test": 7178}
